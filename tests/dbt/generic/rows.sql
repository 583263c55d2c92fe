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
