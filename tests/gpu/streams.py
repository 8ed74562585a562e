"""How many 1080p30 streams one GPU box takes: ``python -m tests.gpu.streams OUT [N,N...]``.

Decoded by the GPU, detected on it, events only; everything is counted from when all streams have
run for a fifth of the time.
``--onnxruntime`` runs CenterFace on ONNX Runtime, ``--coco`` the other built-in model,
``--models=faces,coco`` both on each stream, ``--alternate=faces,coco`` one of them on every other
stream, else the double of TensorRT replays the PyTorch CenterNet: the pipeline around an engine.

All streams show one clip, read from a file in real time; with ``--apart`` each begins at a time of
its own, as cameras do, else almost all at once. With ``--rtsp`` they come from an RTSP server on
this machine that shows 25 clips (`tests.gpu.cameras`). With ``--hevc`` the clip is H.265, with
``--cpu`` software decodes. With ``--copies`` it is also recorded as received, with
``--annotated=N`` N of the streams record what was detected in them, and with ``--tracking`` each
follows objects, with a zone and a line. With ``--unpaced`` files are read as fast as their frames
are inferred, and ``alone_fps`` is what the engine does in batches of 32 with nothing else to do.
``--minutes=N`` is for how long. ``--backend``, ``--size`` and ``--fps`` are for trying all of it on
a machine without a GPU.

If py-spy is installed, it reports for each run which share of the time somebody held Python's
lock, and who. OUT/streams.json gets it all, OUT/gil-N.txt and OUT/all-N.txt the stacks.
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from centernetd.bench import gpu as engines
from centernetd.bench.clip import Clip, file_stream
from centernetd.bench.streams import OPENING, Load, Recorder, Workload, make_clip, measure
from centernetd.capture.intake import Pacer
from centernetd.cli.bench import show_streams
from centernetd.cli.options import parse_resolution
from centernetd.config import Config
from centernetd.config import load as load_config
from centernetd.inference.engines import choose_backend
from centernetd.run.loading import ConfiguredModel, load_engine, sizes_for
from tests.gpu.cameras import cameras

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "assets" / "demo.mp4"
COUNTS = (8, 16, 32, 48)
SECONDS, LOOP = 16, 4  # of a run, and of the video that is repeated
MAX_BATCH = 32
FASTER = 4  # how much longer a video is that is read as fast as possible
GPU = ("onnxruntime-cuda", "tensorrt")
MODELS = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
TRACKED = {
    "track": {},
    "zones": {"left": {"polygon": [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]}},
    "lines": {"middle": {"from": [0.5, 0.0], "to": [0.5, 1.0]}},
}
ALONE = 4.0  # seconds
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


def begin_apart(fps: int) -> None:
    """Have each stream of this process begin at a random moment between two frames."""
    wait = Pacer.wait

    def wait_first(pacer: Pacer, at: float) -> None:
        if pacer._offset is None:
            time.sleep(random.uniform(0, 1 / fps))
        wait(pacer, at)

    setattr(Pacer, "wait", wait_first)  # noqa: B010 - a method


def prepare(double: bool, apart_at: int | None) -> None:
    """Prepare a process in which one run is measured.

    Any process may look into it: some systems allow that to a process's parents only.
    """
    logging.disable(logging.WARNING)
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
    if double:
        use_the_double()
    if apart_at is not None:
        begin_apart(apart_at)


class Compact:
    """Pairs of numbers in 16 bytes each, so that a long run's memory stays flat.

    Each thread has an array of its own: without Python's lock, two must not append to one. They
    are read when all have ended.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._arrays: list[array[float]] = []

    def append(self, pair: tuple[float, float]) -> None:
        if not hasattr(self._mine, "numbers"):
            self._mine.numbers = array("d")
            self._arrays.append(self._mine.numbers)
        self._mine.numbers.extend(pair)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return (
            pair
            for numbers in self._arrays
            for pair in zip(numbers[::2], numbers[1::2], strict=True)
        )

    def between(self, begin: float, end: float) -> NDArray[np.float64]:
        """Return the pairs whose first number is in that range, [N, 2]."""
        pairs = np.concatenate([np.array(numbers) for numbers in self._arrays]).reshape(-1, 2)
        return pairs[(begin <= pairs[:, 0]) & (pairs[:, 0] <= end)]


