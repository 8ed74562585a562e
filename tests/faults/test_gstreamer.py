"""A real RTSP server that is killed, frozen, or cut off by a network that swallows everything."""

from pathlib import Path

from tests.faults.conftest import Measure
from tests.faults.evidence import UNRECORDED, Watch, disordered, events, silences
from tests.faults.gstreamer import CODECS, gstreamer, network
from tests.faults.test_reconnect import until_decoded
from tests.integration.process import configure, free_port, started, stop

STATES = ("reconnecting", "stuck")


def test_a_real_server_is_killed(
    tmp_path: Path, squares: Path, rounds: int, measure: Measure
) -> None:
    """GStreamer's RTSP server (H.264 and H.265 over TCP) is killed and restarted"""
    port = free_port()
    streams = {name: {"source": f"rtsp://127.0.0.1:{port}/{name}"} for name in CODECS}
    with started(configure(tmp_path, squares, streams)) as daemon:
        daemon.wait_for_log("next try in")
        for _ in range(rounds + 1):
            with gstreamer(port):
                for name in CODECS:
                    measure("return", until_decoded(daemon, name))
            for name in CODECS:
                daemon.wait_for_status(name, lambda status: status["state"] in STATES)
        assert [daemon.status(name)["codec"] for name in CODECS] == ["h264", "hevc"]
        finished = stop(daemon)
    for name in CODECS:
        measure("time", disordered(events(finished, name)))


def test_a_network_that_swallows_everything(
    tmp_path: Path, squares: Path, rounds: int, measure: Measure
) -> None:
    """The network to a GStreamer RTSP server drops every packet until a stall is detected"""
    port = free_port()
    with network() as net, gstreamer(port, net.prefix):
        source = {"source": f"rtsp://{net.address}:{port}/h264", **UNRECORDED}
        with started(configure(tmp_path, squares, {"cam": source})) as daemon:
            with Watch(daemon) as watch:
                for _ in range(rounds):
                    daemon.wait_for_status("cam", lambda status: status["state"] == "running")
                    net.blackhole()
                    daemon.wait_for_status("cam", lambda status: status["state"] in STATES)
                    net.restore()
                    measure("return", until_decoded(daemon, "cam"))
            finished = stop(daemon)
    frames = [event.time for event in events(finished, "cam")]
    for seconds in silences(frames, watch.declared["cam"]):
        measure("stall", seconds)
