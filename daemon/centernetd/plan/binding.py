"""The installed TensorRT binding: full TensorRT, or else TensorRT-RTX. They share one API."""

import importlib
import logging
import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from centernetd.errors import EngineError

FULL = "tensorrt"
RTX = "tensorrt_rtx"

_NAMES = {FULL: "TensorRT", RTX: "TensorRT-RTX"}
_ERRORS_KEPT = 20
_MIN_VERSION = (10, 3)  # full TensorRT; strongly typed networks are unreliable before it
_CONDITION = re.compile(r'&& ((?:"[^"]*"\s*)+)$')  # a C++ condition, then its meaning
_ASSERTION = re.compile(r"^Assertion failed: .+?: (?=[A-Z])")
_ERROR = re.compile(r"Error Code \d+: [\w ]+\((.*)\)$")
_PLACE = re.compile(r"[. ]*In \w+ at \S+:\d+.*$")

log = logging.getLogger("centernetd.tensorrt")


@dataclass(frozen=True)
class Binding:
    """A loaded binding; ``flavour`` is its module name."""

    trt: ModuleType
    flavour: str
    version: str

    def __str__(self) -> str:
        return f"{_NAMES[self.flavour]} {self.version}"

    @property
    def plans_fit_one_gpu(self) -> bool:
        """Whether a plan runs only on the kind of GPU that it was built on."""
        return self.flavour == FULL


@cache
def load_binding() -> Binding:
    """Import ``tensorrt``, or ``tensorrt_rtx`` if that is not installed.

    Raises
    ------
    EngineError
        Neither can be imported, or TensorRT is older than 10.3.
    """
    failures = []
    for flavour in (FULL, RTX):
        found = _import(flavour)
        if isinstance(found, ModuleType):
            return _checked(found, flavour)
        failures.append(found)
    broken = [failure for failure in failures if failure]
    if broken:
        raise EngineError(f"TensorRT is installed, but can't be loaded: {'; '.join(broken)}")
    raise EngineError(
        "TensorRT is not installed: pip install 'centernetd[gpu]', or 'centernetd[rtx]' for "
        "TensorRT-RTX; on a Jetson it comes with JetPack, and the virtual environment must be "
        "made with --system-site-packages"
    )


def _import(flavour: str) -> ModuleType | str:
    """Return the module, or why it can't be loaded; the reason is empty if it isn't installed."""
    try:
        return importlib.import_module(flavour)
    except ModuleNotFoundError as error:
        return "" if error.name == flavour else f"{flavour} lacks {error.name}"
    except (ImportError, OSError, RuntimeError) as error:
        return f"{flavour}: {error}"


def _checked(trt: ModuleType, flavour: str) -> Binding:
    binding = Binding(trt, flavour, trt.__version__)
    if flavour == FULL and tuple(map(int, binding.version.split(".")[:2])) < _MIN_VERSION:
        raise EngineError(f"{binding} is too old: 10.3 is the first that is supported")
    return binding


@cache
def shared_logger(trt: Any) -> Any:  # noqa: ANN401 - the binding has no types
    """Return the process-wide logger for all objects of ``trt``.

    TensorRT keeps the first logger it is given and ignores later ones, so a single logger lives
    as long as the process. It forwards to our log and keeps the latest messages in ``errors``.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors = deque[str](maxlen=_ERRORS_KEPT)

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)
            level = logging.INFO if severity == trt.ILogger.WARNING else logging.DEBUG
            log.log(level, "%s", message.strip())

        def last_error(self) -> str:
            """Return the last error without its C++ details."""
            return plain(self.errors[-1] if self.errors else "")

    return Logger()


def plain(message: str) -> str:
    """Return TensorRT's message without C++ conditions, files and line numbers."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    found = next(filter(None, map(_ERROR.search, lines)), None)
    text = found[1] if found else " ".join(lines[:1])
    if meant := _CONDITION.search(text):
        text = "".join(re.findall(r'"([^"]*)"', meant[1]))
    text = _PLACE.sub("", _ASSERTION.sub("", text)).strip().rstrip(".!")
    return text or "it gives no reason"
