"""Hand-made networks in every layout, raw as an exporter leaves them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, helper

from centernetd.prepare.graph import Graph, Value
from centernetd.prepare.prepare import PrepareOptions

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Body = Callable[[Value], tuple[Value, Value, Value]]  # picture to heatmap logits, size, offset

STRIDE = 4


def write(model: ModelProto, path: Path) -> Path:
    """Save a network and return where it is."""
    path.write_bytes(model.SerializeToString())
    return path


def export(
    build: Callable[[Value], Mapping[str, Value]],
    size: tuple[int | str, int | str],
    batch: int | str = "batch",
) -> ModelProto:
    """Make a model of one input ``image`` [batch, 3, *size] out of the outputs of `build`."""
    graph = Graph("body")
    outputs = build(graph.tensor("image"))
    for name, value in outputs.items():
        value.named(name)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *size])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_model(
        helper.make_graph(graph.nodes, "export", [image], results, graph.constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def random_body(classes: int, seed: int) -> Body:
    """One convolution of random weights."""
    random = np.random.default_rng(seed)
    weights = random.normal(0, 0.1, (classes + 4, 3, 8, 8)).astype(np.float32)

    def body(image: Value) -> tuple[Value, Value, Value]:
        maps = image.then(
            "Conv", image.graph.constant(weights), pads=[2, 2, 2, 2], strides=[STRIDE, STRIDE]
        )
        size = maps.part(classes, classes + 2, axis=1).then("Abs")
        return maps.part(0, classes, axis=1), size, maps.part(classes + 2, classes + 4, axis=1)

    return body


def playback(heat: Array, size: Array, offset: Array) -> Body:
    """Give back stored maps [N, channels, h, w]; a row's first pixel selects one of the N.

    The pixel counts as it comes to the network: prepare with `RAW_PIXELS`.
    """

    def body(image: Value) -> tuple[Value, Value, Value]:
        first, second, third = stored({"hm": heat, "wh": size, "reg": offset})(image).values()
        return first, second, third

    return body


def stored(maps: Mapping[str, Array]) -> Callable[[Value], dict[str, Value]]:
    """Give back the maps of each head [N, channels, h, w], chosen as in `playback`."""

    def build(image: Value) -> dict[str, Value]:
        pixel = image.part(0, 1, axis=1).part(0, 1, axis=2).part(0, 1, axis=3)
        last = image.graph.constant(float(len(next(iter(maps.values()))) - 1))
        index = pixel.reshape(-1).then("Min", last).cast(TensorProto.INT64)
        return {
            name: image.graph.constant(table).then("Gather", index, axis=0)
            for name, table in maps.items()
        }

    return build


RAW_PIXELS = PrepareOptions(order="bgr", mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def ctdet(
    body: Body,
    size: tuple[int | str, int | str],
    *,
    activated: bool = False,
    names: Sequence[str] = ("hm", "wh", "reg"),
) -> ModelProto:
    """Three maps; `activated` puts the sigmoid, clamped as CenterNet clamps it, into the export."""

    def build(image: Value) -> dict[str, Value]:
        heat, extent, offset = body(image)
        if activated:
            low, high = image.graph.constant(1e-4), image.graph.constant(1 - 1e-4)
            heat = heat.then("Sigmoid").then("Clip", low, high)
        return dict(zip(names, (heat, extent, offset), strict=True))

    return export(build, size)


def flat(
    body: Body, size: tuple[int, int], *, batch: int | str = "batch", pooled: bool = True
) -> ModelProto:
    """A table of suppressed scores, size, offset; with a number for `batch`, it is baked in."""

    def build(image: Value) -> dict[str, Value]:
        heat, extent, offset = body(image)
        heat = heat.then("Sigmoid")
        if pooled:
            peak = heat.then("Equal", _pool(heat)).cast(TensorProto.FLOAT)
            heat = heat * peak
        return {"output": _table([heat, extent, offset], size, batch)}

    return export(build, size, batch)


def flat_pool(body: Body, size: tuple[int, int]) -> ModelProto:
    """A table of offset, size, logits and pooled logits."""

    def build(image: Value) -> dict[str, Value]:
        heat, extent, offset = body(image)
        return {"output": _table([offset, extent, heat, _pool(heat)], size, "batch")}

    return export(build, size)


def multi_pose(size: tuple[int, int], joints: int = 4, seed: int = 0) -> ModelProto:
    """All six heads of random weights behind a common layer."""
    random = np.random.default_rng(seed)
    heads = {"hm": 1, "wh": 2, "hps": 2 * joints, "reg": 2, "hm_hp": joints, "hp_offset": 2}

    def weights(graph: Graph, scale: float, *shape: int) -> Value:
        return graph.constant(random.normal(0, scale, shape).astype(np.float32))

    def build(image: Value) -> dict[str, Value]:
        first = weights(image.graph, 0.1, 8, 3, 8, 8)
        shared = image.then("Conv", first, pads=[2, 2, 2, 2], strides=[STRIDE, STRIDE])
        shared = shared.then("Relu")
        outputs = {
            name: shared.then("Conv", weights(image.graph, scale, channels, 8, 1, 1))
            for (name, channels), scale in zip(heads.items(), (1, 3, 0.5, 0.3, 1, 0.3), strict=True)
        }
        return {**outputs, "wh": outputs["wh"].then("Abs") + 2.0}

    return export(build, size)


def ltrb(
    body: Body, size: tuple[int, int], *, activated: bool = False, stride: int = STRIDE
) -> ModelProto:
    """A heatmap, and the distances to left, top, right, bottom in input pixels."""

    def build(image: Value) -> dict[str, Value]:
        heat, extent, offset = body(image)
        half = extent / 2.0
        sides = image.graph.concat(half - offset, half + offset, axis=1) * float(stride)
        return {"hm": heat.then("Sigmoid") if activated else heat, "wh": sides}

    return export(build, size)


def end2end(
    body: Body, size: tuple[int, int], labels: Sequence[str] = ("red", "green"), rows: int = 60
) -> ModelProto:
    """The best cells as YOLOv10 ends, [batch, rows, 6], and the labels as its exporter adds them.

    Boxes are in input pixels, from twice the size to thrice.
    """

    def build(image: Value) -> dict[str, Value]:
        heat, extent, _ = body(image)
        graph = image.graph
        scores, corner = _cells(heat.then("Sigmoid")), _cells(extent) * 2.0
        best, cell = scores.then("ReduceMax", axes=[1], keepdims=1).top(rows)
        found = scores.gather(_repeated(cell, len(labels)), axis=2)
        class_id = found.then("ArgMax", axis=1, keepdims=1).cast(TensorProto.FLOAT)
        corner = corner.gather(_repeated(cell, 2), axis=2)
        table = graph.concat(corner, corner * 1.5, best, class_id, axis=1)
        return {"output0": table.transpose(0, 2, 1)}

    model = export(build, size)
    helper.set_model_props(model, {"names": str(dict(enumerate(labels)))})
    return model


def queries(
    body: Body, size: tuple[int, int], names: Sequence[str] = ("logits", "pred_boxes")
) -> ModelProto:
    """One query per cell: class logits, and boxes as shares of the input."""

    def build(image: Value) -> dict[str, Value]:
        heat, extent, offset = body(image)
        boxes = image.graph.concat(offset, extent * 0.1, axis=1).then("Sigmoid")
        tables = (_cells(maps).transpose(0, 2, 1) for maps in (heat, boxes))
        return dict(zip(names, tables, strict=True))

    return export(build, size)


def _cells(maps: Value) -> Value:
    return maps.reshape(0, 0, -1)


def _repeated(cell: Value, channels: int) -> Value:
    return cell.then("Expand", cell.graph.constant([1, channels, 1]))


def _pool(heat: Value) -> Value:
    return heat.then("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])


def _table(maps: Sequence[Value], size: tuple[int, int], batch: int | str) -> Value:
    cells = (size[0] // STRIDE) * (size[1] // STRIDE)
    table = maps[0].graph.concat(*maps, axis=1)
    if isinstance(batch, int):
        return table.reshape(batch, 0, cells).transpose(0, 2, 1)
    return table.reshape(0, 0, -1).transpose(0, 2, 1)


def centerface(seed: int = 0) -> ModelProto:
    """Four maps with all the dirt of the real file: see `centernetd.prepare.clean`.

    Initialisers among the inputs, one of them unused, a fixed input of [10, 3, 32, 32], numbers
    for names, opset 9.
    """
    random = np.random.default_rng(seed)
    constants = {
        f"head.{name}.weight": random.normal(0, 0.002, (channels, 3, 8, 8)).astype(np.float32)
        for name, channels in zip(("pos", "reg", "off", "lm"), (1, 2, 2, 10), strict=True)
    }
    nodes = [
        helper.make_node(
            "Conv",
            ["input.1", weight],
            [output],
            kernel_shape=[8, 8],
            pads=[2, 2, 2, 2],
            strides=[4, 4],
        )
        for weight, output in zip(constants, ("536", "538", "539", "540"), strict=True)
    ]
    nodes.append(helper.make_node("Sigmoid", ["536"], ["537"]))
    constants["bn.num_batches_tracked"] = np.zeros(1, np.float32)
    inputs = [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [10, 3, 32, 32])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in constants.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [10, channels, 8, 8])
        for name, channels in zip(("537", "538", "539", "540"), (1, 2, 2, 10), strict=True)
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    between = helper.make_tensor_value_info("536", TensorProto.FLOAT, [10, 1, 8, 8])
    graph = helper.make_graph(
        nodes, "torch-jit-export", inputs, outputs, initializers, value_info=[between]
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 9)],
        ir_version=3,
    )
