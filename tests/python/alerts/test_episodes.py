"""When an alert fires and when it is over: once each, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from typing import Any

import pytest
from alerts.world import Connection, File, Receiver, add_sessions
from warehouse.application import one, wait_until

from fiml.alerts import channels, recent_episodes
from fiml.alerts.channels import webhook
from fiml.alerts.evaluation import Evaluation, evaluate
from fiml.alerts.model import WebhookChannel
from fiml.alerts.notices import Notice
from fiml.database import Database
from fiml.errors import InvalidArgumentError
from fiml.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def hooked(file: File, receiver: Receiver) -> File:
    """A file with one webhook, and the rule that tells it."""
    file.channels["hook"] = {"kind": "webhook", "url": receiver.url}
    file.rule(channels=["hook"])
    return file


def retry_now(database: Connection) -> None:
    database.execute("update analytics.notices set next_attempt_at = now()")


async def test_it_fires_once_and_says_when_it_is_over(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    add_sessions(database, 6)
    add_sessions(database, 4, abandoned=True)
    first = await evaluate(settings)
    assert (first.fired, first.over, first.holding) == (
        ["High abandonment"],
        [],
        ["High abandonment"],
    )
    for _ in range(2):
        again = await evaluate(settings)
        assert (again.fired, again.over, again.holding) == ([], [], ["High abandonment"])
    assert receiver.events == ["fired"]
    add_sessions(database, 10)
    last = await evaluate(settings)
    assert (last.fired, last.over, last.holding) == ([], ["High abandonment"], [])
    await evaluate(settings)
    assert receiver.events == ["fired", "over"]
    fired, over = (request.document for request in receiver.requests)
    assert fired["episode_id"] == over["episode_id"]
    assert (fired["value"], fired["threshold"], fired["sessions"]) == (0.4, 0.3, 10)
    assert fired["message"] == (
        "abandonment_rate is 0.4, above 0.3, over the last 1 day (10 sessions)."
    )
    assert over["message"] == (
        "abandonment_rate is 0.2, no longer above 0.3, over the last 1 day (20 sessions)."
    )
    assert (fired["over_at"], over["ending"]) == (None, "over")


async def test_it_fires_again_as_another_episode(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    for count, abandoned in ((10, True), (90, False), (900, True)):
        add_sessions(database, count, abandoned=abandoned)
        await evaluate(settings)
    assert receiver.events == ["fired", "over", "fired"]
    episodes = {request.document["episode_id"] for request in receiver.requests}
    assert len(episodes) == 2


@pytest.mark.parametrize(
    ("comparison", "threshold", "holds"),
    [
        ("above", 0.4, False),
        ("above", 0.3999, True),
        ("at_least", 0.4, True),
        ("at_least", 0.4001, False),
        ("below", 0.4, False),
        ("below", 0.4001, True),
        ("at_most", 0.4, True),
        ("at_most", 0.3999, False),
        ("equal", 0.4, True),
        ("equal", 0.4001, False),
    ],
)
async def test_a_threshold_is_met_to_the_digit(
    database: Connection,
    settings: Settings,
    file: File,
    comparison: str,
    threshold: float,
    *,
    holds: bool,
) -> None:
    add_sessions(database, 6)
    add_sessions(database, 4, abandoned=True)
    file.rule(comparison=comparison, threshold=threshold)
    assert bool((await evaluate(settings)).fired) == holds


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ({"figure": "total_sessions"}, 9),
        ({"figure": "active_sessions"}, 1),
        ({"figure": "archived_sessions"}, 0),
        ({"figure": "total_queries"}, 25),
        ({"figure": "avg_duration_seconds"}, 60),
        ({"figure": "avg_queries_per_session"}, 2.78),
        ({"figure": "abandonment_rate"}, 0.2222),
        ({"figure": "session_type_share", "of": "crypto"}, 0.2222),
        ({"figure": "session_type_share", "of": "macro"}, 0),
        ({"figure": "query_type_share", "of": "BTC"}, 0.2222),
        ({"figure": "total_sessions", "session_type": "crypto"}, 2),
        ({"figure": "total_sessions", "user_id": "bob"}, 2),
        ({"figure": "total_sessions", "user_id": "nobody"}, 0),
        ({"figure": "total_sessions", "days": None, "hours": 2}, 7),
        ({"figure": "total_sessions", "days": 3}, 10),
    ],
)
async def test_each_figure_is_the_librarys(
    database: Connection, settings: Settings, file: File, figure: dict[str, Any], value: float
) -> None:
    add_sessions(database, 5)
    add_sessions(database, 2, abandoned=True, queries=5, user="bob", kind="crypto", names=("BTC",))
    add_sessions(database, 2, queries=0, hours_ago=3)
    add_sessions(database, 1, hours_ago=30)
    database.execute(
        "insert into sessions (id, user_id, type, expires_at) "
        "values (gen_random_uuid(), 'ann', 'equity', now() + interval '1 hour')"
    )
    file.rule(comparison="equal", threshold=value, **figure)
    assert (await evaluate(settings)).fired == ["High abandonment"]


async def test_too_few_sessions_neither_begin_nor_end_an_episode(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    hooked.rule(channels=["hook"], minimum_sessions=10)
    add_sessions(database, 9, abandoned=True)
    assert not (await evaluate(settings)).fired
    assert one(database, "select state from analytics.alert_rules") == "too few sessions"
    add_sessions(database, 1, abandoned=True)
    assert (await evaluate(settings)).fired
    database.execute("delete from session_metrics")
    quiet = await evaluate(settings)
    assert (quiet.over, quiet.holding) == ([], ["High abandonment"])
    add_sessions(database, 10)
    assert (await evaluate(settings)).over == ["High abandonment"]
    assert receiver.events == ["fired", "over"]


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.35},
        {"comparison": "at_least"},
        {"days": 2},
        {"session_type": "equity"},
        {"user_id": "ann"},
        {"minimum_sessions": 1},
        {"figure": "total_queries"},
    ],
    ids=str,
)
async def test_a_rule_that_is_changed_ends_its_episode_and_begins_another(
    database: Connection,
    settings: Settings,
    hooked: File,
    receiver: Receiver,
    change: dict[str, Any],
) -> None:
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    hooked.rule(channels=["hook"], **change)
    changed = await evaluate(settings)
    assert (changed.over, changed.fired) == (["High abandonment"], ["High abandonment"])
    assert receiver.events == ["fired", "over", "fired"]
    assert receiver.requests[1].document["ending"] == "changed"
    assert not (await evaluate(settings)).fired


async def test_other_words_and_channels_leave_an_episode_as_it_is(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    hooked.rule(description="Look at the new start page.", severity="critical", threshold=0.30)
    assert not (await evaluate(settings)).over
    add_sessions(database, 90)
    await evaluate(settings)
    # Who was told that it fired.
    assert receiver.events == ["fired", "over"]


async def test_a_rule_that_is_removed_ends_its_episode(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    hooked.rules = []
    hooked.write()
    assert (await evaluate(settings)).over == ["High abandonment"]
    assert receiver.requests[-1].document["message"] == "The rule was removed."
    assert one(database, "select count(*) from analytics.alert_rules") == 0
    assert not (await evaluate(settings)).over


async def test_a_channel_that_is_removed_is_given_up(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    receiver.status = 500
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    hooked.channels = {}
    hooked.rule()
    gone = await evaluate(settings)
    assert gone.succeeded
    assert one(database, "select count(*) from analytics.notices where given_up_at is null") == 0
    assert receiver.events == ["fired"]


async def test_a_rule_that_cannot_be_evaluated_is_neither_fired_nor_closed(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    hooked.rule(name="Second", figure="total_sessions", threshold=0, channels=["hook"])
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    add_sessions(database, 100)
    database.execute("alter table session_metrics rename to gone")
    database.execute("alter table analytics.session_changes rename to gone")
    failed = await evaluate(settings)
    assert failed.unknown.keys() == {"High abandonment", "Second"}
    assert (failed.fired, failed.over) == ([], [])
    assert failed.holding == ["High abandonment", "Second"]
    states = database.execute(
        "select distinct state, problem is null from analytics.alert_rules"
    ).fetchall()
    assert states == [("unknown", False)]
    database.execute("alter table analytics.gone rename to session_changes")
    database.execute("alter table gone rename to session_metrics")
    mended = await evaluate(settings)
    assert (mended.over, mended.unknown) == (["High abandonment"], {})
    assert receiver.events == ["fired", "fired", "over"]


async def test_however_many_evaluate_at_once_it_is_told_once(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    for number in range(5):
        hooked.rule(name=f"Rule {number}", channels=["hook"])
    add_sessions(database, 10, abandoned=True)
    evaluations = await asyncio.gather(*(evaluate(settings) for _ in range(6)))
    told = sorted(request.document["rule"] for request in receiver.requests)
    assert told == sorted(rule["name"] for rule in hooked.rules)
    assert sorted(name for done in evaluations for name in done.fired) == told
    add_sessions(database, 90)
    await asyncio.gather(*(evaluate(settings) for _ in range(6)))
    assert sorted(receiver.events) == ["fired"] * 6 + ["over"] * 6


async def test_a_figure_that_is_older_than_what_is_known_changes_nothing(
    database: Connection, settings: Settings, hooked: File
) -> None:
    from datetime import timedelta

    from fiml.alerts.episodes import Reading, take_over
    from fiml.alerts.file import load

    add_sessions(database, 10)
    await evaluate(settings)
    [rule] = load(settings).rules
    as_of = one(database, "select evaluated_at from analytics.alert_rules")
    async with Database(settings) as pool:
        for late, happened in ((-1, []), (0, []), (1, ["fired"])):
            reading = Reading(Decimal("0.9"), 10, as_of + timedelta(microseconds=late))
            assert await pool.run(lambda found, r=reading: take_over(found, rule, r)) == happened


def evaluate_and_be_killed(settings: Settings, file: File, receiver: Receiver) -> int:
    """Evaluate in a process that is killed when its request is here and the answer is not."""
    is_known = threading.Event()
    started: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        is_known.wait()
        started[0].kill()

    receiver.on_request = kill
    with subprocess.Popen(
        [sys.executable, "-c", "from fiml.cli import main; main()", "alerts", "--evaluate"],
        env={
            **os.environ,
            "DATABASE_URL": settings.conninfo,
            "SESSION_ANALYTICS_ALERTS_FILE": str(file.path),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        started.append(process)
        is_known.set()
        code = process.wait()
    receiver.on_request = lambda: None
    return code


async def test_an_evaluator_killed_between_delivery_and_commit_is_followed_by_the_same_again(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    add_sessions(database, 10, abandoned=True)
    code = await asyncio.to_thread(evaluate_and_be_killed, settings, hooked, receiver)
    assert code == -signal.SIGKILL
    assert one(database, "select count(*) from analytics.notices where delivered_at is null") == 1
    # A server that is busy may not know yet that the one that held the row is gone.
    wait_until(
        database,
        "select count(*) = 1 from pg_stat_activity where datname = current_database()",
    )
    again = await evaluate(settings)
    assert (again.fired, len(again.delivered)) == ([], 1)
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    await evaluate(settings)
    assert len(receiver.requests) == 2


async def test_what_could_not_be_delivered_is_tried_again_later_and_later(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    hooked.rule(name="Second", channels=["hook"])
    receiver.status = 503
    add_sessions(database, 10, abandoned=True)
    first = await evaluate(settings)
    assert first.undelivered == {"hook": "answered 503"}
    # After one that failed, the next would too.
    assert len(receiver.requests) == 1
    # At the next evaluation, and then not before a quarter of an hour has passed.
    await evaluate(settings)
    assert len(receiver.requests) == 2
    await evaluate(settings)
    assert [request.document["rule"] for request in receiver.requests] == [
        "High abandonment",
        "High abandonment",
        "Second",
    ]
    delays = database.execute(
        "select attempts, round(extract(epoch from next_attempt_at - now()) / 60) "
        "from analytics.notices order by notice_id"
    ).fetchall()
    assert delays == [(2, 15), (1, 0)]
    await evaluate(settings)
    waiting = await evaluate(settings)
    assert len(receiver.requests) == 4
    assert waiting.undelivered == {"hook": "answered 503"}
    retry_now(database)
    receiver.status = 204
    assert len((await evaluate(settings)).delivered) == 2
    assert (await evaluate(settings)).succeeded


async def test_a_channel_that_breaks_is_one_that_failed_and_the_others_are_told(
    database: Connection,
    settings: Settings,
    file: File,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def post(channel: WebhookChannel, notice: Notice) -> None:
        if channel.name == "broken":
            raise RuntimeError("zz-secret")
        await webhook.post(channel, notice)

    monkeypatch.setattr(channels, "post", post)
    for name in ("broken", "hook"):
        file.channels[name] = {"kind": "webhook", "url": receiver.url}
    file.rule(channels=["broken", "hook"])
    add_sessions(database, 10, abandoned=True)
    for _ in range(2):
        failed = await evaluate(settings)
        assert failed.undelivered == {"broken": "the delivery broke: RuntimeError"}
    assert receiver.events == ["fired"]
    waiting = database.execute(
        "select problem, attempts, round(extract(epoch from next_attempt_at - now()) / 60) "
        "from analytics.notices where delivered_at is null"
    ).fetchall()
    assert waiting == [("the delivery broke: RuntimeError", 2, 15)]


async def test_that_it_is_over_is_told_after_that_it_fired(
    database: Connection, settings: Settings, hooked: File, receiver: Receiver
) -> None:
    receiver.status = 500
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    add_sessions(database, 90)
    await evaluate(settings)
    assert receiver.events == ["fired", "fired"]
    receiver.status = 204
    retry_now(database)
    await evaluate(settings)
    assert receiver.events == ["fired", "fired", "fired", "over"]


async def test_recent_episodes_come_with_those_first_that_go_on(
    database: Connection, settings: Settings, file: File
) -> None:
    file.rule(name="Over", severity="info")
    file.rule(name="Goes on", figure="total_sessions", comparison="at_least", threshold=10)
    add_sessions(database, 10, abandoned=True)
    await evaluate(settings)
    add_sessions(database, 90)
    await evaluate(settings)
    async with Database(settings) as pool:
        going_on, over = await recent_episodes(pool)
        assert (going_on.name, going_on.severity, going_on.over_at) == ("Goes on", "warning", None)
        assert (over.name, over.severity, over.value, over.threshold) == (
            "Over",
            "info",
            Decimal(1),
            Decimal("0.3"),
        )
        assert over.over_at is not None
        assert over.over_at > over.fired_at
        assert over.message.startswith("abandonment_rate is 1, above 0.3")
        assert await pool.run(lambda connection: recent_episodes(connection, 1)) == [going_on]
        with pytest.raises(InvalidArgumentError, match="limit is 0; expected an integer"):
            await recent_episodes(pool, 0)


async def test_nothing_that_is_kept_or_sent_names_the_user_and_an_erasure_takes_it(
    database: Connection,
    settings: Settings,
    hooked: File,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    user = "zz-somebody-of-the-tests"
    hooked.rule(name="Quiet", user_id=user, channels=["hook", "log"])
    add_sessions(database, 10, abandoned=True, user=user)
    with caplog.at_level("INFO"):
        evaluation: Evaluation = await evaluate(settings)
    assert "Quiet" in evaluation.fired
    key = one(database, "select user_key::text from analytics.user_keys where user_id = %s", user)
    [about_user] = [r.document for r in receiver.requests if r.document["rule"] == "Quiet"]
    assert about_user["user_key"] == key
    assert key in caplog.text
    for table in ("alert_rules", "alert_episodes", "notices"):
        rows = database.execute(f"select * from analytics.{table}".encode()).fetchall()
        assert rows
        assert user not in repr(rows)
    assert user not in caplog.text + repr(receiver.requests)
    database.execute("select analytics.erase_user(%s)", [user])
    kept = database.execute("select rule_name from analytics.alert_episodes").fetchall()
    assert kept == [("High abandonment",)]
    assert one(database, "select count(*) from analytics.notices") == 1
