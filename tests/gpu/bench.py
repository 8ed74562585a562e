"""Speed on a GPU, each figure a ratio within one run: ``python -m tests.gpu.bench OUT.json``.

The network is the PyTorch CenterNet behind the double of TensorRT, so what is measured is the
pipeline around an engine and not TensorRT.
"""

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cuda.bindings import runtime

from centernetd.bench.gpu import SLOTS, measure
from centernetd.cuda import Event
from centernetd.flow import HostImage
from centernetd.inference.detector import SHARES, Detector
from centernetd.inference.engines.gpu import GpuEngine, GpuSlot
from centernetd.inference.filter import StreamFilter
from tests.gpu import network
from tests.gpu.hardware import SIZE, TorchHardware, open_double
from tests.manifests import plain

LARGEST = 32
SECONDS = 3.0
ROUNDS = 3  # of what is compared: the order alternates, and medians are taken
BUSY_THREADS, BUSY_SECONDS = 32, 0.0003
IMAGES = 64  # 1080p pictures in memory
ROWS_TARGET = 3000


def main(path: Path) -> None:
    """Measure everything, write it as JSON and print it as a table."""
    hardware = TorchHardware(network.make())
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_double(Path(folder), hardware, LARGEST)) as engine,
    ):
        found = measure_all(engine, hardware)
    path.write_text(json.dumps(found, indent=1))
    for name, value in found["figures"].items():
        print(f"{name:54} {value:12.3f}")


def measure_all(engine: GpuEngine, hardware: TorchHardware) -> dict[str, Any]:
    """Return the figures, and what they were made of."""
    slots = engine.make_slots(SLOTS)
    figures: dict[str, float] = {}
    details: dict[str, object] = {"gpu": hardware.name, "cores": len(os.sched_getaffinity(0))}
    for batch in (8, 32):
        alone, rates = [], []
        for _ in range(ROUNDS):
            alone.append(compute_alone(hardware, slots[0], batch))
            rates.append(measure(engine, slots, batch, SECONDS))
        details[f"rates at batch {batch}"] = [asdict(rate) for rate in rates]
        pipeline = statistics.median(rate.frames_per_second for rate in rates)
        figures[f"compute alone, batch {batch}, frames/s"] = statistics.median(alone)
        figures[f"pipeline part, batch {batch}, frames/s"] = pipeline
        figures[f"pipeline / compute alone, batch {batch}"] = pipeline / statistics.median(alone)
    notes = notes_pattern(hardware)
    figures["pattern of the notes, frames/s"] = notes
    for batch in (8, 32):
        figures[f"pipeline, batch {batch} / notes"] = (
            figures[f"pipeline part, batch {batch}, frames/s"] / notes
        )
    figures["bytes in, a frame"] = slots[0].rows[0].nbytes
    figures["bytes out, a frame"] = sum(each[0].nbytes for each in slots[0].results.values())
    figures |= thread_time(engine, slots)
    figures |= letterboxing(engine, slots)
    return {"figures": figures, "details": details, "timeline": timeline(engine, slots)}


def compute_alone(hardware: TorchHardware, slot: GpuSlot, batch: int) -> float:
    """Return frames/s of the same graph replayed again and again, nothing else."""
    graph = hardware.graph(batch, slot.addresses)
    graph.replay()
    torch.cuda.synchronize()
    started, replays = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        for _ in range(16):
            graph.replay()
        torch.cuda.synchronize()
        replays += 16
    return replays * batch / (time.perf_counter() - started)


