"""Every key of config.yaml, with its type, its default and its meaning."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from centernetd.config.values import (
    Address,
    BatchSize,
    Drawing,
    Duration,
    EventsPath,
    HostAndPort,
    ListenAddress,
    Name,
    Names,
    PathText,
    Point,
    Polygon,
    RecordingPath,
    Side,
    Size,
    SourceAddress,
    TimeZone,
    Version,
)

Policy = Literal["live", "lossless"]
Decode = Literal["auto", "cuda", "cpu"]
Transport = Literal["tcp", "udp"]
Timestamps = Literal["auto", "arrival"]
Anchor = Literal["bottom", "centre"]


MAX_PLACES = 32  # zones, lines and masks, of each, per stream


class Section(BaseModel):
    """A frozen mapping of the file; unknown keys are rejected unless they begin with ``x-``."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _without_notes(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if not str(key).startswith("x-")}


class DetectConfig(Section):
    """What counts as a detection."""

    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    """The minimum score, 0 to 1; null for the model's own (centerface: 0.4)."""
    labels: tuple[str, ...] = ()
    """The labels to keep; an empty list keeps all."""
    max_fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Maximum frames per second to run the detector on; null for every frame."""


class BlurConfig(Section):
    """What to cover in every picture, as far as the detector finds it."""

    model: str | None = None
    """The entry of models that finds what to cover; null: each of the stream's."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The minimum score to cover, 0 to 1; independent of detect.confidence."""
    hold: Annotated[Duration, Field(ge=0, le=1)] = 0.2
    """Detections are also covered for this long before and after, 0s to 1s."""
    labels: tuple[str, ...] = ()
    """The labels to cover; an empty list covers all."""
    style: Literal["fill", "mosaic"] = "fill"
    """fill (one colour, nothing remains) or mosaic (at most 4 by 4 mean colours)."""


class PrivacyConfig(Section):
    """What is taken out of a stream before anything of it is stored or given out."""

    blur: BlurConfig | None = None
    """Covers detections in every picture; null for no blur."""
    masks: Annotated[dict[Name, Polygon], Field(max_length=MAX_PLACES)] = {}
    """Regions that are covered in every picture before it is looked at, by name."""
    keypoints: bool | None = None
    """Whether landmarks are logged and drawn; null: unless there is blur or a mask."""

    @property
    def shows_keypoints(self) -> bool:
        """Whether landmarks are given out."""
        return not (self.blur or self.masks) if self.keypoints is None else self.keypoints


class RecordConfig(Section):
    """The recorded video."""

    when: Literal["always", "detection", "never"] = "always"
    """always, detection (around each detection of detect.labels: see before, after) or never."""
    before: Annotated[Duration, Field(ge=0, le=60)] = 5.0
    """With when: detection, recording begins at least this long before it, 0s to 60s."""
    after: Annotated[Duration, Field(ge=0, le=3600)] = 5.0
    """With when: detection, recording continues for at least this long, 0s to 1h."""
    video: Literal["annotated", "source"] = "annotated"
    """annotated, or source: a copy of the camera's own packets, with nothing drawn."""
    draw: Drawing = ("boxes", "ids", "zones")
    """What to draw: boxes, ids (of tracks, with trails), zones (and lines, counted), clock."""
    path: RecordingPath = "{stream}/%Y-%m-%d/%H-%M-%S.mp4"
    """Where, under storage.root: strftime (UTC) and {stream}."""
    segment: Annotated[Duration, Field(ge=1)] | None = 300.0
    """A new file starts after this long, at least 1s; null for one file."""
    keep_for: Annotated[Duration, Field(gt=0)] | None = 14 * 86400.0
    """Files are deleted this long after their end; null for no limit. Not set: storage.keep_for,
    or, for recordings made from a file, null."""
    codec: Literal["auto", "libx264", "h264_nvenc", "hevc_nvenc"] = "auto"
    """The encoder; auto picks the best one that works on this machine."""


