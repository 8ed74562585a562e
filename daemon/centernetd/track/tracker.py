"""Tracking by detection: arrays of boxes in, the same boxes with ids out.

Tracks are predicted by a Kalman filter and continued by the detections that overlap them: SORT
(Bewley et al., 2016, arXiv:1602.00763). Confident detections choose first, the others may only
continue what is left: ByteTrack (Zhang et al., 2022, arXiv:2110.06864). Boxes are buffered before
their overlap is measured: C-BIoU (Yang et al., 2023, arXiv:2211.14317).

Nothing counts frames: what a box may do depends on the seconds between two frames.
"""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections
from centernetd.track import kalman
from centernetd.track.association import buffered_iou, match, pairs

StreamId = Hashable
Floats = NDArray[np.float64]

_LOW = 0.5  # the low stage's threshold, as a share of the high stage's
_BRIDGED = 0.25  # the part of `max_gap` for which a box that isn't detected is predicted
_BUFFERS = (0.3, 0.5)  # by which boxes grow for the two stages (C-BIoU, table 5)
_MIN_OVERLAP = 0.1
_OTHER_CLASS = 0.5  # what the overlap with a detection of another class is reduced by

# A track is a column of float64, and a stream's tracks are one array [_ROWS, N].
_BELIEF = [slice(4 * part, 4 * part + 4) for part in range(5)]
_ID, _CLASS, _VOTES, _SCORE, _FIRST, _LAST, _HITS, _CONFIRMED = range(20, 28)
_ROWS = 28

_ids = itertools.count(1)


@dataclass(frozen=True)
class TrackSettings:
    """How one stream is tracked.

    Only detections of at least ``confidence`` start a track. It ends ``max_gap`` seconds after its
    last detection, and is confirmed when it has been detected for ``confirm_after`` seconds.
    """

    confidence: float
    max_gap: float = 2.0
    confirm_after: float = 0.3

    @property
    def floor(self) -> float:
        """The lowest confidence of a detection that may continue a track."""
        return self.confidence * _LOW


@dataclass(frozen=True, slots=True)
class Track:
    """A confirmed track: ``class_id`` by vote, the highest confidence, and when it was detected.

    ``first`` and ``last`` are seconds on the stream's timeline. The class is voted on until the
    track is confirmed and then kept, so that counts by class add up.
    """

    tracker_id: int
    class_id: int
    confidence: float
    first: float
    last: float


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """What one frame shows of the tracks of its stream.

    ``detections`` are those of the frame in their order, followed by the predicted boxes of tracks
    that were not detected in it. ``tracker_id`` is -1 where a detection belongs to no track.
    A predicted row has its track's class and highest confidence; its keypoints are 0. For each row,
    ``predicted`` and ``confirmed`` are bool [N], and ``smooth`` float32 [N, 4] is the box freed of
    the detector's jitter. ``started`` are the tracks confirmed by this frame, ``ended`` the
    confirmed ones that ended since the frame before; a track is in each exactly once.
    """

    detections: Detections
    predicted: NDArray[np.bool_]
    confirmed: NDArray[np.bool_]
    smooth: NDArray[np.float32]
    started: tuple[Track, ...] = ()
    ended: tuple[Track, ...] = ()


@dataclass(slots=True)
class _Stream:
    settings: TrackSettings
    time: float = 0.0
    tracks: Floats = field(default_factory=lambda: np.empty((_ROWS, 0)))


class Tracker:
    """Tracks the objects in any number of streams; the caller's threads must take turns.

    Ids are unique within the process: a number is never used for two tracks, in no stream and by
    no tracker, whether they were confirmed or not.
    """

    def __init__(self) -> None:
        self._streams: dict[StreamId, _Stream] = {}

    def add(self, stream: StreamId, settings: TrackSettings) -> None:
        """Begin to track ``stream``, or change how; its tracks continue."""
        if stream in self._streams:
            self._streams[stream].settings = settings
        else:
            self._streams[stream] = _Stream(settings)

    def remove(self, stream: StreamId) -> tuple[Track, ...]:
        """Forget ``stream``; return its confirmed tracks, which end."""
        return _confirmed(self._streams.pop(stream).tracks)

    def live(self, stream: StreamId) -> int:
        """Return how many confirmed tracks of ``stream`` have not ended."""
        return int(self._streams[stream].tracks[_CONFIRMED].sum())

    def expire(self, stream: StreamId, now: float) -> tuple[Track, ...]:
        """End and return the confirmed tracks of a stream that shows no frames.

        ``now`` is on the stream's timeline, where the next frame would be.
        """
        state = self._streams[stream]
        over = now - state.tracks[_LAST] > state.settings.max_gap
        ended = _confirmed(state.tracks[:, over])
        state.tracks = state.tracks[:, ~over]
        return ended

    def update(self, batch: Sequence[tuple[StreamId, float, Detections]]) -> list[Tracked]:
        """Track the detections of frames, given with stream and seconds on its timeline.

        The frames of a stream are in order, and their times increase. Every stream was added.
        How frames are distributed over batches changes nothing but the ids.
        """
        rounds: list[list[int]] = []
        seen: dict[StreamId, int] = {}
        for row, (stream, _, _) in enumerate(batch):
            turn = seen[stream] = seen.get(stream, -1) + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(row)
        results: dict[int, Tracked] = {}
        for rows in rounds:
            streams = [self._streams[batch[row][0]] for row in rows]
            times = np.array([batch[row][1] for row in rows], float)
            found = [batch[row][2] for row in rows]
            results.update(zip(rows, _step(streams, times, found), strict=True))
        return [results[row] for row in range(len(batch))]


