"""From detections to tracks: pure functions of boxes and of seconds on a stream's timeline."""

from centernetd.track.tracker import LOW, StreamId, Track, Tracked, Tracker, TrackSettings

__all__ = ["LOW", "StreamId", "Track", "TrackSettings", "Tracked", "Tracker"]
