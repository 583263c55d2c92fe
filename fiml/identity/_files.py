"""Files that hold keys, read only where their modes are safe."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from fiml.errors import SettingsError

__all__ = ["Version", "read_public", "read_secret", "version_of"]

# What is larger is no key, whatever it is.
_MOST_BYTES: Final = 1_048_576

Version = tuple[int, ...]


def read_secret(path: Path, name: str) -> bytes:
    """Return what a secret file holds, without the line break at its end.

    The rule is libpq's for private keys: the owner alone may read it, or, where it belongs to root,
    its group too.

    Raises:
        SettingsError: it cannot be read, belongs to somebody else, or others have access to it. The
            message begins with `name`, the setting that names the file.
    """
    return _read(path, name, is_secret=True).rstrip(b"\r\n")


def read_public(path: Path, name: str) -> bytes:
    """Return what a file of public keys holds.

    Raises:
        SettingsError: it cannot be read, belongs to somebody else, or others may write to it:
            whoever writes the keys decides who is who.
    """
    return _read(path, name, is_secret=False)


def version_of(path: Path) -> Version | None:
    """Return what differs after every change of a file, its modes included; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: Path, name: str, *, is_secret: bool) -> bytes:
    try:
        # Not blocking: it may be a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"{name}: cannot read {path}: {error.strerror}") from None
    try:
        # Of what was opened, which nobody can exchange any more.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{name}: {path} is no regular file")
        if status.st_uid not in {os.geteuid(), 0}:
            raise SettingsError(f"{name}: {path} belongs to another user, who could change it")
        if status.st_mode & _forbidden(status, is_secret=is_secret):
            what, mode = ("read or write", "0600") if is_secret else ("write", "0644")
            raise SettingsError(f"{name}: others may {what} {path}; chmod it to {mode} or less")
        if status.st_size > _MOST_BYTES:
            raise SettingsError(f"{name}: {path} has more than {_MOST_BYTES} bytes")
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)


def _forbidden(status: os.stat_result, *, is_secret: bool) -> int:
    if not is_secret:
        return stat.S_IWGRP | stat.S_IWOTH
    is_roots = status.st_uid == 0 and os.geteuid() != 0
    return stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO if is_roots else stat.S_IRWXG | stat.S_IRWXO
