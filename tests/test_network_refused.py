"""What servers refuse or get wrong: each told apart, in one sentence, and no local file is read."""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from centernetd.capture.source import Picture
from centernetd.config.sections import Transport
from centernetd.errors import SourceError
from tests import clips, http_servers
from tests.capture_rig import video_source
from tests.rtsp import Request, RtspServer, Video, moving_square, serving

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    with serving(moving_square(count=20)) as server:
        yield server


def first_picture(url: str) -> Picture:
    source = video_source(url, TIMEOUT)
    try:
        return next(iter(source))
    finally:
        source.close()


def refused(url: str) -> SourceError:
    """Return why ``url`` can't be read."""
    with pytest.raises(SourceError) as caught:
        first_picture(url)
    assert "Hemlig" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("path", "reason", "sentence"),
    [
        ("locked/play", "unauthorized", "the name or password is wrong"),
        ("nowhere", "not_found", "there is nothing at this path.*404"),
    ],
)
def test_what_an_rtsp_server_refuses(
    camera: RtspServer, path: str, reason: str, sentence: str
) -> None:
    error = refused(camera.url(path).replace("://", "://viewer:hunter2@"))
    assert error.reason == reason
    assert re.search(sentence, str(error))


def test_the_right_password_opens(camera: RtspServer) -> None:
    url = camera.url("locked/play").replace("://", "://viewer:Hemlig%2F7@")
    assert first_picture(url).image.pixels().shape == (128, 160, 3)


def test_a_web_server_is_no_rtsp_server() -> None:
    with http_servers.serving({}) as url:
        error = refused(url.replace("http://", "rtsp://user:hunter2@") + "/stream")
    assert error.reason == "open_failed"
    assert "sends no RTSP" in str(error)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (404, "not_found"), (503, "open_failed")],
)
def test_what_a_web_server_refuses(status: int, reason: str) -> None:
    with http_servers.serving({"/video": status}) as url:
        error = refused(url.replace("://", "://user:hunter2@") + "/video")
    assert error.reason == reason


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_host_that_does_not_exist_is_unreachable(scheme: str) -> None:
    error = refused(f"{scheme}://user:hunter2@camera.invalid/stream")
    assert error.reason == "unreachable"
    assert "the host name is unknown" in str(error)


def test_a_stream_without_video(tmp_path: Path) -> None:
    song = clips.audio_only(tmp_path / "song.mp4")
    with http_servers.serving({"/live": song}) as url:
        assert "contains no video" in str(refused(f"{url}/live"))


def hls(*uris: object) -> bytes:
    entries = "".join(f"#EXTINF:1,\n{uri}\n" for uri in uris)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{entries}#EXT-X-ENDLIST\n".encode()


@pytest.mark.parametrize("kind", ["segments", "variants"])
def test_no_playlist_from_a_network_gets_at_local_files(kind: str, tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "secret.ts", 30)
    local = tmp_path / "local.m3u8"
    local.write_bytes(hls("secret.ts"))
    lists = {
        "segments": hls(f"file://{clip}", clip),
        "variants": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nfile://{local}\n".encode(),
    }
    with http_servers.serving({"/list.m3u8": lists[kind]}) as url:
        refused(f"{url}/list.m3u8")


def test_a_playlist_of_its_own_server_is_read_and_comes_in_bursts(tmp_path: Path) -> None:
    clip = clips.count(tmp_path / "a.ts", 30)
    with http_servers.serving({"/live.m3u8": hls("a.ts"), "/a.ts": clip}) as url:
        source = video_source(f"{url}/live.m3u8", TIMEOUT)
        assert source.info.in_bursts
        found = [clips.number_of(picture.image.pixels()) for picture in islice(source, 10)]
        source.close()
    assert found == list(range(10))


def test_a_camera_of_which_only_the_sound_goes_on_is_given_up(camera: RtspServer) -> None:
    source = video_source(camera.url("sound/20"), 2)
    taken: list[Picture] = []
    with pytest.raises(SourceError, match="no picture for 2 s") as caught:
        taken.extend(source)
    assert caught.value.reason == "stalled"
    assert len(taken) > 10
    source.close()


@pytest.mark.parametrize(("transport", "asked"), [("tcp", "RTP/AVP/TCP;"), ("udp", "RTP/AVP/UDP;")])
def test_rtsp_is_sent_as_the_configuration_requires(
    camera: RtspServer, transport: Transport, asked: str
) -> None:
    camera.visits.clear()
    with suppress(SourceError):  # the scripted server sends over TCP whatever it is asked
        video_source(camera.url("close/1"), 1.0, transport=transport).close()
    (visit,) = camera.visits
    assert visit.transport.startswith(asked)


@pytest.mark.parametrize(("asked", "other"), [("tcp", "udp"), ("udp", "tcp")])
def test_a_camera_that_sends_another_way_only_is_reported(
    camera: RtspServer,
    asked: Transport,
    other: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = RtspServer._answer

    def refuse(server: RtspServer, request: Request, video: Video) -> bytes:
        found = answer(server, request, video)
        if f"RTP/AVP/{asked.upper()}" not in request.headers.get("Transport", ""):
            return found
        return found.replace(b"200 OK", b"461 Unsupported Transport")

    monkeypatch.setattr(RtspServer, "_answer", refuse)
    with pytest.raises(SourceError) as caught:
        video_source(camera.url("play"), TIMEOUT, transport=asked)
    why = f"it does not send its video over {asked.upper()}: set transport: {other}"
    assert str(caught.value) == f"can't be opened: {why}"
