"""Measure what two models cost together, and each alone, in CPU seconds and time per frame.

Run ``python -m scripts.measure_models [--rounds N]`` with both built-in models in the cache. Each
case runs in a process of its own, and counts from its first inferred frames to its end. The cases
take turns; the smallest of each is printed, as other programs can only add to it. With ``--gpu N``
there are N of each stream, which ONNX Runtime infers on the GPU that decodes them: as many as keep
it busy, so that the time shows what it costs there.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from centernetd.config import load
from centernetd.run.supervisor import Supervisor

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo.mp4"
MODELS = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
CASES: dict[str, list[list[str]]] = {
    "faces": [["faces"]],
    "coco": [["coco"]],
    "a stream of each": [["faces"], ["coco"]],
    "both on one stream": [["faces", "coco"]],
}
"""The models of each stream."""


def measure(case: str, video: Path, gpu: int) -> tuple[float, float]:
    """Run a case in this process; return its CPU seconds and its time per frame of ``video``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        stream = {"source": str(video), "record": {"when": "never"}}
        settings: dict[str, object] = {"version": 1, "models": MODELS}
        if gpu:
            stream["decode"] = "cuda"
            settings["engine"] = {"backend": "onnxruntime-cuda"}
            settings["batching"] = {"max_size": 32}
        settings["streams"] = {
            f"s{number}-{copy}": stream | {"models": models}
            for number, models in enumerate(CASES[case])
            for copy in range(gpu or 1)
        }
        settings |= {"storage": {"root": folder}, "metrics": {"listen": None}}
        config.write_text(json.dumps(settings))
        supervisor = Supervisor(load(config))
        begun: list[tuple[float, float, float]] = []

        def inferred() -> float:
            """Return the frames inferred of each stream, on average."""
            return mean(lane.ledger.read().inferred for lane in supervisor.lanes)

        def on_tick() -> None:
            if not begun and (frames := inferred()):  # the models are warm
                begun.append((time.process_time(), time.monotonic(), frames))

        supervisor.run(on_tick)
        cpu, at, before = begun[0]
        frames = inferred() - before
        return (time.process_time() - cpu) / frames, (time.monotonic() - at) / frames


def main(options: argparse.Namespace) -> None:
    """Run every case in turns, and compare."""
    least = {case: (float("inf"), float("inf")) for case in CASES}
    for number in range(options.rounds):
        for case in CASES:
            command = [sys.executable, "-m", "scripts.measure_models", "--case", case]
            command += ["--video", options.video, "--gpu", str(options.gpu)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            cpu, passed = map(float, done.stdout.split())
            least[case] = min(least[case][0], cpu), min(least[case][1], passed)
            print(f"round {number + 1}: {case}: {1e3 * cpu:.1f} ms of CPU, {1e3 * passed:.1f} ms")
    for kind, name in enumerate(("of CPU", "in all")):
        alone = least["faces"][kind] + least["coco"][kind]
        for case, seconds in least.items():
            share = seconds[kind] / alone
            print(f"{case}: {1e3 * seconds[kind]:.1f} ms {name} per frame, {share:.1%} of the sum")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu", type=int, default=0, metavar="N")
    parser.add_argument("--video", type=Path, default=DEMO)
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        logging.disable(logging.WARNING)
        print(*measure(options.case, options.video, options.gpu))
    else:
        main(options)
