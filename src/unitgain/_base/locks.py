"""One process at a time: a lock on a file, which says who holds it and which the system releases when a process dies.

The lock is the operating system's (fcntl.lockf, on Windows msvcrt.locking), on a small file beside what it guards. A
file alone would outlive a killed process. POSIX record locks rather than flock: a forked child (a DataLoader's worker,
which lives on for some seconds when its parent is killed) inherits flock, but not these.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from .errors import InputError
from .printable import printable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TRIES = 1000
_BYTE = 1 << 30  # the locked byte on Windows, where locked bytes cannot be read: after the text of the file

_guard = threading.RLock()  # may be entered again by a deletion inside of it
_held: dict[str, _Handle] = {}  # by path


class FileLock:
    """Held from its making until `release`, until the object is deleted, or until the process ends, however it ends.

    path  the lock file, made where it is missing and deleted when the lock is released
    what  what it guards, as the error names it: "--run runs/a", "record run.sqlite"
    wait  wait for the other process instead of raising

    Within one process a lock may be taken several times; it is released with the last of them. On a file system
    without locks there is none.

    Raises InputError if another process holds it, OSError if the file cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str], what: str, *, wait: bool = False):
        self._handle: _Handle | None = None
        self._process, self._path = os.getpid(), os.path.realpath(path)
        with _guard:
            while True:
                handle = _held.get(self._path) or _Handle(Path(self._path), what, wait)
                handle.users += 1
                if handle.is_open:  # not released meanwhile, by a deletion
                    break
            self._handle = _held[self._path] = handle

    def release(self) -> None:
        """Releasing twice is fine. In a forked child nothing happens: the lock is its parent's."""
        handle, self._handle = self._handle, None
        if handle is None or self._process != os.getpid():
            return
        with _guard:
            handle.users -= 1
            if not handle.users and handle.is_open:
                _held.pop(self._path, None)
                handle.close()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: Any) -> None:
        self.release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the interpreter's end, modules may be gone
            self.release()


def _forget() -> None:
    """In a forked child, which holds none of its parent's locks."""
    global _guard
    _guard = threading.RLock()
    _held.clear()


@atexit.register
def _release_all() -> None:
    """At the end of the process: deletes its lock files."""
    for handle in [*_held.values()]:
        handle.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _Handle:
    """The open and locked file of one process."""

    def __init__(self, path: Path, what: str, wait: bool):
        self.path, self.users, self.is_open = path, 0, True
        for _ in range(_TRIES):
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                locked = _lock(self.descriptor, wait)
                if not locked:
                    raise InputError(f"{what}: in use by {_holder(self.descriptor)}")
                if self._is_current():
                    break
            except BaseException:
                os.close(self.descriptor)
                raise
            os.close(self.descriptor)  # its holder deleted it when it was done; lock the new one
        else:
            raise InputError(
                f"{what}: its lock file {path} changes all the time; is this folder being deleted?"
            )
        self._sign()

    def _is_current(self) -> bool:
        """Whether the file that is locked is still the one of that name."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.stat(self.path))
        except OSError:
            return False

    def _sign(self) -> None:
        """Who holds it, for the message that others get."""
        body = {"process": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, json.dumps(body).encode())

    def close(self) -> None:
        self.is_open = False
        if os.name != "nt":  # Windows deletes no open file
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def _lock(descriptor: int, wait: bool) -> bool:
    """False if another process holds the lock; True also where the file system has no locks."""
    while True:
        try:
            if sys.platform == "win32":
                os.lseek(descriptor, _BYTE, os.SEEK_SET)
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                os.lseek(descriptor, 0, os.SEEK_SET)
            else:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: both mean that it is taken
            if not wait:
                return False
            time.sleep(0.1)
        except OSError:
            return True


def _holder(descriptor: int) -> str:
    """ "process 4242 (started 2026-11-21 10:02:11)", as the lock file says, whose content is no more than a hint."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        found = json.loads(os.read(descriptor, 4096))
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(found["started"])))
        elsewhere = "" if found["host"] == socket.gethostname() else f" on {printable(found['host'], 100)}"
        return f"process {int(found['process'])}{elsewhere} (started {since}); wait until it has ended, or stop it"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "another process; wait until it has ended, or stop it"
