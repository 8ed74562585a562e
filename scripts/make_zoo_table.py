"""Measure every architecture that can be exported, and write the table of docs/models.md.

    python -m scripts.make_zoo_table [ARCHITECTURE ...]

Networks have random weights with calibrated statistics (`tests/export/networks.py`). Each is
exported by the command itself, in a separate process, at 512x512, and run by ONNX Runtime with
two threads. Rows of architectures that aren't named are kept. Needs the extra `export`.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from centernetd.bench.pipeline import ModelTime, time_model
from centernetd.model import manifest as manifests
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.export.layers import TorchNetwork
from tests.export.equality import Difference, difference
from tests.export.networks import calibrated, frames
from tests.onnx_sessions import open_session

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"
TITLES = (
    "architecture", "parameters", "GFLOPs", "export", "peak memory", "per frame", "decode share",
    "pixels apart", "scores apart",
)  # fmt: skip

SIZE = (512, 512)
CASES = [(name, "ctdet") for name in ARCHITECTURES] + [
    (name, "multi_pose") for name in ("dla_34", "hourglass")
]
CLASSES = {"centernet_resnet50": 20}  # as in the published checkpoints; others have 80
WIDTHS = {"dla_34": 256, "hourglass": 256}  # likewise; others have 64
MEMORY = 4e9  # bytes, the limit for an export

# The command, printing its peak memory at exit. The kernel's count for a child process would
# start from its parent's memory.
EXPORT = """
import atexit, pathlib, re, sys
from centernetd.cli import main
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(re.search(r"VmHWM:.*", status.read_text())[0]))
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Row:
    """One row of the table, as text, in the order of `TITLES`."""

    name: str
    parameters: str
    flops: str
    seconds: str
    memory: str
    frame: str
    decode: str
    pixels: str
    scores: str

    def __str__(self) -> str:
        return f"| {' | '.join(dataclasses.astuple(self))} |"


@dataclass(frozen=True)
class Measured:
    """The same as numbers: seconds, and the export's peak memory in bytes."""

    parameters: int
    flops: float
    seconds: float
    memory: float
    taken: ModelTime
    found: Difference

    def beyond(self) -> list[str]:
        """Return what exceeds its limit; timings have none."""
        limits = (
            (self.memory, MEMORY, "bytes in memory"),
            (self.found.pixels, 1e-3, "pixels apart"),
            (self.found.scores, 1e-4, "of a score apart"),
            (self.found.decisions_apart, 0.01, "of the decisions apart"),
        )
        return [
            f"{found:.3g} {what}, above {most:g}" for found, most, what in limits if found > most
        ]


def row(name: str, task: str, measured: Measured) -> Row:
    """Format the measurements."""
    return Row(
        name=f"`{name}`" if task == "ctdet" else f"`{name}`, {task}",
        parameters=f"{measured.parameters / 1e6:.1f} M",
        flops=f"{measured.flops / 1e9:.1f}",
        seconds=f"{measured.seconds:.0f} s",
        memory=f"{measured.memory / 1e9:.1f} GB",
        frame=f"{measured.taken.seconds * 1e3:.0f} ms",
        decode=f"{measured.taken.decode:.1%}",
        pixels=f"{measured.found.pixels:.1g}",
        scores=f"{measured.found.scores:.1g}",
    )


def measure(name: str, task: str, folder: Path) -> Measured:
    """Create a network, export it and measure the result."""
    pictures = frames(2, SIZE)
    classes = CLASSES.get(name, 80) if task == "ctdet" else 1
    network = calibrated(name, task, classes, pictures, WIDTHS.get(name, 64))
    checkpoint, prepared = folder / "checkpoint.pth", folder / "prepared.onnx"
    torch.save({"state_dict": network.state_dict()}, checkpoint)
    seconds, memory = _export(name, checkpoint, prepared)
    return Measured(
        sum(weights.numel() for weights in network.parameters()),
        _flops(network),
        seconds,
        memory,
        time_model(prepared, frames(1, SIZE), threads=2),
        difference(open_session(prepared), network, manifests.read(prepared), pictures),
    )


def _export(name: str, checkpoint: Path, prepared: Path) -> tuple[float, float]:
    """Run the command; return its seconds and its peak memory in bytes."""
    command = [sys.executable, "-c", EXPORT, "export", "--arch", name, "--input-size", "512x512"]
    command += ["--weights", str(checkpoint), "-o", str(prepared)]
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.monotonic() - started, int(done.stdout.split()[-2]) * 1024


def _flops(network: TorchNetwork) -> float:
    """Count the FLOPs of convolutions; a multiplication and an addition count as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *SIZE))
    return float(counter.get_total_flops())


def write(rows: Sequence[Row]) -> None:
    """Replace the rows of the same names in the page, keeping the order of `CASES`."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    table, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE}: the marks of the table are missing")
    old = [line for line in table.splitlines() if line.startswith("| `")]
    lines = {line.split("|")[1].strip(): line for line in old}
    lines |= {row.name: str(row) for row in rows}
    order = [f"`{name}`" if task == "ctdet" else f"`{name}`, {task}" for name, task in CASES]
    head = [f"| {' | '.join(TITLES)} |", "|---|" + "---:|" * (len(TITLES) - 1)]
    table = "\n".join(head + [lines[name] for name in order if name in lines])
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


def main(wanted: Sequence[str]) -> None:
    """Measure the named architectures, or all; fail if one exceeds its limits."""
    beyond: list[str] = []
    for name, task in CASES:
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(name, task, Path(folder))
        write([row(name, task, measured)])
        print(f"{row(name, task, measured)} load {os.getloadavg()[0]:.1f}", flush=True)
        beyond += [f"{name}, {task}: {what}" for what in measured.beyond()]
    if beyond:
        sys.exit("\n".join(beyond))


if __name__ == "__main__":
    main(sys.argv[1:])
