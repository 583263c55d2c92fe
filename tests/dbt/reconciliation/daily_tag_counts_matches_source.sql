{{ config(tags=["reconciliation"]) }}

-- The macro names the columns.
select drifts.* -- noqa: AM04
from (
    {{ reconciliation(
        mart=ref("daily_tag_counts"),
        keys=["activity_date", "session_type", "tag"],
        sums={
            "occurrences": "1",
        },
        exploded="cross join lateral analytics.names(facts.tags) as recorded (tag)",
        condition="facts.fact = 'metrics'",
    ) }}
) as drifts
