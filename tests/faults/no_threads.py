"""The daemon where threads are not to be had: ``... run -c CONFIG``.

None from SIGUSR1 on, or never the one that ``$WITHOUT_THREAD`` names.
"""

import os
import signal
import sys
import threading

from centernetd.cli import main

if __name__ == "__main__":
    start, without = threading.Thread.start, os.environ.get("WITHOUT_THREAD")
    none = threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if none.is_set() or thread.name == without:
            raise RuntimeError("can't start new thread")
        start(thread)

    signal.signal(signal.SIGUSR1, lambda *_: none.set())
    setattr(threading.Thread, "start", refuse)  # noqa: B010
    main(sys.argv[1:])
