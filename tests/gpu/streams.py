"""How many 1080p30 streams one GPU box takes: ``python -m tests.gpu.streams OUT [N,N...]``.

Decoded by the GPU, detected on it, events only. ``--onnxruntime`` runs CenterFace on ONNX Runtime,
``--coco`` the other built-in model, ``--models=faces,coco`` both on each stream, else the double
of TensorRT replays the PyTorch CenterNet: the pipeline around an engine. With ``--cpu`` software
decodes, with ``--hevc`` the video is H.265, with ``--copies`` it is also recorded as received,
``--minutes=N`` is for how long. With ``--apart`` each stream begins at a time of its own, as
cameras do, else almost all at once. If py-spy is installed, it reports for each run which share of
the time somebody held Python's lock, and who.
OUT/streams.json gets it all, OUT/gil-N.txt and OUT/all-N.txt the stacks.
"""

import argparse
import ctypes
import json
import logging
import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pynvml
import yaml

from centernetd.bench import streams
from centernetd.bench.clip import Clip, file_stream
from centernetd.bench.streams import Load, Workload, make_clip, run
from centernetd.capture.intake import Pacer
from centernetd.cli.bench import show_streams
from centernetd.config import Config
from centernetd.config import load as load_config
from centernetd.flow import Lane

ROOT = Path(__file__).parents[2]
COUNTS = (8, 16, 32, 48)
SIZE, FPS = (1080, 1920), 30
SECONDS, LOOP = 16, 4  # of a run, and of the video that is repeated
MAX_BATCH = 32
MODELS = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
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
    Meter(_report_of(sign)).start()
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
    record = streams._Recorder.batch_size

    def batch_size(recorder: streams._Recorder, size: int) -> None:
        sign.touch()
        record(recorder, size)

    setattr(streams._Recorder, "batch_size", batch_size)  # noqa: B010 - a method


class Compact:
    """A list of pairs of numbers in 16 bytes each, so that a long run's memory stays flat."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def append(self, pair: tuple[float, float]) -> None:
        self._numbers.extend(pair)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return iter(zip(self._numbers[::2], self._numbers[1::2], strict=True))


class Meter:
    """What `bench.streams` doesn't measure, of a run in this process; ``report`` gets it all."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._samples: list[tuple[float, int, float]] = []  # seconds, bytes on the GPU, joules
        self._seen: dict[str, float] = {}
        self._gaps: dict[str, float] = {}

    def start(self) -> None:
        """Sample the GPU once per second, and have the run's frames and summary pass by here."""
        recorder, summarise, found = streams._Recorder, streams._summary, self
        begin, latency = recorder.__init__, recorder.frame_latency

        def init(self: streams._Recorder) -> None:
            begin(self)
            setattr(self, "latencies", Compact())  # noqa: B010 - another type
            setattr(self, "steps", defaultdict(Compact))  # noqa: B010

        def frame_latency(self: streams._Recorder, stream: str, seconds: float) -> None:
            latency(self, stream, seconds)
            now = time.monotonic()
            gap = now - found._seen.get(stream, now)
            found._seen[stream] = now
            if gap > found._gaps.get(stream, 0.0):
                found._gaps[stream] = gap

        def summary(
            config: Config,
            asked: float,
            recorder: streams._Recorder,
            warm: Sequence[Any],
            lanes: Sequence[Lane],
        ) -> Load:
            load = summarise(config, asked, recorder, warm, lanes)
            self._write(load, recorder, warm)
            return load

        for name, value in (("__init__", init), ("frame_latency", frame_latency)):
            setattr(recorder, name, value)
        setattr(streams, "_summary", summary)  # noqa: B010 - a function
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        while True:
            used = pynvml.nvmlDeviceGetMemoryInfo(gpu).used
            joules = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000
            self._samples.append((time.monotonic(), used, joules))
            time.sleep(1)

    def _write(self, load: Load, recorder: streams._Recorder, warm: Sequence[Any]) -> None:
        begin, end = warm[0].at, warm[-1].at
        late = sorted(seconds for at, seconds in recorder.latencies if begin <= at <= end)
        samples = [each for each in self._samples if begin <= each[0] <= end]
        before, after = samples[0], samples[-1]
        frames = load.inferred_fps * (after[0] - before[0])
        self._report.write_text(
            json.dumps(
                {
                    "p999": late[int(0.999 * (len(late) - 1))],
                    "worst": late[-1],
                    "longest_gap": max(self._gaps.values()),
                    "gpu_bytes_idle": self._samples[0][1],
                    "gpu_bytes": [before[1], after[1]],
                    "host_bytes": [warm[0].rss, warm[-1].rss],
                    "joules_per_frame": (after[2] - before[2]) / frames,
                    "watts": (after[2] - before[2]) / (after[0] - before[0]),
                }
            )
        )


def be_watched_with_the_double(sign: Path) -> None:
    """Do both."""
    be_watched(sign)
    use_the_double()


def be_apart(prepare: Callable[[Path], None], sign: Path) -> None:
    """Have each stream begin at a random moment between two frames, and ``prepare``."""
    wait = Pacer.wait

    def wait_first(pacer: Pacer, at: float) -> None:
        if pacer._offset is None:
            time.sleep(random.uniform(0, 1 / FPS))
        wait(pacer, at)

    setattr(Pacer, "wait", wait_first)  # noqa: B010 - a method
    prepare(sign)


