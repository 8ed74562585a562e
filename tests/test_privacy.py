"""Blurring: everywhere it must be, nowhere else, and for as long as it must be held."""

import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from centernetd.config import BlurConfig, EventsConfig, RecordConfig
from centernetd.errors import EngineError
from centernetd.flow import EVERYTHING, Filter, HostImage, Result
from centernetd.sink import privacy as privacy_module
from centernetd.sink.privacy import (
    CELLS,
    GREY,
    MAX_HELD_FRAMES,
    Privacy,
    PrivateSink,
    cover,
    fill,
    mosaic,
)
from centernetd.sink.registry import SINKS
from centernetd.sink.stage import BatchSink, Outcome, PacketSink, PictureSink, Released
from tests.sinks import detections, picture, result, sink_context

Style = Callable[[NDArray[np.uint8]], None]
STYLES = pytest.mark.parametrize("style", [fill, mosaic])
SIZE = (80, 80)


def hold_back(blur: BlurConfig | None = None, covers: Filter = EVERYTHING) -> Privacy:
    return Privacy(replace(sink_context(Path(), blur=blur), covers=covers))


def boxes(*of: Sequence[float]) -> NDArray[np.float32]:
    return detections(*of).xyxy


def place(number: int) -> tuple[int, int, int, int]:
    """The box of a frame, apart from that of every other."""
    return (20 * number, 0, 20 * number + 4, 4)


def covered(image: NDArray[np.uint8], count: int) -> set[int]:
    """The numbers of the frames whose boxes are covered in a picture that was black."""
    return {number for number in range(count) if (image[0:4, place(number)[0] + 2] == GREY).all()}


def run(times: Sequence[int], hold: float) -> list[tuple[int, set[int], int]]:
    """Send frames at these ms; returns which came out, what is covered, and after which frame."""
    privacy, out = hold_back(BlurConfig(hold=hold), Filter(0.2)), []
    count = len(times)

    def take(after: int, *, last: bool = False) -> None:
        while privacy.due(last=last):
            done = privacy.take()
            out.append((done.frame.frame_id, covered(done.frame.image.pixels(), count), after))

    for number, pts in enumerate(times):
        image = np.zeros((8, 20 * count, 3), np.uint8)
        privacy.add(result(number, image, detections(place(number), score=0.2), pts=pts))
        take(number)
    take(count, last=True)
    return out


@given(
    steps=st.lists(st.sampled_from([1, 17, 33, 40, 100, 200, 201, 5000]), min_size=1, max_size=30),
    start=st.integers(0, 10**9),
    hold=st.sampled_from([0, 40, 100, 200, 1000]),
)
def test_every_frame_has_what_was_found_shortly_before_and_after_it(
    steps: list[int], start: int, hold: int
) -> None:
    times = list(accumulate(steps, initial=start))
    found = run(times, hold / 1000)
    assert [number for number, _, _ in found] == list(range(len(times)))
    for number, covers, after in found:
        near = {other for other, at in enumerate(times) if abs(at - times[number]) <= hold}
        assert covers == near
        waited = [other for other, at in enumerate(times) if at >= times[number] + hold]
        assert after == min(waited, default=len(times)), "no longer than it must"


class OnGpu(HostImage):
    """A picture in the memory of a GPU, which may have failed."""

    def __init__(self, pixels: NDArray[np.uint8], error: str = "") -> None:
        super().__init__(pixels)
        self._error = error

    def pixels(self) -> NDArray[np.uint8]:
        if self._error:
            raise EngineError(self._error)
        return super().pixels()


def on_gpu(number: int, error: str = "") -> tuple[Result, "weakref.ref[OnGpu]"]:
    image = OnGpu(picture(seed=number), error)
    made = result(number)
    return replace(made, frame=replace(made.frame, image=image)), weakref.ref(image)


def test_a_frame_that_waits_holds_no_memory_of_the_gpu() -> None:
    privacy = hold_back(BlurConfig(hold=1))
    frame, image = on_gpu(0)
    privacy.add(frame)
    del frame
    assert not privacy.due()
    assert image() is None
    assert privacy.due(last=True)
    assert np.array_equal(privacy.take().frame.image.pixels(), picture(seed=0))


def test_a_picture_that_can_not_be_fetched_is_a_frame_lost_in_its_turn() -> None:
    privacy = hold_back(BlurConfig(hold=1))
    privacy.add(on_gpu(0, "the GPU has failed")[0])
    privacy.add(on_gpu(1)[0])
    assert privacy.due(last=True)
    with pytest.raises(EngineError, match="the GPU has failed"):
        privacy.take()
    assert privacy.take().frame.frame_id == 1


