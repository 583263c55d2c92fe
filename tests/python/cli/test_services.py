"""A connection service, of a real file: whatever connects for a command goes to the same place."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.outcomes import Connection, Run, add_expired, failed, succeeded
from cli.test_run import ASK
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fiml.cli._connection import NAMES_A_DATABASE
from fiml.settings import Settings
from fiml.warehouse._dbt import connection_environment
from orchestration.dbt_assets import dbt_resource

Start = Callable[..., subprocess.Popen[bytes]]

ELSEWHERE = {"PGHOST": "staging.invalid", "PGPORT": "1", "PGDATABASE": "stagedb", "PGUSER": "none"}
BY_URL = {"DATABASE_URL": "service=shop"}
BY_VARIABLE = {"PGSERVICE": "shop"}


@pytest.fixture
def services(tmp_path: Path, migrated_database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the service `shop`, which is the migrated database."""
    for name in NAMES_A_DATABASE:
        monkeypatch.delenv(name, raising=False)
    keywords = conninfo_to_dict(migrated_database)
    file = tmp_path / "pg_service.conf"
    lines = [f"{name}={value}" for name, value in keywords.items()]
    file.write_text("\n".join(["[shop]", *lines, "options=-c work_mem=5MB", ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    return file


def name_of(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("named", [BY_URL, BY_VARIABLE])
@pytest.mark.parametrize("conninfo", ["''", "os.environ.get('DATABASE_URL', '')"])
def test_a_program_is_run_on_the_database_of_the_service(
    start: Start, migrated_database: str, named: dict[str, str], conninfo: str
) -> None:
    process = start("run", "python", "-c", ASK.format(conninfo), **ELSEWHERE, **named)
    said, problem = process.communicate(timeout=60)
    assert (said.decode().strip(), problem) == (name_of(migrated_database), b"")


@pytest.mark.usefixtures("services")
def test_what_the_url_says_goes_before_the_service_for_a_program_too(
    start: Start, migrated_database: str
) -> None:
    url = make_conninfo("service=shop", dbname="postgres")
    process = start("run", "python", "-c", ASK.format("''"), DATABASE_URL=url, PGSERVICE="shop")
    assert process.communicate(timeout=60) == (b"postgres\n", b"")


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("named", [BY_URL, BY_VARIABLE])
def test_a_build_is_of_the_database_of_the_service(
    run: Run, source: Connection, named: dict[str, str]
) -> None:
    add_expired(source, 3)
    assert succeeded(run("archive", **ELSEWHERE, **named)) == "3 sessions archived.\n"
    assert "passed" in succeeded(run("build", **ELSEWHERE, **named))
    assert source.execute("select sum(sessions) from marts.daily_session_stats").fetchone() == (3,)
    assert (
        json.loads(succeeded(run("stats", "--json", **ELSEWHERE, **named)))["total_sessions"] == 3
    )


@pytest.mark.usefixtures("services")
def test_dagster_s_dbt_is_told_the_service_and_its_process_keeps_its_environment(
    migrated_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ELSEWHERE | BY_VARIABLE).items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    settings = Settings.from_environment()
    with dbt_resource(settings).connected(settings):
        assert os.environ["PGDATABASE"] == name_of(migrated_database)
        assert os.environ["PGOPTIONS"] == "-c work_mem=5MB"
        assert "PGSERVICE" not in os.environ
    assert dict(os.environ) == before


@pytest.mark.usefixtures("services")
def test_a_service_that_is_not_there_is_told_and_nothing_is_run_elsewhere(run: Run) -> None:
    for command in (["run", "true"], ["build"]):
        told = failed(run(*command, DATABASE_URL="service=shed", PGSERVICE="shop"))
        assert "shed" in told


@pytest.mark.usefixtures("services")
def test_a_version_of_tls_that_a_service_demands_is_handed_over(services: Path) -> None:
    services.write_text("[shop]\nhost=h\nssl_max_protocol_version=TLSv1.2\n")
    found = connection_environment(Settings(conninfo="service=shop"))
    assert found["PGSSLMAXPROTOCOLVERSION"] == "TLSv1.2"
    assert "PGSSLMINPROTOCOLVERSION" not in found


def test_of_several_hosts_a_program_gets_the_one_that_it_is_to_write_to(
    start: Start, migrated_database: str
) -> None:
    given = conninfo_to_dict(migrated_database)
    several = make_conninfo(
        migrated_database,
        host=f"127.0.0.1,{given['host']}",
        port=f"1,{given['port']}",
        target_session_attrs="read-write",
    )
    process = start("run", "python", "-c", ASK.format("''"), conninfo=several)
    said, problem = process.communicate(timeout=60)
    assert (said.decode().strip(), problem) == (name_of(migrated_database), b"")


def test_a_build_refuses_hosts_of_several_ports(run: Run, migrated_database: str) -> None:
    given = conninfo_to_dict(migrated_database)
    several = make_conninfo(
        migrated_database, host="127.0.0.1,127.0.0.1", port=f"1,{given['port']}"
    )
    assert failed(run("build", conninfo=several)).startswith("dbt takes one port for every host")
