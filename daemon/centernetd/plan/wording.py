"""What TensorRT says of a failure, for a sentence of ours to end with."""

import re

_CONDITION = re.compile(r'&& ((?:"[^"]*"\s*)+)$')  # a C++ condition, then what was meant
_ASSERTION = re.compile(r"^Assertion failed: .+?: (?=[A-Z])")
_ERROR = re.compile(r"Error Code \d+: [\w ]+\((.*)\)$")
_PLACE = re.compile(r"[. ]*In \w+ at \S+:\d+.*$")

_NO_SUCH_OPERATOR = ("Plugin not found", "false")


def plain(said: str) -> str:
    """Take the C++ out of what TensorRT said: conditions, files and line numbers."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    found = next(filter(None, map(_ERROR.search, lines)), None)
    text = found[1] if found else " ".join(lines[:1])
    if meant := _CONDITION.search(text):
        text = "".join(re.findall(r'"([^"]*)"', meant[1]))
    text = _PLACE.sub("", _ASSERTION.sub("", text)).strip().rstrip(".!")
    return text or "it doesn't say why"


def of_node(said: str) -> str:
    """Say why a parser refused a node."""
    why = plain(said)
    return "it has no such operator" if why.startswith(_NO_SUCH_OPERATOR) else why
