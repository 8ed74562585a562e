"""What centernetd promises about faults: a sentence, and the figure that must not be exceeded."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """A sentence for users and its ``bound`` in ``unit``; no measured figure may exceed it.

    ``limitation`` is why this suite can't test the promise, or not all of it.
    """

    sentence: str
    bound: float
    unit: str
    limitation: str = ""

    @property
    def is_time(self) -> bool:
        """Whether the figure is in seconds, which a busy machine makes longer."""
        return self.unit.split()[0] == "s"


PROMISES: Mapping[str, Promise] = {
    "stall": Promise(
        "A stall is detected by the age of the last frame", 10.0, "s after the last frame"
    ),
    "return": Promise(
        "The first frame is decoded soon after a source is back; retries never end, and a source "
        "may be offline at the start",
        10.0,
        "s after it is back",
    ),
    "frozen": Promise("A frozen picture in a running stream is reported", 40.0, "s after it froze"),
    "shown": Promise(
        "Streams that FFmpeg can show are decoded: frames in several packets, or no key frames",
        10.0,
        "s after connecting",
    ),
    "pieces": Promise("Frames in several packets don't count as damaged", 0, "frames skipped"),
    "stamps": Promise(
        "A camera with wrong timestamps is timed by arrival, not reconnected",
        0,
        "reconnections",
    ),
    "joined": Promise(
        "Concatenated recordings are read to the end, whatever their timestamps", 0, "frames lost"
    ),
    "survive": Promise(
        "Changed or damaged data from a camera causes no unnecessary reconnection",
        0,
        "reconnections",
    ),
    "broken": Promise(
        "A connection that loses packets yields few damaged frames: FFmpeg doesn't report all "
        "damage",
        10.0,
        "% of the frames",
    ),
    "latency": Promise(
        "A live frame's detections are available within `max_frame_age` and two batches (p99)",
        0.5 + 2 * 0.05,
        "s after decoding",
    ),
    "password": Promise("A camera's password appears nowhere", 0, "places"),
    "unplugged": Promise(
        "A V4L2 camera that is unplugged is reported immediately and found again",
        10.0,
        "s after it is back",
        "the suite has no camera: tests/test_camera.py unplugs a double of OpenCV's",
    ),
    "fallback": Promise(
        "If the GPU decoder fails, software decoding takes over, and no frame of a file is lost",
        0,
        "frames lost",
        "the suite has no GPU: tests/test_decoding.py uses a double of its decoder",
    ),
    "told": Promise(
        "A camera's refusal is logged with its reason, and not repeatedly",
        1,
        "warnings per minute",
    ),
    "time": Promise(
        "Whatever clocks do, a stream's time only moves forward", 0, "frames out of order"
    ),
    "neighbours": Promise(
        "One dead or slow camera delays no other stream", 0, "frames lost by others"
    ),
    "hostile": Promise(
        "A camera that sends endless data, or claims an enormous size, takes little memory, and "
        "the reason for giving it up is logged",
        500.0,
        "MB more resident memory",
    ),
    "kill": Promise("`kill -9` at a random moment costs little video", 1.0, "s of video lost"),
    "whole": Promise("`kill -9` leaves earlier segments intact", 0, "segments damaged"),
    "disk": Promise(
        "A full or read-only disk is noticed, and inference continues",
        2.0,
        "s until noticed",
    ),
    "stop": Promise("SIGTERM ends the daemon with code 0 and complete files", 5.0, "s"),
    "finished": Promise("No file is left incomplete by SIGTERM", 0, "files incomplete"),
    "prepared": Promise(
        "SIGTERM ends the daemon with code 0 during a model preparation, however long that takes",
        5.0,
        "s",
    ),
    "tidy": Promise(
        "Nothing of a stopped or killed preparation is left after the next start",
        0,
        "files or folders left",
    ),
    "cached": Promise(
        "A cached model that is empty, truncated, swapped or has a hole is prepared again",
        0,
        "starts that fail or use it",
    ),
    "starved": Promise(
        "If no thread can be created, nothing starts or changes, and files are completed",
        0,
        "files incomplete",
    ),
    "sticky": Promise(
        "A sticky CUDA error ends the daemon with code 70",
        1.0,
        "s",
        "the suite has no GPU: it uses a double of the CUDA runtime",
    ),
    "stuck": Promise("A hung capture or sink makes its stream `stuck`", 30.0, "s after it hung"),
    "flood": Promise(
        "A camera that forces a new file for each frame ends no other stream's recordings",
        0,
        "frames of others not recorded",
    ),
    "storage": Promise(
        "A storage thread that hangs on the disk is reported by /healthz and in the log",
        30.0,
        "s after it hung",
    ),
    "unhurt": Promise("A hung capture or sink affects no other stream", 0, "frames lost by others"),
    "watchdog": Promise(
        "If inference hangs, the watchdog pings stop and systemd restarts the daemon",
        30.0,
        "s after it hung",
        "no systemd runs here: the time is that of the last ping plus the unit's `WatchdogSec`",
    ),
    "pages": Promise(
        "Clients that don't read their answers make no page unavailable", 0, "pages lost"
    ),
    "memory": Promise(
        "After warm-up, memory stays flat over 100,000 frames and 200 reconnections",
        2.0,
        "% more resident memory",
    ),
    "threads": Promise("After warm-up, the number of threads doesn't grow", 0, "more threads"),
    "descriptors": Promise(
        "After warm-up, the number of descriptors doesn't grow", 0, "more descriptors"
    ),
    "exposure": Promise(
        "`systemd-analyze security` rates the service's exposure as low", 2.0, "of 10"
    ),
    "signals": Promise("No number of signals damages a recording", 0, "files damaged"),
    "writes": Promise("A failing system call damages no file", 0, "files damaged"),
    "open": Promise(
        "`blur: {}` leaves few faces open that are 30 % visible or more (one face, frontal, whole)",
        1.0,
        "% of the faces in all frames",
        "people, poses and cameras differ: docs/benchmarks.md has more measurements",
    ),
    "whole_faces": Promise(
        "`blur: {}` covers every face of the demo (one face, frontal) that has 40 pixels or more "
        "and is 90 % visible, at 25 frames per second and down to 5",
        0,
        "faces open in all frames",
        "people, poses and cameras differ: docs/benchmarks.md has more measurements",
    ),
    "resumes": Promise(
        "Recording resumes by itself when the disk is writable again",
        5.0,
        "s until it records",
    ),
    "slow": Promise("A slow disk does not slow down inference", 10.0, "% fewer frames per second"),
    "names": Promise("No recording overwrites another", 0, "recordings lost"),
    "mended": Promise("A start repairs what a kill left unfinished", 2.0, "s"),
    "leap": Promise(
        "A wrong clock causes no recording to be deleted as old", 0, "recordings deleted"
    ),
    "gone": Promise(
        "Files are gone `keep_for` and an hour after their end, also after a week switched off",
        1.0,
        "h after `keep_for`, or after the start if that is later",
        "the hours are those of clocks that are run fast",
    ),
    "turns": Promise(
        "Recordings are deleted oldest first, and those made from files never",
        0,
        "deleted out of order",
    ),
}
