{#-
  Grants what is missing and revokes nothing: what somebody granted by hand stays, and a build that finds
  everything granted leaves the catalogue alone (a GRANT writes it, and two at once fail). A migration opened
  the tables to the role for BI; the view is made here, and so it is opened here.
-#}
{% macro grant_missing(relation, grants) -%}
    {%- if relation.is_view -%}
        {%- set known = run_query(
            "select roles.role_name from analytics.roles "
            ~ "inner join pg_roles on roles.role_name = pg_roles.rolname where roles.purpose = 'bi'"
        ).columns[0].values() | list -%}
        {%- set grants = {"select": known + ([grants.select] if grants.select is string else grants.select or [])} -%}
    {%- endif -%}
    {%- for privilege, grantees in (grants or {}).items() -%}
        {%- for role in ([grantees] if grantees is string else grantees) if role -%}
            {%- set is_granted = run_query(
                "select has_table_privilege(" ~ sql_text(role) ~ ", '" ~ relation ~ "', '" ~ privilege ~ "')"
            ).rows[0][0] -%}
            {%- if not is_granted -%}
                {% do run_query("grant " ~ privilege ~ " on " ~ relation ~ " to " ~ adapter.quote(role)) %}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{#- Opens the marts to the role of SESSION_ANALYTICS_BI_ROLE, before any model is: two grants at once would fail. -#}
{% macro open_marts() -%}
    {%- set role = env_var("SESSION_ANALYTICS_BI_ROLE", "") -%}
    {%- if role and flags.WHICH in ("run", "build") -%}
        select analytics.open_marts({{ sql_text(role) }});
        commit
    {%- else -%}
        select null
    {%- endif -%}
{%- endmacro %}
