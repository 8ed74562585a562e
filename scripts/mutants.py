"""Plant small faults at random in a copy of the tree, and count those that the tests notice.

    python -m scripts.mutants [--seed N] [--count N] [MODULE...]

Each fault is tried against the tests named after its module, and no others. A hang counts as
noticed. Faults that change nothing are listed in equivalent_mutants.yaml with the reason, and
are not planted.
"""

import argparse
import ast
import copy
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path("scripts/equivalent_mutants.yaml")
TESTS = {
    "daemon/centernetd/capture/stage.py": [
        "tests/test_capture_stage.py",
        "tests/test_capture_stuck.py",
        "tests/test_pacing.py",
    ],
    "daemon/centernetd/capture/timeline.py": [
        "tests/test_timeline.py",
        "tests/test_splice.py",
        "tests/test_file_times.py",
    ],
    "daemon/centernetd/config/secret.py": ["tests/test_secret.py"],
    "daemon/centernetd/config/values.py": [
        "tests/test_values.py",
        "tests/test_config_refusals.py",
    ],
    "daemon/centernetd/flow/arrivals.py": ["tests/test_arrivals.py", "tests/test_collect.py"],
    "daemon/centernetd/flow/channel.py": ["tests/test_channel.py"],
    "daemon/centernetd/flow/lane.py": ["tests/test_lane.py"],
    "daemon/centernetd/flow/ledger.py": ["tests/test_ledger.py"],
    "daemon/centernetd/inference/collect.py": ["tests/test_collect.py"],
    "daemon/centernetd/inference/engines/gpu.py": ["tests/test_engine_gpu.py"],
    "daemon/centernetd/inference/postprocess.py": ["tests/test_postprocess.py"],
    "daemon/centernetd/inference/stage.py": ["tests/test_inference_stage.py"],
    "daemon/centernetd/plan/cache.py": ["tests/test_plan_cache.py"],
    "daemon/centernetd/sink/recovery.py": ["tests/test_recovery.py"],
    "daemon/centernetd/sink/retention.py": ["tests/test_retention.py"],
    "daemon/centernetd/sink/segments.py": ["tests/test_segments.py"],
    "daemon/centernetd/sink/stage.py": ["tests/test_sink_stage.py", "tests/test_packet_stage.py"],
}
# Imported once, before the forks: importing them takes longer than most tests.
HEAVY = ("av", "cv2", "numpy", "onnx", "onnxruntime", "pydantic", "pytest")
SWAPS: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.And: [ast.Or], ast.Or: [ast.And],
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult], ast.Mod: [ast.Mult],
}  # fmt: skip
REMOVED = (ast.Assign, ast.AugAssign, ast.Break, ast.Continue, ast.Delete, ast.Expr, ast.Raise)
NOT_CODE = ("annotation", "decorator_list", "returns")


class Mutant(NamedTuple):
    """A fault: ``text`` is the module with it; in ``line``, ``before`` is replaced by ``after``."""

    module: str
    line: int
    before: str
    after: str
    text: str


