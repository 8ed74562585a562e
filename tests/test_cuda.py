"""The CUDA objects, over the double of cuda-python."""

import inspect
import logging
import re
from collections.abc import Iterator

import numpy as np
import pytest

from centernetd.cuda import (
    CudaError,
    CudaStream,
    Device,
    DeviceBuffer,
    Event,
    PinnedBuffer,
    calls,
    copy_async,
    copy_rows_out,
    live,
)
from centernetd.errors import EngineError
from tests import fake_cuda
from tests.fake_cuda import FakeCuda, FakeDriver
from tests.simulated_gpu import API, STICKY


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    with fake_cuda.installed(FakeCuda()) as fake:
        yield fake
    assert not any(fake.live().values())


def test_the_double_has_only_what_cuda_python_has() -> None:
    own = {name for name in vars(FakeCuda) if name.startswith("cuda")}
    functions = {name for name in own if inspect.isfunction(getattr(FakeCuda, name))}
    assert functions == set(API["functions"])
    for name in functions:
        taken = len(inspect.signature(getattr(FakeCuda, name)).parameters) - 1
        assert taken == API["functions"][name], name
    enums = {"cudaMemcpyKind", "cudaDeviceAttr", "cudaError_t", "cudaStreamCaptureMode"}
    for name in own - functions - enums:
        assert getattr(FakeCuda, name) == API["constants"][name]
    driver = {name for name in vars(FakeDriver) if name.startswith("cu")}
    assert driver == set(API["driver"])
    for name in driver:
        taken = len(inspect.signature(getattr(FakeDriver, name)).parameters) - 1
        assert taken == API["driver"][name], name


def test_bytes_go_to_the_device_and_back_in_the_order_of_events(gpu: FakeCuda) -> None:
    with (
        CudaStream() as inwards,
        CudaStream() as outwards,
        Event() as arrived,
        Event() as returned,
        PinnedBuffer(8) as source,
        PinnedBuffer(8) as target,
        DeviceBuffer(8) as device,
    ):
        source.view(np.uint8, [8])[:] = range(8)
        copy_async(device, source, 8, inwards)
        inwards.record(arrived)
        outwards.wait(arrived)
        copy_async(target, device, 8, outwards)
        outwards.record(returned)
        assert target.view(np.uint8, [8]).tolist() == [0xCD] * 8, "nothing happened yet"
        returned.synchronize()
        assert target.view(np.uint8, [8]).tolist() == list(range(8))
        assert returned.seconds_since(arrived) > 0
        outwards.synchronize()
    assert not +live


def test_a_copy_never_goes_beyond_either_buffer(gpu: FakeCuda) -> None:
    with CudaStream() as stream, PinnedBuffer(8) as host, DeviceBuffer(4) as device:
        with pytest.raises(ValueError, match="8 bytes don't fit"):
            copy_async(device, host, 8, stream)
        assert "cudaMemcpyAsync" not in gpu.calls


@pytest.mark.parametrize(("theirs", "ours"), [(8, 5), (5, 8), (5, 5)])
def test_rows_come_out_wherever_they_begin(theirs: int, ours: int, gpu: FakeCuda) -> None:
    with DeviceBuffer(3 * theirs) as device:
        there = gpu.device_view(device.address, device.nbytes).reshape(3, theirs)
        there[:] = np.arange(there.size).reshape(there.shape)
        target = np.full((3, ours), 99, np.uint8)
        copy_rows_out(target.ctypes.data, ours, device.address, theirs, 3)
        assert np.array_equal(target[:, :5], there[:, :5])
        assert (target[:, 5:] == 99).all()


def test_everything_is_closed_once(gpu: FakeCuda) -> None:
    things = [CudaStream(), Event(), DeviceBuffer(8), PinnedBuffer(8)]
    assert +live == dict.fromkeys(["CudaStream", "Event", "DeviceBuffer", "PinnedBuffer"], 1)
    for thing in things * 2:
        thing.close()
    assert not +live


@pytest.mark.parametrize("kind", [CudaStream, Event])
def test_what_is_forgotten_is_reported_and_stays(
    kind: type[CudaStream | Event], gpu: FakeCuda
) -> None:
    thing = kind()
    handle = thing.handle
    with pytest.warns(ResourceWarning, match=f"a {kind.__name__} was not closed"):
        del thing
    gone = gpu.cudaStreamDestroy if kind is CudaStream else gpu.cudaEventDestroy
    assert gone(handle) == (0,)
    live.clear()


