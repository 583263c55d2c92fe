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
    {%- if not wanted.is_there and relation.is_view -%}{% do persist_docs(relation, model) %}{%- endif -%}
    {#- A table is the owner's, who alone may comment on it, and not the builder's. -#}
    {%- if not wanted.is_there and not relation.is_view -%}
        {%- set descriptions = {} -%}
        {%- for column in model.columns.values() %}{% do descriptions.update({column.name: column.description}) %}{% endfor -%}
        {% do run_query(
            "select analytics.describe('" ~ relation ~ "', "
            ~ sql_text(model.description) ~ ", " ~ sql_text(tojson(descriptions)) ~ ")"
        ) %}
    {%- endif -%}
{%- endmacro %}

{% macro sql_text(value) -%}
    {{ return("'" ~ value | replace("'", "''") ~ "'") }}
{%- endmacro %}
