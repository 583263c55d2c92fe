{#- Tests of marts against each other. -#}

{#- The finer mart adds up to the whole, key by key, on the days that reconciliation looks at. -#}
{% test adds_up_to(model, whole, keys, sums) -%}
    {%- set names = (keys + sums) | join(", ") -%}
    with days as (
        select * from analytics.days_to_reconcile('{{ model.identifier }}', {{ var("reconcile_all_days") }})
    ),

    parts as (
        select
            {{ keys | join(", ") }},
            {% for sum in sums -%}
            sum({{ sum }})::bigint as {{ sum }}{{ "," if not loop.last }}
            {% endfor %}
        from {{ model }} as parts
        where {{ on_days("parts") }}
        group by {{ keys | join(", ") }}
    ),

    whole as (
        select {{ names }} from {{ whole }} as whole
        where
            {{ on_days("whole") }}
            and ({% for sum in sums %}{{ sum }} <> 0{{ " or " if not loop.last }}{% endfor %})
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

{#-
  dbt's test of the same name, for marts that are folded one after the other: the dimensions know what `whole`
  has folded, so a mart is compared at the same window, and a live view while `whole` has folded everything.
  `condition` says which rows of a live view. The dimensions are made of `whole`, and has_a_day_in is tried by each
  build: a scheduled one leaves this out.
-#}
{% test relationships(model, column_name, to, field, whole, condition=none) -%}
    {{- config(tags=["by_construction"]) }}
    select facts.{{ column_name }}
    from {{ model }} as facts
    left join {{ to }} as dimension on facts.{{ column_name }} = dimension.{{ field }}
    where
        dimension.{{ field }} is null
        {% if condition -%}
        and {{ condition }}
        and {{ has_folded_everything(whole) }}
        {%- else -%}
        and {{ at_equal_windows(model, whole) }}
        {%- endif %}
{%- endtest %}

{#-
  A relationships test that knows erasure: it drops a user's mapping at once, and the rows leave the mart with
  the next fold. Until then they are in the feed, which keeps what it was given for longer than a build takes.
-#}
{% test known_user_key(model, column_name, to, field) -%}
    select rows_of_users.{{ column_name }}
    from {{ model }} as rows_of_users
    left join {{ to }} as users on rows_of_users.{{ column_name }} = users.{{ field }}
    where
        users.{{ field }} is null
        and not exists (
            select from {{ source("change_feed", "session_changes") }} as session_changes
            where session_changes.user_key = rows_of_users.{{ column_name }}
        )
{%- endtest %}
