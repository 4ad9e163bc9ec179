r"""Text of unknown origin (arguments, file names, module names, records, exceptions of other people's code) as words.

A terminal obeys what it is sent: escape sequences change colours, titles and what the next line seems to say, and
bidirectional overrides show a name in another order than it has. Everything that unitgain prints or raises passes
through `printable`, which spells such characters out.
"""

from __future__ import annotations

import os
import re
import traceback
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

MOST = 4000  # characters of one text; an error message of more says nothing to a reader
_MOST_MARKS = 4  # combining marks on one letter; more of them cover the lines above and below
_AS_CLOSE = 0.06  # difference of two likenesses (0 to 1) up to which both names may have been meant
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def printable(text: object, most: int = MOST, *, keep_lines: bool = False) -> str:
    r"""The text with every character that could steer a terminal spelled out, shortened in the middle if it is long.

    Spelled out, as Python's repr does: control characters, escape, bidirectional overrides, invisible characters, lone
    surrogates. Brackets stay: our consoles interpret no markup.

    most        characters that are shown
    keep_lines  line breaks are kept (a traceback); otherwise they are spelled out too

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    >>> printable("safe\u202etxt.exe")
    'safe\\u202etxt.exe'
    >>> printable("x" * 100, most=40)
    'xxx ... (94 characters omitted) ... xxx'
    """
    try:
        found = str(text)
    except Exception:
        found = f"<a {type(text).__name__} that cannot be shown as text>"
    found = _shortened(found, most)
    if keep_lines:
        return "\n".join(map(_spelled_out, found.expandtabs(4).split("\n")))
    return _spelled_out(found)


def one_line(text: object, most: int = MOST) -> str:
    r"""The same with line breaks and runs of spaces as one space: the message of an exception in an error of ours.

    >>> one_line("expected (2, 3)\n   got (4,)")
    'expected (2, 3) got (4,)'
    """
    return " ".join(printable(text, most, keep_lines=True).split())


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    note = " ... ({} characters omitted) ... "
    end = max(0, (most - len(note)) // 2)
    return text[:end] + note.format(f"{len(text) - 2 * end:,}") + text[len(text) - end :]


def _spelled_out(line: str) -> str:
    if line.isascii() and line.isprintable():
        return line
    parts: list[str] = []
    marks = 0
    for character in line:
        marks = marks + 1 if unicodedata.combining(character) else 0
        safe = character.isprintable() and marks <= _MOST_MARKS
        parts.append(character if safe else character.encode("unicode_escape").decode("ascii"))
    return "".join(parts)


def described(error: BaseException, beside: Iterable[str] = ()) -> str:
    """An exception of somebody else's code in one line: its type, its message, and the line of their code.

    beside  folders of libraries: the frame named is the last one outside of these and of unitgain, as its author can
            change that one

    >>> described(ValueError("width must\\n be positive"))
    'ValueError: width must be positive'
    """
    text = one_line(error, 300)
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(os.path.join(folder, "") for folder in (_PACKAGE, *beside))
    own = [f for f in frames if not f.filename.startswith((*libraries, "<"))]
    place = f" ({printable(own[-1].filename)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def did_you_mean(name: str, known: Iterable[str], most: int = 12) -> str:
    """The end of a sentence about an unknown name: the closest known ones, or all of them if they are at most `most`.

    >>> did_you_mean("resnet5", ["resnet50", "vgg11"])
    "; did you mean 'resnet50'?"
    >>> did_you_mean("UG3O1", ["UG301", "UG113", "UG311"])
    "; did you mean 'UG301' or 'UG311'?"
    >>> did_you_mean("zzz", ["adam", "sgd"])
    '; there are adam, sgd'
    >>> did_you_mean("zzz", ["rung10", "rung9"])
    '; there are rung9, rung10'
    >>> did_you_mean("zzz", [])
    ''
    """
    names = sorted(set(known), key=_natural)
    folded = {n.lower(): n for n in names}
    word = str(name).lower()
    close = get_close_matches(word, folded, n=len(folded) or 1, cutoff=0.6)
    if close:
        likeness = {c: SequenceMatcher(None, word, c).ratio() for c in close}
        best = [c for c in folded if likeness.get(c, 0) > likeness[close[0]] - _AS_CLOSE]
        best.sort(
            key=lambda c: (-likeness[c], -sum(map(str.__eq__, word, c)))
        )  # of equals, more letters in place
        return f"; did you mean {' or '.join(repr(folded[c]) for c in best[:3])}?"
    return f"; there are {', '.join(names)}" if 0 < len(names) <= most else ""


def _natural(name: str) -> list[str | int]:
    """A key by which rung2 comes before rung10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
