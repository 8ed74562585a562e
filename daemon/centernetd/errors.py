"""The errors of the program, grouped by what is done about them."""

from collections.abc import Sequence


class CenternetdError(Exception):
    """A failure told to the user in one sentence; ``exit_code`` is the process's.

    The sentence names the file, key or stream, and says what to do.
    """

    exit_code = 1


class StartupError(CenternetdError):
    """Something outside the configuration is in the way: a port in use, a locked folder."""


class ConfigError(CenternetdError):
    """The configuration is refused; systemd does not restart (exit 78).

    ``others`` are further sentences, where it has several mistakes.
    """

    exit_code = 78

    def __init__(self, message: str, others: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.others = tuple(others)

    @classmethod
    def joined(cls, errors: "Sequence[ConfigError]") -> "ConfigError":
        """Return one error that holds the sentences of all of ``errors``."""
        first, *rest = [sentence for error in errors for sentence in (str(error), *error.others)]
        return cls(first, rest)


class ModelError(CenternetdError):
    """A model file is refused; systemd does not restart (exit 78)."""

    exit_code = 78


class EngineError(CenternetdError):
    """The GPU, its driver or the engine failed; fatal, systemd restarts (exit 70)."""

    exit_code = 70


class SourceError(CenternetdError):
    """A source can't be opened or read: a live one is tried again, a file ends its stream.

    ``reason`` is one of the few words under which reconnections are counted.
    """

    def __init__(self, message: str, reason: str = "read_failed") -> None:
        super().__init__(message)
        self.reason = reason


class SinkError(CenternetdError):
    """An output can't be written; its frames are dropped and counted, and it is tried again."""
