"""The one door to PostgreSQL: a pool, a deadline for each call, and typed errors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Self, TypeAlias, TypeVar

import psycopg
from psycopg import errors as pg_errors
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from fiml.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DeadlineExceededError,
    ErasedUserError,
    InvalidArgumentError,
    PoolExhaustedError,
    SchemaVersionError,
    SessionAnalyticsError,
)
from fiml.monitoring.pools import close_pool, open_pool
from fiml.sessions.migrations import HOW_TO_MIGRATE, require_current_version
from fiml.settings import Settings

__all__ = ["Connection", "Database", "typed_error"]

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
T = TypeVar("T")

_ERASED_USER: Final = "FA001"
_RETRIED = (pg_errors.SerializationFailure, pg_errors.DeadlockDetected)
# A value larger, or nested deeper, than PostgreSQL holds: it will not answer otherwise later.
_BEYOND_LIMITS = (pg_errors.ProgramLimitExceeded, pg_errors.StatementTooComplex)
_NOT_INSTALLED = (
    pg_errors.UndefinedTable,
    pg_errors.UndefinedColumn,
    pg_errors.UndefinedFunction,
    pg_errors.InvalidSchemaName,
)

# JIT costs a hundred times what these statements do; a generic plan is made once for a connection.
_CONFIGURE: Final = """
select
    set_config('jit', 'off', false),
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('TimeZone', 'UTC', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', %(timeout_ms)s, false),
    set_config('idle_in_transaction_session_timeout', %(idle_ms)s, false)
"""


# Behind a pooler that shares connections by transaction a session is others', too: it is told what
# a pooler keeps for each client, and nothing that others would get.
_CONFIGURE_SHARED: Final = "select set_config('TimeZone', 'UTC', false)"


class Database:
    """A pool of connections to one migrated database.

    A call that does not end within its deadline raises `DeadlineExceededError` there and then;
    what is left of it (telling the server to stop) goes on behind, and the connection returns to
    the pool when it is clean.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Read settings from the environment unless given; nothing is connected yet.

        Raises:
            SettingsError: an environment variable does not parse.
            InvalidArgumentError: `settings` are no `Settings`.
        """
        self.settings = settings if settings is not None else Settings.from_environment()
        if not isinstance(self.settings, Settings):
            raise InvalidArgumentError(
                f"settings is of type {type(settings).__name__}; expected Settings"
            )
        self._pool: AsyncConnectionPool[Connection] | None = None
        # Why the last attempt to connect failed; None after one that did not.
        self._refusal: str | None = None
        self._is_pooled = False
        self._connections_in_use = 0
        # What goes on without anybody who waits for it.
        self._behind: set[asyncio.Future[Any]] = set()

    @property
    def connections_in_use(self) -> int:
        """Connections that calls hold now."""
        return self._connections_in_use

    @property
    def connections_max(self) -> int:
        """Connections that calls can hold at once."""
        return self.settings.pool_size

    async def open(self) -> None:
        """Connect, and check that the database is at this package's version.

        Raises:
            DatabaseUnavailableError: the server cannot be reached or refused the login.
            SchemaVersionError: the database is not migrated, or by another version.
        """
        if self._pool is not None:
            return
        timeout = self.settings.timeout_seconds
        conninfo = make_conninfo(
            self.settings.conninfo,
            application_name="session-analytics",
            connect_timeout=max(2, int(timeout)),
            tcp_user_timeout=int(timeout * 1000),
        )
        await self._within(timeout, self._check_version(conninfo))
        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo,
            min_size=0,
            max_size=self.settings.pool_size,
            open=False,
            timeout=timeout,
            # The pauses between attempts double until this: a server that is back is found soon,
            # however long it was away.
            reconnect_timeout=timeout,
            # A statement that was prepared is of one session, and behind a pooler the next call may
            # have another, with another statement under that name.
            kwargs={
                "autocommit": True,
                "prepare_threshold": None if self._is_pooled else 0,
            },
            connection_class=_telling(self._remember_refusal),
            configure=self._configure,
            name="session-analytics",
        )
        await pool.open()
        self._pool = pool
        open_pool(self)

    async def close(self) -> None:
        """Close every connection; calls under way are cancelled."""
        pool, self._pool = self._pool, None
        close_pool(self)
        if self._behind:
            await asyncio.wait(self._behind, timeout=self.settings.timeout_seconds)
        if pool is not None:
            await pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        *,
        is_repeatable: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Do `work` with a connection in autocommit, within a deadline, and return its result.

        A deadlock or a serialization failure is tried again: `work` must keep what belongs together
        in one transaction. Repeatable work is also tried again where the connection turns out to
        be broken.

        Args:
            work: receives a connection; must not keep it.
            is_repeatable: doing `work` twice does what doing it once does.
            timeout: seconds, waiting for a connection included; default: the settings' deadline.

        Raises:
            DatabaseUnavailableError: the server cannot be reached, or broke the connection.
            PoolExhaustedError: every connection was in use until the deadline.
            DeadlineExceededError: `work` did not end in time.
            SchemaVersionError: a table or function of this package is missing.
            DatabaseError: any other refusal by the server.
        """
        seconds = self.settings.timeout_seconds if timeout is None else timeout
        return await self._within(seconds, self._attempt(work, is_repeatable, seconds))

    async def stream(
        self,
        produce: Callable[[Connection], AsyncGenerator[T, None]],
        *,
        timeout: float | None = None,
    ) -> AsyncGenerator[T, None]:
        """What `produce` yields with a connection in autocommit, each within a deadline.

        However long the whole takes, and however slow the consumer is: `produce` is at most one
        step ahead. Where the connection turns out to be broken before the first step, it begins
        again; later that is an error, since what was handed out cannot be taken back.

        Args:
            produce: receives a connection; must not keep it.
            timeout: seconds for each step, for the first one with waiting for a connection;
                default: the settings' deadline.

        Raises:
            DatabaseError: as `run`; `DeadlineExceededError` where a single step takes too long.
        """
        ready: asyncio.Queue[T] = asyncio.Queue(maxsize=1)
        is_begun = False

        async def work(connection: Connection) -> None:
            nonlocal is_begun
            try:
                # Closed here, while the connection is still there to be rolled back.
                async with aclosing(produce(connection)) as steps:
                    async for step in steps:
                        is_begun = True
                        await ready.put(step)
            except psycopg.Error as error:
                if is_begun:
                    raise typed_error(error) from error
                raise

        seconds = self.settings.timeout_seconds if timeout is None else timeout
        working = asyncio.ensure_future(self._attempt(work, is_repeatable=True, seconds=seconds))
        try:
            while not (working.done() and ready.empty()):
                taking = asyncio.ensure_future(ready.get())
                try:
                    await asyncio.wait(
                        {working, taking},
                        timeout=seconds,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if taking.done():
                        yield taking.result()
                    elif not working.done():
                        raise DeadlineExceededError(
                            f"no answer within the deadline of {seconds:g} s"
                        )
                finally:
                    taking.cancel()
            working.result()
        finally:
            if working.done():
                self._forget(working)
            else:
                self._abandon(working)

    async def _within(self, seconds: float, work: Awaitable[T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if done:
            return task.result()
        self._abandon(task)
        raise DeadlineExceededError(f"no answer within the deadline of {seconds:g} s")

    def _abandon(self, task: asyncio.Future[Any]) -> None:
        # Cancelling a statement may need seconds where the server does not answer: the caller,
        # whose deadline has passed, does not wait for that.
        task.cancel()
        self._keep(task)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        # The loop itself keeps no task that nobody waits for.
        self._behind.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._behind.discard(task)
        if not task.cancelled():
            task.exception()

    async def _attempt(
        self, work: Callable[[Connection], Awaitable[T]], is_repeatable: bool, seconds: float
    ) -> T:
        attempts_left = self.settings.pool_size + 3
        while True:
            attempts_left -= 1
            try:
                async with self._connection(seconds) as connection:
                    try:
                        return await work(connection)
                    except psycopg.OperationalError:
                        is_broken = connection.broken or connection.closed
                        if not (is_broken and is_repeatable and attempts_left > 0):
                            raise
            except _RETRIED:
                if attempts_left <= 0:
                    raise
                await asyncio.sleep(random.uniform(0.001, 0.02))  # noqa: S311
            except psycopg.Error as error:
                raise typed_error(error) from error

    @asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[Connection]:
        pool = self._pool
        if pool is None:
            raise DatabaseError("this store is not initialised: `await store.initialize()` first")
        try:
            # A little less than the deadline, so that the error can say what was waited for.
            connection = await pool.getconn(timeout=seconds * 0.95)
        except PoolTimeout as error:
            if self._connections_in_use >= self.settings.pool_size:
                raise PoolExhaustedError(
                    f"all {self.settings.pool_size} connections were in use for {seconds:g} s; "
                    "raise SESSION_ANALYTICS_POOL_SIZE or call less at once"
                ) from error
            why = f": {self._refusal}" if self._refusal else ""
            raise DatabaseUnavailableError(
                f"no connection to the database within {seconds:g} s{why}"
            ) from error
        self._connections_in_use += 1
        try:
            yield connection
        finally:
            self._connections_in_use -= 1
            # Out of reach of a cancellation, which would lose the connection while it waits for
            # the pool's lock.
            returning = asyncio.ensure_future(pool.putconn(connection))
            self._keep(returning)
            await asyncio.shield(returning)

    def _remember_refusal(self, error: psycopg.Error) -> None:
        self._refusal = _first_line(error)

    async def _configure(self, connection: Connection) -> None:
        self._refusal = None
        if self._is_pooled:
            await connection.execute(_CONFIGURE_SHARED)
            return
        timeout_ms = str(int(self.settings.timeout_seconds * 1000))
        await connection.execute(
            _CONFIGURE, {"timeout_ms": timeout_ms, "idle_ms": str(2 * int(timeout_ms))}
        )

    async def _check_version(self, conninfo: str) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True
            ) as connection:
                cursor = await connection.execute(
                    "select max(version), (select source_schema from analytics.settings), "
                    "pg_backend_pid() from analytics.migrations"
                )
                row = await cursor.fetchone()
                # A pooler tells clients a number of its own, for their cancellations.
                self._is_pooled = row is not None and row[2] != connection.info.backend_pid
        except _NOT_INSTALLED:
            row = None
        except psycopg.OperationalError as error:
            raise DatabaseUnavailableError(f"cannot connect: {_first_line(error)}") from error
        except psycopg.Error as error:
            raise typed_error(error) from error
        version, source_schema, _ = row or (None, None, None)
        require_current_version(version or 0)
        if source_schema != self.settings.source_schema:
            raise SchemaVersionError(
                f"the database was installed for source schema {source_schema!r}, "
                f"not {self.settings.source_schema!r}; set SESSION_ANALYTICS_SOURCE_SCHEMA to it"
            )


def _telling(tell: Callable[[psycopg.Error], None]) -> type[Connection]:
    """Connections that say why they cannot be made: a pool keeps that to its log, and tries on."""

    class Telling(psycopg.AsyncConnection[tuple[Any, ...]]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Self:
            try:
                return await super().connect(*args, **kwargs)
            except psycopg.Error as error:
                tell(error)
                raise

    return Telling


def typed_error(error: psycopg.Error) -> SessionAnalyticsError:
    """What PostgreSQL or the connection to it said, as an error of this package."""
    if error.sqlstate == _ERASED_USER:
        return ErasedUserError("this user was erased and cannot be written again")
    if isinstance(error, pg_errors.QueryCanceled):
        return DeadlineExceededError("the server stopped the statement at its time limit")
    if isinstance(error, _NOT_INSTALLED):
        return SchemaVersionError(f"the database lacks what this package needs; {HOW_TO_MIGRATE}")
    if isinstance(error, _BEYOND_LIMITS):
        return DatabaseError(f"the database refused: {_first_line(error)}")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        if isinstance(error, pg_errors.DiskFull | pg_errors.OutOfMemory):
            return DatabaseError(f"the server ran out of something: {_first_line(error)}")
        return DatabaseUnavailableError(f"the database did not answer: {_first_line(error)}")
    return DatabaseError(f"the database refused: {_first_line(error)}")


def _first_line(error: psycopg.Error) -> str:
    # The primary message alone: the detail line of some errors quotes the row.
    text = error.diag.message_primary or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
