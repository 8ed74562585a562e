"""What Prometheus and a bundle report about the service. Each step returns what it saw."""

import base64
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from .docs import Manual
from .installing import PASSWORD, start_camera
from .machine import UNIT, ask, sh, show, state, until, wait_until_up

ALERT = "CenternetdStreamDown"
CAMERAS = Path("/etc/centernetd/streams.d")
OTHERS = ("hall", "shed")
OTHER_PORT = 555
IN_THE_UNIT = "hunter2"


def alert(manual: Manual) -> dict[str, Any]:
    """Have Prometheus watch three streams, and switch the camera of one off and on."""
    start_camera("others", OTHER_PORT)
    for name in OTHERS:
        source = f"http://viewer:${{GATE_PASSWORD}}@192.0.2.10:{OTHER_PORT}/"
        (CAMERAS / f"{name}.yaml").write_text(f"source: {source}\n")
    manual.follow("reload")
    wait_until_up(3)
    manual.follow("alert")
    until(lambda: _get("query?query=sum(centernetd_stream_up)==3")["result"], "three streams up")
    judged = _judged_at()
    until(lambda: _judged_at() != judged, "a judgement of what was scraped")
    quiet = _down()
    sh("systemctl stop camera.service")
    died = time.monotonic()
    firing = until(lambda: [alert for alert in _down() if alert["state"] == "firing"], "an alert")
    seconds = time.monotonic() - died
    seen = {"unit": state(), "ready": ask("/readyz?stream=gate"), "status": show("StatusText")}
    start_camera()
    wait_until_up(3)
    until(lambda: not _down(), "the end of the alert")
    for name in OTHERS:
        (CAMERAS / f"{name}.yaml").unlink()
    sh("systemctl stop others.service")
    manual.follow("reload")
    wait_until_up()
    return {"quiet": quiet, "firing": [a["labels"] for a in firing], "seconds": seconds, **seen}


def _get(path: str) -> dict[str, Any]:
    """Return what Prometheus answers, with nothing in it where it doesn't."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
            return found
    except OSError:
        return {"result": [], "groups": [], "alerts": []}


def _judged_at() -> str:
    """Return when the alert's rule was evaluated last, or nothing."""
    rules = (rule for group in _get("rules")["groups"] for rule in group["rules"])
    return next((rule["lastEvaluation"] for rule in rules if rule["name"] == ALERT), "")


def _down() -> list[dict[str, Any]]:
    """Return the alerts about dead cameras; a busy machine may add others."""
    return [alert for alert in _get("alerts")["alerts"] if alert["labels"]["alertname"] == ALERT]


_NEEDLES = (PASSWORD, base64.b64encode(f"viewer:{PASSWORD}".encode()).decode(), IN_THE_UNIT)
_PLACES = {
    "the bundle": "tar -xOzf /root/centernetd.tar.gz",
    "the journal": "journalctl --no-pager",
    "its fields": "journalctl --no-pager --output=json --unit='centernetd*'",
    "names of files": "find /var/lib/private /var/cache/private",
    # one may get its final name meanwhile
    "files": "find /var/lib/private /var/cache/private -type f -exec cat {} + || true",
    "the process": "cat /proc/$(systemctl show --value -p MainPID centernetd)/cmdline",
}


def secrets(manual: Manual) -> dict[str, Any]:
    """Look for the password, and for one in a setting of the unit, everywhere."""
    setting = Path(f"/run/systemd/system/{UNIT}.d/setting.conf")
    setting.parent.mkdir(parents=True)
    setting.write_text(f"[Service]\nEnvironment=SPARE={IN_THE_UNIT}\n")
    sh("systemctl daemon-reload")
    output = manual.follow("bundle")
    sh(f"rm -r {setting.parent}; systemctl daemon-reload")
    shown = {place: sh(f"({command}) | tr -cd '[:print:]'") for place, command in _PLACES.items()}
    shown |= {page: ask(page)[1] for page in ("/metrics", "/healthz", "/readyz", "/status")}
    leaks = [place for place, text in shown.items() if any(word in text for word in _NEEDLES)]
    looked = {place: len(text) for place, text in shown.items()}
    return {"output": output, "looked": looked, "leaks": leaks}
