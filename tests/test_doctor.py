"""What `doctor` finds, on made-up boxes and on this one."""

import os
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from centernetd.doctor import doctor, hardware
from centernetd.doctor.finding import Finding, Level
from centernetd.errors import SinkError
from centernetd.inference.engines import backend as backends
from tests.commandline import CommandLine
from tests.fake_nvdec import FakeNvdec, installed

NVRM = "NVRM version: NVIDIA UNIX {}  {}  Release Build  (root@build)\nGCC version:  gcc 12.2.0\n"


@pytest.fixture(autouse=True)
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No nvidia-smi or systemctl is found but in the folder returned."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver has created a device node."""
    monkeypatch.setattr(hardware, "has_nvidia_device", lambda: False)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, no_driver: None) -> None:
    """One has."""
    monkeypatch.setattr(hardware, "has_nvidia_device", lambda: True)


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def found(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


@pytest.mark.parametrize(
    ("locked", "level", "says"),
    [(True, Level.NOTE, "its lock is on"), (False, Level.OK, ", free-threaded")],
)
def test_a_python_that_needs_no_lock(
    monkeypatch: pytest.MonkeyPatch, locked: bool, level: Level, says: str
) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: locked, raising=False)
    finding = doctor.python()
    assert finding.level is level
    assert says in finding.found
    assert finding.mend == ("set PYTHON_GIL=0" if locked else "")


def test_a_python_with_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 0}.get)
    assert "free-threaded" not in doctor.python().found


def test_no_gpu(tmp_path: Path) -> None:
    assert list(hardware.gpu(tmp_path)) == [
        Finding("gpu", Level.NOTE, "no NVIDIA GPU: the network runs on the CPU")
    ]


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("x86_64 Kernel Module", "535.54.03"),
        ("Open Kernel Module for x86_64", "580.65.06"),
        ("x86_64 Kernel Module", "550.90"),
    ],
)
def test_a_gpu_reported_by_its_driver(tmp_path: Path, module: str, version: str) -> None:
    driver = tmp_path / "proc/driver/nvidia"
    put(driver / "version", NVRM.format(module, version))
    put(driver / "gpus/0000:01:00.0/information", "Model: \t\t NVIDIA L4\nIRQ:   \t\t 16\n")
    seen = found(hardware.gpu(tmp_path))
    assert seen["gpu"].found == "NVIDIA L4"
    assert seen["gpu driver"] == Finding("gpu driver", Level.OK, version)


def test_the_engine_is_what_the_daemon_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = doctor._engine()
    assert (seen.level, seen.found) == (
        Level.OK, "onnxruntime-cpu, because there is no NVIDIA device"
    )  # fmt: skip
    monkeypatch.setattr(backends, "has_nvidia_device", lambda: True)
    monkeypatch.setattr(backends, "has_cuda_python", lambda: True)
    monkeypatch.setattr(backends, "installed_flavour", lambda: "tensorrt")
    assert doctor._engine().found.startswith("tensorrt, because there is an NVIDIA device")
    monkeypatch.setattr(backends, "has_cuda_python", lambda: False)
    assert doctor._engine().level is Level.MISSING
    assert "cuda-python is not installed" in doctor._engine().found


@pytest.mark.usefixtures("driver")
def test_a_gpu_reported_by_nvidia_smi(tmp_path: Path, no_programs: Path) -> None:
    program(no_programs, "nvidia-smi", 'echo "NVIDIA L4, 23034 MiB, 8.9"')
    seen = found(hardware.gpu(tmp_path))
    assert seen["gpu"].found == "NVIDIA L4, 23034 MiB, compute capability 8.9"


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("script", ["exit 9", "echo Failed to initialize NVML", "printf ''"])
def test_a_broken_nvidia_smi(tmp_path: Path, no_programs: Path, script: str) -> None:
    program(no_programs, "nvidia-smi", script)
    assert found(hardware.gpu(tmp_path))["gpu"].found == "NVIDIA, of unknown name"


def test_a_card_without_a_driver(tmp_path: Path) -> None:
    cards = tmp_path / "sys/bus/pci/devices"
    put(cards / "0000:00:1f.0/vendor", "0x8086\n")
    put(cards / "0000:01:00.1/vendor", "0x10de\n")
    put(cards / "0000:01:00.1/class", "0x040300\n")  # its sound
    assert "no NVIDIA GPU" in found(hardware.gpu(tmp_path))["gpu"].found
    put(cards / "0000:01:00.0/vendor", "0x10de\n")
    put(cards / "0000:01:00.0/class", "0x030000\n")
    seen = found(hardware.gpu(tmp_path))["gpu driver"]
    assert seen.level is Level.NOTE
    assert "nvidia-driver" in seen.mend


