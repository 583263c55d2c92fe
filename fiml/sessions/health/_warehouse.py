"""What is made of the source: builds, the serving layer, and the feed that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fiml.sessions.health._asking import COUNTED_AT_MOST, Connection, all_rows, one_row
from fiml.sessions.health._findings import Finding, Limits, Severity
from fiml.sessions.health._spans import patience, span
from fiml.settings import Settings

__all__ = ["builds", "feed", "serving"]

_BUILD: Final = "Run `session-analytics build`."


async def builds(connection: Connection, settings: Settings, limits: Limits) -> list[Finding]:
    """Whether every mart is built, here and lately."""
    marts = await all_rows(
        connection,
        """
        select
            mart_states.mart,
            mart_states.is_rebuild_requested,
            mart_states.watermark is not null as is_usable,
            watermarks.watermark is not null as is_built,
            now() - mart_states.folded_at as age
        from analytics.mart_states
        inner join analytics.watermarks on watermarks.mart = mart_states.mart
        order by mart_states.mart
        """,
    )
    findings = []
    foreign = [mart.mart for mart in marts if mart.is_built and not mart.is_usable]
    unbuilt = [mart.mart for mart in marts if not mart.is_built]
    requested = [mart.mart for mart in marts if mart.is_rebuild_requested]
    ages = [mart.age for mart in marts if mart.is_usable and mart.age is not None]
    if foreign:
        findings.append(
            Finding(
                "build.foreign",
                Severity.WARNING,
                "marts of another server",
                f"{_listed(foreign)}: made before this database was restored or copied here. "
                "Answers are right, but read from the raw rows, which is slow.",
                f"{_BUILD} It starts from scratch by itself.",
            )
        )
    if unbuilt:
        findings.append(
            Finding(
                "build.missing",
                Severity.WARNING,
                "no build yet",
                f"{_listed(unbuilt)}: never built. "
                "Answers are right, but read from the raw rows, which is slow.",
                _BUILD,
            )
        )
    if requested:
        findings.append(
            Finding(
                "build.rebuild_requested",
                Severity.WARNING,
                "a rebuild is waiting",
                f"{_listed(requested)}: asked for, not done yet or interrupted.",
                f"{_BUILD} It starts from scratch by itself.",
            )
        )
    if ages:
        limit = limits.build_age or patience(settings.schedule)
        is_stale = max(ages) > limit
        findings.append(
            Finding(
                "build.stale" if is_stale else "build",
                Severity.WARNING if is_stale else Severity.OK,
                "stale build" if is_stale else "build",
                f"The oldest mart was built {span(max(ages))} ago"
                + (f", more than {span(limit)}." if is_stale else "."),
                f"{_BUILD} Then see why the schedule ({settings.schedule}) did not."
                if is_stale
                else None,
            )
        )
    return findings


async def serving(connection: Connection, _settings: Settings, limits: Limits) -> list[Finding]:
    """Whether the serving layer is there, how far behind it is, and whether it knows all names."""
    layer = await one_row(
        connection,
        """
        select
            coalesce(has_function_privilege(reading.oid, 'execute'), false) as is_there,
            (
                select count(*)
                from (
                    select from analytics.session_changes
                    inner join analytics.mart_states on mart_states.mart = 'session_totals'
                    where analytics.is_unseen(session_changes.xid, mart_states.watermark)
                    limit %(at_most)s
                ) as unseen
            ) as unseen_rows
        from (
            select (
                select pg_proc.oid
                from pg_proc
                where
                    pg_proc.proname = 'read_window'
                    and pg_proc.pronamespace = to_regnamespace('analytics')
                    and has_table_privilege(to_regclass('serving.session_totals'), 'select')
                    and has_table_privilege(to_regclass('serving.keys'), 'select')
                    and has_table_privilege(to_regclass('serving.layout'), 'select')
            ) as oid
        ) as reading
        """,
        {"at_most": limits.unseen_rows + 1},
    )
    if not layer.is_there:
        return [
            Finding(
                "serving.missing",
                Severity.WARNING,
                "no serving layer",
                "The schema serving is not there, or not open to this role. Answers are right, but "
                "read from the marts, which is slower.",
                "Grant this role `usage` and `select` in the schema serving; if it was dropped, "
                "`session-analytics uninstall` and `session-analytics migrate` make it again.",
            )
        ]
    names = await one_row(
        connection,
        """
        select layout.keyed_names, (select max(keys.key_id) - 1 from serving.keys) as given_away
        from serving.layout
        """,
    )
    if names.given_away >= names.keyed_names:
        return [
            Finding(
                "serving.full",
                Severity.WARNING,
                "the serving layer knows no more names",
                f"All {names.keyed_names:,} keys for assets, tags and query types are given away. "
                "Windows with other names are right, but read from the marts, which is slow.",
                "If so many names are meant, run as owner in psql: select "
                "analytics.set_serving_layout(keyed_names => ...); up to 4194302. "
                f"{_BUILD} It makes the layer again, with an entry of 8 bytes per name and "
                "running total.",
            )
        ]
    if layer.unseen_rows > limits.unseen_rows:
        return [
            Finding(
                "serving.behind",
                Severity.WARNING,
                "the serving layer is behind",
                f"More than {limits.unseen_rows:,} changes are not folded: each read adds them up.",
                "Keep `session-analytics fold` running, or run `session-analytics build`.",
            )
        ]
    return [
        Finding(
            "serving",
            Severity.OK,
            "serving layer",
            f"{layer.unseen_rows:,} changes are not folded yet.",
        )
    ]


async def feed(connection: Connection, _settings: Settings, limits: Limits) -> list[Finding]:
    """How much of the feed is kept, and for which mart."""
    feed = await one_row(
        connection,
        """
        select
            (
                select count(*)
                from (select from analytics.session_changes limit %(at_most)s) as counted
            ) as rows,
            pg_total_relation_size('analytics.session_changes') as bytes,
            (
                select mart_states.mart
                from analytics.mart_states
                order by mart_states.watermark is not null, mart_states.window_id, mart_states.mart
                limit 1
            ) as oldest_mart,
            (select now() - min(folded_at) from analytics.watermarks) as oldest_age
        """,
        {"at_most": COUNTED_AT_MOST},
    )
    is_large = feed.rows > limits.feed_rows or feed.bytes > limits.feed_bytes
    more = " or more" if feed.rows == COUNTED_AT_MOST else ""
    age = "never built" if feed.oldest_age is None else f"built {span(feed.oldest_age)} ago"
    return [
        Finding(
            "feed.growing" if is_large else "feed",
            Severity.WARNING if is_large else Severity.OK,
            "growing change feed" if is_large else "change feed",
            f"{feed.rows:,}{more} rows, {feed.bytes / 1024**2:,.1f} MiB; "
            f"oldest mart: {feed.oldest_mart}, {age}.",
            f"{_BUILD} Rows that every mart has folded are pruned half an hour later. If the rows "
            "stay, a mart is left out of the builds; if only the size stays, run in psql: "
            "vacuum analytics.session_changes;"
            if is_large
            else None,
        )
    ]


def _listed(names: Sequence[str]) -> str:
    return f"all {len(names)} marts" if len(names) > 2 else " and ".join(names)
