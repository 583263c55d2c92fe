"""What is no argument of the store is refused by its name, and nothing is stored."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from sessions.store.rows import HOUR, query

from fiml.errors import InvalidArgumentError, InvalidUserIdError, UnknownSessionTypeError
from fiml.sessions.models import Session
from fiml.sessions.store import SessionStore
from fiml.settings import Settings

pytestmark = pytest.mark.anyio

HALF_A_PAIR = "\ud800"


@pytest.fixture
def closed_store() -> SessionStore:
    """Refuses to ask the database anything: what is refused here is refused before that."""
    return SessionStore(Settings())


@pytest.mark.parametrize("user_id", ["", "a\0b", "x" * 256, HALF_A_PAIR, 5, b"analyst", True])
async def test_a_malformed_user_id_is_refused(closed_store: SessionStore, user_id: object) -> None:
    with pytest.raises(InvalidUserIdError):
        await closed_store.create_session(["AAPL"], "equity", user_id)  # type: ignore[arg-type]
    with pytest.raises(InvalidUserIdError):
        await closed_store.list_user_sessions(user_id)  # type: ignore[arg-type]


async def test_listing_everybodys_sessions_is_refused(closed_store: SessionStore) -> None:
    with pytest.raises(InvalidUserIdError):
        await closed_store.list_user_sessions(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("session_type", ["equities", "", "EQUITY", None, 5, ["equity"]])
async def test_an_unknown_session_type_is_refused_with_the_known_ones(
    closed_store: SessionStore, session_type: object
) -> None:
    with pytest.raises(
        UnknownSessionTypeError, match="equity, crypto, portfolio, comparative, macro"
    ):
        await closed_store.create_session(["AAPL"], session_type)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    ["AAPL", b"AAPL", 5, {"AAPL"}, {"AAPL": 1}, [""], ["x" * 256], ["a\0"], [HALF_A_PAIR], [None]],
)
async def test_assets_and_tags_must_be_lists_of_names(
    closed_store: SessionStore, names: object
) -> None:
    with pytest.raises(InvalidArgumentError, match="assets"):
        await closed_store.create_session(names, "equity")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="tags"):
        await closed_store.create_session([], "equity", tags=names)  # type: ignore[arg-type]


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, 87_601, True, "24", None, 10**400])
async def test_hours_must_be_above_zero_and_up_to_ten_years(
    closed_store: SessionStore, hours: object
) -> None:
    with pytest.raises(InvalidArgumentError, match="ttl_hours"):
        await closed_store.create_session([], "equity", ttl_hours=hours)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="hours"):
        await closed_store.extend_session(uuid4(), hours)  # type: ignore[arg-type]


@pytest.mark.parametrize("session_id", ["", "not-an-id", 5, None, b"x" * 16])
async def test_what_is_no_session_id_is_refused(
    closed_store: SessionStore, session_id: Any
) -> None:
    spare = Session(type="equity")
    calls: list[Callable[[], Any]] = [
        lambda: closed_store.get_session(session_id),
        lambda: closed_store.update_session(session_id, spare),
        lambda: closed_store.add_query(session_id, query()),
        lambda: closed_store.extend_session(session_id),
        lambda: closed_store.delete_session(session_id),
        lambda: closed_store.archive_session(session_id),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="session_id"):
            await call()


@pytest.mark.parametrize("odd", [None, {"query_type": "price"}, "price"])
async def test_what_is_no_query_record_is_refused(closed_store: SessionStore, odd: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a QueryRecord"):
        await closed_store.add_query(uuid4(), odd)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.0, "10", None])
async def test_a_limit_is_a_whole_number_up_to_a_thousand(
    closed_store: SessionStore, limit: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="limit"):
        await closed_store.list_user_sessions("analyst", limit=limit)


async def test_an_error_does_not_repeat_a_user_id(closed_store: SessionStore) -> None:
    with pytest.raises(InvalidUserIdError) as caught:
        await closed_store.create_session([], "equity", "secret-user\0")
    assert "secret-user" not in str(caught.value)


async def test_an_update_of_another_session_is_refused(store: SessionStore) -> None:
    one = await store.create_session([], "equity")
    other = await store.create_session([], "equity")
    with pytest.raises(InvalidArgumentError, match="id"):
        await store.update_session(one.id, other)
    with pytest.raises(InvalidArgumentError, match="expected a Session"):
        await store.update_session(one.id, {"id": str(one.id)})  # type: ignore[arg-type]
    one.created_at -= HOUR
    with pytest.raises(InvalidArgumentError, match="created_at"):
        await store.update_session(one.id, one)


async def test_an_update_with_malformed_names_is_refused(store: SessionStore) -> None:
    session = await store.create_session([], "equity")
    for change, error in [
        ({"type": "astrology"}, UnknownSessionTypeError),
        ({"user_id": ""}, InvalidUserIdError),
        ({"user_id": "x" * 256}, InvalidUserIdError),
    ]:
        with pytest.raises(error):
            await store.update_session(session.id, session.model_copy(update=change))
    session.assets.append("")
    with pytest.raises(InvalidArgumentError, match="assets"):
        await store.update_session(session.id, session)


async def test_what_json_cannot_hold_is_refused_before_anything_is_stored(
    store: SessionStore,
) -> None:
    created = await store.create_session([], "equity")
    for odd in ("a\0b", HALF_A_PAIR, math.nan, {1: 2}, datetime.now(UTC), {"\0": 1}):
        for members in ({"parameters": {"odd": odd}}, {"result_summary": [odd]}):
            with pytest.raises(InvalidArgumentError):
                await store.add_query(created.id, query(**members))
            session = created.model_copy(deep=True)
            session.add_query(query(**members))
            with pytest.raises(InvalidArgumentError):
                await store.update_session(created.id, session)
        for member in ("context", "preferences", "intermediate_results", "metadata"):
            session = created.model_copy(deep=True)
            getattr(session.state, member)["odd"] = odd
            with pytest.raises(InvalidArgumentError):
                await store.update_session(created.id, session)
    assert await store.get_session(created.id) == created
