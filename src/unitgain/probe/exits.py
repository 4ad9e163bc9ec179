"""The record of a Probe that nobody stops, after an interrupt say, has every finished step when Python ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from typing import Protocol

from ..record import Record


class Recording(Protocol):
    @property
    def record(self) -> Record:
        """With all that has been measured."""
        ...


_started: weakref.WeakKeyDictionary[Recording, int] = weakref.WeakKeyDictionary()  # -> its process


def write_at_exit(probe: Recording) -> None:
    """A process that is forked off does not write: the connection is not its own."""
    _started[probe] = os.getpid()


@atexit.register
def _write() -> None:
    for probe, process in list(_started.items()):
        if process == os.getpid():
            with contextlib.suppress(Exception):  # a record that was closed; a Probe that failed has said so
                probe.record.commit()
