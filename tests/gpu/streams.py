"""How many 1080p30 streams one GPU box takes: ``python -m tests.gpu.streams OUT [N,N...]``.

Decoded by the GPU, detected on it, events only. ``--onnxruntime`` runs CenterFace on ONNX Runtime,
else the double of TensorRT replays the PyTorch CenterNet: the pipeline around an engine. With
``--cpu`` software decodes. If py-spy is installed, it reports for each run which share of the
time somebody held Python's lock, and who. OUT/streams.json gets it all, OUT/gil-N.txt and
OUT/all-N.txt the stacks.
"""

import ctypes
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from centernetd.bench import streams
from centernetd.bench.clip import file_stream
from centernetd.bench.streams import Load, Workload, make_clip, run
from centernetd.cli.bench import show_streams
from centernetd.config import load as load_config

ROOT = Path(__file__).parents[2]
COUNTS = (8, 16, 32, 48)
WORKLOAD = Workload(size=(1080, 1920), fps=30, seconds=16)
MAX_BATCH = 32
WARM = 3.0  # seconds
WATCHED, RATE = 6, 100  # seconds, samples per second

_PR_SET_PTRACER, _ANY = 0x59616D61, -1  # prctl(2)


def use_the_double() -> None:
    """Have this process run the PyTorch network where the daemon would load ONNX."""
    from centernetd.inference.engines import Backend
    from centernetd.inference.engines.gpu import GpuEngine
    from centernetd.run import loading
    from tests.gpu import network
    from tests.gpu.hardware import TorchHardware, open_double

    hardware = TorchHardware(network.make())

    def open_onnx(
        backend: Backend, model: Path, precision: str, device: int, max_batch: int, concurrency: int
    ) -> GpuEngine:
        return open_double(Path(tempfile.mkdtemp()), hardware, max_batch)

    setattr(loading, "open_onnx", open_onnx)  # noqa: B010 - a name that it imports


def be_watched(sign: Path) -> None:
    """Let any process look into this one, and create ``sign`` with its first batch.

    Some systems allow the former to a process's parents only.
    """
    logging.disable(logging.WARNING)
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
    record = streams._Recorder.batch_size

    def batch_size(recorder: streams._Recorder, size: int) -> None:
        sign.touch()
        record(recorder, size)

    setattr(streams._Recorder, "batch_size", batch_size)  # noqa: B010 - a method


def be_watched_with_the_double(sign: Path) -> None:
    """Do both."""
    be_watched(sign)
    use_the_double()


def run_each(
    config: Path,
    counts: Sequence[int],
    prepare: Callable[[Path], None],
    watch: Callable[[int, int], None],
) -> Iterator[Load]:
    """Run each number of streams as `bench_streams` does, in processes prepared and watched."""
    stream = file_stream(load_config(config).streams.values())
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(stream, WORKLOAD, clip)
        for count in counts:
            print(f"{count} streams")
            sign = Path(folder) / f"running-{count}"
            with ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=prepare, initargs=(sign,)
            ) as pool:
                pid = pool.submit(os.getpid).result()
                running = pool.submit(run, config, stream.name, clip, count, WORKLOAD)
                while not sign.exists() and not wait([running], 0.1).done:
                    pass
                watch(count, pid)
                yield running.result()


def in_real_time(load: Load) -> bool:
    """Return whether every frame was decoded and inferred in time."""
    return load.dropped == 0 and load.inferred_fps >= 0.99 * load.asked_fps


def _document(load: Load) -> dict[str, object]:
    return asdict(load) | {"in_real_time": in_real_time(load), "fullest": load.fullest}


class Spy:
    """Watches each run with py-spy, twice concurrently: who holds the lock, and who runs at all.

    ``seen`` has, by the number of streams, the share of the time in which the lock was held, by
    whom, and how many threads were running on average, with the lock or without.
    """

    def __init__(self, folder: Path) -> None:
        self.seen: dict[int, dict[str, Any]] = {}
        self._folder = folder
        self._program = shutil.which("py-spy")

    def watch(self, count: int, pid: int) -> None:
        """Watch a run that has just begun, once it is warm."""
        if self._program is None:
            return
        time.sleep(WARM)
        outputs = {name: self._folder / f"{name}-{count}.txt" for name in ("gil", "all")}
        running = [
            subprocess.Popen(
                [self._program, "record", "--pid", str(pid), "--nonblocking", "--threads"]
                + ["--duration", str(WATCHED), "--rate", str(RATE)]
                + ["--format", "raw", "--output", str(output)]
                + (["--gil"] if name == "gil" else []),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, output in outputs.items()
        ]
        for spy in running:
            _, complaints = spy.communicate()
            if spy.returncode:
                print(complaints)
        if all(output.exists() for output in outputs.values()):
            holders, active = (_leaves(output.read_text()) for output in outputs.values())
            ticks = WATCHED * RATE
            self.seen[count] = {
                "lock_held": holders.total() / ticks,
                "threads_running": active.total() / ticks,
                "holders": [(who, n / ticks) for who, n in holders.most_common(8)],
                "running": [(who, n / ticks) for who, n in active.most_common(8)],
            }


def _leaves(text: str) -> Counter[str]:
    """Count the samples by the innermost function, from lines of stack;frames and a number."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        found[stack.rpartition(";")[2]] += int(samples)
    return found


def main(folder: Path, counts: list[int], options: set[str]) -> None:
    """Run each number of streams, print a table and write everything to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "streams.yaml"
    demo = {
        "source": str(ROOT / "assets" / "demo.mp4"),
        "decode": "cpu" if "cpu" in options else "cuda",
        "record": {"when": "never"},
        "events": {"when": "always"},
        "detect": {"confidence": 0.4 if "onnxruntime" in options else 0.99},  # its classes are 20
    }
    engine = {"backend": "onnxruntime-cuda"}
    batching = {"max_size": MAX_BATCH}
    settings = {"version": 1, "engine": engine, "batching": batching, "streams": {"demo": demo}}
    config.write_text(yaml.safe_dump(settings))
    spy = Spy(folder)
    loads: list[Load] = []
    prepare = be_watched if "onnxruntime" in options else be_watched_with_the_double
    for load in run_each(config, counts, prepare, spy.watch):
        loads.append(load)
        found = [_document(each) | spy.seen.get(each.streams, {}) for each in loads]
        (folder / "streams.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found[-1]), flush=True)
    show_streams(loads)
    for count, seen in spy.seen.items():
        held, running = seen["lock_held"], seen["threads_running"]
        print(f"{count} streams: lock held {held:.0%}, {running:.1f} threads running")
    enough = max((load.streams for load in loads if in_real_time(load)), default=0)
    print(f"in real time: {enough} streams of 1080p30")


if __name__ == "__main__":
    arguments = [each for each in sys.argv[1:] if not each.startswith("--")]
    chosen = [int(n) for n in arguments[1].split(",")] if arguments[1:] else list(COUNTS)
    asked = {each.removeprefix("--") for each in sys.argv[1:]}
    main(Path(arguments[0]), chosen, asked & {"onnxruntime", "cpu"})
