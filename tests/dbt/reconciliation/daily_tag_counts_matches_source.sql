{{ config(tags=["reconciliation"]) }}

{{ reconciliation(
    mart=ref("daily_tag_counts"),
    keys=["activity_date", "session_type", "tag"],
    sums={
        "occurrences": "1",
    },
    exploded="cross join lateral analytics.names(facts.tags) as recorded (tag)",
    condition="facts.fact = 'metrics'",
) }}
