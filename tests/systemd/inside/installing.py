"""From nothing to a running service; and up, back and away again. Each step returns what it saw."""

import re
import time
from pathlib import Path
from typing import Any

from .docs import Manual
from .machine import (
    UNIT,
    ask,
    cursor,
    journal,
    sh,
    show,
    state,
    stream,
    until,
    wait_for_frames,
    wait_until_up,
)

PASSWORD = "the-password"
DEMO = "/opt/centernetd/share/centernetd/assets/demo.mp4"


def network(_manual: Manual) -> dict[str, Any]:
    """There is no network, apart from the address of a camera."""
    routes = sh("ip route")
    sh("ip address add 192.0.2.10/32 dev lo")
    return {"routes": routes}


def install(manual: Manual) -> dict[str, Any]:
    """Install from the wheelhouse."""
    output = manual.follow("install")
    doctor = "cd /tmp; CACHE_DIRECTORY=/var/cache/centernetd centernetd doctor"
    return {
        "output": output,
        "groups": sh("getent group video render"),
        "doctor": sh(doctor),
    }


def unconfigured(_manual: Manual) -> dict[str, Any]:
    """Start the service as it was installed, with no camera."""
    sh(f"systemctl start {UNIT}", check=False)
    time.sleep(5)  # a restart would come after 2
    seen = {**state(), "journal": journal()}
    sh(f"systemctl reset-failed {UNIT}")
    return seen


def start_camera(unit: str = "camera", port: int = 554) -> None:
    """Switch a camera on."""
    python = "/opt/centernetd/bin/python"
    command = f"{python} /walk/inside/camera.py {DEMO} {PASSWORD} {port}"
    sh(f"systemd-run --quiet --unit={unit} --description=camera {command}")
    until(lambda: f"192.0.2.10:{port}" in sh("ss --tcp --listening --numeric"), "a camera")


def camera(manual: Manual) -> dict[str, Any]:
    """Add a camera, its password as a credential, and check it."""
    start_camera()
    output = manual.follow("camera")
    seen = {"output": output, "checked": manual.follow("check")}
    return {**seen, "of_root": sh("find /var/cache/private/centernetd/ -user root")}


def start(manual: Manual) -> dict[str, Any]:
    """Start the service now and at every boot."""
    started = time.monotonic()
    output = manual.follow("start")
    seconds = time.monotonic() - started
    text = wait_until_up()
    found = re.search(r"exposure level for \S+: (\S+)", sh(f"systemd-analyze security {UNIT}"))
    return {
        **state(),
        **show("NotifyAccess", "MemoryCurrent", "Documentation"),
        "output": output,
        "seconds": seconds,
        "status_text": text,
        "ready": ask("/readyz?stream=gate"),
        "exposure": found and found[1],
    }


def wall(manual: Manual) -> dict[str, Any]:
    """Deny it memory that can be written to and run; all that follows is done behind this."""
    manual.follow("wall")
    sh(f"systemctl restart {UNIT}")
    wait_until_up()
    return {**state(), **show("MemoryDenyWriteExecute"), "gate": wait_for_frames("gate")}


def reloaded(manual: Manual) -> dict[str, Any]:
    """Add a camera while it runs; then try a configuration that can't be followed."""
    door, config = Path("/etc/centernetd/streams.d/door.yaml"), Path("/etc/centernetd/config.yaml")
    door.write_text("source: rtsp://192.0.2.10:1/none\n")
    since, before = cursor(), wait_for_frames("gate")
    output = manual.follow("reload")
    seen = {"output": output, "door": stream("door"), "before": before, "gate": stream("gate")}
    good = config.read_text()
    config.write_text(good + "engine: {precision: float16}\n")
    refused = sh(f"systemctl reload {UNIT}", check=False)
    config.write_text(good)
    door.unlink()
    manual.follow("reload")
    wait_until_up()
    seen |= {"refused": refused, "door_in_the_end": stream("door"), "journal": journal(since=since)}
    return {**state(), **seen}


def instance(manual: Manual) -> dict[str, Any]:
    """Run a second process next to the first, with its own configuration, port and folder."""
    output = manual.follow("instance")
    unit = "centernetd@0.service"
    ready = until(lambda: (answer := ask("/readyz", 10870))[0] == 200 and answer, "an instance")
    return {**state(unit), "output": output, "ready": ready, "first": state()}


def upgrade(manual: Manual) -> dict[str, Any]:
    """Upgrade, and then go back: the mark is in the folder of the version from before."""
    mark = Path("/opt/centernetd/mark")
    mark.touch()
    manual.follow("upgrade")
    wait_until_up()
    upgraded = {**state(), "mark": mark.exists()}
    manual.follow("rollback")
    wait_until_up()
    return {"upgraded": upgraded, "back": {**state(), "mark": mark.exists()}}


def backup(manual: Manual) -> dict[str, Any]:
    """Pack what can't be recreated."""
    manual.follow("backup")
    return {"packed": sh("tar -tf /root/centernetd-backup.tar.gz").splitlines()}


def uninstall(manual: Manual) -> dict[str, Any]:
    """Take it away; what is left is the operator's."""
    since = cursor()
    manual.follow("uninstall")
    left = sh(
        "find / -xdev -path /proc -prune -o -path /walk -prune -o -path /media -prune"
        " -o -path /out -prune -o -path /tmp -prune -o -iname '*centernetd*' -print"
    )
    processes = sh("pgrep --full --list-full '^/opt/centernetd/bin/python /opt' || true")
    return {
        "left": left.split(),
        "processes": processes,
        "load_state": show("LoadState")["LoadState"],
        "journal": journal(since=since),
    }
