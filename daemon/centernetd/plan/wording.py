"""TensorRT's error messages, made readable for use in our own."""

import re

_CONDITION = re.compile(r'&& ((?:"[^"]*"\s*)+)$')  # a C++ condition, then its meaning
_ASSERTION = re.compile(r"^Assertion failed: .+?: (?=[A-Z])")
_ERROR = re.compile(r"Error Code \d+: [\w ]+\((.*)\)$")
_PLACE = re.compile(r"[. ]*In \w+ at \S+:\d+.*$")

_NO_SUCH_OPERATOR = ("Plugin not found", "false")


def plain(said: str) -> str:
    """Strip C++ conditions, files and line numbers from TensorRT's message."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = next(filter(None, map(_ERROR.search, lines)), None)
    text = found[1] if found else " ".join(lines[:1])
    if meant := _CONDITION.search(text):
        text = "".join(re.findall(r'"([^"]*)"', meant[1]))
    text = _PLACE.sub("", _ASSERTION.sub("", text)).strip().rstrip(".!")
    return text or "it doesn't say why"


def of_node(said: str) -> str:
    """Return why a parser rejected a node."""
    why = plain(said)
    return "it has no such operator" if why.startswith(_NO_SUCH_OPERATOR) else why
