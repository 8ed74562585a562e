"""The daemon with an engine that hangs for ever from SIGUSR2 on: ``... run -c CONFIG``."""

import signal
import sys
import threading

import numpy as np
from numpy.typing import NDArray

from centernetd.cli import main
from centernetd.inference.engines import Tensors
from centernetd.inference.engines.ort_cpu import OrtCpuEngine

if __name__ == "__main__":
    hanging, never = threading.Event(), threading.Event()
    run = OrtCpuEngine._run

    def hang(engine: OrtCpuEngine, rows: NDArray[np.uint8]) -> Tensors:
        if hanging.is_set():
            never.wait()
        return run(engine, rows)

    signal.signal(signal.SIGUSR2, lambda *_: hanging.set())
    setattr(OrtCpuEngine, "_run", hang)  # noqa: B010
    main(sys.argv[1:])