def test_pinned_memory_outlives_its_last_view(gpu: FakeCuda) -> None:
    buffer = PinnedBuffer(16)
    view = buffer.view(np.float32, [2, 2])
    row = view[1]
    buffer.close()
    del view
    assert gpu.live()["pinned"] == 1
    row[:] = 7
    del row
    assert gpu.live()["pinned"] == 0
    assert not +live


def test_a_refused_call_is_named(gpu: FakeCuda) -> None:
    gpu.fail("cudaEventCreateWithFlags", 1, 999)
    with pytest.raises(CudaError) as caught:
        Event()
    assert str(caught.value) == (
        "cudaEventCreateWithFlags failed: cudaErrorUnknown (999), a description"
    )
    assert caught.value.exit_code == 70
    assert not caught.value.sticky


@pytest.mark.parametrize("code", STICKY)
def test_an_error_that_stays_is_marked_and_makes_closing_quiet(
    code: int, gpu: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    with CudaStream() as stream:
        gpu.fail("cudaStreamSynchronize", 1, code)
        with pytest.raises(CudaError, match="the GPU is lost to this process") as caught:
            stream.synchronize()
        assert caught.value.sticky
        assert stream.is_lost()
    assert not caplog.records
    gpu.lost = None
    gpu._streams.clear()


def test_a_failure_to_give_back_is_logged(gpu: FakeCuda, caplog: pytest.LogCaptureFixture) -> None:
    gpu.fail("cudaEventDestroy", 1, 400)
    with caplog.at_level(logging.WARNING):
        Event().close()
    assert "cudaEventDestroy failed: cudaErrorInvalidResourceHandle (400)" in caplog.text
    gpu._events.clear()


def test_short_memory_is_reported_with_what_was_needed_and_what_is_free(gpu: FakeCuda) -> None:
    gpu.memory = 10_000_000
    with (
        DeviceBuffer(4_000_000),
        pytest.raises(CudaError, match=r"7\.0 MB more are needed, 6\.0 MB of 10\.0 MB are free"),
    ):
        DeviceBuffer(7_000_000)
    gpu.fail("cudaHostAlloc", 1, 2)
    with pytest.raises(CudaError, match=r"host memory is short: 3\.0 MB could not be page-locked"):
        PinnedBuffer(3_000_000)
    assert not +live


def test_a_device_reports_what_it_is(gpu: FakeCuda) -> None:
    device = Device(0)
    assert device.name == "Fake GPU 0"
    assert device.compute_capability == (8, 6)
    assert device.memory() == (gpu.memory, gpu.memory)


def test_a_device_can_be_shared_with_decoders() -> None:
    with fake_cuda.installed(FakeCuda(devices=2)) as fake:
        Device(1)
        assert fake.device_flags == {1: API["constants"]["cudaDeviceScheduleBlockingSync"]}


@pytest.mark.parametrize(
    ("fake", "sentence"),
    [
        (FakeCuda(driver=0), "there is no NVIDIA driver: install it"),
        (FakeCuda(driver=12040), r"driver is for CUDA 12\.4 and .* cuda-python needs 13\.0"),
        (FakeCuda(devices=0), "the NVIDIA driver finds no GPU"),
        (FakeCuda(devices=2), r"engine\.devices: there is no GPU 5; this process sees 2"),
    ],
)
def test_a_gpu_that_is_not_there_is_explained(fake: FakeCuda, sentence: str) -> None:
    with fake_cuda.installed(fake), pytest.raises(EngineError, match=sentence) as caught:
        Device(5)
    assert "\n" not in str(caught.value)


def test_a_release_that_raises_without_a_driver_is_explained(
    gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raising() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    monkeypatch.setattr(gpu, "cudaGetDeviceCount", raising)
    with pytest.raises(EngineError, match=re.escape("can't be loaded (Failed to dlopen libcuda")):
        Device(0)


def test_without_cuda_python_it_explains_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    calls.runtime.cache_clear()
    with pytest.raises(EngineError, match=r"pip install 'centernetd\[gpu\]'"):
        Device(0)