def notes_pattern(hardware: TorchHardware) -> float:
    """Return frames/s of: pageable float32 in, execute, heads out, synchronise, one image."""
    pixels = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)
    device = torch.empty(pixels.shape, device="cuda")
    half = next(hardware._network.parameters()).dtype
    side = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(side):

        def run() -> torch.Tensor:
            shaped = device.to(half).contiguous(memory_format=torch.channels_last)
            heat, size, offset = hardware._network.network(shaped)
            return torch.cat([heat.sigmoid(), size, offset], 1).float().contiguous()

        run()
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            heads = run()
    out = np.empty(tuple(heads.shape), np.float32)
    kinds = runtime.cudaMemcpyKind
    started, frames = time.perf_counter(), 0
    with torch.cuda.stream(side):
        while time.perf_counter() - started < SECONDS:
            runtime.cudaMemcpy(
                device.data_ptr(), pixels.ctypes.data, pixels.nbytes, kinds.cudaMemcpyHostToDevice
            )
            graph.replay()
            side.synchronize()
            runtime.cudaMemcpy(
                out.ctypes.data, heads.data_ptr(), out.nbytes, kinds.cudaMemcpyDeviceToHost
            )
            frames += 1
    return frames / (time.perf_counter() - started)


def thread_time(engine: GpuEngine, slots: Sequence[GpuSlot]) -> dict[str, float]:
    """Return the enqueuing thread's milliseconds a batch of 32, alone and among busy threads."""
    figures = {}
    for name, threads in (("", 0), (f", {BUSY_THREADS} busy threads", BUSY_THREADS)):
        with busy(threads) as work_done:
            rate = measure(engine, slots, 32, SECONDS)
        figures[f"enqueuing 32{name}, ms CPU"] = rate.cpu_seconds * 1e3
        figures[f"enqueuing 32{name}, ms wall"] = rate.wall_seconds * 1e3
        figures[f"pipeline part, batch 32{name}, frames/s"] = rate.frames_per_second
        figures[f"work of others{name}, frames/s"] = work_done() / SECONDS
    return figures


@contextmanager
def busy(count: int) -> Iterator[Callable[[], int]]:
    """Have ``count`` threads each do 0.3 ms of Python for a frame, 25 frames per second."""
    stop = threading.Event()
    done = [0] * count

    def work(number: int) -> None:
        while not stop.wait(0.04):
            until = time.thread_time() + BUSY_SECONDS
            while time.thread_time() < until:
                pass
            done[number] += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    yield lambda: sum(done)
    stop.set()
    for thread in threads:
        thread.join()


def letterboxing(engine: GpuEngine, slots: Sequence[GpuSlot]) -> dict[str, float]:
    """Return frames/s of letterboxing 1080p pictures from memory into pinned rows."""
    random = np.random.default_rng(0)
    images = [HostImage(random.integers(0, 256, (1080, 1920, 3), np.uint8)) for _ in range(IMAGES)]
    filters = [StreamFilter(0.5, None, ("thing",))] * LARGEST
    with ThreadPoolExecutor(SHARES, "letterbox") as pool:
        detector = Detector(engine, plain(input_size=SIZE, top_k=network.TOP_K), pool)
        batches = [images[:LARGEST], images[LARGEST:]]
        detector.fill(slots[0], batches[0], filters)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            detector.fill(slots[count % SLOTS], batches[count % 2], filters)
            count += 1
    rate = count * LARGEST / (time.perf_counter() - started)
    return {
        f"letterboxing 1080p, {SHARES} threads, frames/s": rate,
        f"letterboxing / {ROWS_TARGET}": rate / ROWS_TARGET,
    }


def timeline(engine: GpuEngine, slots: Sequence[GpuSlot]) -> list[dict[str, float | str]]:
    """Return when each step of some batches of 32 ran, in milliseconds of the GPU's clock."""
    found: list[dict[str, float | str]] = []
    with Event() as origin:
        engine.copy_in.record(origin)
        for number in range(12):
            slot = slots[number % SLOTS]
            if number >= SLOTS:
                found += _steps(slot, number - SLOTS, origin)
            slot.enqueue(32)
        for number in range(12 - SLOTS, 12):
            found += _steps(slots[number % SLOTS], number, origin)
    return found


def _steps(slot: GpuSlot, number: int, origin: Event) -> Iterator[dict[str, float | str]]:
    slot.wait()
    for step in ("copy_in", "execute", "copy_out"):
        span = getattr(slot, step)
        begin, end = (event.seconds_since(origin) * 1e3 for event in (span.begin, span.end))
        yield {"batch": number, "step": step, "begin": begin, "end": end}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
