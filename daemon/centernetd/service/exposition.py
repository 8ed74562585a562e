"""A registry as text for Prometheus: byte for byte what prometheus_client writes, but faster.

Only the numbers change between scrapes. The text before them is most of the work, and is cached.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.utils import floatToGoString

from centernetd.service.metrics import Family

Heading = Callable[[Metric], str]
"""Returns the lines above a metric's samples."""

_Series = tuple[str, ...]
"""A sample's name and label values; samples of one name have the same labels, in one order."""


class Exposition:
    """Formats ``registry``, whose samples have neither timestamps nor exemplars.

    Thread-safe. The cache holds the series of the last scrape only, so a removed stream's series
    are dropped.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._beginnings: dict[_Series, str] = {}

    def text(self) -> bytes:
        """Return the Prometheus text format, version 0.0.4."""
        return "".join(self._lines(_text_heading)).encode()

    def openmetrics(self) -> bytes:
        """Return OpenMetrics, version 1.0.0."""
        return "".join([*self._lines(_openmetrics_heading), "# EOF\n"]).encode()

    def _lines(self, heading: Heading) -> Iterator[str]:
        known, kept = self._beginnings, dict[_Series, str]()
        endings: dict[float, str] = {}
        for metric in self._registry.collect():
            yield heading(metric)
            for series, labels, number in _series(metric):
                beginning = kept[series] = known.get(series) or _beginning(series, labels)
                ending = endings.get(number)
                if ending is None:
                    ending = endings[number] = f"{_go_string(number)}\n"
                yield beginning + ending
        self._beginnings = kept


def _series(metric: Metric) -> Iterator[tuple[_Series, Iterable[str], float]]:
    """Yield each series with its label names and its value."""
    if isinstance(metric, Family):
        name, labels = metric.sample, metric.labels
        for values, number in metric.rows:
            yield (name, *values), labels, number
    else:
        for sample, pairs, number, *_ in metric.samples:
            yield (sample, *pairs.values()), pairs, number


def _beginning(series: _Series, labels: Iterable[str]) -> str:
    name, *values = series
    pairs = sorted(zip(labels, values, strict=True))
    if not pairs:
        return f"{name} "
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
    return f"{name}{{{inside}}} "


def _text_heading(metric: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    kind = "gauge" if metric.type == "info" else metric.type
    said = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {metric.name}{suffix} {said}\n# TYPE {metric.name}{suffix} {kind}\n"


def _openmetrics_heading(metric: Metric) -> str:
    return (
        f"# HELP {metric.name} {_escaped(metric.documentation)}\n"
        f"# TYPE {metric.name} {metric.type}\n"
    )


def _go_string(number: float) -> str:
    return str(floatToGoString(number))  # type: ignore[no-untyped-call]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
