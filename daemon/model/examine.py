"""What a bare network gives, learnt by running it."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto

from daemon.errors import ModelError
from daemon.model import clean, contract
from daemon.model.layouts import LAYOUTS, Head, Layout, Network

_USUAL_DIVISOR = 32  # of the input size, in networks that go down to a 32nd and up again


def examine(model: ModelProto, size: tuple[int, int], named: Sequence[tuple[str, str]]) -> Network:
    """Run the bare network once on two black frames to learn its outputs' real shapes.

    `named` are pairs of a role and the output that has it: where there are any, the network has
    no other heads.

    Raises
    ------
    ModelError
        It can't be run, or an output is missing, of a wrong type or of a fixed batch.
    """
    name = model.graph.input[0].name
    found = contract.run(model, **{name: np.zeros((2, 3, *size), np.float32)})
    heads = []
    for tensor, value in found.items():
        output = tensor.removeprefix(clean.SCOPE)
        if value.dtype != np.float32:
            raise ModelError(f"its output {output} is not float32: export it in float32")
        if value.ndim == 0 or len(value) != 2:
            raise ModelError(f"its output {output} has a fixed batch size: export a dynamic batch")
        heads.append(Head(output, tensor, value.shape[1:]))
    grid = (size[0] // Layout.STRIDE, size[1] // Layout.STRIDE)
    _refuse_other_grid(heads, size, grid)
    return Network(model, _renamed(heads, named) if named else tuple(heads), grid)


def _renamed(heads: Sequence[Head], named: Sequence[tuple[str, str]]) -> tuple[Head, ...]:
    """Return the heads that are named, each under its role."""
    known = {head.name: head for head in heads}
    roles = {role for layout in LAYOUTS.values() for role in layout.roles}
    for role, name in named:
        if role not in roles:
            raise ModelError(f"no layout has a head {role}; there are {', '.join(sorted(roles))}")
        if name not in known:
            listed = ", ".join(map(str, heads))
            raise ModelError(f"it has no output {name}; there are {listed}")
    return tuple(Head(role, known[name].tensor, known[name].shape) for role, name in named)


def _refuse_other_grid(heads: Sequence[Head], size: tuple[int, int], grid: tuple[int, int]) -> None:
    """Tell what is wrong where all maps have nearly a quarter of the input's size, but not quite.

    So it is where a network has to round when it halves.
    """
    grids = {head.shape[1:] for head in heads if len(head.shape) == 3}
    shares = [cells / wanted for found in grids for cells, wanted in zip(found, grid, strict=True)]
    if len(grids) != 1 or grid in grids or not all(0.5 < share < 2 for share in shares):
        return
    rows, columns = grids.pop()
    sentence = (
        f"for an input of {size[0]}x{size[1]} its outputs have {rows}x{columns} cells instead of "
        f"{grid[0]}x{grid[1]}, a quarter of it"
    )
    usual = tuple(max(1, round(side / _USUAL_DIVISOR)) * _USUAL_DIVISOR for side in size)
    if usual != size:
        sentence += (
            "; most networks must halve it five times: give it an --input-size that it can, "
            f"such as {usual[0]}x{usual[1]}"
        )
    raise ModelError(sentence)
