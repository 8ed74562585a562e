"""Which engine a box gets."""

from pathlib import Path

import pytest

from centernetd.errors import EngineError
from centernetd.inference.engines import Backend, choose_backend, ort_cuda
from centernetd.inference.engines import backend as backends

PROVIDERS = ["CPUExecutionProvider"]


class Box:
    """What a box has, as far as choosing goes; it begins with nothing."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.node = folder / "nvidiactl"
        self.cuda_python = True
        self.flavour: str | None = None
        self.providers = PROVIDERS
        patch.setattr("centernetd.cuda.device.NVIDIA_NODES", (folder / "other", self.node))
        patch.setattr(backends, "has_cuda_python", lambda: self.cuda_python)
        patch.setattr(backends, "installed_flavour", lambda: self.flavour)
        patch.setattr("onnxruntime.get_available_providers", lambda: self.providers)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Box:
    return Box(monkeypatch, tmp_path)


def test_without_a_device_it_is_the_cpu_whatever_is_installed(box: Box) -> None:
    box.flavour = "tensorrt"
    backend = choose_backend("auto")
    assert backend == Backend("onnxruntime-cpu", "there is no NVIDIA device")
    assert not backend.on_gpu


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_with_a_device_tensorrt_comes_first(flavour: str, box: Box) -> None:
    box.node.touch()
    box.flavour = flavour
    box.providers = [ort_cuda.PROVIDER, *PROVIDERS]
    backend = choose_backend("auto")
    assert backend.name == "tensorrt"
    assert flavour in backend.reason
    assert backend.on_gpu


def test_with_a_device_onnxruntime_comes_second(box: Box) -> None:
    box.node.touch()
    box.providers = [ort_cuda.PROVIDER, *PROVIDERS]
    backend = choose_backend("auto")
    assert backend.name == "onnxruntime-cuda"
    assert "TensorRT is not installed" in backend.reason


def test_a_device_that_nothing_can_use_is_never_left_idle_in_silence(box: Box) -> None:
    box.node.touch()
    with pytest.raises(EngineError, match=r"neither TensorRT nor onnxruntime-gpu") as caught:
        choose_backend("auto")
    assert caught.value.exit_code == 70
    box.cuda_python = False
    box.flavour = "tensorrt"
    with pytest.raises(EngineError, match=r"cuda-python is not installed: pip install"):
        choose_backend("auto")


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda", "onnxruntime-cpu"])
def test_a_name_is_obeyed(name: str, box: Box) -> None:
    box.node.touch()
    assert choose_backend(name) == Backend(name, "the configuration asks for it")
