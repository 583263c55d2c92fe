{#- The figures of the serving layer that are sums by time. -#}
{% macro figure_names() -%}
    {{ return([
        "sessions", "queries", "duration_seconds", "abandoned_sessions", "archived_sessions", "set_aside_values"
    ]) }}
{%- endmacro %}

{% macro figures(relation) -%}
    {% for name in figure_names() -%}
        {{ relation }}.{{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro sums(relation) -%}
    {% for name in figure_names() -%}
        analytics.total({{ relation }}.{{ name }}) as {{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro zeros() -%}
    {% for name in figure_names() -%}
        0::bigint as {{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- The same figures, of signed changes. -#}
{% macro sums_of_changes() -%}
        coalesce(sum(changes.sign) filter (where changes.fact = 'metrics'), 0) as sessions,
        analytics.total(changes.sign * changes.total_queries::bigint) as queries,
        analytics.total(changes.sign * changes.duration_seconds::bigint) as duration_seconds,
        coalesce(sum(changes.sign) filter (where changes.is_abandoned), 0) as abandoned_sessions,
        coalesce(sum(changes.sign) filter (where changes.fact = 'archival'), 0) as archived_sessions,
        sum(changes.sign * changes.set_aside_values) as set_aside_values
{%- endmacro %}

{#-
  Counts as the entries of a vector (fiml/sessions/migrations/0006_serving.sql says how one is written): one
  each, and a second one for the part of a count that does not fit.
-#}
{% macro vector(counts) -%}
    array_agg(serving.entry({{ counts }}.key_id, {{ counts }}.n - (serving.large_part({{ counts }}.n) << 38)))
    || coalesce(
        array_agg(serving.entry(-{{ counts }}.key_id, serving.large_part({{ counts }}.n)))
            filter (where serving.large_part({{ counts }}.n) <> 0),
        '{}'
    )
{%- endmacro %}
