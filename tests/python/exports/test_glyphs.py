"""The table of characters that a report can show is what Typst says of its fonts.

`GLYPHS=write .venv/bin/python -m pytest tests/python/exports/test_glyphs.py` writes it anew.
"""

import os
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import typst

FOLDER = Path(__file__).resolve().parents[3] / "fiml" / "exports"
TABLE = FOLDER / "glyphs.txt"
# Fillers and selectors of variants: letters and marks by their category, and nothing to look at.
WITHOUT_A_LOOK = {
    *(0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x3164, 0xFFA0),
    *range(0xFE00, 0xFE10),
}
# Above are Chinese characters, and what nobody has assigned.
EVERYTHING = [
    chr(code)
    for code in (*range(0x20, 0xD800), *range(0xE000, 0x20000))
    if chr(code).isprintable() and code not in WITHOUT_A_LOOK
]

# An accessible file must not lack a glyph: each that does is an error, and all are told.
PROBE = """
#set document(title: "probe")
#set text(font: {fonts}, fallback: false)
#for character in sys.inputs.text.codepoints() {{ box(character) + [ ] }}
"""
LACKING = re.compile(r'^error: .*the text `"(.*)"` could not be displayed with font', re.MULTILINE)


def fonts() -> str:
    """Those of the template."""
    found = re.search(r"font: (\(.*?\))", (FOLDER / "report.typ").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def lacking(text: str) -> set[str]:
    """The characters that no font has."""
    try:
        typst.compile(
            PROBE.format(fonts=fonts()).encode(),
            ignore_system_fonts=True,
            sys_inputs={"text": text},
            pdf_standards=["ua-1"],
        )
    except typst.TypstError as error:
        return {_unescaped(found) for found in LACKING.findall(error.diagnostic)}
    return set()


def _unescaped(text: str) -> str:
    escape = re.fullmatch(r"\\u\{([0-9a-f]+)\}", text)
    return text if escape is None else chr(int(escape[1], 16))


def ranges(characters: list[str]) -> Iterator[str]:
    numbered = enumerate(map(ord, characters))
    for _, group in groupby(numbered, key=lambda pair: pair[1] - pair[0]):
        codes = [code for _, code in group]
        yield f"{codes[0]:X}" if len(codes) == 1 else f"{codes[0]:X}-{codes[-1]:X}"


def test_the_table_is_what_the_fonts_have() -> None:
    none = {
        character
        for start in range(0, len(EVERYTHING), 20_000)
        for character in lacking("".join(EVERYTHING[start : start + 20_000]))
    }
    shown = [character for character in EVERYTHING if character not in none]
    assert len(shown) > 4_000
    table = textwrap.fill(" ".join(ranges(shown)), 100, break_on_hyphens=False) + "\n"
    if os.environ.get("GLYPHS") == "write":
        TABLE.write_text(table, encoding="ascii")
    assert TABLE.read_text(encoding="ascii") == table