def _step(streams: Sequence[_Stream], times: Floats, found: Sequence[Detections]) -> list[Tracked]:
    """Track one frame of each stream."""
    settings = [stream.settings for stream in streams]
    ended = _expire(streams, times.tolist())
    held = np.array([stream.tracks.shape[1] for stream in streams])
    count = np.array([len(detections) for detections in found])
    tracks = np.concatenate([stream.tracks for stream in streams], axis=1)
    of_track = np.repeat(np.arange(len(streams)), held)
    of_detection = np.repeat(np.arange(len(streams)), count)
    now = times[of_track]
    seconds = now - np.array([stream.time for stream in streams])[of_track]
    belief = kalman.predict(kalman.Belief(*(tracks[part] for part in _BELIEF)), seconds)

    xyxy = np.concatenate([detections.xyxy for detections in found]).astype(float).T
    measured = np.concatenate(((xyxy[:2] + xyxy[2:]) / 2, xyxy[2:] - xyxy[:2]))
    score = np.concatenate([detections.confidence for detections in found]).astype(float)
    class_id = np.concatenate([detections.class_id for detections in found])
    high = score >= np.array([s.confidence for s in settings])[of_detection]
    low = ~high & (score >= np.array([s.floor for s in settings])[of_detection])
    owner = _associate(belief.position, tracks[_CLASS], held, measured, class_id, count, high, low)

    taken = np.flatnonzero(owner >= 0)
    hit = owner[taken]
    corrected = kalman.correct(
        kalman.Belief(*(part[:, hit] for part in belief)), measured[:, taken]
    )
    for part, mean, update in zip(_BELIEF, belief, corrected, strict=True):
        tracks[part] = mean
        tracks[part, hit] = update
    tracks[_LAST, hit] = now[hit]
    tracks[_HITS, hit] += 1
    tracks[_SCORE, hit] = np.maximum(tracks[_SCORE, hit], score[taken])
    _vote(tracks, hit, class_id[taken], score[taken])
    confirm_after = np.array([s.confirm_after for s in settings])[of_track]
    fresh = (tracks[_CONFIRMED] == 0) & (tracks[_HITS] > 1)
    fresh &= tracks[_LAST] - tracks[_FIRST] >= confirm_after
    tracks[_CONFIRMED, fresh] = 1

    born = np.flatnonzero((owner < 0) & high)
    begun = _begin(measured[:, born], score[born], class_id[born], times[of_detection[born]])
    owner[born] = np.arange(len(born)) + tracks.shape[1]
    bridged = _BRIDGED * np.array([s.max_gap for s in settings])[of_track]
    missed = now - tracks[_LAST]
    predicted = (missed > 0) & (missed <= bridged)
    results = []
    none = np.zeros((_ROWS, 1))  # read where `owner` is -1
    none[_ID] = -1
    everything = np.concatenate((tracks, begun, none), axis=1)
    smooth = _xyxy(everything[_BELIEF[0]])
    of_all = np.concatenate((of_track, of_detection[born], [-1]))
    later = np.zeros(len(born) + 1, bool)
    fresh, predicted = np.concatenate((fresh, later)), np.concatenate((predicted, later))
    for row, stream in enumerate(streams):
        stream.time = float(times[row])
        mine = of_all == row
        stream.tracks = everything[:, mine]
        of_frame = owner[of_detection == row]
        extra = np.flatnonzero(mine & predicted)
        rows = np.concatenate((of_frame, extra))
        guessed = np.arange(len(rows)) >= len(of_frame)
        ids = everything[_ID, rows].astype(np.int64)
        boxes = smooth[rows]
        boxes[rows < 0] = found[row].xyxy[of_frame < 0]
        results.append(
            Tracked(
                _extended(found[row], ids, smooth[extra], everything[:, extra]),
                guessed,
                everything[_CONFIRMED, rows] > 0,
                boxes,
                _records(everything[:, mine & fresh]),
                ended[row],
            )
        )
    return results


