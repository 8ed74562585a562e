"""Measure what two models cost together, and each alone, in CPU seconds per frame.

Run ``python -m scripts.measure_models [ROUNDS]`` with both built-in models in the cache. Each case
runs in a process of its own, and counts from the start of its stages to their end. The cases take
turns; the smallest of each is printed, as other programs can only add to it.
"""

import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from centernetd.config import load
from centernetd.run.supervisor import Supervisor

DEMO = Path(__file__).resolve().parents[1] / "assets" / "demo.mp4"
MODELS = {"faces": {"path": "centerface"}, "coco": {"path": "coco"}}
CASES: dict[str, dict[str, str | list[str]]] = {
    "faces": {"a": "faces"},
    "coco": {"b": "coco"},
    "a stream of each": {"a": "faces", "b": "coco"},
    "both on one stream": {"a": ["faces", "coco"]},
}
"""The models of each stream."""


def measure(case: str) -> float:
    """Run a case in this process; return its CPU seconds per frame of the demo."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        streams = {
            name: {"source": str(DEMO), "models": models, "record": {"when": "never"}}
            for name, models in CASES[case].items()
        }
        settings = {"version": 1, "models": MODELS, "streams": streams}
        settings |= {"storage": {"root": folder}, "metrics": {"listen": None}}
        config.write_text(json.dumps(settings))
        supervisor = Supervisor(load(config))
        begun: list[float] = []

        def on_tick() -> None:
            begun.append(time.process_time())

        supervisor.run(on_tick)
        frames = max(lane.ledger.read().inferred for lane in supervisor.lanes)
    return (time.process_time() - begun[0]) / frames


def main(rounds: int) -> None:
    """Run every case in turns, and compare."""
    least = dict.fromkeys(CASES, float("inf"))
    for number in range(rounds):
        for case in CASES:
            command = [sys.executable, "-m", "scripts.measure_models", "--case", case]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            least[case] = min(least[case], float(done.stdout))
            print(f"round {number + 1}: {case}: {1e3 * float(done.stdout):.1f} ms", flush=True)
    alone = least["faces"] + least["coco"]
    for case, seconds in least.items():
        print(f"{case}: {1e3 * seconds:.1f} ms of CPU per frame, {seconds / alone:.1%} of the sum")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        logging.disable(logging.WARNING)
        print(measure(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 3)
