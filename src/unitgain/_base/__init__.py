"""What every room uses and none owns.

errors.py    what unitgain raises
printable.py text of unknown origin made safe for a terminal; spelling suggestions
terminal.py  the only way to a terminal: say, note, Console, tables
notebook.py  whether a notebook's kernel runs us
telling.py   what a long call is doing just now
files.py     files that are written whole or not at all
card.py      what a notebook shows: plain HTML
locks.py     one process at a time; "in use by process N"
compiled.py  torch.compile: what a module was made from, and how it runs as it was written
copies.py    hooks that copies of a module do not inherit
"""

from .card import card, escape, fold, paragraph, table
from .compiled import eagerly, hold_eager, is_held, opens_compiled, original, plain_name
from .copies import keep_out_of_copies
from .errors import InputError, RecordError, UnitgainError, names_given, no_module, not_installed
from .files import is_leftover, move_into_place, remove_leftovers, write_atomically
from .locks import FileLock
from .notebook import in_notebook
from .printable import described, did_you_mean, one_line, printable
from .telling import busy, headed, tell, told_in_cell, told_to
from .terminal import (
    Cell,
    aligned,
    clear_line,
    console,
    is_quiet,
    note,
    plain_console,
    quietly,
    say,
    say_to_program,
    table_of,
)

__all__ = [
    "Cell",
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
    "eagerly",
    "escape",
    "fold",
    "headed",
    "hold_eager",
    "in_notebook",
    "is_held",
    "is_leftover",
    "is_quiet",
    "keep_out_of_copies",
    "move_into_place",
    "names_given",
    "no_module",
    "not_installed",
    "note",
    "one_line",
    "opens_compiled",
    "original",
    "paragraph",
    "plain_console",
    "plain_name",
    "printable",
    "quietly",
    "remove_leftovers",
    "say",
    "say_to_program",
    "table",
    "table_of",
    "tell",
    "told_in_cell",
    "told_to",
    "write_atomically",
]
