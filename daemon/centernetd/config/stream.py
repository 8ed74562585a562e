"""One stream: its source, its detection and its outputs."""

from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from centernetd.config import template
from centernetd.config.secret import SourceUri
from centernetd.config.section import Section
from centernetd.config.units import Duration
from centernetd.config.variables import Expanded

Policy = Literal["live", "lossless"]
Decode = Literal["auto", "cuda", "cpu"]
Transport = Literal["tcp", "udp"]
Timestamps = Literal["auto", "arrival"]

CAUTIOUS = 0.25  # a higher blur threshold produces a warning


def source_uri(value: object) -> SourceUri:
    """Return a source, parsing it if it is text; raises ValueError without repeating the text."""
    if isinstance(value, SourceUri):
        return value
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004 (pydantic wants ValueError)
    return SourceUri(value, value.taken if isinstance(value, Expanded) else ())


def _mp4(value: str) -> str:
    if not value.endswith(".mp4"):
        raise ValueError("must end in .mp4")
    return value


def _host(value: str) -> str:
    parts = urlsplit(f"//{value}")
    try:
        whole = parts.hostname and (value.endswith("]") or parts.port or ":" not in parts.netloc)
    except ValueError:
        whole = False
    if not whole or parts.netloc != value or "@" in value:
        raise ValueError("is not a host: write it as in media.example.com or 192.0.2.7:8080")
    return value


HostAndPort = Annotated[str, AfterValidator(_host)]
EventsPath = Annotated[str, AfterValidator(template.check)]
RecordingPath = Annotated[EventsPath, AfterValidator(_mp4)]
Source = Annotated[SourceUri, PlainValidator(source_uri), WithJsonSchema({"type": "string"})]


class DetectConfig(Section):
    """What counts as a detection."""

    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    """The minimum score, 0 to 1; null for the model's own (centerface: 0.4)."""
    labels: tuple[str, ...] = ()
    """The labels to keep; an empty list keeps all."""
    max_fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Maximum frames per second to run the detector on; null for every frame."""


class BlurConfig(Section):
    """What to cover in every stored image, as far as the detector finds it."""

    confidence: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The minimum score to cover, 0 to 1; independent of detect.confidence."""
    hold: Annotated[Duration, Field(ge=0, le=1)] = 0.2
    """Detections are also covered for this long before and after."""
    labels: tuple[str, ...] = ()
    """The labels to cover; an empty list covers all."""
    style: Literal["fill", "mosaic"] = "fill"
    """fill (one colour, nothing remains) or mosaic (at most 4 by 4 mean colours)."""


class RecordConfig(Section):
    """The recorded video."""

    when: Literal["always", "detection", "never"] = "always"
    """always, detection (around each detection of detect.labels: see before, after) or never."""
    before: Annotated[Duration, Field(ge=0, le=60)] = 5.0
    """With when: detection, recording begins at least this long before it."""
    after: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """With when: detection, recording continues for at least this long."""
    video: Literal["annotated", "source"] = "annotated"
    """annotated, or source: a copy of the camera's own packets, with nothing drawn."""
    draw: Literal["boxes", "blur", "none"] = "boxes"
    """boxes, none, or blur: short for `blur: {}` of the stream, without boxes."""
    path: RecordingPath = "{stream}/%Y-%m-%d/%H-%M-%S.mp4"
    """Where, under storage.root: strftime (UTC) and {stream}."""
    segment: Annotated[Duration, Field(ge=1)] | None = 300.0
    """A new file starts after this long; null for one file."""
    codec: Literal["auto", "libx264", "h264_nvenc", "hevc_nvenc"] = "auto"
    """The encoder; auto picks the best one that works on this machine."""


class EventsConfig(Section):
    """The detections, written as JSON Lines."""

    when: Literal["detections", "always", "never"] = "detections"
    """detections (a line for each frame that has one), always (each frame) or never."""
    path: EventsPath = "{stream}/%Y-%m-%d-%H.jsonl"
    """Where, under storage.root: strftime (UTC) and {stream}."""


class StreamDefaults(Section):
    """The keys that all streams share and each may override."""

    model: str = "default"
    """The entry of models to run on this stream."""
    policy: Literal["auto", "live", "lossless"] = "auto"
    """live (newest frame wins), lossless (every frame) or auto: files lossless, others live."""
    max_frame_age: Annotated[Duration, Field(gt=0)] = 0.5
    """A live frame older than this when it is due for inference is dropped."""
    stall_timeout: Annotated[Duration, Field(ge=0.1)] = 10.0
    """A source that delivers no frame for this long is reopened."""
    transport: Transport = "tcp"
    """The RTSP transport: tcp, or udp (for cameras that support nothing else)."""
    timestamps: Timestamps = "auto"
    """auto (the camera's own, while they keep pace) or arrival (when frames arrive)."""
    follow_hosts: tuple[HostAndPort, ...] = ()
    """Other hosts (`host` or `host:port`) to which redirects and playlists may lead."""
    decode: Decode = "auto"
    """auto (the GPU if it can, otherwise the CPU), cuda (only the GPU) or cpu."""
    detect: DetectConfig = DetectConfig()
    blur: BlurConfig | None = None
    """Covers detections in every stored image; null for no blur."""
    record: RecordConfig = RecordConfig()
    events: EventsConfig = EventsConfig()


class StreamEntry(StreamDefaults):
    """A stream as in the file, with the defaults merged in."""

    source: Source
    """rtsp(s)://..., http(s)://..., a camera (v4l2:0), or a path relative to this file's folder."""


_DEFAULT = StreamDefaults()


@dataclass(frozen=True)
class StreamConfig:
    """A fully resolved stream: ``policy`` is no longer auto, and paths are final.

    Durations are seconds. A file's ``source`` is absolute; ``record.segment`` is None for one
    unsegmented file; ``blur`` is set if ``record.draw`` is blur. ``never_ends`` means that
    `policy: live` was set explicitly: a complete playlist then does not end the stream.
    ``device`` is the index of the GPU that decodes it, if any.
    """

    name: str
    source: SourceUri
    model: str = "default"
    policy: Policy = "live"
    max_frame_age: float = _DEFAULT.max_frame_age
    stall_timeout: float = _DEFAULT.stall_timeout
    transport: Transport = _DEFAULT.transport
    timestamps: Timestamps = _DEFAULT.timestamps
    follow_hosts: tuple[str, ...] = ()
    never_ends: bool = False
    decode: Decode = _DEFAULT.decode
    device: int = 0
    detect: DetectConfig = field(default_factory=DetectConfig)
    blur: BlurConfig | None = None
    record: RecordConfig = field(default_factory=RecordConfig)
    events: EventsConfig = field(default_factory=EventsConfig)

    def __post_init__(self) -> None:
        if self.blur is None and self.record.draw == "blur":
            object.__setattr__(self, "blur", BlurConfig())

    @property
    def from_file(self) -> bool:
        """Whether the source is read once, to its end: a path, or a lossless http(s) URL."""
        return self.source.is_file or (self.source.is_web and self.policy == "lossless")

    @property
    def copies(self) -> bool:
        """Whether the source's own packets are recorded."""
        return self.record.when != "never" and self.record.video == "source"
