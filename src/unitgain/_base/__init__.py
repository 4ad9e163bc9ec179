"""What every room uses and none owns.

errors.py    what unitgain raises
printable.py text of unknown origin made safe for a terminal; spelling suggestions
terminal.py  the only way to a terminal: say, note, Console, tables
files.py     files that are written whole or not at all
card.py      what a notebook shows: plain HTML
locks.py     one process at a time; "in use by process N"
"""

from .card import card, escape, fold, paragraph, table
from .errors import InputError, RecordError, UnitgainError, not_installed
from .files import is_leftover, move_into_place, remove_leftovers, write_atomically
from .locks import FileLock
from .printable import described, did_you_mean, one_line, printable
from .terminal import aligned, busy, clear_line, console, note, plain_console, say, table_of

__all__ = [
    "FileLock",
    "InputError",
    "RecordError",
    "UnitgainError",
    "aligned",
    "busy",
    "card",
    "clear_line",
    "console",
    "described",
    "did_you_mean",
    "escape",
    "fold",
    "is_leftover",
    "move_into_place",
    "not_installed",
    "note",
    "one_line",
    "paragraph",
    "plain_console",
    "printable",
    "remove_leftovers",
    "say",
    "table",
    "table_of",
    "write_atomically",
]
