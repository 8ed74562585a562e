"""The outputs of a bare network, determined by running it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from centernetd.errors import ModelError
from centernetd.model import contract
from centernetd.prepare import clean
from centernetd.prepare.graph import keep
from centernetd.prepare.layouts import LAYOUTS, Declared, Head, HeatmapLayout, Network

RunResult = Mapping[str, npt.NDArray[np.float32]] | ModelError

_FRAMES = 2
_USUAL_DIVISOR = 32  # of the input size, for networks that downsample by 32 and upsample again


def examine(
    model: ModelProto, size: tuple[int, int], named: Sequence[tuple[str, str]], declared: Declared
) -> Network:
    """Run the bare network on two black frames to learn its outputs' real shapes.

    `named` are pairs of a role and the output that has it; if not empty, other outputs are
    ignored. A batch of 1 that is fixed in its shapes, whatever it declares, is made dynamic.

    Raises
    ------
    ModelError
        It can't be run, or an output is missing, of a wrong type or of a fixed batch.
    """
    wanted = {clean.SCOPE + name for _, name in named}
    if wanted and wanted <= {output.name for output in model.graph.output}:
        keep(model.graph, list(wanted))
    result = _run_with_any_batch(model, size)
    if isinstance(result, ModelError):
        raise result
    roles = {role: layout for layout in LAYOUTS.values() for role in layout.roles}
    heads, unfit = [], []
    for tensor, value in result.items():
        name = tensor.removeprefix(clean.SCOPE)
        fault = _fault(value)
        if fault and (isinstance(roles.get(name), HeatmapLayout) or tensor in wanted):
            raise ModelError(f"its output {name} {fault}")
        if fault:
            unfit.append(f"its output {name} {fault}")
        else:
            heads.append(Head(name, tensor, value.shape[1:]))
    network = Network(model, tuple(heads), size, tuple(unfit), declared)
    _refuse_other_grid(network)
    return replace(network, heads=_renamed(heads, named, set(roles))) if named else network


def _run_with_any_batch(model: ModelProto, size: tuple[int, int]) -> RunResult:
    """Run the network; if it can't process two frames, retry with a fixed batch of 1 freed.

    Exports may contain a fixed 1 even if they declare a dynamic or meaningless batch. `model` is
    only changed if that helps.
    """
    first = _run(model, size)
    if not _fixed(first):
        return first
    freed = ModelProto()
    freed.CopyFrom(model)
    clean.free_batch(freed, 1)
    second = _run(freed, size)
    if _fixed(second) >= _fixed(first):
        return first
    model.CopyFrom(freed)
    return second


def _run(model: ModelProto, size: tuple[int, int]) -> RunResult:
    name = model.graph.input[0].name
    try:
        return contract.run(model, {name: np.zeros((_FRAMES, 3, *size), np.float32)})
    except ModelError as error:
        return error


def _fixed(result: RunResult) -> float:
    """Count the outputs without the right batch size; infinite if the run failed."""
    if isinstance(result, ModelError):
        return np.inf
    return sum(not _is_batch(value) for value in result.values())


def _is_batch(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0 and len(value) == _FRAMES


def _fault(value: object) -> str | None:
    """Return why an output can't be a head, or None if it can."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        return "is not float32: export it in float32"
    return None if _is_batch(value) else "has a fixed batch size: export a dynamic batch"


def _renamed(
    heads: Sequence[Head], named: Sequence[tuple[str, str]], roles: Set[str]
) -> tuple[Head, ...]:
    """Return the named heads, each under its role."""
    known = {head.name: head for head in heads}
    for role, name in named:
        if role not in roles:
            raise ModelError(f"no layout has a head {role}; there are {', '.join(sorted(roles))}")
        if name not in known:
            listed = ", ".join(map(str, heads))
            raise ModelError(f"it has no output {name}; there are {listed}")
    return tuple(Head(role, known[name].tensor, known[name].shape) for role, name in named)


def _refuse_other_grid(network: Network) -> None:
    """Raise `ModelError` if all maps have nearly, but not exactly, the size of the network's grid.

    This happens in networks that must round when they halve the size.
    """
    size, grid, stride = network.size, network.grid, network.declared.stride
    grids = {head.shape[1:] for head in network.heads if len(head.shape) == 3}
    shares = [cells / wanted for found in grids for cells, wanted in zip(found, grid, strict=True)]
    if len(grids) != 1 or grid in grids or not all(0.5 < share < 2 for share in shares):
        return
    rows, columns = grids.pop()
    sentence = (
        f"for an input of {size[0]}x{size[1]} its outputs have {rows}x{columns} cells instead of "
        f"{grid[0]}x{grid[1]} of {stride}x{stride} pixels"
    )
    usual = tuple(max(1, round(side / _USUAL_DIVISOR)) * _USUAL_DIVISOR for side in size)
    if usual != size:
        sentence += (
            "; most networks halve it five times: choose an --input-size that allows this, "
            f"such as {usual[0]}x{usual[1]}"
        )
    raise ModelError(sentence)