def test_without_a_hold_no_frame_waits() -> None:
    assert run([0, 40, 80], 0.0) == [(0, {0}, 0), (1, {1}, 1), (2, {2}, 2)]


@pytest.mark.parametrize("rate", [5, 15, 24, 25, 30, 50, 60])
@pytest.mark.parametrize("ticks", [1000, 90000])
def test_a_hold_of_whole_frames_reaches_the_last_of_them(rate: int, ticks: int) -> None:
    """However the clock of the stream rounds."""
    privacy, reach = hold_back(BlurConfig(hold=0.2), Filter(0.2)), rate // 5
    black = np.zeros((8, 8, 3), np.uint8)
    for number in range(3 * reach + 3):
        found = detections((0, 0, 8, 8)) if number == reach + 1 else detections()
        pts, base = round(number * ticks / rate), Fraction(1, ticks)
        privacy.add(result(number, black.copy(), found, pts=10**9 + pts, time_base=base))
    seen = []
    while privacy.due(last=True):
        seen.append(bool(privacy.take().frame.image.pixels().any()))
    assert seen == [abs(number - reach - 1) <= reach for number in range(3 * reach + 3)]


def test_only_what_passes_is_covered() -> None:
    privacy = hold_back(BlurConfig(hold=0), Filter(0.2, frozenset({0})))
    for number, score in enumerate([0.19, 0.2, 0.9]):
        found = detections((20, 20, 40, 40), score=score)
        found.class_id[:] = number == 2
        privacy.add(result(number, np.zeros((*SIZE, 3), np.uint8), found))
        assert privacy.take().frame.image.pixels().any() == (number == 1)


def test_boxes_follow_a_change_of_size() -> None:
    privacy = hold_back(BlurConfig(), Filter(0.2))
    privacy.add(result(0, np.zeros((80, 80, 3), np.uint8), detections((40, 20, 60, 30))))
    privacy.add(result(1, np.zeros((160, 40, 3), np.uint8)))
    first, second = (
        (privacy.due(last=True), privacy.take().frame.image.pixels())[1] for _ in range(2)
    )
    assert (first[20:30, 40:60] == GREY).all()
    assert (second[40:60, 20:30] == GREY).all()
    assert not second[100:].any()
    assert not second[:, :15].any()


def test_without_a_configuration_pictures_and_keypoints_stay() -> None:
    privacy, sent = hold_back(), result(0, found=detections((0, 0, 9, 9)))
    privacy.add(sent)
    assert privacy.due()
    taken = privacy.take()
    assert taken.detections is sent.detections
    assert np.array_equal(taken.frame.image.pixels(), picture())


class SeesWhoAsks(HostImage):
    """A picture of before, which remembers the modules that asked for its pixels."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        super().__init__(pixels)
        self.asked: set[str] = set()

    def pixels(self) -> NDArray[np.uint8]:
        caller = inspect.stack()[1].frame.f_globals["__name__"]
        self.asked.add(caller)
        return super().pixels()


@pytest.mark.parametrize("blur", [None, BlurConfig(hold=0.1)])
def test_no_sink_can_get_at_the_picture_of_before(tmp_path: Path, blur: BlurConfig | None) -> None:
    """Whatever sinks a stream may have: it is made private in one place."""
    record = RecordConfig(path="{stream}.mp4", segment=None, codec="libx264", draw="boxes")
    context = sink_context(tmp_path, record=record, events=EventsConfig(when="always"), blur=blur)
    images = [SeesWhoAsks(picture(seed=number)) for number in range(5)]
    sent = [result(n, found=detections((8, 8, 30, 30))) for n in range(5)]
    sent = [
        replace(each, frame=replace(each.frame, image=image))
        for each, image in zip(sent, images, strict=True)
    ]
    for sink in (SINKS[name].make(context) for name in SINKS):
        assert not isinstance(sink, PacketSink)
        if isinstance(sink, BatchSink):
            sink.write_batch(sent)
        else:
            for each in sent:
                sink.write(each)
        sink.close()
    assert [image.asked for image in images] == [{"centernetd.sink.privacy"}] * 5
    assert len(list(tmp_path.rglob("*.*"))) == len(SINKS), "every sink has written"


class Consumer(PictureSink):
    """Keeps which frames' boxes are covered in each picture that it gets."""

    def __init__(self) -> None:
        self.got: list[set[int]] = []

    def write(self, picture: Released) -> Outcome:
        self.got.append(covered(picture.frame.image.pixels(), 3))
        return Outcome(written=1)

    def close(self) -> Outcome:
        return Outcome(unwanted=7)


