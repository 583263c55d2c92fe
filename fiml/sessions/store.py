"""The sessions of an application, in PostgreSQL from their creation on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from psycopg.rows import class_row, scalar_row
from uuid_utils.compat import uuid7

from fiml.database import Connection, Database
from fiml.errors import (
    DatabaseError,
    InvalidArgumentError,
    SessionArchivedError,
    SessionNotFoundError,
)
from fiml.sessions._arguments import (
    MAX_LIMIT,
    check_flag,
    check_hours,
    check_names,
    check_session_id,
    check_user_id,
    check_whole_number,
    json_text,
)
from fiml.sessions._rows import SessionRow, SummaryRow, query_text
from fiml.sessions._store_sql import Statements
from fiml.sessions.archival import archive_expired
from fiml.sessions.models import (
    DEFAULT_TTL_HOURS,
    QueryRecord,
    Session,
    SessionSummary,
    SessionType,
)
from fiml.sessions.session_types import check_session_type
from fiml.settings import Settings

__all__ = ["SessionStore", "get_session_store"]

_SECONDS_PER_HOUR: Final = 3600
Row = TypeVar("Row", bound=SummaryRow)


class SessionStore:
    """Creates, changes, ends and lists sessions.

    Belongs to the event loop that initialised it. Every method raises a subclass of `DatabaseError`
    where the database does not answer within the settings' deadline, and `InvalidArgumentError`
    (a `ValueError`) for an argument that is not of the documented kind, before anything is sent.
    Times are the database's. Reading a session does not touch it.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Read settings from the environment unless given; nothing is connected yet.

        Raises:
            SettingsError: an environment variable does not parse.
            InvalidArgumentError: `settings` are no `Settings`.
        """
        self._session_maker = Database(settings)
        self._statements = Statements.for_schema(self._session_maker.settings.source_schema)
        self._opening = asyncio.Lock()
        self._is_open = False

    async def initialize(self) -> None:
        """Connect, and check that the database is at this package's version; once is enough.

        Raises:
            DatabaseUnavailableError: the server cannot be reached or refused the login.
            SchemaVersionError: the database is not migrated, or by another version.
        """
        async with self._opening:
            if not self._is_open:
                await self._session_maker.open()
                self._is_open = True

    async def shutdown(self) -> None:
        """Close every connection. The store can be initialised again."""
        async with self._opening:
            self._is_open = False
            await self._session_maker.close()

    @property
    def is_open(self) -> bool:
        """Whether it is initialised and not shut down."""
        return self._is_open

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.shutdown()

    async def create_session(
        self,
        assets: Sequence[str],
        session_type: SessionType | str,
        user_id: str | None = None,
        ttl_hours: float = DEFAULT_TTL_HOURS,
        tags: Sequence[str] | None = None,
    ) -> Session:
        """Create a session and return it as it is stored.

        Args:
            assets: symbols of 1 to 255 characters; duplicates are dropped. May be empty.
            session_type: a `SessionType` or its value.
            user_id: 1 to 255 characters; None where nobody is known.
            ttl_hours: hours until it expires, above 0 and up to ten years (87 600).
            tags: names of 1 to 255 characters; duplicates are dropped.

        Raises:
            InvalidUserIdError: `user_id` is malformed.
            UnknownSessionTypeError: `session_type` is none of the known ones.
            InvalidArgumentError: another argument is malformed.
            ErasedUserError: the user was erased.
        """
        values = {
            "session_id": uuid7(),
            "user_id": None if user_id is None else check_user_id(user_id),
            "type": check_session_type(session_type),
            "assets": json_text(check_names(assets, "assets"), "assets"),
            "tags": json_text([] if tags is None else check_names(tags, "tags"), "tags"),
            "ttl_seconds": check_hours(ttl_hours, "ttl_hours") * _SECONDS_PER_HOUR,
        }

        async def create(connection: Connection) -> SessionRow | None:
            return await _one(connection, self._statements.create, values)

        # The id is chosen here, so that a second attempt finds what the first one wrote.
        row = await self._session_maker.run(create, is_repeatable=True)
        if row is None:
            raise DatabaseError("the database did not keep the session: a trigger took it out")
        return row.session()

    async def get_session(self, session_id: UUID | str) -> Session | None:
        """The session with this id, archived or not; None where there is none.

        What other programs stored does not keep a session from being read: an unknown type is kept
        as its text, and history elements that are no query records are left out of the object, not
        out of the database.
        """
        values = {"session_id": check_session_id(session_id)}

        async def get(connection: Connection) -> SessionRow | None:
            return await _one(connection, self._statements.get, values)

        row = await self._session_maker.run(get, is_repeatable=True)
        return None if row is None else row.session()

    async def update_session(self, session_id: UUID | str, session: Session) -> Session:
        """Store what an application changed in a session, and return it as it is stored then.

        Stored are user, type, assets, tags, a later expiry, the members of the state, and those
        queries whose id the database does not hold. No stored query is changed or removed, and the
        expiry never becomes earlier. For the rest the last update wins.

        Raises:
            InvalidArgumentError: `session` is another session, or holds what cannot be stored.
            SessionNotFoundError: no session has this id.
            SessionArchivedError: the session has ended.
            ErasedUserError: the user was erased.
        """
        wanted = check_session_id(session_id)
        if not isinstance(session, Session):
            raise InvalidArgumentError(
                f"session is of type {type(session).__name__}; expected a Session"
            )
        if session.id != wanted:
            raise InvalidArgumentError(
                f"session has the id {session.id}; expected that of session_id, {wanted}"
            )

        async def update(connection: Connection) -> SessionRow | None:
            async with connection.transaction():
                stored = await _one(connection, self._statements.lock, {"session_id": wanted})
                if stored is None:
                    raise _not_found(wanted)
                if stored.is_archived:
                    raise _archived(wanted)
                return await _one(connection, self._statements.update, _changes(stored, session))

        # Queries are told apart by their ids, and the rest is set to the same values again.
        row = await self._session_maker.run(update, is_repeatable=True)
        if row is None:
            raise _not_found(wanted)
        return row.session()

    async def add_query(self, session_id: UUID | str, query: QueryRecord) -> None:
        """Append a query to a session's history; a record that is stored already stays single.

        One statement, whatever the history's length: of concurrent calls none is lost. A session
        that has expired and is not archived yet still takes queries.

        Raises:
            InvalidArgumentError: `query` is no `QueryRecord`, or holds what cannot be stored.
            SessionNotFoundError: no session has this id.
            SessionArchivedError: the session has ended.
        """
        wanted = check_session_id(session_id)
        if not isinstance(query, QueryRecord):
            raise InvalidArgumentError(
                f"query is of type {type(query).__name__}; expected a QueryRecord"
            )
        values = {
            "session_id": wanted,
            "query": f"[{query_text(query)}]",
            "same_query": json_text([{"id": str(query.id)}], "query"),
        }

        async def add(connection: Connection) -> None:
            cursor = await connection.execute(self._statements.add_query, values)
            if cursor.rowcount:
                return
            cursor = await connection.execute(self._statements.has_query, values)
            row = await cursor.fetchone()
            if row is None:
                raise _not_found(wanted)
            is_archived, has_query = row
            if has_query:
                return
            if is_archived:
                raise _archived(wanted)
            raise DatabaseError("the database did not keep the query: a trigger took it out")

        await self._session_maker.run(add, is_repeatable=True)

    async def extend_session(
        self, session_id: UUID | str, hours: float = DEFAULT_TTL_HOURS
    ) -> Session:
        """Move the expiry to `hours` after the later of now and itself; return the session then.

        Args:
            session_id: which session.
            hours: above 0, up to ten years (87 600).

        Raises:
            InvalidArgumentError: an argument is malformed.
            SessionNotFoundError: no session has this id.
            SessionArchivedError: the session has ended.
        """
        wanted = check_session_id(session_id)
        values = {
            "session_id": wanted,
            "seconds": check_hours(hours, "hours") * _SECONDS_PER_HOUR,
        }

        async def extend(connection: Connection) -> SessionRow:
            row = await _one(connection, self._statements.extend, values)
            if row is not None:
                return row
            if await _scalar(connection, self._statements.is_archived, values) is None:
                raise _not_found(wanted)
            raise _archived(wanted)

        return (await self._session_maker.run(extend)).session()

    async def delete_session(self, session_id: UUID | str) -> bool:
        """Delete a session and its metrics, as if it had never been; return whether it was there.

        The figures follow at once. A session of which only metrics are recorded counts as there.
        """
        return await self._ask(self._statements.delete, session_id)

    async def list_user_sessions(
        self, user_id: str, include_archived: bool = False, limit: int = 100
    ) -> list[SessionSummary]:
        """A user's sessions, newest first.

        Args:
            user_id: 1 to 255 characters.
            include_archived: also those that have ended.
            limit: most sessions to return, 1 to 1000.

        Raises:
            InvalidUserIdError: `user_id` is malformed.
            InvalidArgumentError: another argument is malformed.
        """
        values = {
            "user_id": check_user_id(user_id),
            "include_archived": check_flag(include_archived, "include_archived"),
            "limit": check_whole_number(limit, "limit", MAX_LIMIT),
        }

        async def read(connection: Connection) -> list[SummaryRow]:
            async with connection.cursor(row_factory=class_row(SummaryRow)) as cursor:
                await cursor.execute(self._statements.list, values)
                return await cursor.fetchall()

        return [row.summary() for row in await self._session_maker.run(read, is_repeatable=True)]

    async def archive_session(self, session_id: UUID | str) -> bool:
        """End a session now and record its final metrics.

        Returns False, and changes nothing, where there is nothing to archive: no such session, or
        one that is archived already.
        """
        return await self._ask(self._statements.archive, session_id)

    async def archive_expired_sessions(self) -> int:
        """End every session whose time is up; return how many were archived.

        In batches, each a transaction of its own: stopped anywhere, it goes on where it was. A
        session that cannot be archived is set aside with the reason.
        """
        return (await archive_expired(self._session_maker)).archived

    async def cleanup_expired_sessions(self) -> int:
        """An older name of `archive_expired_sessions`."""
        return await self.archive_expired_sessions()

    async def _ask(self, statement: bytes, session_id: UUID | str) -> bool:
        values = {"session_id": check_session_id(session_id)}

        async def ask(connection: Connection) -> bool:
            return bool(await _scalar(connection, statement, values))

        return await self._session_maker.run(ask)


def _changes(stored: SessionRow, session: Session) -> dict[str, Any]:
    before = stored.session()
    if session.created_at != before.created_at:
        raise InvalidArgumentError(
            f"session has the created_at {session.created_at.isoformat()}; expected the stored "
            f"one, {before.created_at.isoformat()}: it never changes"
        )
    known = stored.stored_query_ids()
    added = {query.id: query for query in session.state.history.queries if query.id not in known}
    user_id, session_type = session.user_id, session.type
    # What is stored already need not be what a new session may have.
    if user_id is not None and user_id != before.user_id:
        check_user_id(user_id)
    if session_type != before.type:
        session_type = check_session_type(session_type)
    return {
        "session_id": stored.id,
        "user_id": user_id,
        "type": session_type,
        "assets": _changed_names(session.assets, before.assets, "assets"),
        "tags": _changed_names(session.tags, before.tags, "tags"),
        "expires_at": session.expires_at,
        "state": json_text(stored.changed_state(session.state), "session.state"),
        "queries": f"[{','.join(map(query_text, added.values()))}]",
        "added_queries": len(added),
    }


def _changed_names(names: list[str], before: list[str], what: str) -> str | None:
    return None if names == before else json_text(check_names(names, what), what)


async def _one(
    connection: Connection, statement: bytes, values: dict[str, Any]
) -> SessionRow | None:
    async with connection.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()


async def _scalar(connection: Connection, statement: bytes, values: dict[str, Any]) -> Any:
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()


def _not_found(session_id: UUID) -> SessionNotFoundError:
    return SessionNotFoundError(f"no session has the id {session_id}")


def _archived(session_id: UUID) -> SessionArchivedError:
    return SessionArchivedError(f"session {session_id} is archived and cannot be changed")


class _Slot:
    """The store of one event loop."""

    def __init__(self) -> None:
        self.starting = asyncio.Lock()
        self.store: SessionStore | None = None


_slots: dict[asyncio.AbstractEventLoop, _Slot] = {}
_slots_lock = threading.Lock()


async def get_session_store() -> SessionStore:
    """The initialised store of this process and event loop, with settings from the environment.

    Concurrent first calls get the same one. A start that failed is not remembered; after
    `shutdown()`, and in another event loop, a new one is made.

    Raises:
        SettingsError: an environment variable does not parse.
        DatabaseUnavailableError: the server cannot be reached or refused the login.
        SchemaVersionError: the database is not migrated, or by another version.
    """
    loop = asyncio.get_running_loop()
    with _slots_lock:
        for other in [other for other in _slots if other.is_closed()]:
            del _slots[other]
        slot = _slots.setdefault(loop, _Slot())
    async with slot.starting:
        if slot.store is None or not slot.store.is_open:
            store = SessionStore()
            await store.initialize()
            slot.store = store
        return slot.store
