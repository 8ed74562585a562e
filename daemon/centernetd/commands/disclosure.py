"""What leaves a stream, for how long, and what is covered, in words for who is not an engineer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from centernetd.config import Config, StreamConfig
from centernetd.config.values import format_duration


@dataclass(frozen=True)
class Disclosure:
    """What is stored of a stream and what is covered in it.

    ``video`` and ``events`` describe what is stored, None for nothing; it is deleted after
    ``video_kept`` and ``events_kept`` seconds, None for no limit of time. ``for_good`` means that
    it does not make room for others either. ``blur`` describes what is covered as far as it is
    found, ``masks`` names the regions that are always covered.
    """

    video: str | None
    video_kept: float | None
    events: str | None
    events_kept: float | None
    for_good: bool
    blur: str | None
    masks: tuple[str, ...]

    def sentences(self) -> Iterator[str]:
        """Yield what the fields say in sentences, which are equal for equal streams."""
        if self.video is None and self.events is None:
            yield "it only counts: neither video nor events are stored"
            return
        for what, described, kept in (
            ("video", self.video, self.video_kept),
            ("events", self.events, self.events_kept),
        ):
            stored = "not stored" if described is None else f"{described}; {self._kept(kept)}"
            yield f"{what}: {stored}"
        yield f"privacy: {self._privacy()}"

    def _kept(self, seconds: float | None) -> str:
        if seconds is not None:
            sooner = "" if self.for_good else ", or sooner to make room"
            return f"each file is deleted {format_duration(seconds)} after its end{sooner}"
        return "kept forever" if self.for_good else "kept until there is no room for more"

    def _privacy(self) -> str:
        if self.video is None:
            return "no picture is stored"
        covered = []
        if self.masks:
            covered.append(f"in every picture, masks cover {', '.join(self.masks)}")
        if self.blur:
            covered.append(f"{self.blur} are covered, and what is missed is visible")
        return "; ".join(covered) or "nothing is covered, so people can be recognised"


def disclosure_of(stream: StreamConfig) -> Disclosure:
    """Return what leaves a stream."""
    privacy = stream.privacy
    return Disclosure(
        video=_video(stream),
        video_kept=stream.record.keep_for,
        events="; ".join(_events(stream)) or None,
        events_kept=stream.events.keep_for,
        for_good=stream.from_file,
        blur=_blur(stream),
        masks=tuple(privacy.masks),
    )


def _video(stream: StreamConfig) -> str | None:
    record = stream.record
    if record.when == "never":
        return None
    when = "stored all the time"
    if record.when == "detection":
        before, after = format_duration(record.before), format_duration(record.after)
        when = f"stored from {before} before to {after} after each detection"
    parts = "one file" if record.segment is None else f"files of {format_duration(record.segment)}"
    return f"{when}, {'as the camera sends it, ' if stream.copies else ''}in {parts}"


def _events(stream: StreamConfig) -> Iterator[str]:
    events, points = stream.events, ", with landmarks" if stream.privacy.shows_keypoints else ""
    if events.frames != "never":
        which = "every frame" if events.frames == "always" else "each frame with a detection"
        detecting = [model for model in stream.models if model != stream.blur_only]
        yield f"for {which}, when it was, and what {_named(detecting)} detected where{points}"
    if stream.logs_tracks:
        places = " and which zones and lines it passed" if stream.zones or stream.lines else ""
        yield f"for each object that is followed, when it came and went{places}"


def _blur(stream: StreamConfig) -> str | None:
    if (blur := stream.privacy.blur) is None:
        return None
    finding = _named(stream.models if blur.model is None else [blur.model])
    labelled = f" labelled {', '.join(blur.labels)}" if blur.labels else ""
    return f"detections of {finding}{labelled}"


def _named(models: Sequence[str]) -> str:
    return f"model{'s' if len(models) > 1 else ''} {', '.join(models)}"


def served(config: Config) -> str:
    """Return what anybody who can connect is shown of all streams."""
    if (listen := config.metrics.listen) is None:
        return "pages: none, nobody can connect"
    who = "this machine only" if listen.is_loopback else "whoever can reach it"
    return (
        f"pages: at {listen}, for {who}, without a password; they show counts, states, names of "
        "streams and files, and why a stream failed, but no pictures"
    )


LOGS = (
    "logs: names of streams and files, addresses of sources without their passwords, and what "
    "failed when, but no pictures and no detections; kept by the system's journal, or by whoever "
    "collects them"
)
