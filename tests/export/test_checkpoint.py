"""Checkpoints: which are accepted, and the messages for others."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from centernetd.errors import ModelError
from centernetd.prepare.export import checkpoint
from centernetd.prepare.export.architectures import ARCHITECTURES
from centernetd.prepare.export.checkpoint import State, make, outline
from tests.export import listings
from tests.export.networks import outputs


def listed(name: str) -> State:
    """A checkpoint of the keys and shapes of a listing, of no memory."""
    return {key: torch.empty(shape, device="meta") for key, shape in listings.read(name).items()}


def saved(content: object, **options: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def state() -> State:
    weights: State = make("res_18", outputs("ctdet", 4), 32).state_dict()
    return weights


@pytest.mark.parametrize("name", listings.NAMES)
def test_published_keys_are_ours_one_by_one(name: str) -> None:
    architecture = listings.architecture(name)
    network = checkpoint.fit(listed(name), architecture)
    ours = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    unused = ARCHITECTURES[architecture].unused
    published = listings.read(name).items()
    assert ours == {key: shape for key, shape in published if not key.startswith(unused)}


def test_every_architecture_has_a_listing() -> None:
    assert {listings.architecture(name) for name in listings.NAMES} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", [name for name in listings.NAMES if name.endswith("ctdet")])
def test_a_key_too_few_or_too_many_is_named(name: str) -> None:
    fewer, more = listed(name), listed(name)
    last = next(key for key in reversed(fewer) if key.endswith("bias"))
    del fewer[last]
    with pytest.raises(ModelError, match=rf"1 keys missing \({last}\)$"):
        checkpoint.fit(fewer, listings.architecture(name))
    more["extra.weight"] = more[last]
    with pytest.raises(ModelError, match=r"1 keys not expected \(extra.weight\)$"):
        checkpoint.fit(more, listings.architecture(name))


@pytest.mark.parametrize("width", [0, 32, 256])
@pytest.mark.parametrize("name", ["res_18", "resdcn_18", "dla_34"])
def test_any_width_of_heads_and_any_number_of_classes(name: str, width: int) -> None:
    weights = outline(name, outputs("ctdet", 7), width).state_dict()
    network = checkpoint.fit(dict(weights), name)
    assert network.state_dict().keys() == weights.keys()


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [False, True], ids=["old format", "new format"])
def test_wrappers_are_seen_through(state: State, prefix: str, wrapped: bool, zipped: bool) -> None:
    content: object = {prefix + key: value for key, value in state.items()}
    if wrapped:
        content = {"epoch": 140, "state_dict": content, "optimizer": {"state": {}}}
    found = checkpoint.read(saved(content, _use_new_zipfile_serialization=zipped))
    network = checkpoint.fit(found, "res_18")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, state[key])


def test_half_precision_becomes_float32(state: State) -> None:
    half = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    assert checkpoint.read(saved(half))["conv1.weight"].dtype == torch.float32


def test_checkpoints_before_pytorch_0_4_1_count_no_batches(state: State) -> None:
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    checkpoint.fit(old, "res_18")


def test_another_network_is_reported_with_advice(state: State) -> None:
    with pytest.raises(ModelError) as refused:
        checkpoint.fit(dict(state), "dla_34")
    message = str(refused.value)
    assert "it doesn't fit dla_34: " in message
    assert "keys missing (base.base_layer.0.weight, " in message
    assert "keys not expected (bn1.bias, " in message
    assert message.endswith("; it fits res_18")
    assert len(message) < 500


def test_another_shape_is_reported(state: State) -> None:
    wide = {**state, "wh.2.weight": torch.zeros(8, 32, 1, 1)}
    with pytest.raises(ModelError, match=r"wh.2.weight \[8, 32, 1, 1\] instead of \[2, 32, 1, 1\]"):
        checkpoint.fit(wide, "res_18")


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.char, torch.Tensor.cfloat])
def test_what_are_no_plain_weights_is_reported(
    state: State, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    other = checkpoint.read(saved({**state, "conv1.weight": change(state["conv1.weight"])}))
    with pytest.raises(ModelError, match=r"1 keys no plain floating-point numbers \(conv1.weight"):
        checkpoint.fit(other, "res_18")


@pytest.mark.parametrize("key", ["hm.0", "hm.2"])
def test_a_head_without_channels_is_reported(state: State, key: str) -> None:
    weights = state[f"{key}.weight"]
    empty = {**state, f"{key}.weight": weights[:0], f"{key}.bias": weights[:0, 0, 0, 0]}
    with pytest.raises(ModelError, match=rf"of another shape \({key}.bias \[0\] instead of"):
        checkpoint.fit(empty, "res_18")


@pytest.mark.parametrize("where", [0.3, 0.5, 0.9])
def test_a_damaged_file_is_reported(state: State, where: float) -> None:
    content = bytearray(saved(state))
    at = int(where * len(content))
    content[at : at + 64] = b"\xff" * 64
    with pytest.raises(ModelError, match=r"it is damaged: the checksum of \S+ is wrong"):
        checkpoint.read(bytes(content))


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [False, True], ids=["old format", "new format"])
def test_a_pickle_is_never_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "it went off"
    for content in (
        pickle.dumps(Bomb(trace)),
        saved({"state_dict": Bomb(trace)}, _use_new_zipfile_serialization=zipped),
    ):
        with pytest.raises(ModelError, match=r"holds \S+ besides tensors|not a PyTorch checkpoint"):
            checkpoint.read(content)
    assert not trace.exists()


def test_a_whole_module_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        ModelError, match=r"it holds torch\.nn\.\S+ besides tensors, .*state_dict\(\)"
    ):
        checkpoint.read(saved(torch.nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch checkpoint, or cut short"),
        (b"hello", "not a PyTorch checkpoint, or cut short"),
        (saved({"weight": torch.zeros(100)})[:-300], "not a PyTorch checkpoint, or cut short"),
        (saved([1, 2]), "it holds no state_dict"),
        (saved({}), "it holds no state_dict"),
        (saved({"epoch": 3, "lr": 0.1}), "contains things other than tensors"),
        (saved({1: torch.zeros(1)}), "contains things other than tensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        checkpoint.read(content)
