{{ config(tags=["reconciliation"]) }}

-- The macro names the columns.
select drifts.* -- noqa: AM04
from (
    {{ reconciliation(
        mart=ref("daily_user_stats"),
        keys=["activity_date", "user_key", "session_type"],
        sums={
            "sessions": "(facts.fact = 'metrics')::integer",
            "queries": "facts.total_queries",
            "duration_seconds": "facts.duration_seconds",
            "abandoned_sessions": "facts.is_abandoned::integer",
            "completed_sessions": "facts.is_completed::integer",
            "archived_sessions": "(facts.fact = 'archival')::integer",
        },
    ) }}
) as drifts
