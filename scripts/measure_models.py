"""Measure what two models cost together, and each alone, in CPU seconds and time per frame.

Run ``python -m scripts.measure_models [--rounds N]`` with both built-in models in the cache. Each
case runs in a process of its own, and counts from when frames of all streams have been inferred to
its end. The cases take turns; the smallest of each is printed, as other programs can only add to
it: per run of a model on a frame, and as a share of what the same runs cost when each model is
alone.

With ``--gpu N`` there are N of each stream, which ONNX Runtime infers on the GPU that decodes them:
as many as keep it busy, so that the time shows what it costs there. All batches are full then, so
that smaller ones are not prepared, and it counts eight seconds of a video that must be longer.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centernetd.config import load
from centernetd.inference.engines.gpu import GpuEngine
from centernetd.run.supervisor import Supervisor

SECONDS = 8.0
DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo.mp4"
MODELS = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
CASES: dict[str, list[list[str]]] = {
    "faces": [["faces"]],
    "coco": [["coco"]],
    "a stream of each": [["faces"], ["coco"]],
    "both on one stream": [["faces", "coco"]],
}
"""The models of each stream."""


def measure(case: str, video: Path, gpu: int) -> NDArray[np.float64]:
    """Run a case in this process; return what `sample` does, as differences."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        stream = {"source": str(video), "record": {"when": "never"}}
        settings: dict[str, object] = {"version": 1, "models": MODELS}
        if gpu:
            stream["decode"] = "cuda"
            settings["engine"] = {"backend": "onnxruntime-cuda"}
            settings["batching"] = {"max_size": 32}
            setattr(GpuEngine, "prepare_smaller", lambda *_: None)  # noqa: B010 - a method
        models_of = {
            f"s{number}-{copy}": models
            for number, models in enumerate(CASES[case])
            for copy in range(gpu or 1)
        }
        settings["streams"] = {name: stream | {"models": each} for name, each in models_of.items()}
        settings |= {"storage": {"root": folder}, "metrics": {"listen": None}}
        config.write_text(json.dumps(settings))
        supervisor = Supervisor(load(config))
        samples: list[NDArray[np.float64]] = []

        def sample() -> NDArray[np.float64]:
            """Return CPU seconds, the time, and how many frames each model ran on."""
            ran: Counter[str] = Counter()
            for lane in supervisor.lanes:
                ran.update(dict.fromkeys(models_of[lane.name], lane.ledger.read().inferred))
            return np.array([time.process_time(), time.monotonic(), *(ran[m] for m in MODELS)])

        def on_tick() -> None:
            inferred = [lane.ledger.read().inferred for lane in supervisor.lanes]
            if not supervisor.complete or len(inferred) < len(models_of) or not all(inferred):
                return
            samples.append(sample())
            if gpu and samples[-1][1] - samples[0][1] >= SECONDS:
                supervisor.stop()

        supervisor.run(on_tick)
        return (samples[-1] if gpu else sample()) - samples[0]


def main(options: argparse.Namespace) -> None:
    """Run every case in turns, and compare."""
    found: dict[str, list[NDArray[np.float64]]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        for case in CASES:
            command = [sys.executable, "-m", "scripts.measure_models", "--case", case]
            command += ["--video", options.video, "--gpu", str(options.gpu)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[case].append(np.array([float(each) for each in done.stdout.split()]))
            print(f"round {number + 1}: {case}: {done.stdout.strip()}", flush=True)
    for kind, name in enumerate(("of CPU", "in all")):
        least = {
            case: min(rounds, key=lambda cost: cost[kind] / cost[2:].sum())
            for case, rounds in found.items()
        }
        alone = np.array([least[model][kind] / least[model][2:].sum() for model in MODELS])
        for case, cost in least.items():
            each, share = cost[kind] / cost[2:].sum(), cost[kind] / (cost[2:] @ alone)
            print(f"{case}: {1e3 * each:.2f} ms {name} per run, {share:.1%} of what it takes alone")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu", type=int, default=0, metavar="N")
    parser.add_argument("--video", type=Path, default=DEMO)
    parser.add_argument("--case", choices=CASES)
    options = parser.parse_args()
    if options.case:
        logging.disable(logging.WARNING)
        print(*measure(options.case, options.video, options.gpu).tolist())
    else:
        main(options)
