"""The base of all CUDA objects: one owner, closed once."""

import warnings
from collections import Counter
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Owned")

live: Counter[str] = Counter()
"""Number of existing CUDA objects by class; tests use it to find leaks."""


class Owned:
    """A CUDA object that is freed by `close`, or by leaving its ``with`` block.

    One that was not closed is reported and leaked: freeing it when the garbage collector runs
    could free memory the GPU still uses.
    """

    _closed = True  # nothing to free until it is created

    def _acquired(self) -> None:
        self._closed = False
        live[type(self).__name__] += 1

    def close(self) -> None:
        """Free the object; idempotent, and callable from any thread."""
        if not self._closed:
            self._closed = True
            self._free()

    def _free(self) -> None:
        raise NotImplementedError

    def _freed(self) -> None:
        live[type(self).__name__] -= 1

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"a {type(self).__name__} was not closed", ResourceWarning, stacklevel=2)
