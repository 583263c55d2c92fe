{#- Between which snapshots the fold that is under way reads the feed; a unit test, in which none is, says it itself. -#}
{% macro fold_bounds() -%}
    analytics.fold_bounds()
{%- endmacro %}
