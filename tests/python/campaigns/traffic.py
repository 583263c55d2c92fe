"""Applications, archivers and readers that go on through whatever happens to their database."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from random import Random
from typing import Any

from campaigns.ledger import Entry, Ledger

from fiml.database import Database
from fiml.errors import DatabaseError, SessionArchivedError, SessionNotFoundError
from fiml.sessions.analytics import SessionAnalytics
from fiml.sessions.archival import archive_expired
from fiml.sessions.maintenance import erase_user
from fiml.sessions.models import QueryRecord
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

__all__ = ["TYPES", "USERS", "Traffic", "under_traffic"]

USERS = (None, "ann", "bob", "Ωμέγα")
TYPES = ("equity", "crypto", "macro")
_APPLICATIONS = 4
_LIVES_HOURS = (0.2 / 3600, 1.0, 24.0)
# Between two of them somebody else may write: an archiver that never pauses leaves none waiting.
_ARCHIVER_PAUSE = 0.02
_RETRY_PAUSE = 0.02


class Traffic:
    """What runs meanwhile, in a thread and an event loop of its own.

    Attributes:
        ledger: what the applications were told.
        done: how often what was done, errors included.
    """

    def __init__(
        self, conninfo: str, ledger: Ledger, seed: int, *, pause: float = 0, erases: bool = False
    ) -> None:
        """Traffic on a database.

        Args:
            conninfo: of the database.
            ledger: what is to be remembered.
            seed: of what applications do.
            pause: seconds between two steps of each of them; none by default.
            erases: whether users come who are erased.
        """
        self.ledger = ledger
        self.done: Counter[str] = Counter()
        self._settings = Settings(conninfo=conninfo, timeout_seconds=5, pool_size=4)
        self._seed = seed
        self._pause = pause
        self._erases = erases
        self._is_over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def end(self) -> None:
        """Let everybody finish what they are at.

        Raises:
            BaseException: an application met what no disturbance of its database explains.
        """
        self._is_over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as failure:  # noqa: BLE001 - raised in the thread that ends it
            self._failure = failure

    async def _all(self) -> None:
        await asyncio.gather(
            *(self._application(number) for number in range(_APPLICATIONS)),
            self._archiver(),
            self._reader(),
            *([self._eraser()] if self._erases else []),
        )

    async def _application(self, number: int) -> None:
        choose = Random(f"{self._seed}/{number}")
        mine: list[Entry] = []
        store = SessionStore(self._settings)
        try:
            while not self._is_over.is_set():
                await self._answered(store.initialize)
                await self._step(store, choose, mine)
                await asyncio.sleep(self._pause)
        finally:
            await store.shutdown()

    async def _step(self, store: SessionStore, choose: Random, mine: list[Entry]) -> None:
        live = [entry for entry in mine[-8:] if entry.session_id is not None]
        what = choose.choice(["create", "create", "ask", "ask", "ask", "archive", "delete"])
        if what == "create" or not live:
            tag, entry = self.ledger.open(choose.choice(USERS), choose.choice(TYPES))
            mine.append(entry)
            assets = choose.sample(["AAPL", "TSLA", "BTC", "ETH", "Ω"], choose.randint(0, 3))
            created = await self._answered(
                lambda: store.create_session(
                    assets, entry.session_type, entry.user_id, choose.choice(_LIVES_HOURS), [tag]
                )
            )
            entry.session_id = None if created is None else created.id
            return
        entry = choose.choice(live)
        if what == "ask":
            await self._ask(store, entry, choose)
        elif what == "archive":
            answer = await self._answered(lambda: store.archive_session(entry.session_id or ""))
            entry.is_end_in_doubt |= answer is None
            # False: it was archived already, or is gone.
            entry.is_archived |= answer is True
        else:
            answer = await self._answered(lambda: store.delete_session(entry.session_id or ""))
            entry.is_end_in_doubt |= answer is None
            entry.is_deleted |= answer is True

    async def _ask(self, store: SessionStore, entry: Entry, choose: Random) -> None:
        query = QueryRecord(
            query_type=choose.choice(["price", "news", "risk"]),
            execution_time_ms=choose.randint(0, 500),
            cache_hit=choose.random() < 0.5,
        )
        entry.queries_in_doubt.add(query.id)

        async def ask() -> bool:
            try:
                await store.add_query(entry.session_id or "", query)
            except (SessionArchivedError, SessionNotFoundError):
                entry.queries_in_doubt.discard(query.id)
                return False
            return True

        if await self._answered(ask):
            entry.queries.add(query.id)

    async def _archiver(self) -> None:
        async with self._database() as database:
            while not self._is_over.is_set():
                result = await self._answered(lambda: archive_expired(database, batch_size=20))
                self.done["archived by the archiver"] += 0 if result is None else result.archived
                await asyncio.sleep(_ARCHIVER_PAUSE)

    async def _reader(self) -> None:
        async with self._database() as database:
            analytics = SessionAnalytics(database)
            while not self._is_over.is_set():
                answer = await self._answered(lambda: analytics.get_session_stats(days=1))
                if answer is not None:
                    self.done["read"] += 1
                    assert (
                        sum(answer["session_type_breakdown"].values()) == answer["total_sessions"]
                    )
                    assert (
                        sum(answer["query_type_distribution"].values()) == answer["total_queries"]
                    )
                await asyncio.sleep(self._pause)

    async def _eraser(self) -> None:
        """Users who leave a few sessions and are erased; nobody comes twice."""
        choose = Random(f"{self._seed}/eraser")
        async with self._database() as database:
            store = SessionStore(self._settings)
            while not self._is_over.is_set():
                await self._answered(store.initialize)
                user_id = f"guest {choose.getrandbits(64):x}"
                guests = [await self._visit(store, choose, user_id) for _ in range(3)]
                erased = await self._answered(partial(self._erase, database, user_id))
                for entry in guests:
                    entry.is_end_in_doubt |= erased is None
                    entry.is_deleted |= erased is not None
                self.done["erased"] += erased is not None
                await asyncio.sleep(self._pause)
            await store.shutdown()

    async def _erase(self, database: Database, user_id: str) -> int:
        # Erasure is patient; here nobody waits for a server that is not to come back.
        async with asyncio.timeout(self._settings.timeout_seconds):
            return await erase_user(database, user_id)

    async def _visit(self, store: SessionStore, choose: Random, user_id: str) -> Entry:
        tag, entry = self.ledger.open(user_id, choose.choice(TYPES))
        created = await self._answered(
            lambda: store.create_session(["BTC"], entry.session_type, user_id, 1.0, [tag])
        )
        if created is not None:
            entry.session_id = created.id
            await self._ask(store, entry, choose)
            if choose.random() < 0.5:
                answer = await self._answered(lambda: store.archive_session(created.id))
                entry.is_end_in_doubt |= answer is None
                entry.is_archived |= answer is True
        return entry

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Database]:
        database = Database(self._settings)
        try:
            while not self._is_over.is_set():
                try:
                    await database.open()
                    break
                except DatabaseError:
                    await asyncio.sleep(_RETRY_PAUSE)
            yield database
        finally:
            await database.close()

    async def _answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What a call returns, or None where an error came instead of an answer."""
        try:
            answer = await call()
        except (DatabaseError, TimeoutError) as error:
            # What is no matter of connections is told in full: nothing else should come.
            kind = type(error)
            self.done[str(error) if kind is DatabaseError else kind.__name__] += 1
            await asyncio.sleep(_RETRY_PAUSE)
            return None
        self.done["answered"] += 1
        return answer


@contextmanager
def under_traffic(
    conninfo: str, ledger: Ledger, seed: int, *, pause: float = 0, erases: bool = False
) -> Iterator[Traffic]:
    """Traffic for as long as the block runs."""
    traffic = Traffic(conninfo, ledger, seed, pause=pause, erases=erases)
    traffic.start()
    try:
        yield traffic
    finally:
        traffic.end()