class TrackConfig(Section):
    """How objects are followed from frame to frame."""

    max_gap: Annotated[Duration, Field(ge=0, le=60)] = 2.0
    """An object that has not been seen for this long has left, 0s to 1min."""
    confirm_after: Annotated[Duration, Field(ge=0, le=10)] = 0.3
    """An object counts once it has been seen for this long, 0s to 10s."""


class ZoneConfig(Section):
    """A part of the picture whose visitors are counted."""

    polygon: Polygon
    """3 to 100 points [x, y], as shares of the picture's width and height, from its top left."""
    labels: tuple[str, ...] = ()
    """The labels to count; an empty list counts all of detect.labels."""
    min_dwell: Annotated[Duration, Field(ge=0)] = 0.0
    """An object counts as inside once it has stayed for this long."""
    anchor: Anchor = "bottom"
    """The point of a box that must be inside: the middle of its lower edge, or its centre."""


class LineConfig(Section):
    """A line across which objects are counted: in is to the right, looking from `from` to `to`."""

    start: Point = Field(alias="from")
    """Where the line begins: [x, y], as shares of the picture's width and height."""
    to: Point
    """Where it ends."""
    labels: tuple[str, ...] = ()
    """The labels to count; an empty list counts all of detect.labels."""
    anchor: Anchor = "bottom"
    """The point of a box that must cross: the middle of its lower edge, or its centre."""

    @model_validator(mode="after")
    def _has_length(self) -> "LineConfig":
        if self.start == self.to:
            raise ValueError("from and to are the same point: a line needs two")
        return self


class EventsConfig(Section):
    """The detections, written as JSON Lines."""

    frames: Literal["detections", "always", "never"] = "detections"
    """Lines about frames: detections (for each frame that has one), always or never."""
    when: Annotated[
        Literal["detections", "always", "never"] | None,
        Field(json_schema_extra={"deprecated": True}),
    ] = None
    """The old name of frames."""
    tracks: Literal["auto", "always", "never"] = "auto"
    """Lines about tracks: always, never or auto (with zones or lines)."""
    path: EventsPath = "{stream}/%Y-%m-%d-%H.jsonl"
    """Where, under storage.root: strftime (UTC) and {stream}."""
    keep_for: Annotated[Duration, Field(gt=0)] | None = 14 * 86400.0
    """Files are deleted this long after their last line; otherwise like record.keep_for."""


class StreamDefaults(Section):
    """The keys that all streams share and each may override."""

    models: Names = ()
    """The entries of models to run on this stream, a name or a list; [] for the first."""
    model: Annotated[str | None, Field(json_schema_extra={"deprecated": True})] = None
    """The old name of models."""
    policy: Literal["auto", "live", "lossless"] = "auto"
    """live (newest frame wins), lossless (every frame) or auto: files lossless, others live."""
    max_frame_age: Annotated[Duration, Field(gt=0)] = 0.5
    """A live frame older than this when it is due for inference is dropped."""
    stall_timeout: Annotated[Duration, Field(ge=0.1)] = 10.0
    """A source that delivers no frame for this long is reopened; at least 100ms."""
    transport: Transport = "tcp"
    """The RTSP transport: tcp, or udp (for cameras that support nothing else)."""
    timestamps: Timestamps = "auto"
    """auto (the camera's own, while they keep pace) or arrival (when frames arrive)."""
    follow_hosts: tuple[HostAndPort, ...] = ()
    """Other hosts (`host` or `host:port`) to which redirects and playlists may lead."""
    decode: Decode = "auto"
    """auto (the GPU if it can, otherwise the CPU), cuda (only the GPU) or cpu."""
    detect: DetectConfig = DetectConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    blur: Annotated[BlurConfig | None, Field(json_schema_extra={"deprecated": True})] = None
    """The old name of privacy.blur."""
    track: TrackConfig = TrackConfig()
    record: RecordConfig = RecordConfig()
    events: EventsConfig = EventsConfig()


OUTDATED = {
    ("model",): ("models",),
    ("blur",): ("privacy", "blur"),
    ("events", "when"): ("events", "frames"),
}
"""The old names of keys of a stream, and what they are now called."""


