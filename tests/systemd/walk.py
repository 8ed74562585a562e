"""The life of an installation, in a booted Debian: each test judges the step it is named after."""

from typing import Any

import pytest

Seen = dict[str, Any]

RUNNING = {"ActiveState": "active", "SubState": "running", "Result": "success"}
ENDED = {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
REFUSED = {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
MOST_EXPOSED = 2.0
STOP_PROMISE, RESTART_PROMISE, ALERT_PROMISE = 5, 30, 60  # seconds
SLACK = 2  # seconds: the walk looks every 0.2, and systemctl itself takes a while on a busy machine

pytestmark = pytest.mark.timeout(1200)  # the first test to run pays for the walk


def test_the_walk_follows_the_whole_manual(walked: Seen) -> None:
    manual = walked["manual"]
    assert set(manual["followed"]) == set(manual["marked"])


def test_network(seen: Seen) -> None:
    assert seen["routes"] == "", "nothing can be downloaded"


def test_install(seen: Seen) -> None:
    assert "Installed centernetd" in seen["output"]
    assert {line.split(":")[0] for line in seen["groups"].splitlines()} == {"video", "render"}
    assert "/var/cache/centernetd/models/centerface.onnx" in seen["doctor"]
    assert " missing " not in seen["doctor"]


def test_unconfigured(seen: Seen) -> None:
    assert seen.items() >= REFUSED.items()
    assert (
        "/etc/centernetd/config.yaml:13: streams: no streams: give at least one" in seen["journal"]
    )


def test_camera(seen: Seen) -> None:
    assert "mjpeg, 640x360" in seen["checked"]
    assert "the-password" not in seen["checked"]
    assert seen["of_root"] == "", "the service can read and replace all that the check left"


def test_start(seen: Seen) -> None:
    assert seen.items() >= RUNNING.items()
    assert "active (running)" in seen["output"]
    assert seen["status_text"].startswith("1 of 1 streams up, ")
    assert seen["ready"][0] == 200
    assert float(seen["exposure"]) <= MOST_EXPOSED


def test_wall(seen: Seen) -> None:
    assert seen.items() >= {**RUNNING, "NRestarts": "0", "MemoryDenyWriteExecute": "yes"}.items()
    assert seen["gate"]["inferred"] > 0


def test_reloaded(seen: Seen) -> None:
    """A camera more costs the others nothing; what can't be followed changes nothing."""
    assert seen.items() >= {**RUNNING, "NRestarts": "0"}.items()
    assert seen["door"]["state"] in ("connecting", "reconnecting")
    assert seen["gate"]["captured"] >= seen["before"]["captured"] > 0, "it did not start again"
    assert "failed" in seen["refused"]
    assert "restart needed: engine.precision can't change" in seen["journal"]
    assert seen["door_in_the_end"] == {}


def test_killed(seen: Seen) -> None:
    assert seen.items() >= RUNNING.items()
    assert seen["restarts"] == 1
    assert seen["written"]["record"] > 0


def test_instance(seen: Seen) -> None:
    assert seen.items() >= RUNNING.items()
    assert seen["ready"][0] == 200
    assert seen["first"].items() >= RUNNING.items()


def test_hung(seen: Seen) -> None:
    assert seen["health"][0] == 503
    assert "Watchdog timeout" in seen["journal"]
    assert "Thread 0x" in seen["journal"], "where each thread was"
    assert "faulty.py" in seen["journal"]
    assert seen["seconds"] < RESTART_PROMISE + SLACK
    assert seen.items() >= RUNNING.items()
    assert seen["status_text"].startswith("1 of 1 streams up, ")


def test_stuck(seen: Seen) -> None:
    """A stream that hangs is reported; it affects neither the others nor the stop."""
    assert seen["before"].items() >= {**RUNNING, "NRestarts": "0"}.items()
    assert seen["yard"]["state"] == "running"
    assert seen["pipe"]["captured"] == 0
    assert seen["ready"][0] == 503
    assert "pipe: " in seen["ready"][1]
    assert seen["health"][0] == 200
    assert seen["after"].items() >= ENDED.items()
    assert seen["seconds"] < STOP_PROMISE + SLACK


def test_slow(seen: Seen) -> None:
    """A start that reports its progress may take longer than the limit."""
    assert seen.items() >= {**RUNNING, "NRestarts": "0"}.items()
    assert seen["seconds"] > 12


def test_misconfigured(seen: Seen) -> None:
    assert seen["broken"].items() >= REFUSED.items()
    assert "sterams: no such key; did you mean 'streams'?" in seen["broken"]["journal"]
    assert "Traceback" not in seen["broken"]["journal"]
    assert seen["repaired"].items() >= RUNNING.items()


def test_full(seen: Seen) -> None:
    before, full, after = (seen[when] for when in ("before", "full", "after"))
    assert full["dropped"]["record/failed"] > 0
    assert full["inferred"] > before["inferred"], "inference goes on"
    assert after["written"]["record"] > full["written"]["record"], "recording resumes"
    assert seen["unit"].items() >= {**RUNNING, "NRestarts": "0"}.items()


def test_stopped(seen: Seen) -> None:
    assert seen.items() >= ENDED.items()
    assert seen["frames"] > 0, "its last recording plays"
    assert " captured = " in seen["journal"]
    assert seen["seconds"] < STOP_PROMISE + SLACK


def test_alert(seen: Seen) -> None:
    assert seen["quiet"] == []
    assert [alert["stream"] for alert in seen["firing"]] == ["gate"]
    assert seen["seconds"] < ALERT_PROMISE + SLACK
    assert seen["unit"].items() >= {**RUNNING, "NRestarts": "0"}.items()
    assert seen["status"]["StatusText"].startswith("2 of 3 streams up, ")


def test_backup(seen: Seen) -> None:
    assert {
        "etc/centernetd/config.yaml",
        "etc/centernetd/streams.d/gate.yaml",
        "etc/centernetd/credentials/GATE_PASSWORD",
        "etc/systemd/system/centernetd.service.d/credentials.conf",
    } <= set(seen["packed"])


def test_upgrade(seen: Seen) -> None:
    assert seen["upgraded"].items() >= {**RUNNING, "mark": False}.items()
    assert seen["back"].items() >= {**RUNNING, "mark": True}.items()


def test_secrets(seen: Seen) -> None:
    assert all(seen["looked"].values()), "there was something to look through"
    assert seen["leaks"] == []


def test_uninstall(seen: Seen) -> None:
    operators = ("/etc/centernetd", "/etc/prometheus/", "/etc/systemd/system/centernetd")
    recordings = ("/var/lib/centernetd", "/var/lib/private/centernetd")
    backups = ("/root/",)
    left = [path for path in seen["left"] if not path.startswith(operators + recordings + backups)]
    assert left == []
    assert seen["processes"] == ""
    assert seen["load_state"] == "not-found"
