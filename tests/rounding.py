"""Float16 as a GPU computes it, on the CPU.

ONNX Runtime's CPU provider runs most operators of a float16 network in float32 and does not
round in between: 1 + 2048 - 2048 gives 1, where float16 gives 0. So a network run there shows
nothing of float16 beyond its weights.
"""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_SPLIT = "rounding/split"
_LARGEST = "rounding/largest"
_INFINITE = "rounding/infinite"


def rounded(model: ModelProto) -> ModelProto:
    """Return `model` with every float16 tensor rounded to float16 as it is made.

    Sums inside an operator stay in float32, as on tensor cores.
    """
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    halves = {
        value.name
        for value in (*found.value_info, *found.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    assert halves, "nothing in this model is float16"
    copy = ModelProto()
    copy.CopyFrom(model)
    nodes = []
    for node in copy.graph.node:
        made = [index for index, name in enumerate(node.output) if name in halves]
        after = []
        for index in made:
            name = node.output[index]
            node.output[index] = f"{name}/exact"
            after += _round(name)
        nodes += [node, *after]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    constants = {_SPLIT: 2.0**13 + 1, _LARGEST: 65504.0, _INFINITE: np.inf}
    copy.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in constants.items()
    )
    return copy


def _round(name: str) -> list[NodeProto]:
    """Round ``name/exact`` to 11 bits by Veltkamp's splitting, and what is too large to NaN."""
    steps = [
        ("Mul", ["x", _SPLIT], "y"),
        ("Sub", ["y", "x"], "d"),
        ("Sub", ["y", "d"], "near"),
        ("Abs", ["near"], "size"),
        ("Greater", ["size", _LARGEST], "over"),
        ("Where", ["over", _INFINITE, "near"], "kept"),
        ("Sub", ["kept", "kept"], "zero"),  # NaN where it is infinite
        ("Add", ["near", "zero"], "end"),
    ]
    exact = helper.make_node("Cast", [f"{name}/exact"], [f"{name}/x"], to=TensorProto.FLOAT)
    nodes = [
        helper.make_node(
            op,
            [part if part.startswith("rounding/") else f"{name}/{part}" for part in inputs],
            [f"{name}/{output}"],
        )
        for op, inputs, output in steps
    ]
    half = helper.make_node("Cast", [f"{name}/end"], [name], to=TensorProto.FLOAT16)
    return [exact, *nodes, half]
