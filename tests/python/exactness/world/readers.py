"""A reader, whose answers are compared with the oracle on every path that can answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

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
from exactness.world.openings import Openings

from fiml.sessions.periods import divide
from fiml.sessions.questions import Name
from fiml.sessions.reading import read_name_counts, read_series, read_stats

__all__ = ["Readers"]

Found = TypeVar("Found")

EVERYBODY = {"user_id": None, "session_type": None}


class Readers(Openings):
    """What is asked, and the same question to the oracle in the reader's own snapshot."""

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
        # Sums need no keys of names.
        assert found.keys() <= sums.keys() <= {*found, "serving"}
        for path, answer in sums.items():
            named = found.get(path) or found["source" if question["user_id"] else "marts"]
            periods = [
                {name: figure for name, figure in period.items() if name not in NAMES}
                for period in named["periods"]
            ]
            same = {"periods": periods} | ({} if path in found else {"meta": answer["meta"]})
            assert answer == named | same
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
