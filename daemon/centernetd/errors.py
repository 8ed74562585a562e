"""The errors of the program, grouped by how callers handle them."""

from collections.abc import Sequence


class CenternetdError(Exception):
    """A failure reported to the user in one sentence; the process exits with ``exit_code``.

    The sentence names the file, key or stream, and what to do.
    """

    exit_code = 1


class StartupError(CenternetdError):
    """Something outside the configuration is in the way: a port in use, a locked folder."""


class StoppedError(CenternetdError):
    """The start was given up, because a stop was requested; not a failure."""


class ConfigError(CenternetdError):
    """The configuration is invalid; systemd does not restart (exit 78).

    If it has several mistakes, ``others`` holds the remaining sentences.
    """

    exit_code = 78

    def __init__(self, message: str, others: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.others = tuple(others)

    @classmethod
    def joined(cls, errors: "Sequence[ConfigError]") -> "ConfigError":
        """Combine the sentences of ``errors`` into one error."""
        first, *rest = [sentence for error in errors for sentence in (str(error), *error.others)]
        return cls(first, rest)


class ModelError(CenternetdError):
    """A model file is invalid; systemd does not restart (exit 78)."""

    exit_code = 78


class EngineError(CenternetdError):
    """The GPU, its driver or the engine failed; fatal, systemd restarts (exit 70)."""

    exit_code = 70


class SourceError(CenternetdError):
    """A source can't be opened or read: a live one is retried, a file ends its stream.

    ``reason`` is the label under which the reconnection is counted, from a small fixed set.
    """

    def __init__(self, message: str, reason: str = "read_failed") -> None:
        super().__init__(message)
        self.reason = reason


class SinkError(CenternetdError):
    """An output can't be written; its frames are dropped and counted, and the output is retried."""
