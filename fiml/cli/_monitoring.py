"""What the commands that run on have in common: a log, spans, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import click

from fiml.cli._group import Failure
from fiml.monitoring.addresses import Address, parse_address
from fiml.monitoring.logs import LogFormat, log_to_stderr
from fiml.network.listening import why_not_listening
from fiml.settings import Settings

__all__ = ["metrics_option", "monitored", "teller"]

Command = TypeVar("Command", bound=Callable[..., Any])

_logger = logging.getLogger("fiml.cli")


def metrics_option(command: Command) -> Command:
    """Where metrics are served, if anywhere."""

    def read(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Address | None:
        return None if value is None else parse_address(value)

    option = click.option(
        "--metrics",
        metavar="[HOST:]PORT",
        callback=read,
        help="Serve metrics for Prometheus there, by default on 127.0.0.1; 0 takes a free port.",
    )
    return option(command)


def teller(settings: Settings) -> Callable[[str], None]:
    """What says a line to whoever started this process, in the form of its log."""
    if settings.log_format is LogFormat.TEXT:
        return lambda line: click.echo(line, err=True)
    _logger.setLevel(logging.INFO)
    return _logger.info


@contextmanager
def monitored(settings: Settings, metrics: Address | None) -> Iterator[None]:
    """Log, and have spans and metrics where they are asked for, while the block runs.

    Args:
        settings: with the login that asks the database how far everything is.
        metrics: where they are served.

    Raises:
        Failure: the port of the metrics cannot be had.
    """
    from fiml.monitoring.otlp import sending_spans

    log_to_stderr(settings.log_format)
    tell = teller(settings)
    with ExitStack() as stack:
        stack.enter_context(sending_spans(settings))
        if metrics is not None:
            from fiml.monitoring.endpoint import serving_metrics

            serving = serving_metrics(
                settings,
                metrics.host,
                metrics.port,
                on_ready=lambda url: tell(f"Serving metrics on {url}."),
            )
            try:
                stack.enter_context(serving)
            except OSError as error:
                raise Failure(
                    why_not_listening(
                        error, metrics.host, metrics.port, "--metrics", what=" for metrics"
                    )
                ) from None
        yield
