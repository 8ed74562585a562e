"""What goes wrong at two in the morning. Each step returns what it saw."""

import time
from pathlib import Path
from typing import Any

from .docs import Manual
from .machine import (
    UNIT,
    ask,
    cursor,
    faulty,
    journal,
    restarts,
    sh,
    state,
    stream,
    until,
    wait_for_frames,
    wait_until_up,
)

STATE = Path("/var/lib/private/centernetd")
CONFIG = Path("/etc/centernetd/config.yaml")
FIFO = Path("/run/yard.fifo")
INSTANCE_PORT = 10870


def killed(_manual: Manual) -> dict[str, Any]:
    """Kill it; systemd brings it back."""
    before = restarts()
    sh(f"systemctl kill --signal=KILL {UNIT}")
    until(lambda: restarts() > before, "a restart")
    text = wait_until_up()
    return {
        **state(),
        "restarts": restarts() - before,
        "status_text": text,
        "written": wait_for_frames("gate")["written"],
    }


def stick(_manual: Manual) -> dict[str, Any]:
    """Give the instance a source that is opened and never read from: a pipe with no end."""
    sh(f"mkfifo {FIFO}; chmod 644 {FIFO}")
    sh(f"systemd-run --quiet --unit=silence sh -c 'exec sleep infinity > {FIFO}'")
    folder = Path("/etc/centernetd/0/streams.d")
    folder.mkdir()
    (folder / "pipe.yaml").write_text(f"source: {FIFO}\n")
    sh("systemctl restart centernetd@0.service")
    wait_for_frames("yard", port=INSTANCE_PORT)
    return state("centernetd@0.service")


def hung(_manual: Manual) -> dict[str, Any]:
    """Hang inference; the watchdog ends the process and systemd starts another."""
    with faulty("hang"):
        sh(f"systemctl restart {UNIT}")
        since, before = cursor(), restarts()
        until((STATE / "hung").exists, "a hang")
        began = time.monotonic()
        health = until(lambda: (answer := ask("/healthz"))[0] == 503 and answer, "a diagnosis")
        until(lambda: restarts() > before, "a restart")
        seconds = time.monotonic() - began
        text = wait_until_up()
    output = journal(since=since)
    return {**state(), "health": health, "seconds": seconds, "status_text": text, "journal": output}


def stuck(_manual: Manual) -> dict[str, Any]:
    """See what has become of the instance with the stuck stream, and stop it."""
    unit = "centernetd@0.service"
    frames = wait_for_frames("yard", port=INSTANCE_PORT)
    seen = {
        "before": state(unit),
        "yard": frames,
        "pipe": until(lambda: stream("pipe", INSTANCE_PORT), "the status of the stuck stream"),
        "ready": ask("/readyz?stream=pipe", INSTANCE_PORT),
        "health": ask("/healthz", INSTANCE_PORT),
    }
    began = time.monotonic()
    sh(f"systemctl stop {unit}")
    return {**seen, "seconds": time.monotonic() - began, "after": state(unit)}


def slow(_manual: Manual) -> dict[str, Any]:
    """Load for longer than a start may take, telling systemd of it."""
    with faulty("slow", "TimeoutStartSec=12"):
        began = time.monotonic()
        sh(f"systemctl restart {UNIT}")
        return {**state(), "seconds": time.monotonic() - began}


def misconfigured(_manual: Manual) -> dict[str, Any]:
    """Break the configuration and restart; then repair it."""
    good = CONFIG.read_text()
    since = cursor()
    CONFIG.write_text(good + "sterams: {}\n")
    sh(f"systemctl restart {UNIT}", check=False)
    time.sleep(5)  # a restart would come after 2
    broken = {**state(), "journal": journal(since=since)}
    CONFIG.write_text(good)
    sh(f"systemctl start {UNIT}")
    wait_until_up()
    return {"broken": broken, "repaired": state()}


def full(_manual: Manual) -> dict[str, Any]:
    """Fill the disk that is recorded to, though others were to have room left; make room again."""
    CONFIG.write_text(CONFIG.read_text().replace("storage:\n", "storage:\n  min_free: 0B\n"))
    sh(f"systemctl stop {UNIT}; mount -t tmpfs -o size=12M tmpfs {STATE}; systemctl start {UNIT}")
    wait_until_up()
    filler, before = STATE / "filler", wait_for_frames("gate")
    sh(f"dd if=/dev/zero of={filler} bs=64k", check=False)
    until(lambda: _lost() > 0, "a frame that could not be written")
    while_full = wait_for_frames("gate")
    unit = state()
    filler.unlink()
    written = stream("gate")["written"]["record"]
    after = until(
        lambda: (now := stream("gate")) and now["written"]["record"] > written and now,
        "recording after there was room",
    )
    sh(f"systemctl stop {UNIT}; umount {STATE}; systemctl start {UNIT}")
    wait_until_up()
    return {"before": before, "full": while_full, "unit": unit, "after": after, "end": state()}


def _lost() -> int:
    dropped: dict[str, int] = stream("gate").get("dropped", {})
    return sum(count for place, count in dropped.items() if place.startswith("record/"))


def stopped(_manual: Manual) -> dict[str, Any]:
    """Stop it while it records."""
    wait_for_frames("gate")
    since = cursor()
    began = time.monotonic()
    sh(f"systemctl stop {UNIT}")
    seconds = time.monotonic() - began
    files = [str(path) for path in STATE.rglob("*") if path.is_file()]
    newest = max((path for path in STATE.rglob("*.mp4")), key=lambda path: path.stat().st_mtime)
    count = "import av, sys; print(sum(1 for _ in av.open(sys.argv[1]).decode(video=0)))"
    frames = sh(f"/opt/centernetd/bin/python -c '{count}' {newest}")
    seen = {**state(), "seconds": seconds, "files": files, "frames": int(frames)}
    seen["journal"] = journal(since=since)
    sh(f"systemctl start {UNIT}")
    wait_until_up()
    return seen