def _expire(streams: Sequence[_Stream], times: Sequence[float]) -> list[tuple[Track, ...]]:
    ended: list[tuple[Track, ...]] = []
    for stream, now in zip(streams, times, strict=True):
        over = now - stream.tracks[_LAST] > stream.settings.max_gap
        if over.any():
            ended.append(_confirmed(stream.tracks[:, over]))
            stream.tracks = stream.tracks[:, ~over]
        else:
            ended.append(())
    return ended


def _associate(
    position: Floats,
    track_class: Floats,
    held: NDArray[np.intp],
    measured: Floats,
    class_id: NDArray[np.int64],
    count: NDArray[np.intp],
    high: NDArray[np.bool_],
    low: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Return each detection's track, -1 for none."""
    owner = np.full(len(high), -1, np.intp)
    free = np.ones(position.shape[1], bool)
    track, detection = pairs(held, count)
    for eligible, buffer in ((high, _BUFFERS[0]), (high | low, _BUFFERS[1])):
        open_pairs = free[track] & (eligible & (owner < 0))[detection]
        ts, ds = track[open_pairs], detection[open_pairs]
        overlap = buffered_iou(position[:, ts], measured[:, ds], np.full(len(ts), buffer))
        overlap = overlap - _OTHER_CLASS * (track_class[ts] != class_id[ds])
        near = np.flatnonzero(overlap >= _MIN_OVERLAP)
        chosen = near[match(overlap[near], ts[near], ds[near])]
        owner[ds[chosen]] = ts[chosen]
        free[ts[chosen]] = False
    return owner


def _vote(
    tracks: Floats, hit: NDArray[np.intp], class_id: NDArray[np.int64], score: Floats
) -> None:
    """Count votes for the class of tracks that are not yet confirmed (Boyer and Moore, 1981)."""
    vote = np.where(tracks[_CLASS, hit] == class_id, score, -score)
    vote = np.where(tracks[_CONFIRMED, hit] > 0, 0, vote) + tracks[_VOTES, hit]
    tracks[_CLASS, hit] = np.where(vote < 0, class_id, tracks[_CLASS, hit])
    tracks[_VOTES, hit] = np.abs(vote)


def _begin(measured: Floats, score: Floats, class_id: NDArray[np.int64], times: Floats) -> Floats:
    tracks = np.zeros((_ROWS, len(score)))
    for part, value in zip(_BELIEF, kalman.begin(measured), strict=True):
        tracks[part] = value
    tracks[_ID] = [next(_ids) for _ in range(len(score))]
    tracks[_CLASS], tracks[_VOTES], tracks[_SCORE] = class_id, score, score
    tracks[_FIRST] = tracks[_LAST] = times
    tracks[_HITS] = 1
    return tracks


def _xyxy(position: Floats) -> NDArray[np.float32]:
    half = np.maximum(position[2:], 0) / 2
    return np.concatenate((position[:2] - half, position[:2] + half)).T.astype(np.float32)


def _extended(
    found: Detections, ids: NDArray[np.int64], boxes: NDArray[np.float32], tracks: Floats
) -> Detections:
    """Return ``found`` with ids, and with the predicted ``boxes`` of ``tracks`` after it."""
    keypoints = found.keypoints
    if keypoints is not None:
        empty = np.zeros((len(boxes), *keypoints.shape[1:]), np.float32)
        keypoints = np.concatenate((keypoints, empty))
    return Detections(
        np.concatenate((found.xyxy, boxes)),
        np.concatenate((found.confidence, tracks[_SCORE].astype(np.float32))),
        np.concatenate((found.class_id, tracks[_CLASS].astype(np.int64))),
        keypoints,
        ids,
    )


def _confirmed(tracks: Floats) -> tuple[Track, ...]:
    return _records(tracks[:, tracks[_CONFIRMED] > 0])


def _records(tracks: Floats) -> tuple[Track, ...]:
    rows = tracks[[_ID, _CLASS, _SCORE, _FIRST, _LAST]].T.tolist()
    return tuple(
        Track(int(number), int(class_id), score, first, last)
        for number, class_id, score, first, last in rows
    )
