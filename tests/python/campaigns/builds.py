"""Builds that are killed, and builds of every kind at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ALL_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import psycopg
from campaigns.campaign import Campaign
from campaigns.ground import SOMEBODY_ELSE, Ground, check_whole
from campaigns.ledger import Ledger
from campaigns.traffic import USERS, under_traffic
from psycopg import sql
from warehouse.application import dbt, wait_until

from fiml.settings import Settings
from fiml.warehouse.builds import build
from fiml.warehouse.fold import fold

__all__ = ["KILLED", "OVERLAPPING", "StartedBuild"]

_BUILDER = """
import sys
from fiml.settings import Settings
from fiml.warehouse.builds import build
build(Settings.from_environment(), from_scratch=sys.argv[1] == "scratch")
"""
# dbt connects about this long after a build begins; then the models take about as long.
_SECONDS_OF_A_BUILD = 6.0
_SECONDS_OF_A_SLOW_BUILD = 300.0
_SECONDS_BETWEEN_FOLDS = 0.5
_A_MODEL_WAITS = "application_name = 'session-analytics-build' and wait_event_type = 'Lock'"


def _kill(ground: Ground, choose: Random) -> Counter[str]:
    """Kill a build of some hundred changes, and have the next one go on."""
    ledger = Ledger()
    kind = choose.choice(["incremental", "scratch"])
    mart = choose.choice([None, *(mart.name for mart in ground.marts)])
    with ground.database() as conninfo:
        with under_traffic(conninfo, ledger, choose.getrandbits(32)):
            if kind == "incremental":
                _wait_for_entries(ledger, 100)
                _fold(conninfo, ground)
            _wait_for_entries(ledger, len(ledger) + 100)
            if mart is None:
                killed = StartedBuild(conninfo, kind)
                sleep(choose.uniform(0, _SECONDS_OF_A_BUILD))
                victims = killed.kill_some(choose)
            else:
                killed, victims = _kill_at(conninfo, mart, kind, choose)
        if choose.random() < 1 / 5:
            build(Settings(conninfo=conninfo))
        killed.wait()
        check_whole(conninfo, ground.marts, ledger, USERS)
    return Counter({f"killed {victims}, {'at random' if mart is None else f'at {mart}'}": 1})


def _kill_at(conninfo: str, mart: str, kind: str, choose: Random) -> tuple[StartedBuild, str]:
    """Kill a build that has come to one mart: those before it are folded, those after it not."""
    with (
        psycopg.connect(conninfo) as blocker,
        psycopg.connect(conninfo, autocommit=True) as watcher,
    ):
        blocker.execute(
            sql.SQL("lock table {} in share mode").format(
                sql.Identifier("serving" if mart == "session_totals" else "marts", mart)
            )
        )
        started = StartedBuild(conninfo, kind)
        wait_until(watcher, f"exists ({SOMEBODY_ELSE} and {_A_MODEL_WAITS})")
        return started, started.kill_some(choose)


class StartedBuild:
    """A build in a process of its own, and dbt in that one's: any of them may be killed."""

    def __init__(self, conninfo: str, kind: str) -> None:
        """Begin one from "scratch", or with any other word an incremental one."""
        self._driver = subprocess.Popen(
            [sys.executable, "-c", _BUILDER, kind],
            env={**os.environ, "DATABASE_URL": conninfo},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._dbt: list[int] = []

    @property
    def is_running(self) -> bool:
        """Whether its driver is; dbt may outlive that one."""
        return self._driver.poll() is None

    def kill_some(self, choose: Random) -> str:
        """Kill the driver, its dbt, or both. A dbt without its driver goes on, and says nothing."""
        victims = choose.choice(["driver", "dbt", "driver and dbt"])
        self._dbt = _children(self._driver.pid)
        if "driver" in victims:
            self._driver.kill()
        if "dbt" in victims:
            for pid in self._dbt:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._driver.wait()
        return victims

    def wait(self) -> None:
        """Until nothing of it is left.

        A dbt that has lost its driver may be starting still, and is connected to nothing then.

        Raises:
            AssertionError: it takes too long.
        """
        deadline = monotonic() + _SECONDS_OF_A_SLOW_BUILD
        self._driver.wait(_SECONDS_OF_A_SLOW_BUILD)
        while any(map(_is_alive, self._dbt)):
            assert monotonic() < deadline, "dbt does not end"
            sleep(0.05)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def _is_alive(pid: int) -> bool:
    try:
        # After the name, which may hold anything: the state.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def _wait_for_entries(ledger: Ledger, entries: int) -> None:
    while len(ledger) < entries:
        sleep(0.01)


def _fold(conninfo: str, ground: Ground) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        fold(connection, ground.marts, f"fold {os.getpid()}")


def _overlap(ground: Ground, choose: Random) -> Counter[str]:
    """Light folds beside two builds of kinds that the lot decides, while sessions come and go."""
    ledger = Ledger()
    with ground.database() as conninfo, ThreadPoolExecutor() as pool:
        settings = Settings(conninfo=conninfo)
        kinds: dict[str, Callable[[], Any]] = {
            "build": lambda: build(settings),
            "rebuild": lambda: build(settings, from_scratch=True),
            "dbt build": lambda: _dbt_build(settings, ground.folder),
        }
        chosen = choose.sample(list(kinds), 2)
        with under_traffic(conninfo, ledger, choose.getrandbits(32)):
            _wait_for_entries(ledger, 50)
            builds = [pool.submit(kinds[kind]) for kind in chosen]
            folds = _fold_meanwhile(conninfo, ground, builds)
            for running in builds:
                running.result()
        check_whole(conninfo, ground.marts, ledger, USERS)
    assert folds > 1
    return Counter({**Counter(chosen), "light folds": folds})


def _dbt_build(settings: Settings, folder: Path) -> None:
    done = dbt(settings, ["build"], folder / "target")
    assert done.returncode == 0, done.stdout


def _fold_meanwhile(conninfo: str, ground: Ground, builds: Sequence[Future[Any]]) -> int:
    folds = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not all(running.done() for running in builds):
            fold(connection, ground.marts, f"fold {folds}")
            folds += 1
            # As often as the process that folds, and not all the time.
            wait(builds, timeout=_SECONDS_BETWEEN_FOLDS, return_when=ALL_COMPLETED)
    return folds


KILLED = Campaign(
    name="build-killed",
    disturbance="`kill -9` of a build, of its dbt or of both, at random points and at each model",
    play=_kill,
    rounds=300,
    short=10,
)
OVERLAPPING = Campaign(
    name="builds-overlapping",
    disturbance="two at once of job, rebuild from scratch and plain `dbt build`, and light folds",
    play=_overlap,
    rounds=300,
    short=5,
)
