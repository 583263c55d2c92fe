"""Every metric: its name, its type, its labels, its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as it is exposed.
        kind: its type.
        labels: each has a handful of values, and none says whose the figures are.
        help: what it means; a table and its HELP line show it.
        figure: of `analytics.monitored`, where it is one; else empty.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    help: str
    figure: str = ""


READS: Final = Metric(
    "session_analytics_read_duration_seconds",
    "histogram",
    ("operation", "path"),
    "From a call of the reader to its answer, waiting for a connection included. By path: "
    "serving, marts or source; of an answer made of several, the slowest; none, where there was "
    "nothing to read. An operation stream lasts as long as its consumer takes.",
)
READ_FAILURES: Final = Metric(
    "session_analytics_read_failures_total",
    "counter",
    ("operation", "kind"),
    "Calls of the reader without an answer: unavailable, pool_exhausted, deadline, "
    "schema_version, invalid, refused, cancelled or unexpected.",
)
POOL_IN_USE: Final = Metric(
    "session_analytics_pool_connections_in_use",
    "gauge",
    (),
    "Connections that calls hold now.",
)
POOL_MAX: Final = Metric(
    "session_analytics_pool_connections_max",
    "gauge",
    (),
    "Connections that calls can hold at once (SESSION_ANALYTICS_POOL_SIZE).",
)
INFO: Final = Metric(
    "session_analytics_info", "info", ("version",), "Always 1: the version of the package."
)
UP: Final = Metric(
    "session_analytics_database_up",
    "gauge",
    (),
    "1 where the database answered this scrape, and is at this package's version; else 0, and "
    "what follows is missing.",
)
LAG: Final = Metric(
    "session_analytics_feed_lag_seconds",
    "gauge",
    ("mart",),
    "For how long at most the oldest change that the mart has not folded has been waiting: since "
    "the mart's snapshot, or since a scrape that found no such change; 0 where there is none.",
)
STATE: Final = (
    Metric(
        "session_analytics_feed_unfolded_rows",
        "gauge",
        ("mart",),
        "Changes that the mart has not folded, and every read adds up; counted up to 100000.",
        "unfolded_rows",
    ),
    Metric(
        "session_analytics_watermark_age_seconds",
        "gauge",
        ("mart",),
        "Since the mart was last folded. It grows while nothing comes in: what is late is in "
        "session_analytics_feed_lag_seconds.",
        "fold_age",
    ),
    Metric(
        "session_analytics_fold_duration_seconds",
        "gauge",
        ("mart",),
        "What the last fold of the mart took, whoever folded it. Few changes are folded for all "
        "marts at once, and then it is the time until the mart's turn was over.",
        "fold_seconds",
    ),
    Metric(
        "session_analytics_mart_usable",
        "gauge",
        ("mart",),
        "1 where the mart was built for this database, else 0: answers are right, and slow.",
        "usable",
    ),
    Metric(
        "session_analytics_quarantined_rows",
        "gauge",
        ("fact",),
        "Rows that were set aside, and are in no figure: archival, late archival or metrics; "
        "counted up to 100000 each.",
        "quarantined",
    ),
    Metric(
        "session_analytics_sessions_active",
        "gauge",
        (),
        "Sessions that are not archived and not expired. This one and the next two are missing "
        "where the serving layer was not built, or 100000 changes are not folded.",
        "active",
    ),
    Metric(
        "session_analytics_sessions_expired",
        "gauge",
        (),
        "Sessions that are expired and wait for their archival.",
        "expired",
    ),
    Metric(
        "session_analytics_sessions_archived",
        "gauge",
        (),
        "Sessions that were ever archived; less where one was erased or deleted.",
        "archived",
    ),
    Metric(
        "session_analytics_build_duration_seconds",
        "gauge",
        (),
        "What the last dbt build that ended took, wherever it was started, tests included and "
        "dbt's own start not.",
        "build_seconds",
    ),
    Metric(
        "session_analytics_build_age_seconds",
        "gauge",
        (),
        "Since that build ended.",
        "build_age",
    ),
    Metric(
        "session_analytics_build_successful",
        "gauge",
        (),
        "1 where every model of it was built and every test passed, else 0.",
        "build_successful",
    ),
)
METRICS: Final = (READS, READ_FAILURES, POOL_IN_USE, POOL_MAX, INFO, UP, LAG, *STATE)
