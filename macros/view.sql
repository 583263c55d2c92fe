{#-
  Views replaced in place, and left alone when nothing about them changed. dbt's own materialization drops
  the old view with cascade, and with it every view that somebody built on top; even a replacement waits for
  each open reader.
-#}
{% materialization view, adapter="postgres" %}
    {%- set target_relation = this.incorporate(type="view") -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- if existing_relation is not none and existing_relation.type != "view" -%}
        {{ exceptions.raise_compiler_error(this ~ " is a " ~ existing_relation.type ~ ", not a view") }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=false) }}
    {{ run_hooks(pre_hooks, inside_transaction=true) }}

    {%- set is_unchanged = existing_relation is not none and view_is_unchanged(existing_relation, sql) -%}
    {% call statement("main") -%}
        {% if is_unchanged -%}
            select 'unchanged'
        {%- else -%}
            {%- if config.get("contract").enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif -%}
            create or replace view {{ target_relation }} as (
                {{ sql }}
            )
        {%- endif %}
    {%- endcall %}

    {%- do persist_docs_once(target_relation) -%}
    {%- do grant_missing(target_relation, config.get("grants")) -%}
    {{ run_hooks(post_hooks, inside_transaction=true) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=false) }}

    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}

{#- Asks PostgreSQL: a temporary view of the new text has the same definition as the view that exists. -#}
{% macro view_is_unchanged(relation, sql) -%}
    {%- set candidate = relation.identifier ~ "__candidate" -%}
    {%- call statement("candidate") -%}
        drop view if exists pg_temp.{{ candidate }};
        create temporary view {{ candidate }} as ({{ sql }})
    {%- endcall -%}
    {%- call statement("compared", fetch_result=true) -%}
        select
            pg_get_viewdef('pg_temp.{{ candidate }}'::regclass)
            = pg_get_viewdef('{{ relation }}'::regclass)
    {%- endcall -%}
    {%- call statement("candidate_gone") -%}
        drop view pg_temp.{{ candidate }}
    {%- endcall -%}
    {{ return(load_result("compared")["data"][0][0]) }}
{%- endmacro %}
