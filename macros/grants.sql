{#-
  Grants what is missing and revokes nothing: what somebody granted by hand stays, and a build that finds
  everything granted leaves the catalogue alone (a GRANT writes it, and two at once fail).
-#}
{% macro grant_missing(relation, grants) -%}
    {%- for privilege, grantees in (grants or {}).items() -%}
        {%- for role in ([grantees] if grantees is string else grantees) if role -%}
            {%- set is_granted = run_query(
                "select has_table_privilege('" ~ role | replace("'", "''") ~ "', '" ~ relation ~ "', '"
                ~ privilege ~ "')"
            ).rows[0][0] -%}
            {%- if not is_granted -%}
                {% do run_query("grant " ~ privilege ~ " on " ~ relation ~ " to " ~ adapter.quote(role)) %}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{#- Opens a schema to the BI role, before any model is: two grants on one schema at once would fail. -#}
{% macro grant_usage(schema) -%}
    {%- set role = env_var("SESSION_ANALYTICS_BI_ROLE", "") -%}
    {%- if role and flags.WHICH in ("run", "build") -%}
        do $do$
        begin
            if not has_schema_privilege('{{ role | replace("'", "''") }}', '{{ schema }}', 'usage') then
                grant usage on schema {{ schema }} to {{ adapter.quote(role) }};
            end if;
        end
        $do$;
        commit
    {%- else -%}
        select null
    {%- endif -%}
{%- endmacro %}
