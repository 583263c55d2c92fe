"""File locks. The kernel releases them when their holder dies, however it dies."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class FileLock:
    """One open file that `flock` locks; closing it releases the lock.

    A descriptor that another process locked and handed down holds that process's lock.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_inheritable(descriptor, False)  # noqa: FBT003

    @classmethod
    def of(cls, path: Path) -> Self:
        """Open a lock file, making it when it is not there."""
        return cls(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def share(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def exclude(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def try_to_exclude(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
