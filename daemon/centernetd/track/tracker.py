"""Tracking by detection: arrays of boxes in, the same boxes with ids out.

Tracks are predicted by a Kalman filter and continued by the detections that overlap them: SORT
(Bewley et al., 2016, arXiv:1602.00763). Confident detections choose first, and the others may only
continue what is left: ByteTrack (Zhang et al., 2022, arXiv:2110.06864). Boxes are buffered before
their overlap is measured: C-BIoU (Yang et al., 2023, arXiv:2211.14317).

Nothing counts frames: what happens to a track depends on the seconds between two frames.
"""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from centernetd.flow import Detections, Thresholds
from centernetd.track import kalman
from centernetd.track.association import match, pairs, similarity

StreamId = Hashable
Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]

LOW = 0.5
"""The threshold of a detection that continues a track, as a share of one that starts it."""
_SIMILAR = 0.3  # how alike a track and its detection are at least
_OTHER_CLASS = 0.5  # how much more alike they must be if their classes differ
_TICK = 1e-5  # seconds by which times may differ and be equal: a stream's clock counts 1/90000 s

# A track is 20 numbers of the filter's, of which the first four are its box (centre, width and
# height), and then those named below. Tracks are computed with as columns [_ROWS, N]. A stream
# holds them as rows [N, _ROWS], because those of many streams are joined and parted faster.
_ID, _CLASS, _VOTES, _SCORE, _FIRST, _LAST, _TIME, _CONFIRMED = range(kalman.ROWS, kalman.ROWS + 8)
_ROWS = kalman.ROWS + 8
_BELIEF = slice(kalman.ROWS)
_BOX = slice(4)
_NO_TRACK = np.zeros((_ROWS, 1))
_NO_TRACK[_ID] = -1

_ids = itertools.count(1)


@dataclass(frozen=True, eq=False)
class TrackSettings:
    """How one stream is tracked.

    Only detections accepted by ``confidence`` start a track. It ends ``max_gap`` seconds after its
    last detection, and is confirmed by the first at least ``confirm_after`` seconds after it began.
    Its box is predicted for ``predict`` seconds after its last detection.
    """

    confidence: Thresholds
    max_gap: float = 2.0
    confirm_after: float = 0.3
    predict: float = 0.2

    @property
    def floor(self) -> Thresholds:
        """The detections that may continue a track: inference has to keep them."""
        return Thresholds(self.confidence.least * np.float32(LOW))


@dataclass(frozen=True, slots=True)
class Track:
    """A confirmed track: its class, highest confidence, and first and last detection.

    ``first`` and ``last`` are seconds on the stream's timeline. The detections vote on the class
    until the track is confirmed. Then it is kept, so that counts by class add up.
    """

    tracker_id: int
    class_id: int
    confidence: float
    first: float
    last: float


@dataclass(slots=True, eq=False)
class Tracked:
    """What one frame shows of the tracks of its stream.

    ``detections`` are those of the frame in their order, followed by the predicted boxes of tracks
    that were not detected in it. A predicted row has its track's class and highest confidence; its
    keypoints are NaN. For each row, ``tracker_id`` (int64 [N], also in ``detections``) is its
    track, -1 if it belongs to none, ``predicted`` and ``confirmed`` are bool [N], and ``smooth``,
    float32 [N, 4], is the box without the detector's jitter. ``started`` are the tracks confirmed
    by this frame, ``ended`` the confirmed ones that ended since the frame before; a track is in
    each exactly once.
    """

    detections: Detections
    tracker_id: NDArray[np.int64]
    predicted: Mask
    confirmed: Mask
    smooth: NDArray[np.float32]
    started: tuple[Track, ...] = ()
    ended: tuple[Track, ...] = ()


@dataclass(slots=True)
class _Stream:
    settings: TrackSettings
    tracks: Floats


