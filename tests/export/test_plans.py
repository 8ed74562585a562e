"""TensorRT's own parser and builder take every published network, in every precision."""

from pathlib import Path

import numpy as np
import pytest

from centernetd.plan import Binding, Profile, build
from centernetd.prepare.export.trace import to_onnx
from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports
from tests.export.networks import calibrated, frames
from tests.export.test_export import CASES
from tests.plans import heedless, real_binding

SIZE = (128, 128)
PICTURES = frames(3, SIZE)
# one of every kind; `make test-export-all` builds the others too
SMALL = [("res_18", "ctdet"), ("resdcn_18", "ctdet"), ("dla_34", "multi_pose")]


@pytest.fixture(scope="module")
def binding() -> Binding:
    return real_binding()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "task"),
    [pytest.param(*case, marks=[] if case in SMALL else [pytest.mark.large]) for case in CASES],
)
def test_every_network_can_be_built(name: str, task: str, binding: Binding, tmp_path: Path) -> None:
    network = calibrated(name, task, 3 if task == "ctdet" else 1, PICTURES)
    source = exports.write(to_onnx(network, SIZE), tmp_path / "export.onnx")
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        options = PrepareOptions(input_size=SIZE, precision=precision)
        prepare(source, tmp_path / "prepared.onnx", options, list(PICTURES))
        plan = build(
            (tmp_path / "prepared.onnx").read_bytes(),
            SIZE,
            Profile(1, 4, 8),
            binding,
            heedless,
            workspace=None,
            timings=tmp_path / "timings",
        )
        sizes[precision] = len(plan)
    assert sizes["float16"] < 0.7 * sizes["float32"]
    assert np.all(np.array(list(sizes.values())) > 10_000)
