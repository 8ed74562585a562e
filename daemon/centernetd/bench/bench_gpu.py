"""What the GPU engine of this box reaches, with pictures that are there already."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from centernetd.config import Config
from centernetd.errors import EngineError
from centernetd.flow import Channel
from centernetd.inference.engines import Engine, EngineInfo, Slot, choose_backend
from centernetd.run.loading import ModelChoice, load_engine, sizes_for

SLOTS = 3  # as in the daemon: two on the GPU while one is filled
_SECONDS = 2.0


@dataclass(frozen=True)
class Rate:
    """What one batch size gives.

    ``steps`` are the GPU's median seconds for each step of a batch; ``cpu_seconds`` is the
    processor time of the enqueuing thread for a batch, ``wall_seconds`` the time it takes there.
    """

    batch: int
    frames_per_second: float
    steps: Mapping[str, float]
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class GpuReport:
    """One run of ``bench --gpu``."""

    engine: EngineInfo
    reason: str
    bytes_in: int
    rates: Sequence[Rate]

    def document(self) -> dict[str, object]:
        """Return it ready for JSON."""
        return asdict(self)


def bench_gpu(config: Config, tell: Callable[[str], None]) -> GpuReport:
    """Measure the configured model on this box's GPU; ``tell`` hears what goes on.

    Raises
    ------
    EngineError
        When there is no GPU, or it can't be used.
    ModelError
        When the model is missing or refused.
    """
    choice = choose_backend(config.engine.backend)
    if not choice.on_gpu:
        raise EngineError(f"there is no GPU to measure: {choice.backend}, as {choice.reason}")
    largest = sizes_for(choice.backend, config.batching.max_size).max_batch
    tell("loading")
    sizes = sizes_for(choice.backend, largest)
    loaded, _ = load_engine(ModelChoice.of(config), choice, sizes)
    with closing(loaded) as engine:
        slots = engine.make_slots(SLOTS)
        rates = []
        for batch in sorted({engine.bucket(size + 1) for size in range(largest)}):
            tell(f"batches of {batch}")
            rates.append(measure(engine, slots, batch, _SECONDS))
        return GpuReport(engine.info, choice.reason, slots[0].rows[0].nbytes, rates)


def measure(engine: Engine, slots: Sequence[Slot], batch: int, seconds: float) -> Rate:
    """Run batches through ``slots`` for about ``seconds``: this thread enqueues, another waits.

    The rows are not filled: their bytes go over the bus whatever they hold.
    """
    for slot in slots:
        engine.enqueue(slot, batch)
        engine.wait(slot)
    free: Channel[Slot] = Channel(len(slots))
    busy: Channel[Slot] = Channel(len(slots))
    durations: list[Mapping[str, float]] = []

    def harvest() -> None:
        for slot in busy:
            engine.wait(slot)
            durations.append(engine.durations(slot))
            free.put(slot)

    for slot in slots:
        free.put(slot)
    harvester = threading.Thread(target=harvest, name="harvest", daemon=True)
    harvester.start()
    cpu = wall = 0.0
    started = time.perf_counter()
    try:
        for slot in free:
            begun, used = time.perf_counter(), time.thread_time()
            engine.enqueue(slot, batch)
            cpu += time.thread_time() - used
            wall += time.perf_counter() - begun
            busy.put(slot)
            if time.perf_counter() - started >= seconds:
                break
    finally:
        busy.close()  # also where this thread is interrupted: the engine is closed next
        harvester.join()
    took, batches = time.perf_counter() - started, len(durations)
    return Rate(
        batch,
        batch * batches / took,
        {step: statistics.median(each[step] for each in durations) for step in durations[0]},
        cpu / batches,
        wall / batches,
    )
