"""A password that every end-to-end test gives its cameras, and that must turn up nowhere.

It goes into the URL of each network source that has none: by turns as ``${NAME}`` and in plain
text. When a daemon ends, everything that it logged, served and wrote is searched, and so are the
names of its threads.
"""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "viewer", "Sentinel7/@:+x"  # needs percent-encoding, raw and encoded differ
VARIABLE = "CAMERA_PASSWORD"
ENCODED = quote(PASSWORD, safe="")

_NEEDLES = (
    "Sentinel7",  # however the rest is encoded
    base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(),
    base64.b64encode(PASSWORD.encode()).decode(),
)


def plant(config: Path) -> None:
    """Give the network sources of a configuration that is JSON the password."""
    settings = json.loads(config.read_text())
    forms = cycle((f"${{{VARIABLE}}}", ENCODED))
    for stream in settings["streams"].values():
        scheme, slashes, rest = stream["source"].partition("://")
        if slashes and "@" not in rest:
            stream["source"] = f"{scheme}://{USER}:{next(forms)}@{rest}"
    config.write_text(json.dumps(settings))


def found_in(name: str, text: str) -> list[str]:
    """Return where ``text`` holds the password; ``name`` describes the text."""
    return [
        f"{name}: {text[max(0, at - 80) : at + 80]!r}" for at in map(text.find, _NEEDLES) if at >= 0
    ]


def found_in_files(folder: Path) -> list[str]:
    """Return which files, by name or content, hold the password."""
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    places = []
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if f"{at}/{name}" not in mounts]  # one may hang
        for name in (*folders, *files):
            places += found_in(f"a name in {at}", name)
        for path in (Path(at, name) for name in files):
            places += found_in(str(path), path.read_bytes().decode("latin-1"))
    return places


def found_in_process(pid: int) -> list[str]:
    """Return where the arguments and thread names of a running process hold the password."""
    return [place for name, text in _shown_of(pid) for place in found_in(name, text)]


def _shown_of(pid: int) -> Iterator[tuple[str, str]]:
    process = Path(f"/proc/{pid}")
    for path in (process / "cmdline", *process.glob("task/*/comm")):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            yield str(path), path.read_text()
