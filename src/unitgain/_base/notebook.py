"""Whether the output is a notebook's page."""

from __future__ import annotations

import sys


def in_notebook() -> bool:
    """Whether a notebook's kernel runs us, whose output is a page and no terminal."""
    ipython = sys.modules.get("IPython")  # it is there if it runs us
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")
