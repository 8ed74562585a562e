"""What operators see: metrics, HTTP pages, systemd notifications, logs."""

from prometheus_client import CollectorRegistry

from centernetd.config import Redactor
from centernetd.service.http import HttpServer
from centernetd.service.logs import LogHandler, configure
from centernetd.service.metrics import PipelineCollector, PrometheusMeters
from centernetd.service.notify import Notifier, watchdog_interval
from centernetd.service.pages import Pages
from centernetd.service.progress import Progress
from centernetd.service.rates import Rates
from centernetd.service.view import EngineInfo, Pipeline, StreamView

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
