"""A registry as text for Prometheus: what prometheus_client writes, byte for byte, in less time.

From one scrape to the next only the numbers change. What stands before them is most of the work,
and is kept.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.utils import floatToGoString

Heading = Callable[[Metric], str]
"""Makes the lines above a metric's samples."""

_Series = tuple[str, ...]
"""A sample's name and the values of its labels: those of one name have the same labels."""


class Exposition:
    """Writes ``registry``, whose samples have neither timestamps nor exemplars.

    Any number of threads may call at once. No more is kept than the last scrape had series, so
    those of a stream that is gone are forgotten.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._beginnings: dict[_Series, str] = {}

    def text(self) -> bytes:
        """Return Prometheus' text format, version 0.0.4."""
        return "".join(self._lines(_text_heading)).encode()

    def openmetrics(self) -> bytes:
        """Return OpenMetrics, version 1.0.0."""
        return "".join([*self._lines(_openmetrics_heading), "# EOF\n"]).encode()

    def _lines(self, heading: Heading) -> Iterator[str]:
        known, kept = self._beginnings, dict[_Series, str]()
        endings: dict[float, str] = {}
        for metric in self._registry.collect():
            yield heading(metric)
            for name, labels, value, *_ in metric.samples:
                series = (name, *labels.values())
                beginning = known.get(series) or _beginning(name, labels)
                ending = endings.get(value)
                if ending is None:
                    ending = endings[value] = f"{_go_string(value)}\n"
                kept[series] = beginning
                yield beginning + ending
        self._beginnings = kept


def _beginning(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return f"{name} "
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}} "


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
