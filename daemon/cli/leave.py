"""Ending the process without the interpreter's own ending."""

import logging
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End now: a thread lost in native code, or a lost GPU, can't be ended in order.

    The interpreter would wait for the one, and touch the other when it frees what is left.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