def mutants_of(module: str) -> Iterator[Mutant]:
    """Yield every fault that this script can plant in ``module``."""
    source = (ROOT / module).read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    for node, new in _changes(ast.parse(source)):
        first, last = node.lineno - 1, node.end_lineno or 0
        begin, end = starts[first] + node.col_offset, starts[last - 1] + (node.end_col_offset or 0)
        text = source[:begin] + new.encode() + source[end:]
        tail = len(source) - starts[last]
        parts = source[starts[first] : starts[last]], text[starts[first] : len(text) - tail]
        before, after = (" ".join(part.decode().split()) for part in parts)
        yield Mutant(module, node.lineno, before, after, text.decode())


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield nodes below ``tree``, and their replacements."""
    if isinstance(tree, ast.JoinedStr):
        return  # before Python 3.12 its parts have no positions
    for name, value in ast.iter_fields(tree):
        nodes = value if isinstance(value, list) else [value]
        for node in nodes if name not in NOT_CODE else []:
            if isinstance(node, ast.stmt):
                yield from ((node, new) for new in _for_statement(node))
            elif isinstance(node, ast.expr):
                yield from ((node, new) for new in _for_expression(node))
                if name in ("test", "ifs") and not isinstance(node, ast.Constant):
                    yield from ((node, new) for new in ("True", "False"))
            if isinstance(node, ast.AST):
                yield from _changes(node)


def _for_statement(node: ast.stmt) -> Iterator[str]:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Return):
        if ast.unparse(node) not in ("return None", "return False"):
            yield "return None" if node.value else "pass"
    elif isinstance(node, REMOVED) and not text:
        yield "pass"


def _for_expression(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from (str(node.value + 1), str(node.value - 1))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        yield from (_with(node, op=other()) for other in SWAPS.get(type(node.op), []))
    elif isinstance(node, ast.Compare):
        for number, op in enumerate(node.ops):
            before, behind = node.ops[:number], node.ops[number + 1 :]
            yield from (_with(node, ops=[*before, new(), *behind]) for new in SWAPS[type(op)])


def _with(node: ast.expr, **changes: object) -> str:
    changed = copy.copy(node)
    vars(changed).update(changes)
    return f"({ast.unparse(changed)})"


class Trial:
    """Tries faults in a copy of the tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._limits: dict[str, float] = {}
        self._planted = 0
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
        for name in subprocess.check_output(command, text=True).split("\0"):
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)

    def prepare(self, module: str) -> None:
        """Check that the tests of ``module`` pass with it, and fail without it."""
        began = time.monotonic()
        if self._run(TESTS[module], 600) != 0:
            raise SystemExit(f"{(self._tree / 'output').read_text()}\n{module}: its tests fail")
        self._limits[module] = 30 + 4 * (time.monotonic() - began)
        if self.plant(Mutant(module, 0, "", "", "")) == 0:
            raise SystemExit(f"{module}: its tests pass without it")

    def plant(self, mutant: Mutant) -> int | None:
        """Return the exit code of the tests, 0 if they notice nothing; None for a hang."""
        self._planted += 1
        file = self._tree / mutant.module
        kept = file.rename(file.with_suffix(".kept"))
        file.write_text(mutant.text, "utf-8")
        os.utime(file, (self._planted, self._planted))  # don't reuse old bytecode
        try:
            return self._run(TESTS[mutant.module], self._limits[mutant.module])
        finally:
            kept.replace(file)

    def _run(self, tests: Sequence[str], limit: float) -> int | None:
        """Run tests in a separate process, for at most ``limit`` seconds."""
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=self._pytest, args=(tests,))
        process.start()
        try:
            process.join(limit)
            return process.exitcode
        finally:
            if process.pid and process.is_alive():
                os.killpg(process.pid, signal.SIGKILL)
                process.join()

    def _pytest(self, tests: Sequence[str]) -> None:
        os.setpgid(0, 0)
        os.chdir(self._tree)
        with Path("output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        roots = [str(self._tree), str(self._tree / "daemon")]
        sys.path[:0] = roots
        os.environ["PYTHONPATH"] = os.pathsep.join(roots)
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--basetemp=tmp"]
        sys.exit(importlib.import_module("pytest").main([*options, *tests]))


def _sample(options: argparse.Namespace) -> list[Mutant]:
    """Draw the faults to plant, and print how many were left out."""
    known = {
        (entry["file"], entry["line"], entry["becomes"])
        for entry in yaml.safe_load((ROOT / EQUIVALENT).read_text("utf-8"))
        if entry["file"] in options.modules
    }
    mutants = {m[:1] + m[2:4]: m for module in options.modules for m in mutants_of(module)}
    if known - mutants.keys():
        raise SystemExit(f"{EQUIVALENT}: there is no such fault: {known - mutants.keys()}")
    drawn = [mutant for key, mutant in mutants.items() if key not in known]
    random.seed(options.seed)
    sample = random.sample(drawn, min(options.count, len(drawn)))
    print(f"seed {options.seed}: {len(sample)} of {len(drawn)} faults, without {len(known)} that")
    print(f"change nothing, which are in {EQUIVALENT}", flush=True)
    return sorted(sample, key=lambda mutant: mutant[:2])


def main() -> None:
    """Plant the faults, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE")
    options = parser.parse_args()
    sample = _sample(options)
    for name in HEAVY:
        importlib.import_module(name)
    ends: list[int | None] = []
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        for module in sorted({mutant.module for mutant in sample}):
            trial.prepare(module)
        for mutant in sample:
            ends.append(trial.plant(mutant))
            if ends[-1] == 0:
                print(f"survived: {mutant.module}:{mutant.line}")
                print(f"    - {mutant.before}\n    + {mutant.after}", flush=True)
    noticed = len(ends) - ends.count(0)
    print(f"{noticed} of {len(ends)} noticed ({noticed / len(ends):.1%}), "
          f"{ends.count(None)} of them by a hang; seed {options.seed}")  # fmt: skip


if __name__ == "__main__":
    main()
