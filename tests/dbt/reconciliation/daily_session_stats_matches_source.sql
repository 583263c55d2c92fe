{{ config(tags=["reconciliation"]) }}

-- The macro names the columns.
select drifts.* -- noqa: AM04
from (
    {{ reconciliation(
        mart=ref("daily_session_stats"),
        keys=["activity_date", "session_type"],
        sums={
            "sessions": "(facts.fact = 'metrics')::integer",
            "queries": "facts.total_queries",
            "duration_seconds": "facts.duration_seconds",
            "abandoned_sessions": "facts.is_abandoned::integer",
            "completed_sessions": "facts.is_completed::integer",
            "archived_sessions": "(facts.fact = 'archival')::integer",
            "set_aside_values": "facts.set_aside_values",
        },
    ) }}
) as drifts
