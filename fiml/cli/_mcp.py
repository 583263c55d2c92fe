"""The command that serves the MCP tool."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import click

from fiml.cli._connection import all_logins
from fiml.cli._folding import folding_beside
from fiml.cli._group import Failure, WrongUsage
from fiml.cli._monitoring import metrics_option, monitored, teller
from fiml.monitoring.addresses import Address
from fiml.network.listening import why_not_listening
from fiml.sessions.roles import Purpose

__all__ = ["mcp"]

_DEFAULT_PORT: Final = 8765


@click.command()
@click.option("--http", is_flag=True, help="Streamable HTTP; default: standard input and output.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="With --http: where it listens."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_DEFAULT_PORT,
    show_default=True,
    help="With --http; 0 takes a free one.",
)
@click.option(
    "--insecure-local",
    is_flag=True,
    help="With --http: ask nobody who they are; everybody on this machine may see everything.",
)
@metrics_option
@click.option("--no-fold", is_flag=True, help="Leave folding every second to others.")
def mcp(
    *,
    http: bool,
    host: str,
    port: int,
    insecure_local: bool,
    metrics: Address | None,
    no_fold: bool,
) -> None:
    """Serve the tool get-session-analytics to AI assistants.

    Over standard input and output to whoever started it; over HTTP to callers who prove with a
    bearer token who they are. They get their own figures, and with more scopes more.

    A process beside it folds what comes in every second.
    """
    from fiml.mcp.http import network_access, serve_http
    from fiml.mcp.server import serve_stdio

    with ExitStack() as stack:
        settings = stack.enter_context(all_logins(Purpose.READER))
        if http:
            # What forbids to serve is told before a process is started beside it.
            network_access(settings, host, insecure_local=insecure_local)
        elif insecure_local:
            raise WrongUsage("--insecure-local is about --http")
        reading = settings.connecting_as(Purpose.READER)
        tell = teller(settings)
        stack.enter_context(monitored(reading, metrics))
        if not no_fold:
            stack.enter_context(folding_beside(settings, tell=tell))
        if not http:
            serve_stdio(reading)
            return
        try:
            serve_http(
                host,
                port,
                settings=reading,
                insecure_local=insecure_local,
                on_ready=lambda url: tell(f"Serving MCP on {url}; Ctrl-C ends it."),
            )
        except OSError as error:
            raise Failure(why_not_listening(error, host, port, "--port")) from None
