"""How a running daemon is found and what it says of its reloads.

It says so in the file with which it holds its storage root: no port, and no other rights than to
read there and to send the daemon a signal.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace

_LONGEST = 600  # characters of a sentence: at most six bytes each, and there is one of the two


@dataclass(frozen=True)
class Control:
    """What a daemon says: its process, how many reloads began and ended, how the last one did.

    ``follows`` is False where it has no configuration to read again. ``refusal`` is the sentence
    that says why nothing was changed, ``outcome`` what was.
    """

    pid: int
    follows: bool = True
    begun: int = 0
    ended: int = 0
    outcome: str = ""
    refusal: str = ""

    @classmethod
    def of_this_process(cls, *, follows: bool) -> "Control":
        """Return what a daemon says at first."""
        return cls(os.getpid(), follows)

    def to_text(self) -> str:
        """Return one line that `from_text` takes, of less than 4,000 bytes."""
        short = replace(self, outcome=_shortened(self.outcome), refusal=_shortened(self.refusal))
        return json.dumps(asdict(short), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "Control":
        """Read it back; raises ValueError while it is being written, or where it makes no sense."""
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
