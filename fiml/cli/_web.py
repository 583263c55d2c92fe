"""The command that serves the page."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

import click

from fiml.cli._connection import all_logins
from fiml.cli._folding import folding_beside
from fiml.cli._group import Failure
from fiml.cli._monitoring import metrics_option, monitored, teller
from fiml.monitoring.addresses import Address
from fiml.network.listening import why_not_listening
from fiml.sessions.roles import Purpose

__all__ = ["serve"]

_DEFAULT_PORT: Final = 8766


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_DEFAULT_PORT,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--insecure-local",
    is_flag=True,
    help="Ask nobody who they are; everybody on this machine may see everything.",
)
@metrics_option
@click.option("--no-fold", is_flag=True, help="Leave folding every second to others.")
@click.option(
    "--demo-traffic",
    is_flag=True,
    help="Write sample sessions now and then; into the demo's database alone.",
)
def serve(
    *,
    host: str,
    port: int,
    insecure_local: bool,
    metrics: Address | None,
    no_fold: bool,
    demo_traffic: bool,
) -> None:
    """Serve the page, the API, live updates and MCP.

    To callers who prove with a bearer token who they are, as `mcp --http` does. A process beside it
    folds what comes in every second.
    """
    from fiml.demo.traffic import writing
    from fiml.mcp.http import network_access
    from fiml.web.serve import serve as serve_web

    with ExitStack() as stack:
        settings = stack.enter_context(all_logins(Purpose.READER))
        # What forbids to serve is told before a process is started beside it.
        network_access(settings, host, insecure_local=insecure_local)
        reading = settings.connecting_as(Purpose.READER)
        tell = teller(settings)
        stack.enter_context(monitored(reading, metrics))
        if not no_fold:
            stack.enter_context(folding_beside(settings, tell=tell))
        if demo_traffic:
            stack.enter_context(writing(settings.connecting_as(Purpose.APP)))
        try:
            serve_web(
                host,
                port,
                settings=reading,
                insecure_local=insecure_local,
                on_ready=lambda origin: tell(f"Serving the page on {origin}; Ctrl-C ends it."),
            )
        except OSError as error:
            raise Failure(why_not_listening(error, host, port, "--port")) from None
