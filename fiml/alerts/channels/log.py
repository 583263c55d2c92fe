"""The log: a line of JSON for each notice, in the logger `fiml.alerts`."""

from __future__ import annotations

import logging
from typing import Final

from fiml.alerts.channels.document import alert_document
from fiml.alerts.notices import Notice

__all__ = ["write_line"]

_LEVELS: Final = {
    "info": logging.INFO,
    "warning": logging.WARNING,
    "critical": logging.ERROR,
}

_logger = logging.getLogger("fiml.alerts")


def write_line(notice: Notice) -> None:
    """Log that it fired with its severity, and that it is over as INFO."""
    level = _LEVELS[str(notice.severity)] if notice.kind == "fired" else logging.INFO
    _logger.log(level, "%s", alert_document(notice))
