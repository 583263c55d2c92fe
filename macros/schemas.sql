{#- A folder's schema is the schema, without the target's name in front: BI tools and the reader know it by name. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name if custom_schema_name is not none else target.schema }}
{%- endmacro %}

{#- Names without the database: compiled SQL folds in any database, and carries nothing of the one it was made in. -#}
{% macro ref() -%}
    {%- set version = kwargs.get("version") or kwargs.get("v") -%}
    {%- set found = builtins.ref(*varargs, version=version) if version else builtins.ref(*varargs) -%}
    {{ return(found if found is string else found.include(database=false)) }}
{%- endmacro %}

{% macro source(source_name, table_name) -%}
    {{ return(builtins.source(source_name, table_name).include(database=false)) }}
{%- endmacro %}
