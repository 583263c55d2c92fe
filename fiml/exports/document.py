"""A report as PDF, set by Typst from `report.typ` with the fonts that its package brings."""

from __future__ import annotations

import json
from datetime import UTC
from importlib.resources import as_file, files
from typing import Final

from fiml.exports._extra import require
from fiml.exports.report import Report
from fiml.exports.view import view

__all__ = ["render_report"]

_TEMPLATE: Final = "report.typ"


def render_report(report: Report, *, title: str = "Session analytics") -> bytes:
    """The report as PDF, two or three pages of A4; the same bytes for the same report.

    Args:
        report: what it says; see fiml.exports.reading.read_report.
        title: what it is called, such as "Weekly report".

    Raises:
        ModuleNotFoundError: the extra `export` is not installed.
    """
    typst = require("typst")
    with as_file(files("fiml.exports")) as folder:
        pdf: bytes = typst.compile(
            str(folder / _TEMPLATE),
            root=str(folder),
            # The same everywhere: not those that a machine happens to have.
            ignore_system_fonts=True,
            # Data: nothing in it is read as markup.
            sys_inputs={"report": json.dumps(view(report, title))},
            # Not the time of writing.
            timestamp=report.as_of.astimezone(UTC).replace(microsecond=0),
            pdf_standards=["ua-1"],
            format="pdf",
        )
    return pdf
