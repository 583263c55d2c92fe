{#-
  Marts can be compared with each other at equal windows only: while another build is between two of them, or
  after `--select` of one, there is nothing to compare.
-#}
{% macro at_equal_windows(model, whole) -%}
    (
        select count(distinct watermarks.window_id) = 1
        from analytics.watermarks
        where watermarks.mart in ('{{ model.identifier }}', '{{ whole.identifier }}')
    )
{%- endmacro %}

{#- Whether a mart's row is of one of the `days`, a CTE of the test. -#}
{% macro on_days(mart) -%}
    exists (
        select from days
        where
            {{ mart }}.activity_date >= (days.starts_at at time zone 'UTC')::date
            and {{ mart }}.activity_date < (days.ends_before at time zone 'UTC')::date
    )
{%- endmacro %}

{#- Whether a mart holds all that the source does: then what is live and what is folded can be compared. -#}
{% macro has_folded_everything(mart) -%}
    exists (
        select from analytics.mart_states
        where
            mart_states.mart = '{{ mart.identifier }}'
            and mart_states.watermark is not null
            and not exists (
                select from {{ source("change_feed", "session_changes") }} as session_changes
                where analytics.is_unseen(session_changes.xid, mart_states.watermark)
            )
    )
{%- endmacro %}
