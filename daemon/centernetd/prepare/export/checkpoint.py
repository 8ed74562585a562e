"""Checkpoints: reading one without executing its content, and creating the network it fits."""

import hashlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from centernetd.config import regular
from centernetd.errors import ModelError
from centernetd.model import files
from centernetd.prepare.export.architectures import ARCHITECTURES, CTDET, MULTI_POSE, Architecture
from centernetd.prepare.export.dla import Dla34
from centernetd.prepare.export.hourglass import HourglassNet
from centernetd.prepare.export.layers import TorchNetwork
from centernetd.prepare.export.resnet import CenterNetResNet50, ResNet, doubled, sampled_and_doubled

State = dict[str, Tensor]

_NETWORKS: dict[str, Callable[..., TorchNetwork]] = {
    **{
        f"res_{depth}": partial(ResNet, depth, doubled, (256, 256, 256))
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"resdcn_{depth}": partial(ResNet, depth, sampled_and_doubled, (256, 128, 64))
        for depth in (18, 101)
    },
    "dla_34": Dla34,
    "hourglass": HourglassNet,
    "centernet_resnet50": CenterNetResNet50,
}

_USUAL_CLASSES = {CTDET: 80, MULTI_POSE: 1}
_USUAL_JOINTS = 17
_USUAL_WIDTH = 64
_NAMED = 3  # keys named in a message, however many there are


def load(path: Path, name: str) -> tuple[TorchNetwork, str]:
    """Return the network `name` with the weights of the checkpoint `path`, and its SHA-256.

    Raises
    ------
    ModelError
        The file can't be read, or as for `read` and `fit`; the message doesn't name it.
    """
    content = files.read(path, regular.MAX_SIZE)
    return fit(read(content), name), hashlib.sha256(content).hexdigest()


def read(content: bytes) -> State:
    """Return the weights in the content of a checkpoint file, by key.

    A wrapping ``state_dict`` and the key prefix ``module.`` are removed.

    Raises
    ------
    ModelError
        It contains objects other than tensors, which are never unpickled, or is not a checkpoint.
    """
    found = _load(content)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not found:
        raise ModelError("not a checkpoint: it holds no state_dict")
    if not all(isinstance(key, str) for key in found) or not all(
        isinstance(value, Tensor) for value in found.values()
    ):
        raise ModelError("not a checkpoint: its state_dict contains things other than tensors")
    prefix = "module." if all(key.startswith("module.") for key in found) else ""
    return {key.removeprefix(prefix): _as_float32(value) for key, value in found.items()}


def fit(state: State, name: str) -> TorchNetwork:
    """Return the network `name` with the weights of `state`, all of which must be used.

    Its outputs are those of ``multi_pose`` if the checkpoint has a head for joints, otherwise those
    of ``ctdet``. The numbers of classes and joints and the width of the heads are read from it.

    Raises
    ------
    ModelError
        Keys are missing, unexpected, or of another shape.
    """
    network, misfit = _compare(state, name)
    if misfit:
        raise ModelError(f"it doesn't fit {name}: {misfit}{_advice(state, name)}")
    used = {key: value for key, value in state.items() if not _is_unused(key, name)}
    network.load_state_dict(used, assign=True)
    return network


def make(name: str, outputs: dict[str, int], width: int) -> TorchNetwork:
    """Return the network `name` with random weights, in evaluation mode.

    `outputs` are the channels of each output; `width` is that between the two layers of a head,
    0 for a head of one layer.
    """
    network = _NETWORKS[name](outputs=outputs, width=width)
    network.eval()
    return network


def outline(name: str, outputs: dict[str, int], width: int) -> TorchNetwork:
    """Return the same network without memory for its weights."""
    with torch.device("meta"):
        return make(name, outputs, width)


def _load(content: bytes) -> object:
    _refuse_damaged(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for old files, torch warns about its own storage classes
        try:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            held = re.search(r"GLOBAL (\S+)", str(error))
            if held is None:
                raise ModelError("not a PyTorch checkpoint, or cut short") from None
            raise ModelError(
                f"it holds {held[1]} besides tensors, which could run any code and is not loaded: "
                "save the state_dict() of the network alone"
            ) from None
        except Exception:  # errors of damaged files have no common base
            raise ModelError("not a PyTorch checkpoint, or cut short") from None


def _refuse_damaged(content: bytes) -> None:
    """Verify the checksums of a checkpoint that is a zip archive, which PyTorch doesn't."""
    if not content.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
    except Exception:  # errors of damaged files have no common base
        raise ModelError("not a PyTorch checkpoint, or cut short") from None
    if damaged is not None:
        raise ModelError(f"it is damaged: the checksum of {damaged} is wrong: download it again")


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _compare(state: State, name: str) -> tuple[TorchNetwork, str]:
    """Return the outline of the network for `state`, and how `state` differs from it."""
    network = outline(name, *_heads(state, ARCHITECTURES[name]))
    wanted = network.state_dict()
    # checkpoints older than PyTorch 0.4.1 have no batch counters, which aren't needed here
    missing = [
        key for key in wanted.keys() - state.keys() if not key.endswith("num_batches_tracked")
    ]
    beyond = [key for key in state.keys() - wanted.keys() if not _is_unused(key, name)]
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted.keys() & state.keys()
        if state[key].shape != wanted[key].shape
    ]
    odd = [key for key in wanted.keys() & state.keys() if not _is_plain(state[key])]
    parts = (
        ("missing", missing),
        ("not expected", beyond),
        ("of another shape", shapes),
        ("no plain floating-point numbers", odd),
    )
    return network, ", ".join(
        f"{len(keys)} keys {what} ({_shortened(sorted(keys))})" for what, keys in parts if keys
    )


def _is_plain(value: Tensor) -> bool:
    """Return whether a tensor can be a weight, or is a scalar such as a batch counter."""
    number: bool = value.is_floating_point() or value.ndim == 0
    return number and bool(value.layout == torch.strided)


def _heads(state: State, architecture: Architecture) -> tuple[dict[str, int], int]:
    """Read the channels of each output and the width of the heads; missing ones get defaults."""
    called = dict(architecture.heads)

    def channels(pattern: str, head: str, usual: int) -> int:
        weights = state.get(pattern.format(called.get(head, head)))
        return len(weights) if weights is not None and weights.ndim and len(weights) else usual

    names = MULTI_POSE if any(key.startswith("hps.") for key in state) else CTDET
    last, width = architecture.last, channels(architecture.first, "hm", _USUAL_WIDTH)
    if "hm.weight" in state:
        last, width = "{}.weight", 0
    free = {
        "hm": _USUAL_CLASSES[names],
        "hps": 2 * _USUAL_JOINTS,
        "hm_hp": _USUAL_JOINTS,
    }
    return {head: channels(last, head, free[head]) if head in free else 2 for head in names}, width


def _is_unused(key: str, name: str) -> bool:
    return key.startswith(ARCHITECTURES[name].unused)


def _advice(state: State, name: str) -> str:
    """Name the architecture that the checkpoint fits, if there is one."""
    fitting = [other for other in ARCHITECTURES if other != name and not _compare(state, other)[1]]
    return f"; it fits {fitting[0]}" if fitting else ""


def _shortened(texts: Sequence[str]) -> str:
    rest = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
