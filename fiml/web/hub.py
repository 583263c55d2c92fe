"""Views as they change, for any number of pages: each is read once, and nobody is waited for."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Final

from fiml.errors import InvalidArgumentError, SessionAnalyticsError
from fiml.identity.failures import explained
from fiml.web.changes import ChangeWatch
from fiml.web.filters import Subject
from fiml.web.turns import Turns
from fiml.web.views import View

__all__ = ["Failure", "Hub", "Subscription"]

# Windows slide and sessions expire without a row that changes.
_REFRESH_SECONDS: Final = 20.0
# How long a view rests, for each second that reading it took.
_REST_FOR_A_SECOND: Final = 5.0
# Of the pool's connections, so that requests have theirs.
_READS_AT_ONCE: Final = 2

_logger = logging.getLogger(__name__)


class Failure:
    """A view could not be read.

    Attributes:
        message: the sentences for whoever waits.
        refusal: what is wrong with the question, where it is that: no later look will mend it.
    """

    def __init__(self, message: str, refusal: InvalidArgumentError | None = None) -> None:
        """Take what is told."""
        self.message = message
        self.refusal = refusal


class Subscription:
    """What one page has not been sent yet: the latest view alone. Older ones are dropped.

    Attributes:
        whose: who looks at it, as `Hub.subscribed` was told.
    """

    def __init__(self, as_of: datetime | None, whose: str | None = None) -> None:
        """Take the instant of what the page shows already, and who looks at it."""
        self.whose = whose
        self._as_of = as_of
        self._latest: View | Failure | None = None
        self._arrived = asyncio.Event()

    def put(self, found: View | Failure) -> None:
        """Replace what was not fetched; a view that is no newer than the page is dropped."""
        if isinstance(found, View):
            if self._as_of is not None and found.as_of <= self._as_of:
                return
            self._as_of = found.as_of
        self._latest = found
        self._arrived.set()

    async def next(self) -> View | Failure:
        """Wait for what is newer than what was fetched before."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                return latest


class _Topic:
    """Everybody who looks at one subject."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self.is_stale = asyncio.Event()
        self.latest: View | None = None
        self.task: asyncio.Task[None] | None = None

    def callers(self) -> set[str | None]:
        """Who they are."""
        return {subscription.whose for subscription in self.subscriptions}


class Hub:
    """Reads each subject that somebody looks at when it may have changed, and hands it to them."""

    def __init__(
        self,
        read: Callable[[Subject], Awaitable[View]],
        watch: Callable[[Callable[[], None]], ChangeWatch],
        *,
        refresh_seconds: float = _REFRESH_SECONDS,
    ) -> None:
        """Take what reads, and what makes the watch.

        Args:
            read: a view of a subject, within a deadline of its own.
            watch: receives what to call when something changed.
            refresh_seconds: after how long a view is read again where nothing changed.
        """
        self._read = read
        self._watch = watch(self._changed)
        self._refresh_seconds = refresh_seconds
        self._topics: dict[Subject, _Topic] = {}
        self._turns = Turns(_READS_AT_ONCE)

    @property
    def subscribers(self) -> int:
        """How many pages are open."""
        return sum(len(topic.subscriptions) for topic in self._topics.values())

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            await self._watch.run()
        finally:
            for topic in self._topics.values():
                if topic.task is not None:
                    topic.task.cancel()

    @contextmanager
    def subscribed(
        self, subject: Subject, as_of: datetime | None, whose: str | None = None
    ) -> Iterator[Subscription]:
        """Hand over views of a subject for as long as this lasts.

        Args:
            subject: what of.
            as_of: the instant of the view that the page has; where nothing changed since, the first
                one comes with the next change. None for a page that has none.
            whose: the identity that looks at it: identities take turns. None for nobody's.
        """
        subscription = Subscription(as_of, whose)
        topic = self._topics.setdefault(subject, _Topic())
        topic.subscriptions.add(subscription)
        if topic.latest is not None and not self._watch.has_changed_since(topic.latest.as_of):
            # What the others have is what there is.
            subscription.put(topic.latest)
        elif as_of is None or self._watch.has_changed_since(as_of):
            topic.is_stale.set()
        if topic.task is None:
            topic.task = asyncio.create_task(self._keep_fresh(subject, topic))
        self._watch.want(wanted=True)
        try:
            yield subscription
        finally:
            topic.subscriptions.discard(subscription)
            if not topic.subscriptions:
                topic.task.cancel()
                del self._topics[subject]
            self._watch.want(wanted=bool(self._topics))

    def _changed(self) -> None:
        for topic in self._topics.values():
            topic.is_stale.set()

    async def _keep_fresh(self, subject: Subject, topic: _Topic) -> None:
        while True:
            try:
                async with asyncio.timeout(self._refresh_seconds):
                    await topic.is_stale.wait()
            except TimeoutError:
                pass
            # Before it is read: what changes meanwhile is read after it.
            topic.is_stale.clear()
            async with self._turns.turn(topic.callers):
                began = monotonic()
                found = await self._found(subject)
                took = monotonic() - began
            topic.latest = found if isinstance(found, View) else None
            for subscription in topic.subscriptions:
                subscription.put(found)
            # What is dear is read less often, so that others have their turn.
            await asyncio.sleep(min(_REST_FOR_A_SECOND * took, self._refresh_seconds))

    async def _found(self, subject: Subject) -> View | Failure:
        try:
            return await self._read(subject)
        except InvalidArgumentError as error:
            return Failure(str(error), error)
        except SessionAnalyticsError as error:
            return Failure(explained(error))
        except Exception as error:  # noqa: BLE001 - the next one may succeed
            # Where, but not what: the text of an unknown exception may hold a user id.
            _logger.error(
                "a view failed unexpectedly with %s\n%s",
                type(error).__name__,
                "".join(traceback.format_tb(error.__traceback__)),
            )
            return Failure("The figures could not be read. It was logged.")
