"""Mistakes in the serving layer, in its fold, and in what reads it and adds it up."""

from exactness.mutants.seeding import Mutant

__all__ = ["INCARNATION", "PYTHON", "SERVING"]

OUTSIDE = "serving.outside_of_buckets(timestamptz,timestamptz,timestamptz)"
OUTSIDE_FACTS = "serving.outside_facts(timestamptz,timestamptz,timestamptz,text,text)"
READ_WINDOW = "analytics.read_window(text,text,integer,timestamptz,bigint,boolean)"
RANGES = "serving.window_ranges(timestamptz,timestamptz,timestamptz,timestamptz,timestamptz)"
SERVING = [
    Mutant(
        OUTSIDE_FACTS,
        "facts.occurred_at >= beyond.starts_at",
        "facts.occurred_at > beyond.starts_at",
    ),
    Mutant(
        OUTSIDE_FACTS,
        "facts.occurred_at < beyond.ends_before",
        "facts.occurred_at <= beyond.ends_before",
    ),
    Mutant(READ_WINDOW, "changes.occurred_at >= bucket", "changes.occurred_at > bucket"),
    Mutant(READ_WINDOW, "changes.occurred_at >= bucket", "changes.occurred_at >= since"),
    Mutant(READ_WINDOW, "changes.fact <> 'opening' and", ""),
    Mutant(OUTSIDE, "case when since < bucket then 1 else -1 end", "1"),
    Mutant(OUTSIDE, "('future', -1, now_at", "('future', -1, now_at + interval '1 us'"),
    Mutant(READ_WINDOW, "ended.expires_at <= now_at", "ended.expires_at < now_at"),
    Mutant(READ_WINDOW, "endless.expires_at is null", "false"),
    Mutant(READ_WINDOW, "active.expires_at > now_at", "active.expires_at >= now_at"),
    Mutant(READ_WINDOW, "wanted_key is null or changes.user_key = wanted_key", "true"),
    Mutant(
        READ_WINDOW,
        "wanted_key is null then changes.open_sessions",
        "true then changes.open_sessions",
    ),
    Mutant(
        READ_WINDOW,
        "when wanted_key is null then layer.bucket_width",
        "when true then layer.bucket_width",
    ),
    Mutant(READ_WINDOW, "if etag is distinct from known_etag", "if known_etag is null"),
    Mutant(
        READ_WINDOW, "wanted_key is null then date_trunc('day', since, 'UTC')", "false then since"
    ),
    Mutant(RANGES, "day < span", "day > span"),
    Mutant(RANGES, "hour < day", "hour > day"),
    Mutant(RANGES, "bucket < hour", "bucket > hour"),
    Mutant(RANGES, "(1, 'open', 'infinity', 'infinity'),", ""),
    Mutant("serving.before(timestamptz)", "interval '1 microsecond'", "interval '0'"),
    Mutant(READ_WINDOW, "starts_at >= span", "starts_at > span"),
    Mutant("serving.merged(bigint[])", "(summed.large << 38)) as entry", "0) as entry"),
    Mutant(
        "serving.merged(bigint[])", "serving.entry(-summed.key_id", "serving.entry(summed.key_id"
    ),
    Mutant("serving.reset()", "or starts_at >= horizon", ""),
    Mutant("serving.reset()", "level <> 'day'\n", "true\n"),
    Mutant(
        "serving.reset()",
        "total.sessions := total.sessions + span.sessions",
        "total.sessions := span.sessions",
    ),
    Mutant(
        "serving.reset()",
        "serving.merged(total.settled || array_agg(entry))",
        "serving.merged(array_agg(entry))",
    ),
    Mutant(
        "analytics.end_fold(text)",
        "set is_new = false where is_new",
        "set is_new = is_new where false",
    ),
    Mutant(
        "serving.admit_heavy_users()",
        "delete from serving.session_totals where scope_id = any(erased)",
        "perform 1",
    ),
    Mutant("serving.key_id(text,text)", "keys.kind = 'overflow'", "keys.key_id = 2"),
    Mutant("analytics.fold_ranges()", "ends_before;", "ends_before + interval '1 us';"),
    Mutant("analytics.fold_ranges()", "starts_at := ends_before;", "starts_at := found_at;"),
    Mutant(
        "totals",
        "running.starts_at > span_sums.starts_at",
        "running.starts_at >= span_sums.starts_at",
    ),
    Mutant(
        "totals",
        "running.starts_at > span_counts.starts_at",
        "running.starts_at >= span_counts.starts_at",
    ),
    Mutant("totals", "from taken_over\n", "from taken_over where false\n"),
    Mutant("totals", "coalesce(taken_over.entries, '{}')", "'{}'::bigint[]"),
    Mutant("totals", "and not user_scopes.is_new", ""),
    Mutant("totals", "> session_changes.occurred_at", ">= session_changes.occurred_at"),
    Mutant(
        "totals",
        "null::timestamptz as bucket_starts_at",
        "serving.start_of(history.occurred_at, layout.bucket_width) as bucket_starts_at",
    ),
    Mutant(
        "totals",
        "cross join platform",
        "cross join (select * from platform where false) as platform",
    ),
    Mutant("totals", "where keyed.user_scope_id is not null", "where false"),
    Mutant("totals", "where changes.user_scope_id is not null", "where false"),
    Mutant("totals", "as fold_range) = '-infinity'", "as fold_range) is not null"),
    Mutant(
        "totals",
        "lower_bound is null then -1 else 1 end as open_sessions",
        "false then -1 else 1 end as open_sessions",
    ),
    Mutant("totals", "large_part(counts.n) << 38)", "large_part(counts.n) << 39)"),
    Mutant("totals", "else folded.added || excluded.settled", "else excluded.settled"),
    Mutant("totals", "then '{}' else", "then folded.added else"),
    Mutant(
        "totals",
        "folded.settled || folded.added || excluded.settled",
        "folded.settled || folded.added",
    ),
    Mutant("totals", "excluded.stamp", "folded.stamp"),
]
PYTHON = [
    Mutant("fiml.sessions.serving", '"forgotten", "overflow"', '"forgotten"'),
    Mutant("fiml.sessions.serving", "leaders.limit and (", "False and ("),
    Mutant(
        "fiml.sessions.serving", "found[-1][1] <= leaders.limit", "found[-1][1] < leaders.limit"
    ),
    Mutant("fiml.sessions.serving", "counts = np.where(keys < 0, counts << 38, counts)", "pass"),
    Mutant("fiml.sessions.serving", "keys = np.abs(keys)", "keys = np.maximum(keys, 0)"),
    Mutant("fiml.sessions.serving", "entries + (1 << 39)", "entries"),
    Mutant("fiml.sessions.serving", "(entries - (keys << 40)) * weights", "entries - (keys << 40)"),
    Mutant("fiml.sessions.serving", "counts.get(name, 0) + n", "n"),
    Mutant("fiml.sessions.serving", "self.count(kind, name) + n", "counts.get(name, 0) + n"),
    Mutant(
        "fiml.sessions.serving",
        "np.searchsorted(ids, len(vector))",
        "np.searchsorted(ids, len(vector) - 1)",
    ),
    Mutant("fiml.sessions.serving", "may_be = counts >= np", "may_be = counts > np"),
    Mutant(
        "fiml.sessions.serving",
        "np.isin(ids, changed, invert=True)",
        "np.ones(len(ids), dtype=bool)",
    ),
    Mutant("fiml.sessions.windows", "or folded.etag != head.etag", ""),
    Mutant(
        "fiml.sessions.windows",
        "part.sign * (getattr(part, name) or 0)",
        "(getattr(part, name) or 0)",
    ),
    Mutant("fiml.sessions.windows", "changes.subtract(counted)", "changes.update(counted)"),
    Mutant("fiml.sessions.figures", "return -count, name.encode()", "return -count, b''"),
    Mutant("fiml.sessions.figures", "<= _MAX_NAME", "<= 2 * _MAX_NAME"),
    Mutant("fiml.sessions.figures", "if count >= least", "if count > least"),
    Mutant("fiml.sessions.figures", "not 0 < count <= _MAX_OCCURRENCES", "not 0 < count"),
]

INCARNATION = [
    Mutant("fiml.sessions.serving", "incarnation != self._keys.incarnation", "False"),
    Mutant(
        READ_WINDOW,
        "pg_relation_filepath('serving.keys')",
        "'serving.keys'::regclass::oid::text",
    ),
]
