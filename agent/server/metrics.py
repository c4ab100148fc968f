"""How the server does, for Prometheus: numbers only, never words or names."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from agent.events import Finished
from agent.host import Host

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """A registry of its own, so that several servers in one process do not share one."""

    def __init__(self, host: Host) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "emox_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._turns = Counter("emox_turns", "Turns finished", ["route"], registry=self.registry)
        self._stages = Histogram(
            "emox_stage_seconds", "Seconds of a turn", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.registry.register(_Now(host))
        host.on_finished = self._finished

    def _finished(self, event: Finished) -> None:
        self._turns.labels(event.result.plan.route).inc()
        for stage, ms in event.result.timings_ms.items():
            self._stages.labels(stage).observe(ms / 1000)


class _Now(Collector):
    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("emox_turns_here", "Turns that run or wait", value=self._host.n_here)
