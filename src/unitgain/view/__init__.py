"""The live page: a run watched while it trains, from its record alone.

run.py       one run: its record, read again and again, also when it is replaced or its writer dies
series.py    many numbers made few: lines that keep their spikes, columns of a heat map
judging.py   what the rules say of a run, again and again, in a thread
data.py      what the page asks for, as plain numbers
guard.py     who may ask: host, origin, token
server.py    the server; page/ is what it sends
terminal.py  the same in a terminal
"""

from .run import Run, find_run
from .server import make_app, serve
from .terminal import show

__all__ = ["Run", "find_run", "make_app", "serve", "show"]
