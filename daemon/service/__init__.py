"""What operators see: metrics, HTTP pages, systemd's notifications, logs."""

from prometheus_client import CollectorRegistry

from daemon.config import Redactor
from daemon.service.http import HttpServer
from daemon.service.logs import LogHandler, configure
from daemon.service.meters import PrometheusMeters
from daemon.service.metrics import PipelineCollector
from daemon.service.notify import Notifier, watchdog_interval
from daemon.service.pages import Pages
from daemon.service.progress import Progress
from daemon.service.rates import Rates
from daemon.service.view import EngineInfo, Pipeline, StreamView

__all__ = [
    "CollectorRegistry",
    "EngineInfo",
    "HttpServer",
    "LogHandler",
    "Notifier",
    "Pages",
    "Pipeline",
    "PipelineCollector",
    "Progress",
    "PrometheusMeters",
    "Rates",
    "Redactor",
    "StreamView",
    "configure",
    "watchdog_interval",
]
