"""The metrics of this process, in a registry of their own, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fiml.monitoring import catalogue
from fiml.monitoring.catalogue import Metric
from fiml.monitoring.pools import open_pools
from fiml.monitoring.reads import Told, listen
from fiml.monitoring.state import DatabaseWatch, State

__all__ = ["Metrics"]

# From a hot read of the serving layer to a deadline.
_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class Metrics:
    """Counts reads from its making until it is closed, and asks the database when it is asked."""

    def __init__(self, watch: DatabaseWatch) -> None:
        """Take what asks the database."""
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        info = Info(
            catalogue.INFO.name.removesuffix("_info"),
            catalogue.INFO.help,
            registry=self.registry,
        )
        info.info({"version": version("session-analytics")})
        self._reads = Histogram(
            catalogue.READS.name,
            catalogue.READS.help,
            catalogue.READS.labels,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            catalogue.READ_FAILURES.name,
            catalogue.READ_FAILURES.help,
            catalogue.READ_FAILURES.labels,
            registry=self.registry,
        )
        self.registry.register(_Pools(watch))
        self.registry.register(_Database(watch))
        self._end: Callable[[], None] = listen(self._count)

    def close(self) -> None:
        """Count no more."""
        self._end()

    def _count(self, told: Told) -> None:
        if told.failure is None:
            self._reads.labels(told.operation, told.path).observe(told.seconds)
        else:
            self._failures.labels(told.operation, told.failure).inc()


class _Pools(Collector):
    """How full the pools are, but for the one that the watch asks through."""

    def __init__(self, watch: DatabaseWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Family]:
        pools = [pool for pool in open_pools() if pool is not self._watch.database]
        if pools:
            yield _gauge(catalogue.POOL_IN_USE, {"": sum(p.connections_in_use for p in pools)})
            yield _gauge(catalogue.POOL_MAX, {"": sum(p.connections_max for p in pools)})


class _Database(Collector):
    """How far everything in the database is."""

    def __init__(self, watch: DatabaseWatch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Family]:
        state = self._watch.state()
        yield _gauge(catalogue.UP, {"": float(state is not None)})
        if state is not None:
            yield _gauge(catalogue.LAG, state.lags)
            yield from _gauges(state)


def _gauges(state: State) -> Iterable[Family]:
    for metric in catalogue.STATE:
        values = {
            label: value
            for (figure, label), value in state.figures.items()
            if figure == metric.figure
        }
        if values:
            yield _gauge(metric, values)


def _gauge(metric: Metric, values: Mapping[str, float]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for label, value in values.items():
        family.add_metric([label] if metric.labels else [], value)
    return family
