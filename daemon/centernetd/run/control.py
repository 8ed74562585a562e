"""How to find a running daemon, and the status of its reloads.

Both are published in the lock file of the storage root. Clients need no port, only permission to
read that file and to signal the daemon.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace

_LONGEST = 600  # characters per sentence; at most six bytes each, and only one of the two is set


@dataclass(frozen=True)
class Control:
    """What a daemon publishes: its process, its reloads begun and ended, and the last result.

    ``follows`` is False if there is no configuration file to reload. ``refusal`` explains why
    nothing was changed; ``outcome`` lists the changes.
    """

    pid: int
    follows: bool = True
    begun: int = 0
    ended: int = 0
    outcome: str = ""
    refusal: str = ""

    @classmethod
    def of_this_process(cls, *, follows: bool) -> "Control":
        """Return the initial status of this process."""
        return cls(os.getpid(), follows)

    def to_text(self) -> str:
        """Serialize to one line of less than 4,000 bytes, readable by `from_text`."""
        short = replace(self, outcome=_shortened(self.outcome), refusal=_shortened(self.refusal))
        return json.dumps(asdict(short), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "Control":
        """Parse the line; raises ValueError if it is invalid or only partly written."""
        try:
            control = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if any(type(getattr(control, field.name)) is not field.type for field in fields(cls)):
            raise ValueError("a field is of another type")
        if not 0 < control.pid < 2**31:
            raise ValueError("it names no process")
        return control


def _shortened(sentence: str) -> str:
    if len(sentence) <= _LONGEST:
        return sentence
    rest = " ... (the daemon's log has it all)"
    return sentence[: _LONGEST - len(rest)] + rest
