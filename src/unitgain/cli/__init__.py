"""The command line: parse, call, print. No maths.

commands.py  the commands put together, and main()
check.py     unitgain check
fix.py       unitgain fix
whatif.py    unitgain whatif
lesson.py    unitgain lesson
train.py     unitgain train, unitgain lr-find
runs.py      unitgain sample, unitgain plots, and the record of a run
ladder.py    unitgain ladder, unitgain recipes
options.py   the options that several commands share
lists.py     unitgain rules, unitgain models
data.py      unitgain data
demo.py      unitgain demo
view.py      unitgain view
errors.py    exit codes, and the one line that an error becomes
tab.py       Tab: the answer to a shell, and the scripts in shells/
completion.py  what Tab offers
help.py      options and commands in groups
output.py    what is printed where; which files may be written

Everything heavy is imported inside the command that needs it.
"""

from .commands import app, main

__all__ = ["app", "main"]
