"""Hostile strings through every argument of the library.

What is asked of one user is answered with that user's rows alone, whatever the id looks like; what
is no argument is refused by its name; nothing of it reaches the database as anything but a value.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from hostile.bystanders import OTHERS, Connection, add_users, unharmed
from hostile.strings import hostile_strings, is_storable
from pydantic import ValidationError

from fiml.errors import InvalidArgumentError, InvalidUserIdError, UnknownSessionTypeError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.maintenance import erase_user, erasure_receipt
from fiml.sessions.models import QueryRecord, Session
from fiml.sessions.store import SessionStore
from fiml.settings import Settings


async def refused(
    wanted: type[InvalidArgumentError],
    call: Callable[..., Awaitable[Any]],
    *given: Any,
    **named: Any,
) -> None:
    """The call is refused with exactly this error, in a sentence that a log can take."""
    with pytest.raises(InvalidArgumentError) as refusal:
        await call(*given, **named)
    assert type(refusal.value) is wanted or wanted is InvalidArgumentError
    message = str(refusal.value)
    assert "expected" in message
    assert len(message) < 500
    assert message.isprintable()


async def ask_the_reader(analytics: SessionAnalytics, text: str) -> None:
    read, export = analytics.get_session_stats, analytics.export_session_metrics
    if is_storable(text):
        expected = 3 if text in OTHERS else 1
        for answer in (await read(text), await analytics.get_user_session_summary(text)):
            assert answer["user_id"] == text
            assert answer["total_sessions"] == expected
            assert [row["symbol"] for row in answer["top_assets"]] == [
                "OTHER" if text in OTHERS else text
            ]
        table = await export("csv", user_id=text)
        assert isinstance(table, str)
        rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
        assert [row["user_id"] for row in rows] == [text] * expected
    else:
        await refused(InvalidUserIdError, read, text)
        await refused(InvalidUserIdError, analytics.get_user_session_summary, text)
        await refused(InvalidUserIdError, export, "csv", user_id=text)
    await refused(UnknownSessionTypeError, read, session_type=text)
    await refused(UnknownSessionTypeError, export, "csv", session_type=text)
    await refused(InvalidArgumentError, read, days=text)
    await refused(InvalidArgumentError, read, include_meta=text)
    await refused(InvalidArgumentError, export, text)
    await refused(InvalidArgumentError, analytics.record_session_metrics, text)


async def ask_the_store(store: SessionStore, analytics: SessionAnalytics, text: str) -> None:
    create = store.create_session
    if is_storable(text):
        session = await create([text, "A"], "macro", text, tags=[text])
        assert (session.user_id, session.assets, session.tags) == (text, [text, "A"], [text])
        query = QueryRecord(query_type=text, parameters={text: [text]}, result_summary=text)
        await store.add_query(session.id, query)
        session.state.update_context(text, {text: text})
        session.tags = [f"{text}"[:254] + "."]
        session = await store.update_session(session.id, session)
        stored = await store.get_session(str(session.id))
        assert stored == session
        assert stored.state.history.queries == [query]
        assert stored.state.context == {text: {text: text}}
        listed = await store.list_user_sessions(text, include_archived=True)
        assert {row.user_id for row in listed} == {text}
        assert session.id in {row.id for row in listed}
        assert await analytics.record_session_metrics(session)
        assert await store.archive_session(session.id)
        assert await store.delete_session(session.id)
    else:
        await refused(InvalidUserIdError, create, ["A"], "macro", text)
        await refused(InvalidUserIdError, store.list_user_sessions, text)
        await refused(InvalidArgumentError, create, ["A", text], "macro")
        await refused(InvalidArgumentError, create, ["A"], "macro", tags=[text])
        with pytest.raises(ValidationError):
            QueryRecord(query_type=text)
        with pytest.raises(ValidationError):
            Session(type="macro", assets=[text])
    some_id = uuid4()
    await refused(UnknownSessionTypeError, create, ["A"], text)
    await refused(InvalidArgumentError, create, text, "macro")
    await refused(InvalidArgumentError, create, ["A"], "macro", ttl_hours=text)
    await refused(InvalidArgumentError, create, ["A"], "macro", tags=text)
    await refused(InvalidArgumentError, store.list_user_sessions, "ann", include_archived=text)
    await refused(InvalidArgumentError, store.list_user_sessions, "ann", limit=text)
    await refused(InvalidArgumentError, store.extend_session, some_id, text)
    await refused(InvalidArgumentError, store.add_query, some_id, text)
    await refused(InvalidArgumentError, store.update_session, some_id, text)
    for call in (store.get_session, store.delete_session, store.archive_session):
        await refused(InvalidArgumentError, call, text)
    for call in (store.update_session, store.add_query):
        await refused(InvalidArgumentError, call, text, "anything")
    await refused(InvalidArgumentError, store.extend_session, text)


async def ask_maintenance(store: SessionStore, text: str) -> None:
    database = store._session_maker
    if not is_storable(text):
        await refused(InvalidUserIdError, erase_user, database, text)
        await refused(InvalidUserIdError, erasure_receipt, database, text)
    elif text not in OTHERS:
        # The row that was added, of this user alone; then it is said that nothing is left of it.
        assert (await erasure_receipt(database, text))["session_metrics"] == 1
        assert await erase_user(database, text) == 1
        assert (await erasure_receipt(database, text))["session_metrics"] == 0
        assert (await erasure_receipt(database, "ann"))["session_metrics"] == 3


def through_the_library(conninfo: str, database: Connection, texts: Sequence[str]) -> None:
    add_users(database, texts)

    async def ask() -> None:
        settings = Settings(conninfo=conninfo, timeout_seconds=60)
        async with SessionStore(settings) as store:
            analytics = SessionAnalytics(store)
            for text in texts:
                await ask_the_reader(analytics, text)
                await ask_the_store(store, analytics, text)
                await ask_maintenance(store, text)

    with unharmed(database):
        asyncio.run(ask())


def test_hostile_strings_are_values_or_refused_by_the_library(
    migrated_database: str, database: Connection
) -> None:
    through_the_library(migrated_database, database, hostile_strings(160))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_two_thousand_hostile_strings_are_values_or_refused_by_the_library(
    migrated_database: str, database: Connection
) -> None:
    through_the_library(migrated_database, database, hostile_strings(2_000))
