"""Wording that the messages of this package share."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable
from difflib import get_close_matches

import torch

# where an error surfaces says little inside these; the frame before is the one that its author can change
_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(f)) + os.sep for f in (torch.__file__, os.path.dirname(__file__))
)


def did_you_mean(name: str, known: Iterable[str], most: int = 12) -> str:
    """The end of a sentence about an unknown name: the closest known ones, or all if they are not too many.

    >>> did_you_mean("resnet5", ["resnet50", "vgg11"])
    "; did you mean 'resnet50'?"
    >>> did_you_mean("zzz", ["adam", "sgd"])
    '; there are adam, sgd'
    >>> did_you_mean("zzz", ["rung10", "rung9"])
    '; there are rung9, rung10'
    >>> did_you_mean("zzz", [])
    ''
    """
    names = sorted(set(known), key=_natural)
    folded = {n.lower(): n for n in names}
    close = get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(repr(folded[c]) for c in close)}?"
    return f"; there are {', '.join(names)}" if 0 < len(names) <= most else ""


def _natural(name: str) -> list[str | int]:
    """Sorts rung2 before rung10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def describe(error: BaseException) -> str:
    """An exception of somebody else's code in one line: its type, its message, where it arose.

    >>> describe(ValueError("width must\\n be positive"))
    'ValueError: width must be positive'
    """
    text = " ".join(str(error).split())
    if len(text) > 300:
        text = text[:297] + "..."
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((*_LIBRARIES, "<"))]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"