def test_a_jetson(tmp_path: Path) -> None:
    put(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    seen = found(hardware.gpu(tmp_path))
    assert seen["gpu"].found == "NVIDIA Jetson Orin Nano Developer Kit"
    assert "on the CPU only" in seen["video engine"].found


def test_cameras_go_by_the_names_that_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.cameras(tmp_path).level is Level.NOTE
    put(tmp_path / "dev/video0")
    assert hardware.cameras(tmp_path).found == "v4l2:/dev/video0"
    for index in (0, 1):  # the second gives metadata, no pictures
        put(tmp_path / f"dev/v4l/by-id/usb-Cam_X-video-index{index}")
    seen = hardware.cameras(tmp_path)
    assert (seen.level, seen.found) == (Level.OK, "v4l2:/dev/v4l/by-id/usb-Cam_X-video-index0")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "usermod" in hardware.cameras(tmp_path).mend


def test_the_codecs_of_this_box_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = found(doctor._codecs())
    assert {topic for topic, finding in seen.items() if finding.level is Level.OK} >= {
        "encoder libx264",
        "decoder h264",
    }

    def refuse(*_: object) -> None:
        raise SinkError("libx264 can't encode: no such encoder")

    monkeypatch.setattr(doctor, "Clip", refuse)
    broken = found(doctor._codecs())
    assert broken["encoder libx264"].level is broken["decoder h264"].level is Level.MISSING
    assert broken["encoder h264_nvenc"].level is Level.NOTE


def test_decoding_on_the_gpu_is_tried_too() -> None:
    topic = "decoder h264 (cuda)"
    with installed(FakeNvdec()) as gpu:
        assert found(doctor._codecs())[topic] == Finding(topic, Level.OK, "works")
        assert gpu.sources.count(True) == 1
        kernel = "letterbox (cuda)"
        assert found(doctor._codecs())[kernel] == Finding(kernel, Level.OK, "works")
        gpu.cuda.fail("cuModuleLoadData", 1, 222)
        old = found(doctor._codecs())[kernel]
        assert (old.level, old.found[:61]) == (
            Level.NOTE,
            "not usable here: pictures are letterboxed on the CPU (cuModul",
        )
        assert not any(gpu.cuda.live().values())
        gpu.opens = False
        missing = found(doctor._codecs())[topic]
    assert missing.level is Level.NOTE
    assert missing.found == (
        "not usable here: video is decoded on the CPU "
        "(FFmpeg can't open NVIDIA GPU 0 (operation not permitted))"
    )


def test_systemd(tmp_path: Path, no_programs: Path) -> None:
    assert doctor._systemd(tmp_path).level is Level.NOTE
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert doctor._systemd(tmp_path).found == "running"
    program(no_programs, "systemctl", 'echo "systemd 252 (252.30-1)"; echo "+PAM"')
    assert doctor._systemd(tmp_path).found == "systemd 252 (252.30-1)"


def test_the_documentation_is_pointed_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = doctor._documentation()
    assert found.level is Level.OK
    assert Path(found.found.split()[0]).is_file()
    monkeypatch.setattr(
        doctor, "__file__", str(tmp_path / "lib/daemon/centernetd/doctor/doctor.py")
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert doctor._documentation().level is Level.NOTE
    put(tmp_path / "share/centernetd/docs/operations.md")
    assert str(tmp_path) in doctor._documentation().found


def test_this_box_can_run_it(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    outcome = cli("doctor", "--json")
    assert outcome.code == 0
    seen = {finding["topic"]: finding for finding in outcome.json}
    assert seen["onnxruntime"]["level"] == "ok"
    assert seen["model centerface"]["mend"] == "centernetd fetch centerface"
    assert seen["state folder"]["found"].startswith(f"{tmp_path}, ")
    table = cli("doctor").out.splitlines()
    assert len(table) == len(seen) + 1
    assert any(line.endswith("centernetd fetch centerface") for line in table)


def test_a_fetched_model_that_is_damaged_is_reported(tmp_path: Path) -> None:
    put(tmp_path / "models" / "centerface.onnx", "half of it")
    finding, _ = doctor._models(tmp_path)
    path = tmp_path / "models" / "centerface.onnx"
    assert (finding.level, finding.found) == (
        Level.MISSING, f"{path} can't be used: it is damaged"
    )  # fmt: skip
    assert finding.mend == "centernetd fetch centerface"


def test_a_cache_that_can_not_be_read_is_reported_once(
    cli: CommandLine, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(closed))
    outcome = cli("doctor", "--json")
    assert outcome.code == 1
    (finding,) = [each for each in outcome.json if str(closed) in each["found"]]
    assert (finding["topic"], finding["level"]) == ("cache folder", "missing")
    assert "can't be read: Permission denied; let this user read it" in finding["found"]


def test_what_is_needed_and_missing_fails(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "file")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "file"))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    outcome = cli("doctor", "--json")
    assert outcome.code == 1
    missing = {f["topic"]: f["mend"] for f in outcome.json if f["level"] == "missing"}
    assert missing["onnxruntime"] == "pip install --force-reinstall onnxruntime"
    assert "storage.root" in missing["state folder"]
    assert "tensorrt" not in missing


def test_a_bundle_has_the_name_of_its_format(cli: CommandLine, tmp_path: Path) -> None:
    outcome = cli("doctor", "--bundle", tmp_path / "bundle.zip")
    assert outcome.code == 2
    assert "bundle.zip: must end in .tar.gz" in " ".join(outcome.err.split())
    assert not list(tmp_path.glob("bundle*"))
