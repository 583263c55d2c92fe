{#-
  Compares a mart with the source, in one statement and so in one snapshot: what the mart holds plus the feed
  rows it has not seen must be what the source rows add up to, on every day that is compared. Independent of
  how the mart was folded. Returns a row for each key that differs, with what was expected and what was found.

  Args:
    mart: the relation.
    keys: its key columns, activity_date first.
    sums: its other columns, each with what one fact contributes to it (an expression on `facts`).
    exploded: joins that turn a fact into rows of the mart's grain.
    condition: which facts the mart is about.
-#}
{% macro reconciliation(mart, keys, sums, exploded="", condition="true") -%}
with days as (

    select * from analytics.days_to_reconcile('{{ mart.identifier }}', {{ var("reconcile_all_days") }})

),

mart_state as materialized (

    select mart_states.watermark from analytics.mart_states where mart_states.mart = '{{ mart.identifier }}'

),

unseen_changes as (

    select session_changes.*
    from mart_state
    inner join {{ ref("stg_session_changes") }} as session_changes
        on analytics.is_unseen(session_changes.xid, mart_state.watermark)
    inner join days
        on session_changes.occurred_at >= days.starts_at and session_changes.occurred_at < days.ends_before

),

source_facts as (

    select on_day.*
    from days
    cross join lateral (
        select *
        from {{ ref("int_session_facts") }} as session_facts
        where session_facts.occurred_at >= days.starts_at and session_facts.occurred_at < days.ends_before
        -- Kept apart from the join, so that each day is looked up through the indexes on time.
        offset 0
    ) as on_day

),

counted as (

    {% for part in [
        {"rows": "unseen_changes", "weight": "facts.sign", "is_source": "false"},
        {"rows": "source_facts", "weight": "1", "is_source": "true"},
    ] -%}
    select
        {{ part.is_source }} as is_source,
        (facts.occurred_at at time zone 'UTC')::date as activity_date,
        {% for key in keys if key != "activity_date" -%}
        {{ key }},
        {% endfor -%}
        {% for sum, contribution in sums.items() -%}
        {{ part.weight }} * ({{ contribution }})::bigint as {{ sum }}{{ "," if not loop.last }}
        {% endfor -%}
    from {{ part.rows }} as facts
    {{ exploded }}
    where {{ condition }} and isfinite(facts.occurred_at)
    union all
    {% endfor -%}
    select
        false as is_source,
        {{ (keys + sums.keys() | list) | join(",\n        ") }}
    from {{ mart }} as mart
    where {{ on_days("mart") }}

),

compared as (

    select
        {{ keys | join(",\n        ") }},
        {% for sum in sums -%}
        coalesce(sum({{ sum }}) filter (where is_source), 0) as expected_{{ sum }},
        coalesce(sum({{ sum }}) filter (where not is_source), 0) as found_{{ sum }}{{ "," if not loop.last }}
        {% endfor -%}
    from counted
    group by {{ keys | join(", ") }}

)

select
    '{{ mart.identifier }}' as mart,
    compared.*
from compared
where
    {% for sum in sums -%}
    expected_{{ sum }} <> found_{{ sum }}{{ " or " if not loop.last }}
    {% endfor %}
{%- endmacro %}
