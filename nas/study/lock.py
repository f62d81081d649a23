"""One writer at a time in a run folder, whether a command or a `Study` in a script: a lock on the folder itself.

The lock is on the folder's own descriptor, so no file can be deleted from under it. It ends when it is released or
collected, and with its process, however that ends. Processes that are started or forked meanwhile do not have it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from searchspace.errors import InputError

FILE = "lock"  # locked where the file system locks no folders (NFS)
LOCKS = Path("/proc/locks")


class HeldError(InputError):
    """Somebody else writes in the folder."""


class FolderLock:
    """The right to write in a folder. A search `lends` its own to the study that it opens, so there may be two users.

    Raises `HeldError` that says who else has it, and `OSError` where the folder cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, os.getpid()
        self.users, self.lends = 1, False
        self.identity = _identity(folder)
        self._places = {folder.absolute(): self.identity}
        self._close = weakref.finalize(self, os.close, _lock(folder))
        _LOCKS.add(self)

    @property
    def held(self) -> bool:
        """Whether this process may write, which a fork of it may not."""
        return self._close.alive and self.process == os.getpid()

    def watch(self, file: Path) -> None:
        """The file has to stay where it is too."""
        self._places[file.absolute()] = _identity(file)

    def missing(self) -> Path | None:
        """The folder, or a file of it, whose path leads no longer to what is written: it was moved, removed or
        replaced, or its disk is gone. None where all are in place."""
        return next((path for path, identity in self._places.items() if not _leads_to(path, identity)), None)

    def release(self) -> None:
        """One user less; the last one ends the lock."""
        with _GUARD:
            self.users -= 1
            if self.users < 1:
                self._close()

    def forget(self) -> None:
        """In a fork: close the copied descriptor, which leaves the lock where it is."""
        self._close()


_GUARD = threading.RLock()  # reentrant, since the collector may release a lock while another is taken
_LOCKS: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def take(folder: Path) -> FolderLock:
    """The lock of a folder: a new one, or the one that a search in this process lends."""
    with _GUARD:
        for lock in list(_LOCKS):
            if lock.lends and lock.users == 1 and lock.held and lock.identity == _identity(folder):
                lock.users += 1
                return lock
        return FolderLock(folder)


@contextmanager
def lent(folder: Path) -> Iterator[None]:
    """The folder is locked, and this process may open one `Study` at a time in it."""
    lock = FolderLock(folder)
    lock.lends = True
    try:
        yield
    finally:
        lock.lends = False
        lock.release()


def check(folder: Path) -> None:
    """Raises `HeldError` where somebody writes in the folder now."""
    if is_held(folder):
        raise HeldError(f"run {folder}: another search is running in it, {holder(folder)}")


def is_held(folder: Path) -> bool:
    """Whether somebody writes in the folder now, this process too. Nothing is made to find that out."""
    for path in (folder, folder / FILE):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
    return False


def holder(folder: Path) -> str:
    """Who writes in a locked folder, as far as the system tells, and what to do: of another machine it does not."""
    look = "; nas.report, nas.dashboard and Study.read look at it meanwhile"
    device, inode = _identity(folder)
    locked = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        rows = [row.split() for row in LOCKS.read_text(encoding="ascii").splitlines()]
        process = next(int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == locked)
    except (OSError, StopIteration, IndexError, ValueError):
        return f"of another process{look}"
    if process == os.getpid():
        return f"of this process; close() its Study first{look}"
    return f"process {process}{_command(process)}{look}"


def _command(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return f" ({_shorten(' '.join(words).strip())})"


def _shorten(words: str) -> str:
    return words if len(words) <= 120 else f"{words[:119]}…"


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _leads_to(path: Path, identity: tuple[int, int]) -> bool:
    with suppress(OSError):
        return _identity(path) == identity
    return False


def _lock(folder: Path) -> int:
    """A descriptor that has the lock: of the folder, or of a file in it."""
    refused = OSError()
    for path, flags in (
        (folder, os.O_RDONLY | os.O_DIRECTORY),
        (folder / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW),
    ):
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise HeldError(f"run {folder}: another search is running in it, {holder(folder)}") from None
            refused = error
        else:
            return descriptor
    raise refused


def _forget_all() -> None:
    global _GUARD
    _GUARD = threading.RLock()  # another thread may have had it
    for lock in list(_LOCKS):
        lock.forget()


os.register_at_fork(after_in_child=_forget_all)
