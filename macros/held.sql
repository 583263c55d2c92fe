{#-
  Which rows of its own mart a model subtracts: in a rebuild those from the horizon on, behind which there is
  nothing left to rebuild a day from; else none. So a rebuild is a fold too, of what the source has more, or less,
  than the mart: it writes what differs, and nothing where nothing does.
-#}
{% macro is_rebuilt(activity_date) -%}
    (select bounds.lower_bound is null from {{ fold_bounds() }} as bounds)
    and {{ activity_date }} >= (select (analytics.horizon() at time zone 'UTC')::date)
{%- endmacro %}
