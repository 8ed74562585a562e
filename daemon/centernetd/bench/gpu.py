"""Throughput of this machine's GPU engine, without decoding or preprocessing."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from centernetd.config import Config
from centernetd.errors import EngineError
from centernetd.flow import Channel
from centernetd.inference.engines import Engine, EngineInfo, Slot, choose_backend
from centernetd.run.loading import ConfiguredModel, load_engine, sizes_for

SLOTS = 3  # as in the daemon: two on the GPU while one is filled
_SECONDS = 2.0


@dataclass(frozen=True)
class Rate:
    """Results for one batch size.

    ``steps`` are the GPU's median seconds for each step of a batch. ``cpu_seconds`` and
    ``wall_seconds`` are the CPU and elapsed time that the enqueuing thread spends on a batch.
    """

    batch: int
    frames_per_second: float
    steps: Mapping[str, float]
    cpu_seconds: float
    wall_seconds: float


@dataclass(frozen=True)
class GpuReport:
    """Results of one ``bench --gpu`` run."""

    engine: EngineInfo
    reason: str
    rates: Sequence[Rate]


def bench_gpu(config: Config, report: Callable[[str], None]) -> GpuReport:
    """Measure the first model in use on this machine's GPU.

    ``report`` receives progress messages.

    Raises
    ------
    EngineError
        There is no GPU, or it can't be used.
    ModelError
        The model is missing or rejected.
    """
    backend = choose_backend(config.engine.backend)
    if not backend.on_gpu:
        raise EngineError(f"there is no GPU to measure: {backend.name}, as {backend.reason}")
    largest = sizes_for(backend, config.batching.max_size).max_batch
    report("loading")
    sizes = sizes_for(backend, largest)
    name = next(iter(config.used_models))
    loaded, _ = load_engine(ConfiguredModel.of(config, name), backend, sizes)
    with closing(loaded) as engine:
        slots = engine.make_slots(SLOTS)
        for slot in slots:
            slot.enqueue(largest)
            slot.wait()
        engine.prepare_smaller(lambda: False)
        rates = []
        for batch in sorted({engine.bucket(size + 1) for size in range(largest)}):
            report(f"batches of {batch}")
            rates.append(measure(engine, slots, batch, _SECONDS))
        return GpuReport(engine.info, backend.reason, rates)


def measure(engine: Engine, slots: Sequence[Slot], batch: int, seconds: float) -> Rate:
    """Run batches through ``slots`` for about ``seconds``: this thread enqueues, another waits.

    The rows are not filled: their content doesn't affect the transfer time.
    """
    free: Channel[Slot] = Channel(len(slots))
    busy: Channel[Slot] = Channel(len(slots))
    durations: list[Mapping[str, float]] = []

    def harvest() -> None:
        for slot in busy:
            slot.wait()
            durations.append(slot.durations())
            free.put(slot)

    for slot in slots:
        slot.enqueue(batch)
        slot.wait()
        free.put(slot)
    harvester = threading.Thread(target=harvest, name="harvest", daemon=True)
    harvester.start()
    cpu = wall = 0.0
    started = time.perf_counter()
    try:
        for slot in free:
            begun, used = time.perf_counter(), time.thread_time()
            slot.enqueue(batch)
            cpu += time.thread_time() - used
            wall += time.perf_counter() - begun
            busy.put(slot)
            if time.perf_counter() - started >= seconds:
                break
    finally:
        busy.close()  # even if interrupted: the caller closes the engine next
        harvester.join()
    took, batches = time.perf_counter() - started, len(durations)
    steps = {step: statistics.median(each[step] for each in durations) for step in durations[0]}
    return Rate(batch, batch * batches / took, steps, cpu / batches, wall / batches)
