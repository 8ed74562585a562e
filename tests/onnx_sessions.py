"""ONNX Runtime sessions as the tests want them: two threads, none of them spinning."""

from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto

from centernetd.prepare.prepare import PrepareOptions, prepare
from tests import exports


def open_session(model: Path | bytes) -> ort.InferenceSession:
    """Open a model file or its content."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def prepared_session(
    model: ModelProto, folder: Path, options: PrepareOptions
) -> ort.InferenceSession:
    """Prepare a raw export in `folder` and open the result."""
    source = exports.write(model, folder / "export.onnx")
    prepare(source, folder / "prepared.onnx", options)
    return open_session(folder / "prepared.onnx")


def raw_outputs(model: ModelProto, planes: exports.Array) -> list[list[exports.Array]]:
    """Run a raw export, its declared shape aside, on one frame after another."""
    image = model.graph.input[0].type.tensor_type.shape
    for axis, dim in enumerate(image.dim):
        dim.dim_param = f"axis_{axis}"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    session = open_session(model.SerializeToString())
    return [
        [head[0] for head in session.run(None, {session.get_inputs()[0].name: plane[None]})]
        for plane in planes
    ]
