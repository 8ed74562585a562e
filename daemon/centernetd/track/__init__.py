"""From detections to tracks: pure functions of boxes and of seconds on a stream's timeline."""

from centernetd.track.tracker import StreamId, Track, Tracked, Tracker, TrackSettings

__all__ = ["StreamId", "Track", "TrackSettings", "Tracked", "Tracker"]
