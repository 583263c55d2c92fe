{{ config(materialized="view") }}

with user_keys as (

    select * from {{ source("change_feed", "user_keys") }}

)

-- Never the user id.
select
    user_keys.user_key,
    user_keys.user_id is null as is_anonymous
from user_keys
