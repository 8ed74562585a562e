"""What is exported gives what the PyTorch network and the reference decode give."""

import hashlib
from pathlib import Path

import onnx
import pytest
import torch

from centernetd.model import manifest as manifests
from centernetd.prepare.export import export
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.export.checkpoint import make
from centernetd.prepare.prepare import PrepareOptions
from tests.export.equality import difference
from tests.export.networks import calibrated, frames, outputs
from tests.onnx_sessions import open_session

SIZE = (128, 128)
CASES = [(name, "ctdet") for name in ARCHITECTURES]
CASES += [(name, "multi_pose") for name in ("res_18", "dla_34", "hourglass")]
# one of every kind; `make test-export-all` runs the others too
SMALL = [(name, "ctdet") for name in ("res_18", "resdcn_18", "centernet_resnet50")]
SMALL += [("dla_34", "multi_pose")]
FED = {"centernet_resnet50": ("bgr", (0.40789655, 0.44719303, 0.47026116), "stretch", 0.3)}
FED_BY_CENTERNET = ("bgr", (0.408, 0.447, 0.470), "letterbox", None)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "task"),
    [
        pytest.param(name, task, marks=[] if (name, task) in SMALL else [pytest.mark.large])
        for name, task in CASES
    ],
)
def test_the_prepared_model_equals_the_network_and_the_reference_decode(
    name: str, task: str, tmp_path: Path
) -> None:
    # at 128x128 the smallest maps of an Hourglass are one pixel, which is no statistics
    size = (256, 256) if name == "hourglass" else SIZE
    pictures = frames(3, size)
    network = calibrated(name, task, 3 if task == "ctdet" else 1, pictures)
    checkpoint, prepared = tmp_path / "checkpoint.pth", tmp_path / "prepared.onnx"
    torch.save({"epoch": 140, "state_dict": network.state_dict()}, checkpoint)
    manifest = export(name, checkpoint, prepared, PrepareOptions(input_size=size))
    assert manifest == manifests.read(prepared)
    assert (manifest.layout, manifest.input_size) == (task, size)
    assert len(manifest.joints) == (17 if task == "multi_pose" else 0)
    assert manifest.source_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    fed = (manifest.order, manifest.mean, manifest.resize, manifest.nms_iou)
    assert fed == FED.get(name, FED_BY_CENTERNET)
    operators = {node.op_type for node in onnx.load(prepared).graph.node}
    assert "BatchNormalization" not in operators
    found = difference(open_session(prepared), network, manifest, pictures)
    assert found.pixels < 1e-3
    assert found.scores < 1e-4
    assert found.decisions_apart <= 0.01


def test_nothing_in_the_graph_needs_a_plugin(tmp_path: Path) -> None:
    checkpoint, prepared = tmp_path / "checkpoint.pth", tmp_path / "prepared.onnx"
    torch.save(make("resdcn_18", outputs("ctdet", 2), 64).state_dict(), checkpoint)
    export("resdcn_18", checkpoint, prepared, PrepareOptions(input_size=SIZE))
    graph = onnx.load(prepared).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("GridSample") == 3
    assert {node.domain for node in graph.node} == {""}


def test_the_user_configures_otherwise(tmp_path: Path) -> None:
    checkpoint, prepared = tmp_path / "checkpoint.pth", tmp_path / "prepared.onnx"
    torch.save(make("res_18", outputs("ctdet", 2), 64).state_dict(), checkpoint)
    options = PrepareOptions(
        input_size=(64, 96),
        labels=("cat", "dog"),
        order="rgb",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        resize="stretch",
    )
    manifest = export("res_18", checkpoint, prepared, options)
    for name in ("input_size", "labels", "order", "mean", "std", "resize"):
        assert getattr(manifest, name) == getattr(options, name)
