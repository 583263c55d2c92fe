{{ config(tags=["reconciliation"]) }}

-- The macro names the columns.
select drifts.* -- noqa: AM04
from (
    {{ reconciliation(
        mart=ref("daily_asset_counts"),
        keys=["activity_date", "session_type", "symbol"],
        sums={
            "occurrences": "1",
        },
        exploded="cross join lateral analytics.names(facts.assets) as asset (symbol)",
        condition="facts.fact = 'metrics'",
    ) }}
) as drifts
