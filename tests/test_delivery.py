"""Two models with a stage each on shared streams: complete frames leave in order, once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centernetd.config import DetectConfig, SourceUri, StreamConfig
from centernetd.flow import CAPTURE, INFERENCE, Arrivals, Backpressure, Lane, Result, Worker
from centernetd.inference.collect import Batching
from centernetd.inference.delivery import Delivery, Inferred
from centernetd.inference.detector import Detector
from centernetd.inference.filter import StreamFilters, filters_of
from centernetd.inference.stage import InferenceStage
from centernetd.sink.registry import EVENTS
from tests.fakes import FakeEngine, RecordingMeters, detections, frame, wait_until
from tests.manifests import plain

LABELS = ("cat", "dog", "cow")
MANIFESTS = {
    "zoo": plain(labels=LABELS, confidence=0.4),
    "farm": plain(labels=(*LABELS, "hen"), confidence=0.4),
}
STREAMS = {"both": ("zoo", "farm"), "one": ("farm",), "turned": ("farm", "zoo")}


class Rig:
    """Lanes of `STREAMS`, and a stage per model with threads of its own."""

    def __init__(
        self,
        backpressure: Backpressure = Backpressure.BLOCK,
        sizes: tuple[int, int] = (4, 3),
        slots: int = 2,
        detect: DetectConfig | None = None,
    ) -> None:
        self.engines = {name: FakeEngine(max_batch=8) for name in MANIFESTS}
        self.batches: list[Sequence[Inferred]] = []
        self.meters = RecordingMeters()
        self.delivery = Delivery(self.meters, self._results)
        arrivals = {name: Arrivals() for name in MANIFESTS}
        self.filters: dict[Lane, StreamFilters] = {}
        for name, models in STREAMS.items():
            lane = Lane(
                name,
                backpressure,
                depth=500,
                inbox=500,
                arrivals={model: arrivals[model] for model in models},
                sinks=[EVENTS],
            )
            config = StreamConfig(
                name, SourceUri("rtsp://192.0.2.1/"), models=models, detect=detect or DetectConfig()
            )
            self.filters[lane] = filters_of(config, MANIFESTS)
        self.lanes = {lane.name: lane for lane in self.filters}
        self.pool = ThreadPoolExecutor(2)
        self.stages = {
            name: InferenceStage(
                Detector(self.engines[name], MANIFESTS[name], self.pool),
                {
                    lane.inboxes[name]: filters
                    for lane, filters in self.filters.items()
                    if name in lane.inboxes
                },
                arrivals[name],
                Batching(size, 0.0),
                self.delivery,
                self.meters,
                lambda _: None,
                slots,
            )
            for (name, size) in zip(MANIFESTS, sizes, strict=True)
        }
        self.workers = [
            Worker(f"{step}:{name}", getattr(stage, step), lambda _: None)
            for name, stage in self.stages.items()
            for step in ("feed", "harvest")
        ]

    def _results(self, inferred: Sequence[Inferred]) -> list[Result]:
        self.batches.append(inferred)
        return [Result(each, found) for _, each, found in inferred]

    def run(self, counts: dict[str, int]) -> None:
        """Offer so many frames to each stream, and work them off."""
        for worker in self.workers:
            worker.start()
        for name, count in counts.items():
            for number in range(count):
                self.lanes[name].offer(frame(number, value=number % 3))
            self.lanes[name].close()
        wait_until(lambda: not any(worker.alive for worker in self.workers))
        self.pool.shutdown()
        assert [worker.error for worker in self.workers] == [None] * len(self.workers)


COUNTS = st.fixed_dictionaries({name: st.integers(0, 40) for name in STREAMS})


@settings(max_examples=20, deadline=None)
@given(
    counts=COUNTS,
    backpressure=st.sampled_from(Backpressure),
    sizes=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    slots=st.integers(1, 3),
)
def test_every_frame_comes_out_once_in_order_with_what_each_of_its_models_found(
    counts: dict[str, int], backpressure: Backpressure, sizes: tuple[int, int], slots: int
) -> None:
    """Whatever batches it was in, and in which row, at each of its models."""
    rig = Rig(backpressure, sizes, slots)
    rig.run(counts)
    for lane, filters in rig.filters.items():
        results = list(lane.outlets[EVENTS])
        assert [each.frame.frame_id for each in results] == list(range(counts[lane.name]))
        for number, result in enumerate(results):
            found = [filters.classes[class_id] for class_id in result.detections.class_id.tolist()]
            assert sorted(found) == sorted(
                each for each in filters.classes if each.number == number % 3
            )
        book = lane.ledger.read()
        assert book.balanced
        assert not book.dropped_at(CAPTURE, INFERENCE)
    ran = {name: stage.inferred for name, stage in rig.stages.items()}
    assert ran == {
        name: sum(counts[lane] for lane, models in STREAMS.items() if name in models)
        for name in MANIFESTS
    }


def test_one_thread_at_a_time_makes_results_of_complete_frames() -> None:
    rig = Rig()
    rig.run(dict.fromkeys(STREAMS, 20))
    passed = [(lane.name, each.frame_id) for batch in rig.batches for lane, each, _ in batch]
    for name in STREAMS:
        assert [number for lane, number in passed if lane == name] == list(range(20))
    assert sorted(rig.meters.latencies) == sorted(name for name in STREAMS for _ in range(20))


def test_detections_are_counted_by_model_and_label() -> None:
    rig = Rig(detect=DetectConfig(labels=("cow", "hen")))
    rig.run(dict.fromkeys(STREAMS, 9))
    assert dict(rig.lanes["both"].status.detections) == {("zoo", "cow"): 3, ("farm", "cow"): 3}
    assert dict(rig.lanes["one"].status.detections) == {("farm", "cow"): 3}


@pytest.mark.parametrize("behind", ["zoo", "farm"])
def test_what_is_too_old_for_one_model_is_lost_to_the_other_and_counted_once(behind: str) -> None:
    rig = Rig(Backpressure.DROP_OLDEST)
    lane = rig.lanes["both"]
    lane.max_frame_age = 10.0
    slow, quick = lane.inboxes[behind], lane.inboxes[{"zoo": "farm", "farm": "zoo"}[behind]]
    for number in range(3):
        lane.offer(frame(number, captured_at=float(number)))
    tickets = [quick.take() for _ in range(2)]
    assert slow.drop_overdue(10.5) == 11.0, "the first frame is too old"
    found = detections()
    assert [ticket and quick.finish(ticket, found) for ticket in tickets] == [None, None]
    late = slow.take()
    assert late is tickets[1]
    assert late is not None
    assert slow.finish(late, found) == [found, found]
    book = lane.ledger.read()
    assert book.dropped_at(INFERENCE) == 1
    assert (book.in_flight[CAPTURE], book.in_flight[INFERENCE]) == (1, 1)
