{{ config(tags=["reconciliation"]) }}

{{ reconciliation(
    mart=ref("daily_asset_counts"),
    keys=["activity_date", "session_type", "symbol"],
    sums={
        "occurrences": "1",
    },
    exploded="cross join lateral analytics.names(facts.assets) as asset (symbol)",
    condition="facts.fact = 'metrics'",
) }}
