"""A database with writers, builders and a reader, on which histories are played.

Every step is played to its end before the next begins; what interleaves are transactions: writers
keep theirs open across builds, and builds open windows that they fold later, or never.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from exactness.oracle import (
    NAMES,
    assert_same,
    epoch,
    expected_count,
    expected_figures,
    expected_set_aside,
    expected_stats,
    read_source,
    set_aside_between,
)
from psycopg import errors
from psycopg.types.json import Jsonb

from fiml.sessions.periods import divide
from fiml.sessions.questions import Name
from fiml.sessions.reading import read_name_counts, read_series, read_stats
from fiml.sessions.serving import ServingCache
from fiml.warehouse.fold import fold, fold_mart, open_window
from fiml.warehouse.project import Mart

Found = TypeVar("Found")

WRITERS = 3
EVERYBODY = {"user_id": None, "session_type": None}
# A writer that would wait for another one's transaction is refused and rolls back: it is the same
# thread that would have to end the other one.
SETTINGS = (
    "-c lock_timeout=20ms -c jit=off -c TimeZone=UTC -c synchronous_commit=off "
    "-c analytics.facts_of_a_range=2"
)

# Sessions that are open by user and type, now or as an earlier snapshot saw them: those that the
# source has, minus what the feed says has changed since.
OPEN_SESSIONS = """
select changes.user_key, changes.session_type, sum(changes.open_sessions)::integer
from (
    select
        coalesce(user_keys.user_key, analytics.anonymous_key()) as user_key,
        sessions.type::text as session_type,
        1 as open_sessions
    from sessions
    left join analytics.user_keys on user_keys.user_id = sessions.user_id
    where not sessions.is_archived
    union all
    select user_key, session_type, -sign * open_sessions
    from analytics.session_changes
    where not pg_visible_in_snapshot(xid, coalesce(%s::pg_snapshot, pg_current_snapshot()))
) as changes
group by changes.user_key, changes.session_type
having sum(changes.open_sessions) <> 0
"""

SUMS = (
    "sessions",
    "queries",
    "duration_seconds",
    "abandoned_sessions",
    "archived_sessions",
    "set_aside_values",
    "open_sessions",
)
# What each row of the serving layer says: how often it counts what, sums and names alike.
CONTENT = f"""
with content as materialized (
    select
        totals.scope_id,
        coalesce(user_keys.user_id, scopes.session_type, '') as scope,
        scopes.user_key is not null as is_user,
        totals.level,
        totals.starts_at,
        counted.what,
        sum(counted.n)::bigint as n
    from serving.session_totals as totals
    inner join serving.scopes on totals.scope_id = scopes.scope_id
    left join analytics.user_keys on scopes.user_key = user_keys.user_key
    cross join lateral (
        values {", ".join(f"('{name}', totals.{name})" for name in SUMS)}
        union all
        select keys.kind || ' ' || keys.name, decoded.n
        from serving.decoded(totals.settled || totals.added) as decoded
        inner join serving.keys on decoded.key_id = keys.key_id
    ) as counted (what, n)
    group by 1, 2, 3, 4, 5, 6
    having sum(counted.n) <> 0
),
layout as (
    select
        layout.*,
        make_interval(days => layout.running_days) as running_width,
        analytics.horizon() as horizon
    from serving.layout
)
"""
# A running row stays where something was dated once, though nothing is any more; and behind the
# horizon, where windows begin at midnight, a rebuild leaves days alone.
DECODED_TOTALS = f"""{CONTENT},
days as materialized (
    select distinct content.scope_id, content.starts_at from content where content.level = 'day'
)
select
    content.is_user, content.scope, content.level, content.starts_at::text, content.what, content.n
from content
cross join layout
where
    content.level in ('day', 'open')
    or (content.level in ('bucket', 'hour') and content.starts_at >= layout.horizon)
    or (content.level = 'running' and content.starts_at = 'infinity')
    or (content.level = 'running' and exists (
        select from days
        where
            days.scope_id = content.scope_id
            and days.starts_at >= content.starts_at
            and days.starts_at < content.starts_at + layout.running_width
    ))
