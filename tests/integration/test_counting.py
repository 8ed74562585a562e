"""A box that only counts: every file that it writes and every byte that it sends is looked at."""

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from centernetd.config.template import LOCK_NAME
from centernetd.run.reload import ReloadStatus
from tests.fakes import wait_until
from tests.integration.network import TCP, Segment, captured, in_a_network_of_its_own, sent_by
from tests.integration.process import SQUARES_SIZE, Daemon, free_port, started, write_config
from tests.rtsp import moving_square, serving
from tests.tools import tool

ONLY_COUNTS = {
    "record": {"when": "never"},
    "events": {"frames": "never", "tracks": "never"},
    "zones": {"all": {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}},
}
FRAMES = 20
FILES = "open,openat,openat2,creat,memfd_create,rename,renameat,renameat2,link,linkat,symlinkat"
BYTES = "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,connect,sendto,sendmsg"
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")
FOR_WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT|TMPFILE)")
LABELS = r'\{[a-z0-9_]+="[^"]{,100}"(,[a-z0-9_]+="[^"]{,100}")*\}'
SAMPLE = re.compile(rf"[a-z0-9_]+({LABELS})? ([-+0-9.e]+|NaN)")
TO_ITSELF = re.compile(r"pipe:|anon_inode:|/dev/null|/proc/(self|\d+)/")


class Seen(NamedTuple):
    """What a run did: its ports, what was sent, its answers, and its system calls."""

    camera: int
    port: int
    segments: Sequence[Segment]
    answers: Sequence[str]
    calls: Sequence[tuple[str, str]]
    root: Path


def observe(folder: Path, model: Path) -> Seen:
    """Run the daemon on a camera, ask it for its metrics, and stop it."""
    trace, answers = folder / "trace", list[str]()
    options = ["-D", "-f", "-y", "--seccomp-bpf", "-s", "64", "-e", f"trace={FILES},{BYTES}"]
    with ExitStack() as stack:
        segments = stack.enter_context(captured())
        camera = stack.enter_context(serving(moving_square(rate=10)))
        port = free_port()
        streams = {"cam": {"source": camera.url("play"), **ONLY_COUNTS}}
        config = write_config(folder, streams, model=model, size=SQUARES_SIZE, port=port)
        strace = [tool("strace"), *options, "-o", str(trace)]
        daemon = stack.enter_context(started(config, prefix=strace))
        wait_until(lambda: inferred(daemon, answers) >= FRAMES)
        daemon.process.send_signal(signal.SIGTERM)  # without the pages that `stop` reads
        assert daemon.finish().code == 0
        ended = re.compile(rf"^{daemon.process.pid} +\+\+\+ exited with 0", re.MULTILINE)
        wait_until(lambda: ended.search(trace.read_text()) is not None)
    calls = [(match[1], match[2]) for match in succeeded(trace.read_text())]
    return Seen(
        urlsplit(camera.url("play")).port or 0, port, segments, answers, calls, daemon.state
    )


def inferred(daemon: Daemon, answers: list[str]) -> float:
    with suppress(ConnectionRefusedError):  # not yet
        answers.append(daemon.get("/metrics")[1])
    for family in text_string_to_metric_families(answers[-1] if answers else ""):
        for sample in family.samples:
            if sample.name == "centernetd_frames_inferred_total":
                return float(sample.value)
    return 0


def succeeded(trace: str) -> Iterator[re.Match[str]]:
    """Yield the calls that did not fail; those that were interrupted are put together."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r" *<\.\.\. \w+ resumed>(.*)", rest):
            rest = begun.pop(thread) + resumed[1]
        call = CALL.match(f"{thread} {rest}")
        if call is not None and int(call[3]) >= 0:
            yield call


def opened_for_writing(calls: Sequence[tuple[str, str]]) -> set[str]:
    """Return each path that was created, renamed or opened to be written to."""
    paths: set[str] = set()
    for call, arguments in calls:
        if call not in FILES.split(","):
            continue
        if not call.startswith("open") or FOR_WRITING.search(arguments):
            folder = re.match(r"(?:AT_FDCWD|[0-9]+)<(.*?)>, ", arguments)
            name = re.search(r'"(.*?)"', arguments)
            assert name is not None, arguments
            anonymous = "/(anonymous)" if "O_TMPFILE" in arguments else ""
            paths.add(str(Path(folder[1] if folder else "/", name[1])) + anonymous)
    return {path for path in paths if not TO_ITSELF.match(path)}


def written_to(calls: Sequence[tuple[str, str]]) -> set[str]:
    """Return the files, not sockets and pipes, to which bytes were written."""
    targets = set()
    for call, arguments in calls:
        if call not in (*FILES.split(","), "connect"):
            target = re.match(r"[0-9]+<(.*?)>", arguments)
            assert target is not None, arguments
            targets.add(target[1])
    return {path for path in targets if not TO_ITSELF.match(path) and "socket:" not in path}


def test_it_writes_no_picture_and_sends_only_numbers(tmp_path: Path, squares: Path) -> None:
    seen = in_a_network_of_its_own(lambda: observe(tmp_path, squares))
    lock = seen.root / LOCK_NAME
    assert opened_for_writing(seen.calls) == {str(lock), f"{seen.root}/(anonymous)"}, (
        "the lock file, and a file without a name that tests whether the disk can be written to"
    )
    assert written_to(seen.calls) == {str(lock)}
    assert ReloadStatus.from_text(lock.read_text().strip()).follows, "it has one line of JSON"
    assert [path for path in seen.root.rglob("*") if path != lock] == []

    assert all(segment.protocol == TCP for segment in seen.segments), "no name is looked up"
    for segment in seen.segments:
        assert {seen.camera, seen.port} & {segment.source, segment.target}, segment
    connected = {
        re.search(r"htons\((\d+)\)", arguments)
        for call, arguments in seen.calls
        if call == "connect"
    }
    assert {int(port[1]) for port in connected if port} <= {seen.camera}
    sent = sent_by(seen.segments, seen.port)
    assert len(sent) == len(seen.answers)
    for answer in sent.values():
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body.decode() in seen.answers
    for text in seen.answers:
        for line in text.splitlines():
            assert line.startswith("# ") or SAMPLE.fullmatch(line), line