def test_what_a_picture_sink_gets_is_private(tmp_path: Path) -> None:
    context, consumer = sink_context(tmp_path, blur=BlurConfig(hold=0.04)), Consumer()
    sink = PrivateSink(replace(context, covers=Filter(0.2)), consumer)
    written = [
        sink.write(result(number, np.zeros((8, 60, 3), np.uint8), detections(place(number))))
        for number in range(3)
    ]
    assert (written, sink.close()) == ([Outcome(), Outcome(1), Outcome(1)], Outcome(1, 7))
    assert consumer.got == [{0, 1}, {0, 1, 2}, {1, 2}]


def test_what_is_withheld_is_counted(tmp_path: Path) -> None:
    hurried: list[bool] = []
    context = replace(
        sink_context(tmp_path, blur=BlurConfig(hold=0.2)), hurried=lambda: bool(hurried)
    )
    sink, withheld = PrivateSink(context, Consumer()), context.status.withheld
    assert withheld == {"failed": 0, "shutdown": 0}
    broken = detections((np.nan, 0, 5, 5))
    assert sink.write(result(0, found=broken)) == Outcome()
    assert sink.write(result(20)) == Outcome(failed=1)
    assert withheld == {"failed": 1, "shutdown": 0}
    for number in (21, 22):
        sink.write(result(number))
    hurried.append(True)
    assert sink.close() == Outcome(unwanted=7), "the stage writes off the others"
    assert withheld == {"failed": 1, "shutdown": 3}
    plain = sink_context(tmp_path)
    PrivateSink(plain, Consumer()).write(result(0))
    assert not plain.status.withheld


@pytest.mark.parametrize("bound", ["MAX_HELD_FRAMES", "MAX_HELD_BYTES"])
def test_what_waits_is_bounded_in_frames_and_bytes(
    bound: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A camera's times may stop. Everything known by then is covered all the same."""
    image = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(
        privacy_module, bound, 10 if bound == "MAX_HELD_FRAMES" else 10 * image.nbytes
    )
    privacy, out, most = hold_back(BlurConfig(hold=1), Filter(0.2)), 0, 0
    for number in range(50):
        privacy.add(result(number, image.copy(), detections((0, 0, 8, 8)), pts=number))
        while privacy.due():
            assert (privacy.take().frame.image.pixels() == GREY).all()
            out += 1
        most = max(most, number + 1 - out)
    assert most == 10
    assert "blur.hold" in caplog.text
    assert MAX_HELD_FRAMES >= 60


@STYLES
def test_every_pixel_of_the_box_and_its_margin_is_replaced(style: Style) -> None:
    before = np.zeros((200, 200, 3), np.uint8)
    before[::2] = 255
    image = before.copy()
    cover(image, boxes((80, 80, 120, 120)), style)
    changed = (image != before).any(axis=2)
    assert changed[66:134, 66:134].all()
    changed[66:134, 66:134] = False
    assert not changed.any()


def test_only_mean_colours_are_left() -> None:
    """Pixels shuffled inside the cells give the same result: what they were can't be recovered."""
    image = picture(240, 240)
    cells = image.reshape(CELLS, 60, CELLS, 60, 3).transpose(0, 2, 1, 3, 4).copy()
    for cell in cells.reshape(CELLS * CELLS, 3600, 3):
        np.random.default_rng(0).shuffle(cell)
    shuffled = cells.transpose(0, 2, 1, 3, 4).reshape(240, 240, 3).copy()
    assert (shuffled != image).mean() > 0.9
    for each in (image, shuffled):
        cover(each, boxes((40, 40, 200, 200)), mosaic)  # with its margin, the whole picture
    assert np.array_equal(image, shuffled)


@given(
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
    width=st.floats(0, 2000),
    height=st.floats(0, 2000),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    style=st.sampled_from([fill, mosaic]),
)
def test_any_box_in_any_picture(
    x: float, y: float, width: float, height: float, shape: tuple[int, int], style: Style
) -> None:
    rows, columns = np.indices(shape)
    before = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    image = before.copy()
    cover(image, boxes((x, y, x + width, y + height)), style)
    inside = (columns + 1 > x) & (columns < x + width) & (rows + 1 > y) & (rows < y + height)
    assert (style is mosaic and min(shape) < 2) or not (image == before)[inside].all(axis=-1).any()


@STYLES
def test_boxes_beyond_all_numbers_cover_the_picture(style: Style) -> None:
    image = picture()
    cover(image, boxes((-3e38, -3e38, 3e38, 3e38)), style)
    assert len(np.unique(image)) < 256


@pytest.mark.parametrize("box", [(np.nan, 0, 9, 9), (0, 0, np.inf, 9)])
def test_a_box_that_is_not_finite_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        cover(picture(), boxes(box), fill)


def test_no_detections_change_nothing() -> None:
    image = picture()
    cover(image, boxes(), fill)
    assert np.array_equal(image, picture())
