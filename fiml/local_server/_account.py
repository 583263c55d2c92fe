"""The account that PostgreSQL runs under: the caller's, or an unprivileged one for root."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fiml.errors import LocalServerError

_UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """Ids to switch to; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Make the account the owner of a file or folder that root just made."""
        os.chown(path, self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        """Whether the account reaches a folder, asked of the kernel (it knows about ACLs)."""
        return self._succeeds(["/bin/sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)])

    def can_run(self, program: Path) -> bool:
        """Whether the account reaches a program and its libraries."""
        return self._succeeds([str(program), "--version"])

    def _succeeds(self, command: Sequence[str]) -> bool:
        try:
            done = subprocess.run(
                command,
                cwd="/",
                env=clean_environment(),
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except PermissionError:
            return False
        return done.returncode == 0


def account_to_use() -> Account | None:
    """Return None for an ordinary user, an existing unprivileged account for root.

    Raises LocalServerError when root has no such account or may not switch to it.
    """
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(name, entry.pw_uid, entry.pw_gid)
        if account.uid != 0 and account.can_enter(Path("/")):
            return account
    raise LocalServerError(
        "PostgreSQL does not run as root, and root cannot switch to 'postgres' or 'nobody' here; "
        "run this as an ordinary user, or set DATABASE_URL to a server that is running"
    )


def clean_environment() -> Mapping[str, str]:
    """Return the environment without what would change initdb or the server (PGDATA, locales)."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