@dataclass(slots=True)
class _Boxes:
    """The detections of a round [M], grouped by ``stream``.

    ``measured`` is float64 [4, M]: centre, width and height. Only those that are ``usable`` may
    continue a track; ``confident`` ones choose first, and start tracks.
    """

    stream: Rows
    xyxy: NDArray[np.float32]
    measured: Floats
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]
    confident: Mask
    usable: Mask


class Tracker:
    """Tracks the objects in any number of streams. One thread at a time may use it.

    Ids are unique within the process: a number is never used for two tracks, in no stream and by
    no tracker, whether they were confirmed or not.
    """

    def __init__(self) -> None:
        self._streams: dict[StreamId, _Stream] = {}

    def add(self, stream: StreamId, settings: TrackSettings) -> None:
        """Begin to track ``stream``, or change how; its tracks continue."""
        known = self._streams.get(stream)
        tracks = np.empty((0, _ROWS)) if known is None else known.tracks
        self._streams[stream] = _Stream(settings, tracks)

    def remove(self, stream: StreamId) -> tuple[Track, ...]:
        """Forget ``stream``; return its confirmed tracks, which end."""
        return _confirmed(self._streams.pop(stream).tracks.T)

    def live(self, stream: StreamId) -> int:
        """Return how many confirmed tracks of ``stream`` have not ended."""
        return int(self._streams[stream].tracks[:, _CONFIRMED].sum())

    def expire(self, stream: StreamId, now: float) -> tuple[Track, ...]:
        """End the tracks of a stream that shows no frames; return the confirmed ones.

        ``now`` is on the stream's timeline: the time that a frame captured now would have.
        """
        state = self._streams[stream]
        over = now - state.tracks[:, _LAST] > state.settings.max_gap
        ended = _confirmed(state.tracks[over].T)
        state.tracks = state.tracks[~over]
        return ended

    def update(self, batch: Sequence[tuple[StreamId, float, Detections]]) -> list[Tracked]:
        """Track the detections of frames, given with stream and seconds on its timeline.

        The frames of a stream are in order, and their times increase. Every stream was added.
        How frames are distributed over batches changes nothing but which ids are used.
        """
        results: dict[int, Tracked] = {}
        for rows in _rounds([stream for stream, _, _ in batch]):
            streams = [self._streams[batch[row][0]] for row in rows]
            times = [batch[row][1] for row in rows]
            tracked = _step(streams, times, [batch[row][2] for row in rows])
            results.update(zip(rows, tracked, strict=True))
        return [results[row] for row in range(len(batch))]


def _rounds(streams: Sequence[StreamId]) -> list[list[int]]:
    """Group the rows of a batch so that no group has a stream twice, and later frames follow."""
    rounds: list[list[int]] = []
    seen: dict[StreamId, int] = {}
    for row, stream in enumerate(streams):
        turn = seen[stream] = seen.get(stream, -1) + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(row)
    return rounds


