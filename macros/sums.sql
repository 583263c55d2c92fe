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
        sum({{ relation }}.{{ name }})::bigint as {{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro zeros() -%}
    {% for name in figure_names() -%}
        0::bigint as {{ name }}{{ ", " if not loop.last }}
    {%- endfor %}
{%- endmacro %}
