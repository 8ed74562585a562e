"""Permissions that also apply to root, as whom tests may run."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522  # of the structures of capset(2)
_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def respected() -> Iterator[None]:
    """Take from this thread, and those it starts, the right to ignore permissions."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()

    def call(function: str) -> None:
        if getattr(libc, function)(header, sets):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call("capget")
    before = sets[0]  # the effective ones
    sets[0] = before & ~_OVERRIDES
    call("capset")
    try:
        yield
    finally:
        sets[0] = before
        call("capset")
