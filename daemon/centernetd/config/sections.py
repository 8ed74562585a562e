"""The sections of config.yaml that are not per stream, and the file as a whole."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from centernetd.config.address import Address, ListenAddress
from centernetd.config.section import Section
from centernetd.config.stream import StreamDefaults, StreamEntry
from centernetd.config.units import Duration, Size

LARGEST_BATCH = 64


def _batch_size(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if type(value) is int and 1 <= value <= LARGEST_BATCH:
        return value
    raise ValueError(f"must be auto or a whole number from 1 to {LARGEST_BATCH}")


def _version(value: object) -> int:
    if type(value) is not int or value != 1:
        raise ValueError("must be 1: no other version of the format exists")
    return value


def _plain_text(value: str) -> str:
    if not value or not value.isprintable():
        raise ValueError("is empty or holds control characters")
    return value


BatchSize = Annotated[
    int | Literal["auto"],
    PlainValidator(_batch_size),
    WithJsonSchema(
        {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": LARGEST_BATCH}]}
    ),
]
Version = Annotated[int, PlainValidator(_version), WithJsonSchema({"const": 1})]
PathText = Annotated[str, AfterValidator(_plain_text)]
Side = Annotated[int, Field(ge=32, le=4096)]
StreamName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,63}$")]


class ModelConfig(Section):
    """A detector."""

    path: PathText = "centerface"
    """A built-in name, or a file: a raw export, a prepared ONNX model or a plan."""
    input_size: tuple[Side, Side] = (512, 512)
    """[height, width] of the network's input, in pixels."""
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
    """How long a frame may wait for its batch to fill."""


class StorageConfig(Section):
    """Where recordings and events are stored, and how much is kept."""

    root: PathText = "."
    """The folder; relative to $STATE_DIRECTORY under systemd, or to the working directory."""
    max_bytes: Annotated[Size, Field(ge=0)] | None = 50_000_000_000
    """Above this total, the oldest recordings and events are deleted; null for no limit."""
    keep_for: Annotated[Duration, Field(gt=0)] | None = 14 * 86400.0
    """Recordings and events older than this are deleted; null for no limit."""
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
    models: Annotated[dict[str, ModelConfig], Field(min_length=1)] = {"default": ModelConfig()}  # noqa: RUF012
    engine: EngineConfig = EngineConfig()
    batching: BatchingConfig = BatchingConfig()
    defaults: StreamDefaults = StreamDefaults()
    storage: StorageConfig = StorageConfig()
    streams: dict[StreamName, StreamEntry] = {}  # noqa: RUF012 (pydantic copies it)
    """Streams by name: lowercase letters, digits, _ and -."""
    metrics: MetricsConfig = MetricsConfig()
    logging: LoggingConfig = LoggingConfig()
