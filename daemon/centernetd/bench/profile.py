"""CPU time of a prepared model, from ONNX Runtime's profiler."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_ROUNDS = 25


@dataclass(frozen=True)
class Profile:
    """Shortest seconds per frame, and the decode's time as a share of the network's."""

    seconds: float
    decode: float


def profile(model: Path, frame: NDArray[np.uint8], threads: int) -> Profile:
    """Run ``model`` on ``frame`` [1, H, W, 3], and sum the time per operator.

    If the model was already in prepared form, its decode can't be identified: the share is 0.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="centernetd-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        taken = []
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            session.run(None, {"frames": frame})
            taken.append(time.perf_counter() - started)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent = {"decode": 0, "network": 0}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            part = "decode" if event["name"].startswith("decode/") else "network"
            spent[part] += event["dur"]
    return Profile(min(taken), spent["decode"] / spent["network"])
