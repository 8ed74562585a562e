"""Label files: one label a line, the first that of class 0."""

from pathlib import Path

from daemon.errors import ModelError


def read(path: Path) -> tuple[str, ...]:
    """Return the labels of a text file, blank lines passed over.

    Raises
    ------
    ModelError
        When it can't be read or holds none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ModelError(f"{path}: the labels are not UTF-8 text") from None
    except OSError as error:
        raise ModelError(f"{path}: the labels can't be read: {error.strerror}") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise ModelError(f"{path}: holds no label")
    return labels