class Watched(Recorder):
    """Also keeps the latencies of each stream; creates ``sign`` once each of ``count`` has one."""

    def __init__(self, sign: Path, count: int) -> None:
        super().__init__()
        self.of_stream: defaultdict[str, Compact] = defaultdict(Compact)
        setattr(self, "latencies", Compact())  # noqa: B010 - another type
        setattr(self, "steps", defaultdict(Compact))  # noqa: B010
        self._sign, self._lacking = sign, count

    def frame_latency(self, stream: str, seconds: float) -> None:
        super().frame_latency(stream, seconds)
        if stream not in self.of_stream:
            self._lacking -= 1
            if not self._lacking:
                self._sign.touch()
        self.of_stream[stream].append((time.monotonic(), seconds))


class Meter:
    """Samples the memory of this process and of the GPU, and the GPU's energy, every second."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int, int, float]] = []  # seconds, bytes, bytes, joules
        self._gpu: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception as error:
            print(f"the GPU's memory and energy are not measured: {error}")
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            here = pages * os.sysconf("SC_PAGE_SIZE")
            self._samples.append((time.monotonic(), here, *self._of_gpu()))
            time.sleep(1)

    def _of_gpu(self) -> tuple[int, float]:
        if self._gpu is None:
            return 0, 0.0
        import pynvml

        used = pynvml.nvmlDeviceGetMemoryInfo(self._gpu).used
        return used, pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu) / 1000

    def report(self, load: Load) -> dict[str, Any]:
        """Return what was measured at the same time as ``load``."""
        begin, end = load.measured
        warm = [each for each in self._samples if begin <= each[0] <= end]
        (at, here, there, joules), (until, *after) = warm[0], warm[-1]
        found: dict[str, Any] = {"host_bytes": [here, after[0]]}
        if self._gpu is not None and until > at:
            used = after[2] - joules
            found |= {
                "gpu_bytes_idle": self._samples[0][2],
                "gpu_bytes": [there, after[1]],
                "joules_per_frame": used / (load.inferred_fps * (until - at)),
                "watts": used / (until - at),
            }
        return found


def run(
    config_path: Path, workload: Workload, sign: Path, *, unpaced: bool
) -> tuple[Load, dict[str, Any]]:
    """Measure the streams of a configuration in this process."""
    config, meter = load_config(config_path), Meter()
    recorder = Watched(sign, len(config.streams))
    load = measure(config, workload, recorder)
    warm = {
        name: latencies.between(*load.measured) for name, latencies in recorder.of_stream.items()
    }
    late = np.sort(np.concatenate([each[:, 1] for each in warm.values()]))
    gaps = [np.diff(each[:, 0]).max(initial=0.0) for each in warm.values()]
    report = {
        "p999": _percentile(late, 99.9),
        "worst": _percentile(late, 100),
        "longest_gap": float(max(gaps)),
        "groups": groups(config, load, workload, warm),
        "warm_seconds": load.measured[1] - load.measured[0],
    }
    report |= meter.report(load)
    return load, report | ({"alone_fps": alone(config)} if unpaced else {})


def alone(config: Config) -> float:
    """Return how many frames per second the engine of the first model infers by itself."""
    backend = choose_backend(config.engine.backend)
    model = ConfiguredModel.of(config, next(iter(config.used_models)))
    engine, _ = load_engine(model, backend, sizes_for(backend, MAX_BATCH))
    with closing(engine):
        slots = engine.make_slots(engines.SLOTS)
        return engines.measure(engine, slots, MAX_BATCH, ALONE).frames_per_second


def groups(
    config: Config, load: Load, workload: Workload, warm: Mapping[str, NDArray[np.float64]]
) -> dict[str, dict[str, float | None]]:
    """Return what became of the streams that have the same models and recordings."""
    members: defaultdict[str, list[str]] = defaultdict(list)
    for name, stream in config.streams.items():
        recorded = "" if stream.record.when == "never" else f", {stream.record.video}"
        members["+".join(stream.models) + recorded].append(name)
    seconds = load.measured[1] - load.measured[0]
    found: dict[str, dict[str, float | None]] = {}
    for group, names in members.items():
        late = np.sort(np.concatenate([warm[name][:, 1] for name in names]))
        inferred, dropped = (sum(load.by_stream[name][n] for name in names) for n in (0, 1))
        found[group] = {
            "streams": len(names),
            "asked_fps": len(names) * workload.fps,
            "inferred_fps": inferred / seconds,
            "dropped": dropped,
            "median": _percentile(late, 50),
            "p99": _percentile(late, 99),
        }
    return found


def _percentile(ordered: NDArray[np.float64], percent: float) -> float | None:
    """Return a percentile; None if nothing was measured."""
    last = len(ordered) - 1
    return float(ordered[min(last, int(len(ordered) * percent / 100))]) if len(ordered) else None


def run_each(
    folder: Path, options: argparse.Namespace, workload: Workload, spy: "Spy"
) -> Iterator[tuple[Load, dict[str, Any]]]:
    """Measure each number of streams in a process of its own, which ``spy`` watches."""
    real = bool(options.onnxruntime or options.coco or options.models or options.alternate)
    double = not real and options.backend in GPU
    apart_at = workload.fps if options.apart else None
    for count in options.counts:
        print(f"{count} streams", flush=True)
        with (
            tempfile.TemporaryDirectory() as written,
            sources(count, workload, options) as addresses,
            ProcessPoolExecutor(
                1,
                multiprocessing.get_context("spawn"),
                initializer=prepare,
                initargs=(double, apart_at),
            ) as pool,
        ):
            config, sign = folder / "streams.yaml", Path(written) / "running"
            settings = configuration(addresses, options, real=real)
            settings["storage"] = {"root": str(Path(written) / "storage")}
            config.write_text(json.dumps(settings, indent=1))
            pid = pool.submit(os.getpid).result()
            running = pool.submit(run, config, workload, sign, unpaced=options.unpaced)
            while not sign.exists() and not wait([running], 0.1).done:
                pass
            spy.watch(count, pid, after=0.2 * workload.seconds)
            yield running.result()


def configuration(
    addresses: Sequence[str], options: argparse.Namespace, *, real: bool
) -> dict[str, Any]:
    """Return the configuration with a stream for each address."""
    models = options.models or ["coco" if options.coco else "faces"]
    stream: dict[str, Any] = {
        "policy": "lossless" if options.unpaced else "live",
        "decode": "cpu" if options.cpu else "cuda",
        "record": {"video": "source"} if options.copies else {"when": "never"},
        "events": {"frames": "always"},
        "detect": {"confidence": 0.4 if real else 0.99},  # the double's classes are 20
        "models": models,
        **(TRACKED if options.tracking else {}),
    }
    streams = {
        f"s{number}": stream | {"source": address} for number, address in enumerate(addresses)
    }
    for number, each in enumerate(streams.values()):
        if options.alternate:
            each["models"] = [options.alternate[number % len(options.alternate)]]
        if number < options.annotated:
            each["record"] = {"video": "annotated"}
    return {
        "version": 1,
        "models": MODELS,
        "engine": {"backend": options.backend},
        "batching": {"max_size": MAX_BATCH if options.backend in GPU else "auto"},
        "metrics": {"listen": None},
        "streams": streams,
    }


@contextmanager
def sources(count: int, workload: Workload, options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield what ``count`` streams read: cameras, or one file."""
    with ExitStack() as stack:
        if options.rtsp:
            shown = cameras(DEMO, count, workload.size, workload.fps, options.clips)
            yield stack.enter_context(shown)
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        once, clip = folder / "once.mp4", folder / "clip.mp4"
        demo = {"version": 1, "streams": {"demo": {"source": str(DEMO)}}}
        (folder / "demo.yaml").write_text(json.dumps(demo))
        stream = file_stream(load_config(folder / "demo.yaml").streams.values())
        make_clip(stream, replace(workload, seconds=LOOP), once)
        if options.hevc:
            once = encode(once, "libx265", workload)
        seconds = (workload.seconds + OPENING) * (FASTER if options.unpaced else 1)
        repeat(once, clip, -(-seconds // LOOP))
        yield [str(clip)] * count


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


def in_real_time(load: Load) -> bool:
    """Return whether 99.5 % of the frames of a run were inferred, and 0.1 % dropped at most."""
    seconds = load.measured[1] - load.measured[0]
    enough = load.inferred_fps >= 0.995 * load.asked_fps
    return enough and load.dropped <= 0.001 * load.asked_fps * seconds


class Spy:
    """Watches each run with py-spy, twice concurrently: who holds the lock, and who runs at all.

    ``seen`` has, by the number of streams, the share of the time in which the lock was held, by
    whom, and how many threads were running on average, with the lock or without.
    """

    def __init__(self, folder: Path) -> None:
        self.seen: dict[int, dict[str, Any]] = {}
        self._folder = folder
        self._program = shutil.which("py-spy")

    def watch(self, count: int, pid: int, after: float) -> None:
        """Watch a run in which all streams have just begun, ``after`` seconds."""
        if self._program is None:
            return
        time.sleep(after)
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


def main(options: argparse.Namespace) -> None:
    """Measure each number of streams, print a table and write everything to a folder."""
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    seconds = int(options.minutes * 60) or SECONDS
    workload = Workload(parse_resolution(options.size), options.fps, seconds)
    spy = Spy(folder)
    loads: list[Load] = []
    found: list[dict[str, object]] = []
    for load, more in run_each(folder, options, workload, spy):
        loads.append(load)
        derived = {"in_real_time": in_real_time(load), "fullest": load.fullest}
        found.append(asdict(load) | derived | more | spy.seen.get(load.streams, {}))
        (folder / "streams.json").write_text(json.dumps(found, indent=1))
        print(json.dumps(found[-1]), flush=True)
    show_streams(loads)
    for count, seen in spy.seen.items():
        held, running = seen["lock_held"], seen["threads_running"]
        print(f"{count} streams: lock held {held:.0%}, {running:.1f} threads running")
    enough = max((load.streams for load in loads if in_real_time(load)), default=0)
    print(f"in real time: {enough} streams of {options.size} at {options.fps} frames/s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("counts", nargs="?", default=COUNTS, type=_numbers)
    for name in (
        "onnxruntime",
        "coco",
        "cpu",
        "hevc",
        "copies",
        "apart",
        "rtsp",
        "tracking",
        "unpaced",
    ):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--annotated", type=int, default=0)
    for name in ("models", "alternate"):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","))
    parser.add_argument("--clips", type=int, default=25)
    parser.add_argument("--backend", default="onnxruntime-cuda")
    parser.add_argument("--size", default="1080x1920")
    parser.add_argument("--fps", type=int, default=30)
    options = parser.parse_args()
    if options.rtsp and (options.hevc or options.apart):
        parser.error("the cameras of --rtsp send H.264 and are apart as it is")
    if options.unpaced and (options.rtsp or options.apart):
        parser.error("only files are read without a pace, and then they are not apart")
    return options


def _numbers(text: str) -> list[int]:
    return [int(count) for count in text.split(",")]


if __name__ == "__main__":
    main(_arguments())