def _step(
    streams: Sequence[_Stream], times: Sequence[float], found: Sequence[Detections]
) -> list[Tracked]:
    """Track one frame of each stream."""
    clock = np.array(times, float)
    limits = np.array(
        [(s.settings.max_gap, s.settings.confirm_after, s.settings.predict) for s in streams]
    ).T
    numbers = np.arange(len(streams))
    of_track = numbers.repeat([len(stream.tracks) for stream in streams])
    tracks = np.concatenate([stream.tracks for stream in streams]).T.copy()
    now = clock[of_track]
    gone = now - tracks[_LAST] > limits[0, of_track]
    ended: dict[int, list[Track]] = {}
    if np.count_nonzero(gone):
        ended = _by_stream(tracks, of_track, gone & (tracks[_CONFIRMED] > 0))
        tracks, of_track, now = tracks[:, ~gone], of_track[~gone], now[~gone]

    boxes = _gather(streams, found, numbers)
    kalman.predict(tracks[_BELIEF], now - tracks[_TIME])
    tracks[_TIME] = now
    owner = _associate(tracks, of_track, boxes)
    seen = (owner >= 0).nonzero()[0]
    _continue(tracks, owner[seen], boxes, seen)
    born = (boxes.confident & (owner < 0)).nonzero()[0]
    if len(born):
        owner[born] = np.arange(len(born)) + len(of_track)
        of_track = np.concatenate((of_track, boxes.stream[born]))
        tracks = np.concatenate((tracks, _begin(boxes, born, clock)), axis=1)

    missed = tracks[_TIME] - tracks[_LAST]
    predicted = (missed > 0) & (missed <= limits[2, of_track] + _TICK)
    kept = np.arange(len(missed))
    started: dict[int, list[Track]] = {}
    waits = tracks[_CONFIRMED] == 0
    if np.count_nonzero(waits):
        confirm_after = limits[1, of_track]
        fresh = waits & (missed == 0)
        fresh &= tracks[_LAST] - tracks[_FIRST] >= confirm_after - _TICK
        tracks[_CONFIRMED, fresh] = 1
        started = _by_stream(tracks, of_track, fresh)
        lives = ~waits | (missed <= confirm_after + _TICK)
        predicted &= lives
        kept = lives.nonzero()[0]
    if len(born):
        kept = kept[of_track[kept].argsort(kind="stable")]
    ends = of_track[kept].searchsorted(numbers, "right").tolist()
    parted = tracks.T.take(kept, 0)
    for stream, start, end in zip(streams, [0, *ends], ends, strict=False):
        stream.tracks = parted[start:end]
    guesses = predicted.nonzero()[0]
    return _results(found, boxes, tracks, of_track, owner, guesses, started, ended)


def _gather(streams: Sequence[_Stream], found: Sequence[Detections], numbers: Rows) -> _Boxes:
    """Concatenate the detections of all streams."""
    xyxy = np.concatenate([detections.xyxy for detections in found])
    score = np.concatenate([detections.confidence for detections in found])
    asked = np.concatenate(
        [s.settings.confidence.least[d.class_id] for s, d in zip(streams, found, strict=True)]
    )
    edges = xyxy.T.astype(float, order="C")
    low, high = edges[:2], edges[2:]
    measured = np.concatenate(((low + high) / 2, np.maximum(high - low, 1.0)))
    return _Boxes(
        numbers.repeat([len(detections) for detections in found]),
        xyxy,
        measured,
        score,
        np.concatenate([detections.class_id for detections in found]),
        score >= asked,
        score >= asked * np.float32(LOW),
    )


def _associate(tracks: Floats, of_track: Rows, boxes: _Boxes) -> Rows:
    """Return the track that each detection continues, -1 for none."""
    place, measured = tracks[_BOX], boxes.measured
    error = kalman.centre_error(tracks[_BELIEF])
    track, box = pairs(place, error, of_track, measured, boxes.stream)
    alike = similarity(place.take(track, 1), error.take(track, 1), measured.take(box, 1))
    alike -= _OTHER_CLASS * (tracks[_CLASS][track] != boxes.class_id[box])
    near = ((alike >= _SIMILAR) & boxes.usable[box]).nonzero()[0]
    track, box = track[near], box[near]
    # A box that grew much by its error is like many, so certain tracks are preferred. 1 is more
    # than any similarity: all confident detections choose first.
    certain = place[2] / (place[2] + error[0])
    preference = alike[near] * certain[track] + boxes.confident[box]
    return np.array(match(preference, track, box, len(boxes.score)), int)


def _continue(tracks: Floats, hit: Rows, boxes: _Boxes, seen: Rows) -> None:
    """Let the detections ``seen`` continue the tracks ``hit``."""
    some = tracks.take(hit, 1)
    score, class_id = boxes.score[seen], boxes.class_id[seen]
    kalman.correct(some[_BELIEF], boxes.measured.take(seen, 1))
    some[_LAST] = some[_TIME]
    np.maximum(some[_SCORE], score, out=some[_SCORE])
    if np.count_nonzero(some[_CONFIRMED]) < len(hit):
        # The majority vote of Boyer and Moore (1981), weighted by score, until confirmation
        votes = np.where(some[_CLASS] == class_id, score, -score) * (some[_CONFIRMED] == 0)
        votes += some[_VOTES]
        some[_CLASS] = np.where(votes < 0, class_id, some[_CLASS])
        some[_VOTES] = np.abs(votes)
    tracks[:, hit] = some


