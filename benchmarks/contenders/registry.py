"""The contenders in the order of the tables, and which of them can be here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Final

from benchmarks.contenders.base import Contender, Ground, NotInstalledError

__all__ = ["CONTENDERS", "open_contenders"]

# name: (module, class), imported when asked for: some bring whole engines.
_WHERE: Final = {
    "floor": ("pooled", "Floor"),
    "reader": ("pooled", "Reader"),
    "reader_cold": ("pooled", "ColdReader"),
    "reader_now": ("pooled", "Now"),
    "marts": ("pooled", "Marts"),
    "statement": ("statement", "Statement"),
    "orm": ("orm", "Orm"),
    "duckdb": ("duckdb_table", "DuckDb"),
    "clickhouse": ("chdb_table", "ClickHouse"),
}
CONTENDERS: Final = tuple(_WHERE)


@contextmanager
def open_contenders(
    ground: Ground, names: Sequence[str], on_open: Callable[[str], None]
) -> Iterator[tuple[dict[str, Contender], dict[str, str]]]:
    """Open those of `names` that can be here; yield them, and why the others are not.

    `on_open` hears the name of each before it is opened, which may take a while.
    """
    with ExitStack() as stack:
        opened: dict[str, Contender] = {}
        missing: dict[str, str] = {}
        for name in names:
            on_open(name)
            try:
                contender = _open(name, ground)
            except NotInstalledError as error:
                missing[name] = str(error)
                continue
            stack.callback(contender.close)
            opened[name] = contender
        yield opened, missing


def _open(name: str, ground: Ground) -> Contender:
    module_name, class_name = _WHERE[name]
    try:
        module = import_module(f"benchmarks.contenders.{module_name}")
    except ModuleNotFoundError as error:
        raise NotInstalledError(f"{error.name} is not installed") from error
    contender: Contender = getattr(module, class_name)(ground)
    return contender
