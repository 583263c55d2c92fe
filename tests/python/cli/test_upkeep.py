"""The commands for upkeep: `migrate`, `archive`, `build`, `reconcile`, `doctor`."""

import re

from cli.outcomes import NOWHERE, Connection, Run, add_expired, succeeded

from fiml.sessions.migrations import MIGRATIONS


def test_migrate_brings_a_database_to_this_version_and_can_be_repeated(
    run: Run, empty_database: str
) -> None:
    result = run("migrate", conninfo=empty_database)
    version = MIGRATIONS[-1].version
    assert succeeded(result).startswith(f"The database is at version {version}; {version} ")
    assert "source_tables" in result.stderr
    assert succeeded(run("migrate", conninfo=empty_database)) == (
        f"The database is at version {version} already.\n"
    )


def test_archive_ends_what_has_expired_and_says_how_many(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 7)
    assert succeeded(run("archive", conninfo=migrated_database)) == "7 sessions archived.\n"
    assert succeeded(run("archive", conninfo=migrated_database)) == "0 sessions archived.\n"


def test_of_one_session_the_singular_is_said(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 1)
    assert succeeded(run("archive", conninfo=migrated_database)) == "1 session archived.\n"


def test_archive_tries_again_what_was_set_aside_when_asked(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 2)
    source.execute(
        "alter table session_metrics add constraint no_metrics check (duration_seconds < 0)"
    )
    result = run("archive", conninfo=migrated_database)
    assert succeeded(result) == "0 sessions archived.\n"
    assert "2 could not be and were set aside" in result.stderr
    source.execute("alter table session_metrics drop constraint no_metrics")
    assert succeeded(run("archive", conninfo=migrated_database)) == "0 sessions archived.\n"
    again = run("archive", "--retry-quarantined", conninfo=migrated_database)
    assert succeeded(again) == "2 sessions archived.\n"


def test_build_folds_and_reconcile_names_the_mart_and_the_day_of_a_drift(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 4, "[red]X")
    run("archive", conninfo=migrated_database)
    result = run("build", conninfo=migrated_database)
    assert re.fullmatch(r"\d+ models and tests passed in \d+\.\d s\.\n", succeeded(result))
    assert "daily_session_stats folded" in result.stderr
    source.execute("update marts.daily_asset_counts set occurrences = occurrences + 1")
    drift = run("reconcile", conninfo=migrated_database)
    assert drift.exit_code == 1
    row = source.execute("select activity_date from marts.daily_asset_counts").fetchone()
    assert row is not None
    told = " ".join(drift.stdout.split())
    assert f"daily_asset_counts │ {row[0]} │ equity, [red]X" in told
    assert "│ 4 │ 5 │" in told
    assert "--from-scratch" in drift.stderr

    succeeded(run("build", "--from-scratch", conninfo=migrated_database))
    same = run("reconcile", "--all", conninfo=migrated_database)
    assert succeeded(same) == "Every mart holds what the source says.\n"
    kept = run("retention", "--keep-days", "1", conninfo=migrated_database)
    assert "Raw rows are kept from" in succeeded(kept)


def test_doctor_prints_every_finding_with_what_to_do(
    run: Run, migrated_database: str, source: Connection
) -> None:
    add_expired(source, 5)
    told = " ".join(succeeded(run("doctor", conninfo=migrated_database)).split())
    assert "ok Server: PostgreSQL" in told
    assert "warning Pending archival: 5 expired sessions wait" in told
    assert "→ Run `session-analytics archive`." in told
    source.execute("alter table sessions disable trigger analytics_log_delete")
    result = run("doctor", conninfo=migrated_database)
    assert result.exit_code == 1
    assert "error" in result.stdout
    assert "enable trigger analytics_log_delete" in " ".join(result.stdout.split())


def test_doctor_explains_a_server_that_is_not_there(run: Run) -> None:
    result = run("doctor", conninfo=NOWHERE)
    assert result.exit_code == 1
    assert "No server: " in result.stdout
    assert "secret" not in result.output
