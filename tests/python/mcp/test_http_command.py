"""`session-analytics mcp --http` as somebody who runs it meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result
from identity.issuer import AUDIENCE, Issuer
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from fiml.cli import main
from fiml.identity.authorization import PLATFORM_SCOPE
from fiml.identity.tokens import Identity, TokenVerifier
from fiml.mcp.server import TOOL_NAME
from fiml.settings import SETTINGS, Settings
from fiml.warehouse.folding import folding_environment

ROOT = Path(__file__).resolve().parents[3]
COMMAND = str(Path(sys.executable).with_name("session-analytics"))
NOWHERE = "postgresql://someone:secret@127.0.0.1:1/nothing"


def run(*arguments: str, **environment: str) -> Result:
    auth = {setting.name: None for setting in SETTINGS if "_AUTH_" in setting.name}
    return CliRunner().invoke(
        main,
        ["mcp", "--no-fold", *arguments],
        env={**auth, "DATABASE_URL": NOWHERE, **environment},
    )


def told(result: Result, exit_code: int) -> str:
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def test_it_does_not_start_before_it_can_tell_who_is_asking() -> None:
    reason = told(run("--http", "--port", "0"), 1)
    assert reason.startswith("over HTTP callers must prove who they are: set ")
    for name in ("JWKS_FILE", "SECRET_FILE", "AUDIENCE"):
        assert f"SESSION_ANALYTICS_AUTH_{name}" in reason
    assert "--insecure-local" in reason


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])  # noqa: S104
def test_insecure_is_local(host: str) -> None:
    reason = told(run("--http", "--insecure-local", "--host", host), 2)
    assert "only this machine may connect" in reason


def test_insecure_is_about_http() -> None:
    assert told(run("--insecure-local"), 2) == "--insecure-local is about --http"


def test_insecure_does_not_quietly_ignore_keys() -> None:
    reason = told(
        run(
            "--http",
            "--insecure-local",
            SESSION_ANALYTICS_AUTH_SECRET="s" * 32,
            SESSION_ANALYTICS_AUTH_AUDIENCE="a",
        ),
        1,
    )
    assert (
        reason
        == "keys of tokens are set, and --insecure-local would ignore them; drop one of the two"
    )


def test_a_secret_that_others_can_read_keeps_it_from_starting(
    issuer: Issuer, tmp_path: Path
) -> None:
    path = issuer.write_secret(tmp_path)
    path.chmod(0o644)
    reason = told(run("--http", SESSION_ANALYTICS_AUTH_SECRET_FILE=str(path)), 1)
    assert reason.startswith("SESSION_ANALYTICS_AUTH_SECRET_FILE: others may read or write ")


def test_an_address_that_is_none_keeps_it_from_starting(issuer: Issuer, tmp_path: Path) -> None:
    reason = told(
        run(
            "--http",
            "--port",
            "0",
            SESSION_ANALYTICS_AUTH_SECRET_FILE=str(issuer.write_secret(tmp_path)),
            SESSION_ANALYTICS_AUTH_AUDIENCE="https://",
        ),
        1,
    )
    assert reason == "'https://' is no URL, though it begins like one"


def test_nothing_secret_is_an_argument_which_every_process_can_read() -> None:
    options = {name for parameter in main.commands["mcp"].params for name in parameter.opts}
    assert options == {
        "--http",
        "--host",
        "--port",
        "--insecure-local",
        "--metrics",
        "--no-fold",
    }


def test_the_settings_are_shown_without_the_secret() -> None:
    secret = "a shared secret of more than thirty-two bytes"
    result = CliRunner().invoke(main, ["settings"], env={"SESSION_ANALYTICS_AUTH_SECRET": secret})
    assert result.exit_code == 0
    assert "SESSION_ANALYTICS_AUTH_SECRET" in result.stdout
    assert secret not in result.stdout


def test_the_process_that_folds_beside_it_is_not_given_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_ANALYTICS_AUTH_SECRET", "s" * 32)
    assert "s" * 32 not in folding_environment(Settings()).values()


def test_the_token_that_operations_makes_for_a_try_is_valid(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    program = page.partition("bin/python -c '")[2].partition("' analyst_001 ")[0]
    monkeypatch.setenv("SESSION_ANALYTICS_AUTH_SECRET_FILE", str(issuer.write_secret(tmp_path)))
    monkeypatch.setenv("SESSION_ANALYTICS_AUTH_AUDIENCE", AUDIENCE)
    made = subprocess.run(
        [sys.executable, "-c", program.replace("\n  ", "\n"), "analyst_001", PLATFORM_SCOPE],
        capture_output=True,
        text=True,
        check=True,
    )
    verifier = TokenVerifier.from_settings(Settings.from_environment())
    assert verifier is not None
    identity = verifier.verify(made.stdout.strip())
    assert identity == Identity("analyst_001", frozenset({PLATFORM_SCOPE}))


@contextmanager
def started(**environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [COMMAND, "mcp", "--no-fold", "--http", "--port", "0"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("Serving MCP on http://127.0.0.1:"), line
            yield process, line.split()[3].removesuffix(";")
        finally:
            process.kill()


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["file", "environment"])
async def test_with_a_shared_secret_a_real_client_gets_its_own_figures_and_the_log_names_nobody(
    issuer: Issuer, conninfo: str, tmp_path: Path, how: str
) -> None:
    environment = {"DATABASE_URL": conninfo, "SESSION_ANALYTICS_AUTH_AUDIENCE": AUDIENCE}
    if how == "file":
        path = issuer.write_secret(tmp_path)
        environment["SESSION_ANALYTICS_AUTH_SECRET_FILE"] = str(path)
    else:
        environment["SESSION_ANALYTICS_AUTH_SECRET"] = issuer.secret.decode()
    token = issuer.signed(issuer.claims("analyst_001"), "HS256")
    forged = issuer.signed(issuer.claims("analyst_002", exp=1), "HS256")
    with started(**environment) as (process, url):
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool(TOOL_NAME, {"days": 7})
            assert result.structured_content is not None
            assert result.structured_content["user_id"] == "analyst_001"
            assert (await client.call_tool(TOOL_NAME, {"userId": "analyst_002"})).is_error
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {forged}"}) as http:
            assert (await http.post(url, json={})).status_code == 401
        process.terminate()
        stdout, stderr = process.communicate(timeout=60)
    assert stdout == ""
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert [line["outcome"] for line in lines] == ["answered", "refused", "unauthenticated"]
    for text in ("analyst_", issuer.secret.decode(), *token.split("."), *forged.split(".")):
        assert text not in stderr
