"""Adding pre- and post-processing around a network."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper

from centernetd.model import contract
from centernetd.model.manifest import Manifest
from centernetd.prepare import clean
from centernetd.prepare.cells import Grid
from centernetd.prepare.decode import decode
from centernetd.prepare.graph import Graph, Value
from centernetd.prepare.layouts import Heads, Layout, Network


def wrap(network: Network, layout: Layout, heads: Heads, manifest: Manifest) -> None:
    """Make the model of `network`, in place, take ``frames`` and return ``detections``."""
    model = network.model
    before, behind = Graph("preprocess"), Graph("decode")
    normalize(before.tensor(contract.INPUT), manifest).named(model.graph.input[0].name)

    rows, columns = network.grid
    grid = Grid(rows, columns, min(manifest.top_k, rows * columns))
    maps = layout.maps(network, heads, behind)
    detections, keypoints = decode(maps, layout, len(manifest.labels), len(manifest.joints), grid)
    results = {contract.DETECTIONS: detections}
    if keypoints is not None:
        results[contract.KEYPOINTS] = keypoints
    for name, value in results.items():
        value.named(name)
    _replace(model, [before, behind], manifest, list(results), grid.count)


def normalize(frames: Value, manifest: Manifest) -> Value:
    """Turn uint8 [batch, H, W, 3] BGR pixels into float32 [batch, 3, H, W] network input."""
    pixels = frames.cast(TensorProto.FLOAT).transpose(0, 3, 1, 2)
    if manifest.order == "rgb":
        pixels = pixels.pick([2, 1, 0], axis=1)
    mean, std = (np.array(three).reshape(1, 3, 1, 1) for three in (manifest.mean, manifest.std))
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    if np.any(scale != 1):
        pixels = pixels * scale
    if np.any(shift != 0):
        pixels = pixels + shift
    return pixels


def _replace(
    model: ModelProto, around: Sequence[Graph], manifest: Manifest, results: list[str], count: int
) -> None:
    """Insert the nodes of `around` before and after those of `model`; declare its new tensors."""
    before, behind = around
    graph = model.graph
    nodes = [*before.nodes, *graph.node, *behind.nodes]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*before.constants, *behind.constants])
    clean.prune(graph, results)
    height, width = manifest.input_size
    shapes: dict[str, list[str | int | None]] = {
        contract.DETECTIONS: ["batch", count, 6],
        contract.KEYPOINTS: ["batch", count, len(manifest.joints), 3],
    }
    graph.input.append(
        helper.make_tensor_value_info(
            contract.INPUT, TensorProto.UINT8, ["batch", height, width, 3]
        )
    )
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in results
    )
