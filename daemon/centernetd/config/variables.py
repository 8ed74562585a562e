"""``${NAME}``: values from outside the file, in the environment or systemd credentials."""

import os
import re
from pathlib import Path

from centernetd.config import regular

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_MAX_VALUE_LENGTH = 65536


class Expanded(str):
    """A text with variables substituted; ``substituted`` holds their values, never to be shown."""

    substituted: tuple[str, ...] = ()


def expand(text: str) -> str:
    """Substitute the value of each ``${NAME}``; ``$${`` yields a literal ``${``.

    Raises ValueError naming a variable that is unset or empty.
    """
    substituted: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if not match[0].endswith("}") or not _NAME.fullmatch(match[1]):
            raise ValueError("a ${ must continue as in ${NAME}; write $${ for a literal ${")
        substituted.append(_look_up(match[1]))
        return substituted[-1]

    result = _REFERENCE.sub(value, text)
    if not substituted:
        return result
    expanded = Expanded(result)
    expanded.substituted = tuple(substituted)
    return expanded


def _look_up(name: str) -> str:
    value = os.environ.get(name) or _credential(name)
    if not value:
        raise ValueError(
            f"${{{name}}} is neither in the environment nor among the systemd credentials"
        )
    return value


def _credential(name: str) -> str | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        return regular.read(Path(folder) / name, _MAX_VALUE_LENGTH).decode().rstrip("\r\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"the systemd credential {name} can't be read: {reason}") from None
