"""Files that are written whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

__all__ = ["replacing"]

_DESCRIPTORS: Final = Path("/dev/fd")
# The kernel follows no more either.
_MOST_LINKS: Final = 40


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` when the block ends without an error.

    Until then whoever reads `path` finds what was there before; afterwards it is on the disk. It
    is written beside it, hidden, and removed again after any error. It has the permissions that
    `open(path, "wb")` would leave: those of the file that was there, else what the umask allows.
    What is no regular file (a pipe, /dev/null) cannot be replaced and is written to, and so is what
    this process has open already, by whatever name (/dev/stdout), from where it was written to.

    Raises:
        OSError: as `open` and `write`, before anything is written where that can be known.
    """
    if (open_already := _descriptor(path)) is not None:
        with os.fdopen(os.dup(open_already), "wb") as file:
            yield file
        return
    try:
        # Before links are resolved: some that the kernel follows lead to no path.
        there = path.stat()
    except FileNotFoundError:
        there = None
    if there is not None and not stat.S_ISREG(there.st_mode):
        with path.open("wb") as file:
            yield file
        return
    # A link stays one; what it leads to is replaced.
    target = Path(os.path.realpath(path))
    if there is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # Short, whatever the length of the name beside it.
    unfinished = target.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if there is not None:
                os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
                if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                    _give(descriptor, there.st_uid, there.st_gid)
            yield file
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        raise
    _sync_folder(target.parent)


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path is another name for, where it is one's.

    Asked at each link: the last one leads on to the file itself, whose name does not say how it was
    opened, at which place, and whether all of it goes to the end.
    """
    # Where the kernel has them as links, /dev/fd is one itself.
    folders = (_DESCRIPTORS, Path(os.path.realpath(_DESCRIPTORS)))
    for _ in range(_MOST_LINKS):
        folder = Path(os.path.realpath(path.parent))
        if folder in folders and path.name.isdecimal():
            return int(path.name)
        try:
            path = folder / (folder / path.name).readlink()
        except OSError:
            # No link, or nothing.
            return None
    return None


def _give(descriptor: int, user: int, group: int) -> None:
    try:
        os.fchown(descriptor, user, group)
    except PermissionError:
        # Whoever may not give files away keeps them, and may share them with a group they are in.
        with suppress(PermissionError):
            os.fchown(descriptor, -1, group)


def _sync_folder(folder: Path) -> None:
    # Some file systems know no such thing, and have the file all the same.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
