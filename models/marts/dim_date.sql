{{ config(materialized="view") }}

with session_stats as (

    select * from {{ ref("daily_session_stats") }}

),

today as (

    select (now() at time zone 'UTC')::date as activity_date

),

first_day as (

    select min(session_stats.activity_date) as activity_date
    from session_stats
    -- A session dated before is a clock that was wrong.
    where session_stats.activity_date >= '2000-01-01'

),

-- Whole years, as BI tools want a calendar, to the end of the present one.
calendar as (

    select
        make_date(
            extract(year from least(first_day.activity_date, today.activity_date))::integer, 1, 1
        ) as first_date,
        make_date(extract(year from today.activity_date)::integer, 12, 31) as last_date
    from first_day
    cross join today

),

-- What is dated elsewhere does not stretch the calendar, and is lost in no join: a row of its own.
days as (

    select calendar.first_date + numbers.number as activity_date
    from calendar
    cross join generate_series(0, calendar.last_date - calendar.first_date) as numbers (number)
    union
    select session_stats.activity_date
    from session_stats

),

parts as (

    select
        days.activity_date,
        extract(year from days.activity_date)::integer as calendar_year,
        extract(quarter from days.activity_date)::integer as quarter_of_year,
        extract(month from days.activity_date)::integer as month_of_year,
        extract(day from days.activity_date)::integer as day_of_month,
        extract(isoyear from days.activity_date)::integer as iso_year,
        extract(week from days.activity_date)::integer as week_of_year,
        extract(isodow from days.activity_date)::integer as day_of_week
    from days

)

select
    parts.activity_date,
    parts.calendar_year,
    parts.quarter_of_year,
    parts.month_of_year,
    parts.day_of_month,
    parts.iso_year,
    parts.week_of_year,
    parts.day_of_week,
    parts.calendar_year || '-Q' || parts.quarter_of_year as quarter_label,
    parts.calendar_year || '-' || to_char(parts.month_of_year, 'FM00') as month_label,
    parts.iso_year || '-W' || to_char(parts.week_of_year, 'FM00') as week_label,
    to_char(parts.activity_date::timestamp, 'FMMonth') as month_name,
    to_char(parts.activity_date::timestamp, 'FMDay') as weekday_name,
    parts.day_of_week > 5 as is_weekend,
    parts.activity_date - (parts.day_of_week - 1) as week_start_date,
    -- The first day that there is, a Monday, is no first of a month.
    parts.activity_date
    - least(parts.day_of_month - 1, parts.activity_date - '4714-11-24 BC'::date) as month_start_date
from parts
