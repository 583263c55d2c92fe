{#- Tests of rows: each returns the rows that break the rule. -#}

{% test unique_together(model, columns) -%}
    select {{ columns | join(", ") }}
    from {{ model }}
    group by {{ columns | join(", ") }}
    having count(*) > 1
{%- endtest %}

{% test always_true(model, condition) -%}
    select * from {{ model }} where not coalesce({{ condition }}, false)
{%- endtest %}

{% test not_negative(model, column_name) -%}
    select * from {{ model }} where {{ column_name }} < 0
{%- endtest %}

{% test positive(model, column_name) -%}
    select * from {{ model }} where {{ column_name }} <= 0
{%- endtest %}
