"""The list of all metrics, from which the reference and the dashboard are generated."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import ProcessCollector

from centernetd.service.metrics import DAEMON_METRICS, HISTOGRAMS, PREFIX, STREAM_METRICS


@dataclass(frozen=True)
class Entry:
    """A metric as scraped; ``kind`` is counter, gauge or histogram."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its samples."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))


def catalog() -> tuple[Entry, ...]:
    """Return every metric: per stream, the histograms, of the daemon, of its process."""
    return tuple(_entries())


def _entries() -> Iterator[Entry]:
    for of_stream in STREAM_METRICS:
        yield _entry(of_stream.name, of_stream.labels, of_stream.help)
    for histogram in HISTOGRAMS:
        yield Entry(PREFIX + histogram.name, "histogram", histogram.labels, histogram.help)
    for of_daemon in DAEMON_METRICS:
        yield _entry(of_daemon.name, of_daemon.labels, of_daemon.help)
    for family in ProcessCollector(registry=None).collect():
        (sample,) = family.samples
        yield Entry(sample.name, family.type, (), family.documentation)


def _entry(name: str, labels: tuple[str, ...], meaning: str) -> Entry:
    return Entry(PREFIX + name, "counter" if name.endswith("_total") else "gauge", labels, meaning)
