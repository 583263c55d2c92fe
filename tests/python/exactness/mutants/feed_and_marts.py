"""Mistakes in the feed, in the fold of the marts, and in what reads them."""

from exactness.mutants.seeding import Mutant

__all__ = ["DATABASE", "MODELS", "READER"]

READER = [
    Mutant(
        "reader",
        "facts.occurred_at < frame.source_until",
        "facts.occurred_at <= frame.source_until",
    ),
    Mutant(
        "reader", "facts.occurred_at >= frame.source_from", "facts.occurred_at > frame.source_from"
    ),
    Mutant(
        "reader", "facts.occurred_at >= frame.beyond_from", "facts.occurred_at > frame.beyond_from"
    ),
    Mutant("reader", "facts.occurred_at < frame.mart_until", "facts.occurred_at < frame.as_of"),
    Mutant("reader", 'collate "C"', 'collate "C" desc'),
    Mutant(
        "reader",
        "open_sessions.expires_at > clock.as_of",
        "open_sessions.expires_at >= clock.as_of",
    ),
    Mutant("reader", "and facts.fact <> 'opening'", ""),
    Mutant("reader", "having sum(parts.occurrences) <> 0", ""),
    Mutant(
        "reader",
        "when days.watermark is null then days.until",
        "when false then days.until",
    ),
]
DATABASE = [
    Mutant(
        "analytics.is_unseen(xid8,pg_snapshot)",
        "xid >= pg_snapshot_xmin",
        "xid >= pg_snapshot_xmax",
    ),
    Mutant(
        "analytics.begin_fold(text,text)",
        "build_window.window_id <= state.window_id",
        "build_window.window_id = state.window_id",
    ),
    Mutant("analytics.prune_changes(interval)", "select min(", "select max("),
    Mutant(
        "analytics.log_session_metrics()",
        "when 'INSERT' then 1 else -1",
        "when 'INSERT' then 1 else 1",
    ),
    Mutant(
        "analytics.log_sessions_update()",
        "values (-1, session.archived",
        "values (1, session.archived",
    ),
    Mutant("analytics.log_sessions_update()", "side.sign * session.opened", "session.opened"),
    Mutant("analytics.log_sessions_update()", "session.opened = side.sign and", "true and"),
    Mutant("analytics.log_sessions_update()", "and side.archived_otherwise is null", ""),
    Mutant(
        "analytics.log_sessions_update()",
        "group by row.id, row.user_id, row.type",
        "group by row.user_id, row.type",
    ),
    Mutant("analytics.log_sessions()", "case when row.is_archived then 0 else 1 end", "1"),
    Mutant("analytics.log_sessions()", "not row.is_archived or", ""),
    Mutant("analytics.log_sessions_update()", "true), '') = ''", "true), '') <> 'none'"),
    Mutant("analytics.log_sessions_update()", "ended.sign, -ended.sign", "ended.sign, 1"),
    Mutant(
        "analytics.log_sessions_update()",
        "from old_rows where is_archived is not false",
        "from old_rows where false",
    ),
    Mutant(
        "analytics.log_session_metrics_update()",
        "table old_facts except all",
        "table old_facts except",
    ),
    Mutant("analytics.fill_tags()", "sessions.id = new.session_id", "false"),
    Mutant("analytics.names(jsonb)", "between 1 and 255", "between 0 and 256"),
    Mutant("analytics.counts(jsonb)", "= trunc(member.occurrences)", "is not null"),
]
MODELS = [
    Mutant("models", "then -session_changes.sign", "then session_changes.sign"),
    Mutant("models", "isfinite(changes.occurred_at)", "true"),
    Mutant("models", "at time zone 'UTC'", "at time zone 'Asia/Tokyo'"),
    Mutant("fold", "delete from", "-- delete from"),
]