def _begin(boxes: _Boxes, born: Rows, clock: Floats) -> Floats:
    """Return a new track for each of the detections ``born``."""
    tracks = np.zeros((_ROWS, len(born)))
    tracks[_BELIEF] = kalman.begin(boxes.measured[:, born])
    tracks[_ID] = list(itertools.islice(_ids, len(born)))
    tracks[_CLASS] = boxes.class_id[born]
    tracks[_VOTES] = tracks[_SCORE] = boxes.score[born]
    tracks[_FIRST] = tracks[_LAST] = tracks[_TIME] = clock[boxes.stream[born]]
    return tracks


def _results(
    found: Sequence[Detections],
    boxes: _Boxes,
    tracks: Floats,
    of_track: Rows,
    owner: Rows,
    predicted: Rows,
    started: dict[int, list[Track]],
    ended: dict[int, list[Track]],
) -> list[Tracked]:
    """Put together what each frame shows: its detections, then the ``predicted`` tracks."""
    stream = np.concatenate((boxes.stream, of_track[predicted]))
    order = stream.argsort(kind="stable")
    guessed = order >= len(owner)
    real = (~guessed).nonzero()[0]
    known = np.concatenate((tracks, _NO_TRACK), axis=1)  # whose last column is that of `owner` -1
    shown = known.take(np.concatenate((owner, predicted))[order], 1, mode="wrap")
    centre, half = shown[:2], shown[2:4] / 2
    smooth = np.concatenate((centre - half, centre + half)).T.astype(np.float32, order="C")
    tracker_id = shown[_ID].astype(np.int64)
    xyxy, confidence = smooth.copy(), shown[_SCORE].astype(np.float32)
    class_id = shown[_CLASS].astype(np.int64)
    xyxy[real], confidence[real], class_id[real] = boxes.xyxy, boxes.score, boxes.class_id
    lone = (tracker_id < 0).nonzero()[0]
    smooth[lone] = xyxy[lone]
    detections = Detections(xyxy, confidence, class_id, None, tracker_id)
    confirmed = shown[_CONFIRMED] > 0
    ends = stream[order].searchsorted(np.arange(len(found)), "right").tolist()
    results = []
    for row, (original, start, end) in enumerate(zip(found, [0, *ends], ends, strict=False)):
        mine = slice(start, end)
        part = detections[mine]
        if original.keypoints is not None:
            part = replace(part, keypoints=_padded(original.keypoints, len(part)))
        results.append(
            Tracked(
                part,
                tracker_id[mine],
                guessed[mine],
                confirmed[mine],
                smooth[mine],
                tuple(started.get(row, ())),
                tuple(ended.get(row, ())),
            )
        )
    return results


def _padded(keypoints: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    padded = np.full((rows, *keypoints.shape[1:]), np.nan, np.float32)
    padded[: len(keypoints)] = keypoints
    return padded


def _by_stream(tracks: Floats, of_track: Rows, chosen: Mask) -> dict[int, list[Track]]:
    """Return the records of the ``chosen`` tracks by stream."""
    records: dict[int, list[Track]] = {}
    if np.count_nonzero(chosen):
        for row, track in zip(of_track[chosen].tolist(), _records(tracks[:, chosen]), strict=True):
            records.setdefault(row, []).append(track)
    return records


def _confirmed(tracks: Floats) -> tuple[Track, ...]:
    return _records(tracks[:, tracks[_CONFIRMED] > 0])


def _records(tracks: Floats) -> tuple[Track, ...]:
    rows = tracks[[_ID, _CLASS, _SCORE, _FIRST, _LAST]].T.tolist()
    return tuple(
        Track(int(number), int(class_id), score, first, last)
        for number, class_id, score, first, last in rows
    )
