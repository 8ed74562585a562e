"""The tensors of a prepared model, checked against its declaration and by a trial run."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto

from centernetd.errors import ModelError
from centernetd.model.files import first_line

INPUT = "frames"
DETECTIONS = "detections"
KEYPOINTS = "keypoints"

_MAX_SIDE = 4096  # pixels per side; anything larger would exhaust memory

# int8 kernels for one frame and for several may round differently, which reorders nearly equal
# scores. In a row that is actually wrong, almost every value is far off.
_SCORE = 0.05
_PIXELS = 2.0
_RELATIVE = 0.02
_SHARE = 0.9
_TIED = 1e-4  # from the last score: which of several tied detections make the list is undefined
_MAX_COMPARED = 100  # only the best detections are compared

Tensors = Mapping[str, npt.NDArray[np.generic]]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrialRun:
    """Result of a trial run: K detections per frame, J keypoints per detection."""

    top_k: int
    joints: int


def is_met_by(model: ModelProto) -> bool:
    """Return whether `model` has the tensor names of a prepared model."""
    inputs = {value.name for value in model.graph.input}
    return INPUT in inputs and DETECTIONS in {value.name for value in model.graph.output}


def input_size(model: ModelProto) -> tuple[int, int]:
    """Return (H, W) of input ``frames``; raise `ModelError` unless it is uint8 [batch, H, W, 3]."""
    tensor = next(value for value in model.graph.input if value.name == INPUT).type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    if tensor.elem_type != TensorProto.UINT8 or len(shape) != 4 or shape[3] != 3 or shape[0] != 0:
        raise ModelError(f"its input {INPUT} is not uint8 [batch, H, W, 3] with any batch")
    if not shape[1] or not shape[2]:
        raise ModelError(f"its input {INPUT} has no fixed height and width")
    return limited((shape[1], shape[2]))


def limited(size: tuple[int, int]) -> tuple[int, int]:
    """Return `size` unchanged, or raise `ModelError` if it is unreasonably large."""
    if max(size) > _MAX_SIDE:
        raise ModelError(
            f"an input size of {size[0]}x{size[1]} is too large: give it {_MAX_SIDE}x{_MAX_SIDE} "
            "at most"
        )
    return size


def run(model: ModelProto, inputs: Tensors) -> dict[str, npt.NDArray[np.float32]]:
    """Run `model` on the CPU.

    Raises
    ------
    ModelError
        The model can't be run; includes the reason.
    """
    with _file(model) as path:
        return _run(path, inputs)[0]


def _run(path: Path, *inputs: Tensors) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Run the model file on each of `inputs` in turn."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # prepacking would keep a second copy of the weights
    options.add_session_config_entry("session.disable_prepacking", "1")
    given = inputs[0]
    try:
        session = ort.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # the fallback would print and retry the same provider
        )
        names = [value.name for value in session.get_outputs()]
        found = []
        for given in inputs:
            found.append(dict(zip(names, session.run(names, given), strict=True)))
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        shapes = ", ".join(str(list(value.shape)) for value in given.values())
        reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))
        raise ModelError(f"it can't run on an input {shapes}: {reason}") from None
    return found


@contextmanager
def _file(model: ModelProto) -> Iterator[Path]:
    """Keep `model` in a temporary file: a session loaded from memory holds a second copy."""
    with tempfile.NamedTemporaryFile(prefix="centernetd-", suffix=".onnx") as file:
        file.write(model.SerializeToString())
        file.flush()
        yield Path(file.name)


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"it is not valid ONNX: {first_line(error)}") from None


def verify(model: ModelProto) -> TrialRun:
    """Check a prepared model like `verify_file`, including its declared input."""
    size = input_size(model)
    with _file(model) as path:
        return verify_file(path, size)


def verify_file(path: Path, size: tuple[int, int]) -> TrialRun:
    """Check that a prepared model is valid ONNX with the right shapes and independent rows.

    Raises
    ------
    ModelError
        A check fails; the message doesn't name the file.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    _check(path)
    both, *alone = _run(path, *({INPUT: frames} for frames in (noise, noise[:1], noise[1:])))
    detections, keypoints = both[DETECTIONS], both.get(KEYPOINTS)
    if detections.dtype != np.float32 or detections.ndim != 3 or detections.shape[2] != 6:
        raise ModelError(f"its output {DETECTIONS} is not float32 [batch, K, 6]")
    if len(detections) != 2 or alone[0][DETECTIONS].shape != (1, *detections.shape[1:]):
        raise ModelError("its batch size is fixed: export it with a dynamic batch")
    joints = _joints(keypoints, detections.shape[:2])
    if not np.isfinite(detections[..., 4]).any():
        raise ModelError("none of its scores is a number: its weights are damaged")
    for row, one in enumerate(alone):
        joints_of = () if keypoints is None else (one[KEYPOINTS][0], keypoints[row])
        if not is_same(one[DETECTIONS][0], detections[row], *joints_of):
            raise ModelError(
                "its detections of a frame depend on the rest of the batch: export it with a "
                "dynamic batch"
            )
    return TrialRun(detections.shape[1], joints)


def _joints(keypoints: npt.NDArray[np.float32] | None, leading: tuple[int, ...]) -> int:
    if keypoints is None:
        return 0
    if keypoints.ndim != 4 or keypoints.shape[:2] != leading or keypoints.shape[3] != 3:
        raise ModelError(f"its output {KEYPOINTS} is not float32 [batch, K, J, 3]")
    return int(keypoints.shape[2])


def is_same(
    alone: Rows, shared: Rows, joints_alone: Rows | None = None, joints_shared: Rows | None = None
) -> bool:
    """Return whether a frame has the same detections alone as in a batch.

    ``alone`` and ``shared`` are its detections [K, 6]; its keypoints are [K, J, 3], if
    present. Order is ignored, as are detections that aren't finite or score no better than the
    last.
    """
    if not np.allclose(alone[:, 4], shared[:, 4], atol=_SCORE, equal_nan=True):
        return False
    finite = np.isfinite(alone).all(axis=1)
    lowest = alone[finite, 4].min(initial=np.inf)
    certain = np.flatnonzero(finite & (alone[:, 4] > lowest + _TIED))[:_MAX_COMPARED]
    if not len(certain):
        return True
    mine, others = alone[certain, None], shared[None]
    near = _near(mine[..., :5], others[..., :5]) & (mine[..., 5] == others[..., 5])
    if near.any(axis=1).mean() < _SHARE:
        return False
    if joints_alone is None or joints_shared is None:
        return True
    apart = np.abs(mine[..., :5] - others[..., :5]).sum(axis=2)
    nearest = np.where(near, apart, np.inf).argmin(axis=1)
    return bool(_near(joints_alone[certain], joints_shared[nearest]).mean() >= _SHARE)


def _near(one: Rows, other: Rows) -> npt.NDArray[np.bool_]:
    """Compare coordinates, and the score in the last column, along the last axis."""
    apart = np.abs(one - other)
    places = apart[..., :-1] <= _PIXELS + _RELATIVE * np.abs(one[..., :-1])
    close: npt.NDArray[np.bool_] = places.all(axis=-1) & (apart[..., -1] <= _SCORE)
    return close