class StreamEntry(StreamDefaults):
    """A stream as in the file, with the defaults merged in."""

    source: SourceAddress
    """rtsp(s)://..., http(s)://..., a camera (v4l2:0), or a path relative to this file's folder."""
    zones: Annotated[dict[Name, ZoneConfig], Field(max_length=MAX_PLACES)] = {}
    """Zones by name, at most 32."""
    lines: Annotated[dict[Name, LineConfig], Field(max_length=MAX_PLACES)] = {}
    """Lines by name, at most 32."""


class ModelConfig(Section):
    """A detector."""

    path: PathText = "centerface"
    """A built-in name, or a file: a raw export, a prepared ONNX model or a plan."""
    input_size: tuple[Side, Side] = (512, 512)
    """[height, width] of the network's input, in pixels; 32 to 4096 each."""
    labels_file: PathText | None = None
    """A text file with one label per line, in place of the model's own."""

    @property
    def is_builtin(self) -> bool:
        """True for a built-in name; once loaded, the path of a file is absolute."""
        return "/" not in self.path


class EngineConfig(Section):
    """What the network runs on."""

    backend: Literal["auto", "tensorrt", "onnxruntime-cuda", "onnxruntime-cpu"] = "auto"
    """auto: the GPU if there is an NVIDIA device, otherwise the CPU."""
    precision: Literal["auto", "float32", "float16", "int8"] = "auto"
    """auto: a prepared model's own, or float16 on a GPU, float32 on the CPU. int8: calibrated."""
    devices: Annotated[tuple[Annotated[int, Field(ge=0, le=63)], ...], Field(min_length=1)] = (0,)
    """The indices of the GPUs to use."""
    plan_cache: PathText = "plans"
    """Where built plans are stored, under the cache folder."""


class BatchingConfig(Section):
    """How frames of all streams are batched."""

    max_size: BatchSize = "auto"
    """Frames per batch; auto: 1 on the CPU, 8 on a GPU."""
    max_delay: Annotated[Duration, Field(ge=0, le=10)] = 0.01
    """How long a frame may wait for its batch to fill, 0s to 10s."""


class StorageConfig(Section):
    """Where recordings and events are stored, and how much is kept."""

    root: PathText = "."
    """The folder; relative to $STATE_DIRECTORY under systemd, or to the working directory."""
    max_bytes: Annotated[Size, Field(ge=0)] | None = 50_000_000_000
    """Above this total, the oldest recordings and events are deleted; null for no limit."""
    keep_for: Annotated[Duration, Field(gt=0)] | None = 14 * 86400.0
    """Recordings and events older than this are deleted, unless a stream's keep_for differs; null
    for no limit."""
    min_free: Annotated[Size, Field(ge=0)] = 2_000_000_000
    """Disk space to leave free; nothing is written while less is available."""
    require_mount: bool = False
    """Write only while root is on a mounted disk, not on the root file system."""


class MetricsConfig(Section):
    """The server of /metrics, /healthz, /readyz and /status."""

    listen: ListenAddress | None = Address("127.0.0.1", 10864)
    """HOST:PORT; null for no server. It shows no images, so the LAN may have access."""


class LoggingConfig(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest severity that is logged."""
    format: Literal["auto", "text", "json"] = "auto"
    """auto: JSON to the systemd journal, text otherwise."""


class FileConfig(Section):
    """The whole of config.yaml, each stream with the defaults merged in."""

    version: Version
    """The version of this format."""
    node: Name | None = None
    """The name of this machine in events; null for a hash of /etc/machine-id."""
    models: Annotated[dict[Name, ModelConfig], Field(min_length=1)] = {"default": ModelConfig()}
    """Models by name, as for streams; a stream that names none runs the first."""
    engine: EngineConfig = EngineConfig()
    batching: BatchingConfig = BatchingConfig()
    defaults: StreamDefaults = StreamDefaults()
    storage: StorageConfig = StorageConfig()
    timezone: TimeZone | None = None
    """The time zone of what people read, as in Europe/Berlin; null for the system's."""
    streams: dict[Name, StreamEntry] = {}
    """Streams by name: lowercase letters, digits, _ and -."""
    metrics: MetricsConfig = MetricsConfig()
    logging: LoggingConfig = LoggingConfig()
