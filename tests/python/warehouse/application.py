"""What an application does to its tables, and what the marts then have to hold."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
Rows = list[tuple[Any, ...]]

MARTS = (
    "daily_asset_counts",
    "daily_query_type_counts",
    "daily_session_stats",
    "daily_tag_counts",
    "daily_user_stats",
)
VIEWS = ("dim_date", "dim_session_type", "dim_user", "fct_sessions")


def record_metrics(connection: Connection, count: int, *, days_ago: int = 1) -> None:
    """Write metrics of sessions that nothing else knows, some odd ones among them."""
    connection.execute(
        """
        insert into session_metrics (
            session_id, user_id, session_type, created_at, duration_seconds, total_queries,
            assets_analyzed, query_type_summary, tags, abandoned, completed_normally
        )
        select
            gen_random_uuid(),
            case when number %% 5 > 0 then 'user ' || number %% 5 end,
            (array['equity', 'crypto', 'macro'])[1 + number %% 3],
            now() - make_interval(days => %(days_ago)s + number %% 4, secs => number),
            number %% 100 - 1,
            number %% 7 - 1,
            jsonb_build_array('A' || number %% 11, 'A' || number %% 3, number),
            jsonb_build_object('price', number %% 4, 'news', '2'),
            case
                when number %% 6 = 0 then '"no array"'::jsonb
                else jsonb_build_array('tag ' || number %% 2)
            end,
            number %% 10 = 0,
            number %% 10 <> 0
        from generate_series(1, %(count)s) as number
        """,
        {"count": count, "days_ago": days_ago},
    )


def leave_expired_sessions(connection: Connection, count: int) -> None:
    """Write sessions that expired an hour ago and are not archived yet."""
    connection.execute(
        """
        insert into sessions (
            id, user_id, type, assets, tags, created_at, expires_at, query_history, total_queries
        )
        select
            gen_random_uuid(), 'user ' || number, 'portfolio', '["GLD", "SLV"]', '["late"]',
            now() - interval '25 hours', now() - interval '1 hour',
            '[{"query_type": "risk", "execution_time_ms": 5, "cache_hit": true}]', 1
        from generate_series(1, %s) as number
        """,
        [count],
    )


def mart_rows(connection: Connection) -> dict[str, Rows]:
    """Every row of every mart, users by their id, in an order that two databases share."""
    rows = {
        mart: connection.execute(
            sql.SQL("select * from marts.{} as mart order by mart").format(sql.Identifier(mart))
        ).fetchall()
        for mart in MARTS[:-1]
    }
    rows[MARTS[-1]] = connection.execute(
        """
        select user_keys.user_id, to_jsonb(mart) - 'user_key'
        from marts.daily_user_stats as mart
        left join analytics.user_keys using (user_key)
        order by user_keys.user_id, mart.activity_date, mart.session_type
        """
    ).fetchall()
    return rows


def one(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    """The one value that a query returns."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def wait_until(connection: Connection, condition: LiteralString, seconds: float = 60) -> None:
    """Wait, in the server, until a condition holds."""
    connection.execute(
        f"""
        do $do$
        declare
            deadline timestamptz := clock_timestamp() + interval '{seconds} seconds';
        begin
            while ({condition}) is not true loop
                perform pg_stat_clear_snapshot(), pg_sleep(0.02);
                if clock_timestamp() > deadline then
                    raise exception 'it did not come: %', $not${condition}$not$;
                end if;
            end loop;
        end
        $do$
        """.encode()
    )


def dbt(
    settings: Settings, arguments: Sequence[str], target: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run dbt as a person does: its command, in the project's folder, with the environment set."""
    return subprocess.run(
        [
            Path(sys.executable).parent / "dbt",
            "--no-use-colors",
            *arguments,
            # The person's would be target/, which belongs to whoever works in this checkout.
            "--target-path",
            target,
            "--log-path",
            target,
        ],
        cwd=settings.project_dir,
        env={**settings.libpq_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
