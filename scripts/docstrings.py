"""Turns our docstrings into Markdown, for mkdocstrings (mkdocs.yml names this file as an extension of griffe).

Docstrings are written to be read in a terminal: arguments as aligned lines "name  what it is", formulas and examples
indented. Markdown would run these lines together; here aligned lines become a definition list, indented lines and
doctests become code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_DEFINITION = re.compile(r"^(\w[\w.*\[\]\"'/-]*(?:, \w[\w.*]*)*) {2,}(\S.*)$")


def to_markdown(text: str) -> str:
    r"""
    >>> print(to_markdown("Adds.\n\na, b  numbers, of which\n      the second is added\n\n>>> add(1, 2)\n3"))
    Adds.
    <BLANKLINE>
    `a`, `b`
    :   numbers, of which the second is added
    <BLANKLINE>
    ```pycon
    >>> add(1, 2)
    3
    ```
    """
    lines, out = text.splitlines(), []
    i = 0
    while i < len(lines):
        line = lines[i]
        if line.startswith(">>> "):
            end = _until_blank(lines, i)
            out += ["", "```pycon", *lines[i:end], "```", ""]
        elif match := _DEFINITION.match(line):
            end = i + 1
            body = [match[2]]
            while end < len(lines) and lines[end].startswith("  ") and lines[end].strip():
                body.append(lines[end].strip())
                end += 1
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            out += ["", names, f":   {' '.join(body)}"]
        elif line.startswith("    ") and line.strip():
            end = i
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            out += ["", *(lines[i:end]), ""]
        else:
            end = i + 1
            out.append(line)
        i = end
    joined = "\n".join(out)
    return re.sub(r"\n{3,}", "\n\n", joined).strip()


def _until_blank(lines: list[str], start: int) -> int:
    """The end of a doctest: the next blank line that no further prompt follows."""
    end = start
    while end < len(lines) and (lines[end].strip() or _prompt_follows(lines, end)):
        end += 1
    return end


def _prompt_follows(lines: list[str], blank: int) -> bool:
    return blank + 1 < len(lines) and lines[blank + 1].startswith(">>> ")


class Docstrings(griffe.Extension):
    """Converts every docstring when griffe has read its object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
