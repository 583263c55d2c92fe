{#- Tests of marts against each other. -#}

{#- The sums of the finer mart are those of the whole, key by key. -#}
{% test adds_up_to(model, whole, keys, sums) -%}
    {%- set names = (keys + sums) | join(", ") -%}
    with parts as (
        select
            {{ keys | join(", ") }},
            {% for sum in sums -%}
            sum({{ sum }})::bigint as {{ sum }}{{ "," if not loop.last }}
            {% endfor %}
        from {{ model }}
        group by {{ keys | join(", ") }}
    ),

    whole as (
        select {{ names }} from {{ whole }}
        where {% for sum in sums %}{{ sum }} <> 0{{ " or " if not loop.last }}{% endfor %}
    ),

    differences as (
        (select * from parts except all select * from whole)
        union all
        (select * from whole except all select * from parts)
    )

    select * from differences
    where {{ at_equal_windows(model, whole) }}
{%- endtest %}

{#- A day and type that has details has a row in the whole. -#}
{% test has_a_day_in(model, whole) -%}
    select details.activity_date, details.session_type
    from {{ model }} as details
    left join {{ whole }} as whole
        on details.activity_date = whole.activity_date and details.session_type = whole.session_type
    where whole.activity_date is null and {{ at_equal_windows(model, whole) }}
{%- endtest %}
