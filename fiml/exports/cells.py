"""What a workbook's cells hold, each as what it is: text, a number, a date.

Text is written as text alone, whatever it looks like: nothing in it becomes a formula or a link.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from fiml.charts import theme
from fiml.exports.report import Unit

if TYPE_CHECKING:
    from xlsxwriter import Workbook
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

__all__ = ["MOMENT", "NUMBER_FORMATS", "Cells"]

NUMBER_FORMATS: Final = {
    Unit.COUNT: "#,##0",
    Unit.AVERAGE: "#,##0.00",
    Unit.SECONDS: "#,##0.00",
    Unit.SHARE: "0.00%",
}
MOMENT: Final = "yyyy-mm-dd hh:mm:ss"

# In units of UTF-16, as the programs count.
_LONGEST_TEXT: Final = 32_767
# Of more digits than 15 a cell's number would lose some.
_PLAIN_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,14})|-?(0|[1-9][0-9]{0,6})\.[0-9]{1,8}")


class Cells:
    """Writes cells; the time of a clock on the wall in a zone, since a cell has no time zone."""

    def __init__(self, workbook: Workbook, zone: ZoneInfo) -> None:
        """Take the workbook, to which formats belong, and the zone."""
        self._workbook = workbook
        self._zone = zone
        self._formats: dict[tuple[tuple[str, Any], ...], Format] = {}

    def format(self, **properties: Any) -> Format:
        """A format, made once."""
        key = tuple(sorted(properties.items()))
        if key not in self._formats:
            self._formats[key] = self._workbook.add_format(properties)
        return self._formats[key]

    def heading(
        self, sheet: Worksheet, row: int, column: int, text: str, *, is_number: bool = False
    ) -> None:
        """A cell of the line above a table."""
        look = self.format(
            bold=True,
            bottom=1,
            bottom_color=theme.ACCENT,
            valign="bottom",
            align="right" if is_number else "left",
            text_wrap=True,
        )
        self.text(sheet, row, column, text, look)

    def text(
        self, sheet: Worksheet, row: int, column: int, text: str, look: Format | None = None
    ) -> None:
        """Text; what is longer than a cell can be ends with an ellipsis."""
        units = text.encode("utf-16-le")
        if len(units) > 2 * _LONGEST_TEXT:
            kept = units[: 2 * (_LONGEST_TEXT - 1)]
            text = kept.decode("utf-16-le", errors="ignore") + "\N{HORIZONTAL ELLIPSIS}"
        sheet.write_string(row, column, text, look)

    def number(
        self, sheet: Worksheet, row: int, column: int, value: float | None, unit: Unit
    ) -> None:
        """A figure; nothing where there is none."""
        if value is not None:
            look = self.format(num_format=NUMBER_FORMATS[unit])
            sheet.write_number(row, column, value, look)

    def number_or_text(self, sheet: Worksheet, row: int, column: int, text: str) -> None:
        """A number where the text is one that a cell can hold exactly, else the text."""
        if _PLAIN_NUMBER.fullmatch(text):
            sheet.write_number(row, column, float(text))
        else:
            self.text(sheet, row, column, text)

    def flag(self, sheet: Worksheet, row: int, column: int, *, value: bool) -> None:
        """Yes or no; some programs need to be told how to show it."""
        look = self.format(num_format='"TRUE";"TRUE";"FALSE"', align="center")
        sheet.write_boolean(row, column, value, look)

    def moment(
        self, sheet: Worksheet, row: int, column: int, moment: datetime, shown: str = MOMENT
    ) -> None:
        """A date and time, to the millisecond."""
        local = moment.astimezone(self._zone).replace(tzinfo=None)
        sheet.write_datetime(row, column, local, self.format(num_format=shown, align="left"))