"""
# An hour is the sum of its buckets, a day of its hours, and what is running up to a row the sum of
# the days before it; and nothing is counted less than never.
CONTRADICTIONS = f"""{CONTENT},
running as (
    select totals.scope_id, totals.starts_at
    from serving.session_totals as totals
    where totals.level = 'running'
)
select 'below zero' as wrong, scope_id, starts_at, what, n from content where n < 0
union all
select 'hour', scope_id, serving.start_of(starts_at, hour_width), what,
    sum(case level when 'hour' then n else -n end)
from content
cross join layout
where level in ('bucket', 'hour') and not is_user and starts_at >= horizon
group by 2, 3, 4
having sum(case level when 'hour' then n else -n end) <> 0
union all
select 'day', scope_id, serving.start_of(starts_at, '1 day'), what,
    sum(case level when 'day' then n else -n end)
from content
cross join layout
where level in ('hour', 'day') and starts_at >= horizon
group by 2, 3, 4
having sum(case level when 'day' then n else -n end) <> 0
union all
select 'running', running.scope_id, running.starts_at, content.what,
    sum(case content.level when 'running' then n else -n end)
from running
inner join content
    on
        running.scope_id = content.scope_id
        and (
            (content.level = 'running' and content.starts_at = running.starts_at)
            or (content.level = 'day' and content.starts_at < running.starts_at)
        )
