{#-
  Notes what this invocation took, for processes that did not do it. Without a window there is nothing to
  note: it had failed before.
-#}
{% macro end_build(results) -%}
    {%- if flags.WHICH not in ("run", "build") -%}
        select null
    {%- else -%}
        {%- set failed = results | selectattr("status", "in", ["error", "fail", "runtime error", "partial success"]) | list -%}
        select analytics.end_build('{{ invocation_id }}', {{ "false" if failed else "true" }});
        commit
    {%- endif -%}
{%- endmacro %}
