"""Squares: a CenterNet with hand-made weights that marks coloured rectangles to the pixel.

Three colour masks; a convolution of stride 4 gives each cell's moments; two more sum them over
a window about the cell. The centroid of what the window holds is the centre, and a uniform
rectangle n pixels long has the variance (n² - 1) / 12. The heatmap is high where the centroid
is in the cell itself and the mass fills the box, so a window that holds two rectangles of one
colour, or a part of one, marks nothing.
"""

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from centernetd.prepare.graph import Value
from centernetd.prepare.layouts import LAYOUTS
from tests import exports

LABELS = ("red", "green", "blue")
COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))  # BGR, in the order of LABELS

_CLASSES = len(LABELS)
_MOMENTS = 5  # of each class: 1, x, y, x², y², in cells from the cell's corner
_STRIDE = exports.STRIDE

Frame = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]


def draw(size: tuple[int, int], *rectangles: tuple[int, Box]) -> Frame:
    """Return a black BGR frame (height, width) with (class, (x1, y1, x2, y2)) drawn in turn."""
    frame = np.zeros((*size, 3), np.uint8)
    for class_id, (x1, y1, x2, y2) in rectangles:
        frame[y1:y2, x1:x2] = COLOURS[class_id]
    return frame


def squares(
    size: tuple[int, int] = (256, 256), *, reach: int = 8, activated: bool = False
) -> ModelProto:
    """Return the network as a raw ``ctdet`` export.

    It marks rectangles from 3x3 up to about ``8 * reach - 8`` input pixels long, whose next of
    the same colour is farther than ``4 * reach + 4`` pixels from their centre. Scores are above
    0.99 on them and below 0.01 elsewhere.
    """

    def body(image: Value) -> tuple[Value, Value, Value]:
        moments = _windowed(_cell_moments(_masks(image)), reach)
        mass, x, y, xx, yy = (
            moments.pick([index + _MOMENTS * of for of in range(_CLASSES)], axis=1)
            for index in range(_MOMENTS)
        )
        ink = mass + 1e-6
        x, y = x / ink, y / ink
        width, height = _length(xx / ink - x * x), _length(yy / ink - y * y)
        distance = (x - 0.49).then("Abs") + (y - 0.49).then("Abs")  # 0.49: no tie on an edge
        filled = mass / (width * height * float(_STRIDE**2))
        heat = (
            distance * -2.0
            + 8.0
            - _excess(distance, 1.2)
            - _excess((filled - 1.0).then("Abs"), 0.3)
            - _excess(mass * -1.0, -4.0)
        ).then("Max", image.graph.constant(-20.0))
        chosen = (heat * 4.0).then("Softmax", axis=1)
        x, y, width, height = (_total(chosen * value) for value in (x, y, width, height))
        return (
            heat,
            image.graph.concat(width, height, axis=1),
            image.graph.concat(x, y, axis=1),
        )

    return exports.ctdet(body, size, activated=activated)


def endless(size: tuple[int, int] = (64, 64)) -> ModelProto:
    """Return `squares` with heat that is negated for ever: no run of it ends."""
    model = squares(size, reach=2)
    last = next(node for node in model.graph.node if "hm" in node.output)
    last.output[0] = "hm/before"
    kinds = {"turn": TensorProto.INT64, "going": TensorProto.BOOL, "goes_on": TensorProto.BOOL}
    turn, going, goes_on = (
        helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()
    )
    before, after = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("before", "after")
    )
    nodes = [
        helper.make_node("Identity", ["going"], ["goes_on"]),
        helper.make_node("Neg", ["before"], ["after"]),
    ]
    body = helper.make_graph(nodes, "body", [turn, going, before], [goes_on, after])
    for name, value in {"times": np.array(2**62), "always": np.array(True)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    inputs = ["times", "always", "hm/before"]
    model.graph.node.append(helper.make_node("Loop", inputs, ["hm"], body=body))
    return model


def _masks(image: Value) -> Value:
    """Return [batch, 3, H, W] from 0 to 1: how red, green, blue and nothing else a pixel is."""
    layout = LAYOUTS["ctdet"]
    mean, std = (np.array(three).reshape(1, 3, 1, 1) for three in (layout.mean, layout.std))
    pixels = image * std + mean
    only = 2 * np.eye(3)[::-1] - 1  # red is the last of BGR
    graph = image.graph
    ink = pixels.then("Conv", graph.constant(only.reshape(3, 3, 1, 1)))
    return ((ink - 0.1) / 0.8).then("Clip", graph.constant(0.0), graph.constant(1.0))


def _cell_moments(masks: Value) -> Value:
    """Sum 1, x, y, x², y² over every cell: [batch, 15, H/4, W/4]."""
    along = (np.arange(_STRIDE) + 0.5) / _STRIDE
    y, x = np.meshgrid(along, along, indexing="ij")
    kernels = np.stack([np.ones_like(x), x, y, x * x, y * y])[:, None]
    weights = masks.graph.constant(np.tile(kernels, (_CLASSES, 1, 1, 1)))
    return masks.then("Conv", weights, group=_CLASSES, strides=[_STRIDE, _STRIDE])


def _windowed(moments: Value, reach: int) -> Value:
    """Sum the moments of the cells up to `reach` away, moved to the middle cell's corner."""
    away = np.arange(-reach, reach + 1, dtype=np.float64)
    for first, second, shape in ((1, 3, (1, -1)), (2, 4, (-1, 1))):
        kernels = np.zeros((_MOMENTS, _MOMENTS, len(away)))
        kernels[np.arange(_MOMENTS), np.arange(_MOMENTS)] = 1
        kernels[first, 0] = away
        kernels[second, 0], kernels[second, first] = away**2, 2 * away
        weights = np.tile(kernels.reshape(_MOMENTS, _MOMENTS, *shape), (_CLASSES, 1, 1, 1))
        rows, columns = (reach, 0) if shape == (-1, 1) else (0, reach)
        moments = moments.then(
            "Conv",
            moments.graph.constant(weights),
            group=_CLASSES,
            pads=[rows, columns, rows, columns],
        )
    return moments


def _length(variance: Value) -> Value:
    """Return the length in cells of what has this variance, in cells²."""
    return (variance * 12.0 + 1 / _STRIDE**2).then("Relu").then("Sqrt")


def _excess(value: Value, limit: float) -> Value:
    return (value - limit).then("Relu") * 40.0


def _total(value: Value) -> Value:
    return value.then("ReduceSum", value.graph.constant([1]), keepdims=1)
