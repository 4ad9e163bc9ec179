"""Files that are complete or absent, also if the process is killed while it writes.

The content goes to a temporary name in the same folder, is flushed to the disk, and then takes its name in one step;
the folder is flushed too, so that the name itself survives a power failure. A process that is killed in between leaves
a file like `.config.json.8c41d20f.tmp` behind, which is never read, and which `remove_leftovers` deletes.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.tmp")


def write_atomically(
    path: str | os.PathLike[str], content: str | bytes | Callable[[Path], object], *, fsync: bool = True
) -> None:
    """Writes a file as a whole. Where the path is a symbolic link, the file that it points to is replaced.

    content  text (written as UTF-8, with "?" for what cannot be encoded), bytes, or a function that writes to the
             temporary path that it is given
    fsync    wait until the disk has it; False for what can be made again, like a plot

    Raises OSError, with nothing left behind, if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    # a long name must leave room for what is added; NAME_MAX is 255 bytes on all common file systems
    beside = target.with_name(f".{target.name[:64]}.{secrets.token_hex(4)}.tmp")
    try:
        if callable(content):
            content(beside)
        else:
            data = content.encode("utf-8", "replace") if isinstance(content, str) else content
            with open(beside, "xb") as file:
                file.write(data)
        move_into_place(beside, target, fsync=fsync)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def move_into_place(complete: Path, target: Path, *, fsync: bool = True) -> None:
    """Gives a complete file in the same folder its name. Raises OSError."""
    if fsync:
        _flush(complete)
    os.replace(complete, target)
    if fsync:
        _flush(target.parent)


def is_leftover(name: str) -> bool:
    """Whether a file's name is that of a temporary one.

    >>> is_leftover(".config.json.8c41d20f.tmp"), is_leftover("notes.tmp")
    (True, False)
    """
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed processes left half written. Only for a folder that no other process writes to."""
    with contextlib.suppress(OSError):
        for path in [p for p in folder.iterdir() if is_leftover(p.name)]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