group by 2, 3, 4
having sum(case content.level when 'running' then n else -n end) <> 0
"""


@dataclass(frozen=True)
class Metrics:
    """A session_metrics row."""

    session: UUID
    user_id: str | None
    session_type: str
    created_at: datetime
    duration_seconds: int
    total_queries: int
    assets: Any
    query_types: Any
    tags: Any
    abandoned: bool
    completed: bool


@dataclass(frozen=True)
class Session:
    """A sessions row."""

    id: UUID
    user_id: str | None
    session_type: str
    tags: Any
    created_at: datetime
    expires_at: datetime | None
    is_archived: bool
    archived_at: datetime | None


class World:
    """One database and everybody who is connected to it."""

    def __init__(self, conninfo: str, marts: Sequence[Mart]) -> None:
        self.conninfo = conninfo
        self.marts = {mart.name: mart for mart in marts}
        self.loop = asyncio.new_event_loop()
        self.connect()
        self.cache = ServingCache()
        # How many answers each path gave.
        self.paths: Counter[str] = Counter()
        self.runs = 0
        self.windows: list[str] = []
        # Snapshots, each with the sessions that were open in it.
        self.openings: list[tuple[str, list[tuple[Any, ...]]]] = []

    def connect(self) -> None:
        self.writers = [
            psycopg.connect(self.conninfo, autocommit=True, options=SETTINGS)
            for _ in range(WRITERS)
        ]
        # Each fold is planned once for all histories.
        self.builder = psycopg.connect(
            self.conninfo, autocommit=True, prepare_threshold=0, options=SETTINGS
        )
        self.oracle = psycopg.connect(self.conninfo, autocommit=True, options=SETTINGS)
        self.reader: psycopg.AsyncConnection[Any] = self.loop.run_until_complete(
            psycopg.AsyncConnection.connect(
                self.conninfo,
                autocommit=True,
                prepare_threshold=0,
                options=SETTINGS + " -c plan_cache_mode=force_generic_plan",
            )
        )

    def disconnect(self) -> None:
        for connection in (*self.writers, self.builder, self.oracle):
            connection.close()
        self.loop.run_until_complete(self.reader.close())

    def close(self) -> None:
        self.disconnect()
        self.loop.close()

    def clear(self) -> None:
        """Back to an installed, empty database."""
        for writer in self.writers:
            writer.rollback()
        with self.builder.transaction():
            for table in (
                "sessions",
                "session_metrics",
                "analytics.session_changes",
                "analytics.build_windows",
                "analytics.quarantine",
                "analytics.erased_users",
                *(f"{mart.schema}.{mart.name}" for mart in self.marts.values()),
            ):
                self.builder.execute(f"delete from {table}")
            self.builder.execute("delete from analytics.user_keys where user_id is not null")
            self.builder.execute("update analytics.settings set horizon = '-infinity'")
            self.builder.execute(
                "update analytics.watermarks set window_id = 0, watermark = null, "
                "previous_watermark = null, is_rebuild_requested = false"
            )
            self.builder.execute("delete from serving.scopes where user_key is not null")
            # Histories are short: who comes back a few times is a heavy user of theirs.
            self.builder.execute(
                "select analytics.set_serving_layout('5 minutes', '1 hour', 8, 3, 2)"
            )
        self.windows = []
        self.openings = []
        self.remember_openings()

    # Writers ------------------------------------------------------------------------------------

    def write(self, writer: int, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Let a writer do one statement; a refusal ends its transaction, as it would anybody's."""
        connection = self.writers[writer % WRITERS]
        try:
            connection.execute(statement, parameters)
        except (
            errors.LockNotAvailable,
            errors.UniqueViolation,
            errors.DeadlockDetected,
            errors.SerializationFailure,
            errors.InFailedSqlTransaction,
            errors.InvalidSavepointSpecification,
            errors.NoActiveSqlTransaction,
            errors.ActiveSqlTransaction,
        ):
            connection.rollback()
        except psycopg.Error as error:
            # An erased user, and an erasure in a snapshot that may be too old.
            if error.sqlstate != "FA001" and "READ COMMITTED" not in str(error):
                raise
            connection.rollback()

    def insert_metrics(self, writer: int, rows: Sequence[Metrics], *, upsert: bool) -> None:
        rows = _distinct(rows)
        values = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"] * len(rows))
        conflict = (
            "do update set user_id = excluded.user_id, session_type = excluded.session_type, "
            "created_at = excluded.created_at, total_queries = excluded.total_queries, "
            "duration_seconds = excluded.duration_seconds, tags = excluded.tags, "
            "assets_analyzed = excluded.assets_analyzed, abandoned = excluded.abandoned, "
            "query_type_summary = excluded.query_type_summary"
            if upsert
            else "do nothing"
        )
        self.write(
            writer,
            "insert into session_metrics (session_id, user_id, session_type, created_at, "
            "duration_seconds, total_queries, assets_analyzed, query_type_summary, tags, "
            "abandoned, completed_normally) "
            f"values {values} on conflict (session_id) {conflict}",
            [
                value
                for row in rows
                for value in (
                    row.session,
                    row.user_id,
                    row.session_type,
                    row.created_at,
                    row.duration_seconds,
                    row.total_queries,
                    Jsonb(row.assets),
                    Jsonb(row.query_types),
                    None if row.tags is None else Jsonb(row.tags),
                    row.abandoned,
                    row.completed,
                )
            ],
        )

    def insert_session(self, writer: int, row: Session) -> None:
        self.write(
            writer,
            "insert into sessions (id, user_id, type, tags, created_at, expires_at, is_archived, "
            "archived_at) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (id) do update "
            "set is_archived = excluded.is_archived, archived_at = excluded.archived_at, "
            "expires_at = excluded.expires_at, type = excluded.type, user_id = excluded.user_id",
            [
                row.id,
                row.user_id,
                row.session_type,
                Jsonb(row.tags),
                row.created_at,
                row.expires_at,
                row.is_archived,
                row.archived_at,
            ],
        )

    # Builds -------------------------------------------------------------------------------------

    def open_window(self) -> None:
        self.runs += 1
        run_id = f"run {self.runs}"
        self._build(lambda: open_window(self.builder, run_id))
        self.windows.append(run_id)
        self.remember_openings()

    def fold_one(self, window: int, mart: int) -> None:
        """Fold one mart with a window that is open, which need not be the newest."""
        if self.windows:
            run_id = self.windows[-1 - window % len(self.windows)]
            name = sorted(self.marts)[mart % len(self.marts)]
            self._build(lambda: fold_mart(self.builder, self.marts[name], run_id))

    def build(self) -> None:
        self.runs += 1
        run_id = f"run {self.runs}"
        self._build(lambda: fold(self.builder, self.marts.values(), run_id))

    def request_rebuild(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.request_rebuild()"))

    def prune(self) -> None:
        self._build(lambda: self.builder.execute("select analytics.prune_changes('0')"))
        # What is pruned is older than the pruning, and needed only to look further back.
        self.openings = []
        self.remember_openings()

    def _build(self, step: Any) -> None:
        try:
            step()
        except errors.LockNotAvailable:
            # A writer's transaction holds what the step needs; a real build would wait for it.
            self.builder.rollback()

    # Readers ------------------------------------------------------------------------------------

    def check(
        self,
        *,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int = 30,
        as_of: datetime | None = None,
    ) -> dict[str, Any]:
        """Read, and compare with the oracle in the reader's own snapshot."""
        return self.loop.run_until_complete(self._check(user_id, session_type, days, as_of))

    def read(
        self,
        *,
        user_id: str | None = None,
        session_type: str | None = None,
        days: int = 30,
        as_of: datetime | None = None,
        include_meta: bool = False,
        path: str | None = None,
    ) -> dict[str, Any]:
        """Read without comparing, in no transaction."""
        return self.loop.run_until_complete(
            read_stats(
                self.reader,
                user_id=user_id,
                session_type=session_type,
                days=days,
                as_of=as_of,
                include_meta=include_meta,
                cache=self.cache,
                path=path,
            )
        )

    def check_series(self, **question: Any) -> dict[str, Any]:
        """Read a time series, and compare each period with the oracle; returns the answer.

        Args:
            question: of `read_series`: `window`, `grain`, `zone`, and perhaps `user_id`,
                `session_type` and `as_of`.
        """
        return self.loop.run_until_complete(self._check_series(EVERYBODY | question))

    def check_name_counts(self, *names: Name, **question: Any) -> dict[Name, list[int]]:
        """Count names in each period, on every path, and compare each with the oracle.

        Args:
            names: what is counted.
            question: as `check_series`, with `as_of`.
        """
        return self.loop.run_until_complete(self._check_name_counts(names, EVERYBODY | question))

    def series(self, **question: Any) -> dict[str, Any]:
        """Read a time series without comparing, in no transaction."""
        return self.loop.run_until_complete(
            read_series(self.reader, cache=self.cache, **(EVERYBODY | question))
        )

    async def _check(
        self, user_id: str | None, session_type: str | None, days: int, as_of: datetime | None
    ) -> dict[str, Any]:
        question: dict[str, Any] = {
            "user_id": user_id,
            "session_type": session_type,
            "days": days,
            "as_of": as_of,
        }
        found, source, now = await self._in_one_snapshot(partial(self._answers, question))
        question["as_of"] = as_of or now
        expected = expected_stats(source, **question)
        set_aside = expected_set_aside(source, **question)
        for path, answer in found.items():
            meta = answer.pop("meta")
            self.paths[path] += 1
            assert_same(answer, expected)
            assert meta["set_aside_values"] == set_aside
        return expected

    async def _check_series(self, question: dict[str, Any]) -> dict[str, Any]:
        found, source, now = await self._in_one_snapshot(partial(self._series, question))
        as_of = question.get("as_of") or now
        since, until = question["window"].bounds(as_of)
        meant = {name: question[name] for name in EVERYBODY}
        answer: dict[str, Any] = {}
        for path, answer in found.items():
            meta = answer.pop("meta", None)
            self.paths[f"series of {path}"] += 1
            periods = answer["periods"]
            moments = [datetime.fromisoformat(period["period_start"]) for period in periods]
            moments += [datetime.fromisoformat(period["period_end"]) for period in periods[-1:]]
            assert moments[:: max(1, len(periods))] == ([since, until] if since < until else [])
            for period, (start, end) in zip(periods, pairwise(moments), strict=True):
                assert datetime.fromisoformat(period["period_end"]) == end
                expected = expected_figures(source, epoch(start), epoch(end), **meant)
                if not period["is_open"]:
                    expected["active_sessions"] = None
                assert_same({name: period[name] for name in period if name in expected}, expected)
            if meta is not None:
                assert meta["set_aside_values"] == set_aside_between(
                    source, epoch(since), epoch(until), **meant
                )
        return answer

    async def _check_name_counts(
        self, names: Sequence[Name], question: dict[str, Any]
    ) -> dict[Name, list[int]]:
        async def read() -> list[tuple[Name, list[int]]]:
            return [
                (
                    name,
                    await read_name_counts(
                        self.reader, name=name, cache=self.cache, path=path, **question
                    ),
                )
                for name in names
                for path in (None, "serving", "marts", "source")
            ]

        found, source, _ = await self._in_one_snapshot(read)
        as_of = question["as_of"]
        periods = divide(
            *question["window"].bounds(as_of), question["grain"], question["zone"], as_of
        )
        meant = {name: question[name] for name in EVERYBODY}
        for name, counts in found:
            assert counts == [
                expected_count(
                    source,
                    epoch(period.starts_at),
                    epoch(period.ends_at),
                    kind=name.kind,
                    name=name.name,
                    **meant,
                )
                for period in periods
            ]
        return dict(found)

    async def _in_one_snapshot(
        self, read: Callable[[], Coroutine[Any, Any, Found]]
    ) -> tuple[Found, dict[str, Any], datetime]:
        """What is read, the source in the same snapshot, and that transaction's time."""
        await self.reader.execute("begin isolation level repeatable read")
        try:
            cursor = await self.reader.execute(
                "select pg_export_snapshot(), transaction_timestamp()"
            )
            row = await cursor.fetchone()
            assert row is not None
            found = await read()
            source = self._source_at(row[0])
            # After a rollback the driver forgets what it prepared.
            await self.reader.execute("commit")
        except BaseException:
            await self.reader.rollback()
            raise
        return found, source, row[1]

    async def _answers(self, question: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return await self._on_every_path(partial(read_stats, **question), question)

    async def _series(self, question: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found = await self._on_every_path(partial(read_series, **question), question)
        sums = await self._on_every_path(
            partial(read_series, has_names=False, **question), question
        )
        assert sums.keys() == found.keys()
        for path, answer in found.items():
            periods = [
                {name: figure for name, figure in period.items() if name not in NAMES}
                for period in answer["periods"]
            ]
            assert sums[path] == answer | {"periods": periods}
        return found

    async def _on_every_path(
        self, read: Callable[..., Coroutine[Any, Any, dict[str, Any]]], question: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """The answers by the path that gave them: of each path that can answer."""
        answers: dict[str, dict[str, Any]] = {}
        for path in ("serving", "marts", "source"):
            # A user is never read from marts; and what could not answer has let the next one do it.
            if path == "marts" and (answers.keys() - {"serving"} or question.get("user_id")):
                continue
            if path == "source" and "source" in answers:
                continue
            answer = await read(self.reader, include_meta=True, cache=self.cache, path=path)
            # An empty window is not even asked for.
            answers[answer["meta"]["path"] if "meta" in answer else path] = answer
        return answers

    def _source_at(self, snapshot: str) -> dict[str, Any]:
        with self.oracle.transaction():
            self.oracle.execute("set transaction isolation level repeatable read, read only")
            self.oracle.execute(f"set transaction snapshot '{snapshot}'")
            self.check_openings()
            return read_source(self.oracle)

    def remember_openings(self) -> None:
        """Remember which sessions are open in a snapshot of now, for `check` to compare."""
        with self.oracle.transaction():
            self.oracle.execute("set transaction isolation level repeatable read, read only")
            row = self.oracle.execute("select pg_current_snapshot()::text").fetchone()
            assert row is not None
            self.openings.append((row[0], self._open_sessions(None)))

    def check_openings(self) -> None:
        """Whatever was written since, what was open in a snapshot can be told from it."""
        for snapshot, expected in self.openings:
            assert self._open_sessions(snapshot) == expected

    def _open_sessions(self, snapshot: str | None) -> list[tuple[Any, ...]]:
        return sorted(self.oracle.execute(OPEN_SESSIONS, [snapshot]).fetchall(), key=repr)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """What every mart holds, sorted; of the serving layer, what its rows say."""
        return {
            name: sorted(
                self.builder.execute(
                    DECODED_TOTALS
                    if name == "session_totals"
                    else f"select {', '.join(map(_readable, mart.columns))} from marts.{name}"
                ).fetchall(),
                key=repr,
            )
            for name, mart in self.marts.items()
        }

    def check_incremental_equals_scratch(self) -> None:
        """End every transaction, build, rebuild from the source, and compare row by row."""
        for writer in self.writers:
            writer.rollback()
        with self._patience():
            self.build()
            self.check_totals()
            incremental = self.rows()
            self.rebuild()
            self.check_totals()
            scratch = self.rows()
        for name in self.marts:
            if name == "session_totals":
                # A user who was heavy once stays it until a rebuild.
                users = heavy_users(incremental[name]) & heavy_users(scratch[name])
                assert of_scopes(incremental[name], users) == of_scopes(scratch[name], users)
            else:
                assert incremental[name] == scratch[name], name

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait for locks: no writer holds one, and autovacuum gives way after a second."""
        self.builder.execute("set lock_timeout = '30s'")
        try:
            yield
        finally:
            self.builder.execute("reset lock_timeout")

    def rebuild(self) -> None:
        """Make every mart again from the source."""
        self.builder.execute("select analytics.request_rebuild()")
        self.open_window()
        for mart in self.marts.values():
            assert fold_mart(self.builder, mart, self.windows[-1]) == "rebuild"

    def check_totals(self) -> None:
        """The levels of the serving layer say the same."""
        assert self.builder.execute(CONTRADICTIONS).fetchall() == []

    def set_layout(self, **widths: object) -> None:
        """Change the serving layer's widths; the next fold makes it again."""
        self._build(
            lambda: self.builder.execute(
                "select analytics.set_serving_layout("
                + ", ".join(f"{name} => %({name})s" for name in widths)
                + ")",
                widths,
            )
        )

    def merge_early(self) -> None:
        """Let rows of the serving layer be merged after a few entries; by default it takes 187."""
        row = self.builder.execute(
            "select pg_get_functiondef("
            "'serving.is_merge_due(bigint[],bigint[],bigint[])'::regprocedure)"
        ).fetchone()
        assert row is not None
        assert "1500" in row[0]
        self.builder.execute(row[0].replace("1500", "80"))


def _readable(column: str) -> str:
    # Days may lie outside of Python's years.
    return f"{column}::text" if column == "activity_date" else column


def heavy_users(totals: list[tuple[Any, ...]]) -> set[str]:
    return {row[1] for row in totals if row[0]}


def of_scopes(totals: list[tuple[Any, ...]], users: set[str]) -> list[tuple[Any, ...]]:
    return [row for row in totals if not row[0] or row[1] in users]


def _distinct(rows: Sequence[Metrics]) -> Sequence[Metrics]:
    # One statement cannot upsert the same row twice.
    return rows if len({row.session for row in rows}) == len(rows) else rows[:1]
