"""What centernetd promises about faults: the words, and the figure that must not be exceeded."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """A sentence for users and its ``bound`` in ``unit``; no measured figure may be above it.

    ``not_here`` says why this suite can't try it, or can't try all of it.
    """

    words: str
    bound: float
    unit: str
    not_here: str = ""


PROMISES: Mapping[str, Promise] = {
    "stall": Promise(
        "A stall is declared by our own frame-age clock", 10.0, "s after the last frame"
    ),
    "return": Promise(
        "The first frame is decoded soon after a source has come back; tries go on for ever and "
        "being offline at the start is normal",
        10.0,
        "s after its return",
    ),
    "frozen": Promise(
        "A picture that stands still while its stream goes on is told", 40.0, "s after it froze"
    ),
    "shown": Promise(
        "A stream that FFmpeg shows is shown: pictures in pieces, or without key frames",
        10.0,
        "s after connecting",
    ),
    "pieces": Promise("Pictures in pieces are no damage", 0, "pictures passed over"),
    "stamps": Promise(
        "A camera whose timestamps are wrong is timed by arrival, not reconnected",
        0,
        "reconnections",
    ),
    "joined": Promise(
        "Recordings joined end to end are read as one, whatever their times", 0, "frames lost"
    ),
    "survive": Promise(
        "What a camera changes or garbles costs no reconnection it doesn't need",
        0,
        "reconnections",
    ),
    "broken": Promise(
        "Of a connection that loses packets, few broken pictures are given out: FFmpeg doesn't "
        "tell of all damage",
        10.0,
        "% of the pictures",
    ),
    "latency": Promise(
        "A live frame's detections are there within `max_frame_age` and two batches (p99)",
        0.5 + 2 * 0.05,
        "s after decoding",
    ),
    "password": Promise("A camera's password turns up nowhere", 0, "places"),
    "unplugged": Promise(
        "A V4L2 camera that is unplugged is missed at once and found again",
        10.0,
        "s after its return",
        "the suite has no camera: tests/test_camera_source.py unplugs a double of OpenCV's",
    ),
    "fallback": Promise(
        "Where the GPU's decoder fails, software goes on, and of a file no picture is lost",
        0,
        "pictures lost",
        "the suite has no GPU: tests/test_decoding.py fails a double of its decoder",
    ),
    "told": Promise(
        "What a camera refuses is named, and not said again and again",
        1,
        "warnings a minute",
    ),
    "time": Promise(
        "Whatever clocks do, the time of a stream only goes forward", 0, "frames out of order"
    ),
    "neighbours": Promise(
        "One dead or slow camera delays no other stream", 0, "frames lost elsewhere"
    ),
    "hostile": Promise(
        "A camera that sends what has no end, or asks for more than there is, takes little memory, "
        "and is told why it was given up",
        500.0,
        "MB more resident memory",
    ),
    "kill": Promise("`kill -9` at a random moment costs little video", 1.0, "s of video lost"),
    "whole": Promise("`kill -9` leaves earlier segments intact", 0, "segments damaged"),
    "disk": Promise(
        "A full disk, or one turned read-only, is noticed, and inference goes on",
        2.0,
        "s until noticed",
    ),
    "stop": Promise("SIGTERM ends the daemon with code 0 and complete files", 5.0, "s"),
    "finished": Promise("No file is left incomplete by SIGTERM", 0, "files incomplete"),
    "prepared": Promise(
        "SIGTERM ends the daemon with code 0 while a model is prepared, however long that takes",
        5.0,
        "s",
    ),
    "tidy": Promise(
        "A preparation that was stopped or killed leaves nothing behind the next start",
        0,
        "files or folders left",
    ),
    "cached": Promise(
        "A model in the cache that is empty, cut off, swapped or has a hole is prepared again",
        0,
        "starts refused, or with a damaged model",
    ),
    "starved": Promise(
        "Where no more threads are to be had, nothing begins or changes, and files are completed",
        0,
        "files incomplete",
    ),
    "sticky": Promise(
        "A sticky CUDA error ends the daemon with code 70",
        1.0,
        "s",
        "the suite has no GPU: it fails a double of CUDA's runtime",
    ),
    "stuck": Promise("A hung capture or sink makes its stream `stuck`", 30.0, "s after it hung"),
    "flood": Promise(
        "A camera that would have a file begun for each picture ends no other stream's recordings",
        0,
        "frames elsewhere not recorded",
    ),
    "storage": Promise(
        "A storage thread that hangs in the disk is reported by /healthz and the log",
        30.0,
        "s after it hung",
    ),
    "unhurt": Promise("A hung capture or sink costs no other stream", 0, "frames lost elsewhere"),
    "watchdog": Promise(
        "When inference hangs, the watchdog's pings stop and systemd restarts the daemon",
        30.0,
        "s after it hung",
        "no systemd runs here: the time is that of the last ping plus the unit's `WatchdogSec`",
    ),
    "pages": Promise("Clients that read nothing take no page away", 0, "pages lost"),
    "memory": Promise(
        "After warm-up, memory stays flat over 100,000 frames and 200 reconnections",
        2.0,
        "% more resident memory",
    ),
    "threads": Promise("After warm-up, there are no more threads", 0, "threads more"),
    "descriptors": Promise("After warm-up, there are no more descriptors", 0, "descriptors more"),
    "exposure": Promise(
        "`systemd-analyze security` finds little exposure of the service", 2.0, "of 10"
    ),
    "signals": Promise("Signals, however many, cost no recording", 0, "files damaged"),
    "writes": Promise("A call to the system that fails damages no file", 0, "files damaged"),
    "open": Promise(
        "`blur: {}` leaves few faces open that are visible to 30 % (one face, frontal, whole)",
        1.0,
        "% of the faces in all frames",
        "people, poses and cameras differ: docs/benchmarks.md has what else was tried",
    ),
    "resumes": Promise(
        "Recording resumes by itself when the disk can be written to again",
        5.0,
        "s until it records",
    ),
    "slow": Promise("A slow disk slows no inference", 10.0, "% fewer frames a second"),
    "names": Promise("No recording takes the place of another", 0, "recordings lost"),
    "mended": Promise("A start mends what a kill left", 2.0, "s"),
    "leap": Promise("A clock that is wrong makes no recording old", 0, "recordings deleted"),
    "turns": Promise(
        "Recordings are deleted oldest first, and those made from files never",
        0,
        "deleted out of turn",
    ),
}
