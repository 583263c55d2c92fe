{{ config(tags=["reconciliation"]) }}

-- The macro names the columns.
select drifts.* -- noqa: AM04
from (
    {{ reconciliation(
        mart=ref("daily_query_type_counts"),
        keys=["activity_date", "session_type", "query_type"],
        sums={
            "queries": "query_count.occurrences",
        },
        exploded="cross join lateral analytics.counts(facts.query_types) as query_count (query_type, occurrences)",
        condition="facts.fact = 'metrics'",
    ) }}
) as drifts
