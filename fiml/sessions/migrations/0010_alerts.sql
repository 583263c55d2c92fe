-- What became of alert rules and reports; both are defined in a file. No user id stands here: what is about
-- one user has the user's key, and goes when an erasure takes that.

create table analytics.alert_rules (
    rule_name text primary key,
    fingerprint bytea not null,
    state text not null check (state in ('new', 'holds', 'holds not', 'too few sessions', 'unknown')),
    value numeric,
    sessions bigint,
    -- As of when the figure was read.
    evaluated_at timestamptz,
    problem text
);
comment on table analytics.alert_rules is
'One row per rule of the alert file that was evaluated: what was found last, and whether it could be.';

-- Salted, because the definition of a rule may name a user.
create function analytics.alert_fingerprint(definition text) returns bytea
language sql stable security definer set search_path from current
as $$
    select sha256(convert_to('alert rule ' || settings.erasure_salt::text || definition, 'UTF8'))
    from analytics.settings
$$;
comment on function analytics.alert_fingerprint is
'What differs where two definitions of an alert rule do, and tells nothing of them.';

create table analytics.alert_episodes (
    episode_id uuid primary key default gen_random_uuid(),
    rule_name text not null,
    description text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    figure text not null,
    comparison text not null,
    threshold numeric not null,
    window_hours integer not null,
    session_type text,
    user_key uuid references analytics.user_keys (user_key) on delete cascade,
    value numeric not null,
    sessions bigint not null,
    message text not null,
    fired_at timestamptz not null,
    over_at timestamptz,
    ending text check (ending in ('over', 'changed', 'removed')),
    over_message text,
    check ((over_at is null) = (ending is null) and (over_at is null) = (over_message is null))
);
comment on table analytics.alert_episodes is
'One row per time that an alert rule began to hold, until it no longer did, was changed or was removed.';
create unique index on analytics.alert_episodes (rule_name) where over_at is null;
create index on analytics.alert_episodes (fired_at desc);
create index on analytics.alert_episodes (user_key) where user_key is not null;

create table analytics.notices (
    notice_id bigint generated always as identity primary key,
    kind text not null check (kind in ('fired', 'over', 'report')),
    episode_id uuid references analytics.alert_episodes (episode_id) on delete cascade,
    report_name text,
    -- An ISO week, such as 2026-W07.
    period text,
    channel text not null,
    created_at timestamptz not null default now(),
    attempts integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    delivered_at timestamptz,
    -- Nobody tries any more: the file has no such channel or report now.
    given_up_at timestamptz,
    problem text,
    check ((episode_id is null) = (kind = 'report')),
    check ((report_name is null) = (episode_id is not null) and (period is null) = (episode_id is not null)),
    unique nulls not distinct (episode_id, report_name, period, kind, channel)
);
comment on table analytics.notices is
'One row per message to one channel: that an alert fired, that it is over, or a report of one week.';
create index on analytics.notices (channel, created_at) where delivered_at is null and given_up_at is null;

insert into analytics.privileges (purpose, kind, object_name, privilege)
select
    listed.purpose,
    'table' as kind,
    opened.object_name,
    given.privilege
from (
    values
    ('builder', array['select', 'insert', 'update', 'delete'], array['analytics.alert_rules']),
    ('builder', array['select', 'insert', 'update'], array['analytics.alert_episodes', 'analytics.notices']),
    (
        'reader', array['select'],
        array['analytics.alert_rules', 'analytics.alert_episodes', 'analytics.notices']
    )
) as listed (purpose, privileges, objects)
cross join lateral unnest(listed.privileges) as given (privilege)
cross join lateral unnest(listed.objects) as opened (object_name);

insert into analytics.privileges (purpose, kind, object_name, privilege)
values ('builder', 'function', 'analytics.alert_fingerprint(text)', 'execute');

select analytics.close_to_public();
