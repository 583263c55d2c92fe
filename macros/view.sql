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

    {%- call statement("builder") -%}
        select analytics.become_builder()
    {%- endcall -%}
    {%- do lock_view(target_relation) -%}
    {%- set is_unchanged = view_is_there(target_relation) and view_is_unchanged(target_relation, sql) -%}
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

{#-
  Two builds that make one view at once would fail on the catalogue's own unique keys: the second waits for
  the first to commit, and looks again for what dbt's cache of relations may not know yet.
-#}
{% macro lock_view(relation) -%}
    {%- call statement("view_locked") -%}
        select pg_advisory_xact_lock(hashtextextended('view {{ relation }}', 0))
    {%- endcall -%}
{%- endmacro %}

{% macro view_is_there(relation) -%}
    {{ return(run_query("select to_regclass('" ~ relation ~ "') is not null").rows[0][0]) }}
{%- endmacro %}

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
