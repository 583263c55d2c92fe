{#-
  Descriptions as comments, written only where they changed: `comment on` locks the relation against every
  reader's plan and bloats the catalogue, and a fold may run every few seconds.
-#}
{% macro persist_docs_once(relation) -%}
    {%- if not config.persist_relation_docs() -%}{{ return("") }}{%- endif -%}
    {%- set found = run_query(
        "select coalesce(obj_description('" ~ relation ~ "'::regclass, 'pg_class'), ''), "
        ~ "(select coalesce(json_object_agg(attname, col_description(attrelid, attnum)), '{}')::text "
        ~ "from pg_attribute where attrelid = '" ~ relation ~ "'::regclass and attnum > 0 "
        ~ "and not attisdropped)"
    ).rows[0] -%}
    {%- set wanted = namespace(is_there=(found[0] == model.description)) -%}
    {%- set comments = fromjson(found[1]) -%}
    {%- for column in model.columns.values() if comments.get(column.name) != column.description -%}
        {%- set wanted.is_there = false -%}
    {%- endfor -%}
    {%- if not wanted.is_there -%}{% do persist_docs(relation, model) %}{%- endif -%}
{%- endmacro %}