def run_each(
    config: Path,
    counts: Sequence[int],
    workload: Workload,
    codec: str,
    prepare: Callable[[Path], None],
    watch: Callable[[int, int], None],
) -> Iterator[tuple[Load, dict[str, Any]]]:
    """Run each number of streams as `bench_streams` does, in processes prepared and watched."""
    stream = file_stream(load_config(config).streams.values())
    with tempfile.TemporaryDirectory() as folder:
        once, clip = Path(folder) / "once.mp4", Path(folder) / "clip.mp4"
        make_clip(stream, replace(workload, seconds=LOOP), once)
        if codec != "libx264":
            once = encode(once, codec, workload)
        repeat(once, clip, workload.seconds // LOOP)
        for count in counts:
            print(f"{count} streams")
            sign = Path(folder) / f"running-{count}"
            with ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=prepare, initargs=(sign,)
            ) as pool:
                pid = pool.submit(os.getpid).result()
                running = pool.submit(run, config, stream.name, clip, count, workload)
                while not sign.exists() and not wait([running], 0.1).done:
                    pass
                watch(count, pid)
                yield running.result(), json.loads(_report_of(sign).read_text())


def _report_of(sign: Path) -> Path:
    return sign.with_suffix(".json")


def encode(video: Path, codec: str, workload: Workload) -> Path:
    """Return ``video`` encoded by ``codec``."""
    path = video.with_stem("encoded")
    height, width = workload.size
    with (
        av.open(str(video)) as source,
        Clip(path, codec, width, height, Fraction(1, workload.fps)) as clip,
    ):
        for pts, frame in enumerate(source.decode(video=0)):
            clip.write(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), pts)
    return path


def repeat(video: Path, path: Path, times: int) -> None:
    """Write ``video`` that often into one file, without encoding it again."""
    with av.open(str(video)) as source:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        with av.open(str(path), "w") as target:
            track = target.add_stream_from_template(source.streams.video[0])
            step = sum(packet.duration or 0 for packet in packets)
            starts = [(packet.pts or 0, packet.dts or 0) for packet in packets]
            for number in range(times):
                for packet, (pts, dts) in zip(packets, starts, strict=True):
                    packet.stream = track
                    packet.pts, packet.dts = pts + number * step, dts + number * step
                    target.mux(packet)


def in_real_time(load: Load, seconds: int) -> bool:
    """Return whether 99.5 % of the frames of a run were inferred, and 0.1 % dropped at most."""
    enough = load.inferred_fps >= 0.995 * load.asked_fps
    return enough and load.dropped <= 0.001 * load.asked_fps * seconds


def _document(load: Load, seconds: int) -> dict[str, object]:
    return asdict(load) | {"in_real_time": in_real_time(load, seconds), "fullest": load.fullest}


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


def main(folder: Path, counts: Sequence[int], options: argparse.Namespace) -> None:
    """Run each number of streams, print a table and write everything to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "streams.yaml"
    models = options.models or ["coco" if options.coco else "faces"]
    real = bool(options.onnxruntime or options.coco or options.models)
    demo = {
        "source": str(ROOT / "assets" / "demo.mp4"),
        "decode": "cpu" if options.cpu else "cuda",
        "record": {"video": "source"} if options.copies else {"when": "never"},
        "events": {"frames": "always"},
        "detect": {"confidence": 0.4 if real else 0.99},  # the double's classes are 20
        "models": models,
    }
    settings = {
        "version": 1,
        "models": MODELS,
        "engine": {"backend": "onnxruntime-cuda"},
        "batching": {"max_size": MAX_BATCH},
        "streams": {"demo": demo},
    }
    config.write_text(yaml.safe_dump(settings))
    workload = Workload(SIZE, FPS, int(options.minutes * 60) or SECONDS)
    codec = "libx265" if options.hevc else "libx264"
    spy = Spy(folder)
    loads: list[Load] = []
    found: list[dict[str, object]] = []
    prepare: Callable[[Path], None] = be_watched if real else be_watched_with_the_double
    if options.apart:
        prepare = partial(be_apart, prepare)
    for load, more in run_each(config, counts, workload, codec, prepare, spy.watch):
        loads.append(load)
        found.append(_document(load, workload.seconds) | more | spy.seen.get(load.streams, {}))
        (folder / "streams.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found[-1]), flush=True)
    show_streams(loads)
    for count, seen in spy.seen.items():
        held, running = seen["lock_held"], seen["threads_running"]
        print(f"{count} streams: lock held {held:.0%}, {running:.1f} threads running")
    enough = max(
        (load.streams for load in loads if in_real_time(load, workload.seconds)), default=0
    )
    print(f"in real time: {enough} streams of 1080p30")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("counts", nargs="?", default=COUNTS, type=_counts)
    for name in ("onnxruntime", "coco", "cpu", "hevc", "copies", "apart"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--models", type=lambda text: text.split(","))
    return parser.parse_args()


def _counts(text: str) -> list[int]:
    return [int(count) for count in text.split(",")]


if __name__ == "__main__":
    asked = _arguments()
    main(asked.folder, asked.counts, asked)
