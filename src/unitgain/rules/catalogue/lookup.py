"""All entries by code, and how a code or a name finds its entry."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..._base import InputError
from ..entry import Entry
from . import (
    activations,
    balance,
    batch,
    collapse,
    curves,
    gradients,
    inputs,
    loss,
    residual,
    structure,
    updates,
    weights,
)

_FAMILIES = (
    loss, inputs, activations, collapse, gradients, balance, updates, curves, structure, batch, weights, residual
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {
    entry.code: entry
    for entry in sorted((e for family in _FAMILIES for e in family.ENTRIES), key=lambda e: e.code)
}


def explain(code: str) -> str:
    """What a rule sees, why it matters and what to do, as Markdown. Takes a code or a name.

    Raises InputError for one that does not exist.

    >>> print(explain("UG104").splitlines()[0])
    # UG104 loss-not-finite
    """
    known = {**CATALOGUE, **{entry.name: entry for entry in CATALOGUE.values()}}
    entry = known.get(code) or known.get(code.upper()) or known.get(code.lower())
    if entry is None:
        raise InputError(f"rule {code!r} does not exist{_suggestion(code)}")
    return entry.page()


def resolve(words: Sequence[str], option: str) -> set[str]:
    """The codes meant by codes ("UG101"), prefixes ("UG1") and names ("saturated").

    Raises InputError, naming `option`, for a word that matches no rule.

    >>> sorted(resolve(["UG2", "saturated"], "select"))
    ['UG201', 'UG202', 'UG303']
    """
    if isinstance(words, str):
        words = [words]
    codes: set[str] = set()
    for word in words:
        if not word.strip():
            raise InputError(
                f"{option} {word!r}: a code (UG303), a prefix (UG3) or a name (saturated) is expected"
            )
        prefix = word.strip().upper()
        matching = {
            code
            for code, entry in CATALOGUE.items()
            if entry.name == word.strip().lower() or (prefix.startswith("UG") and code.startswith(prefix))
        }
        if not matching:
            raise InputError(f"{option}: no rule is called {word!r}{_suggestion(word)}")
        codes |= matching
    return codes


def _suggestion(word: str) -> str:
    names = [*CATALOGUE, *(entry.name for entry in CATALOGUE.values())]
    close = difflib.get_close_matches(word.strip().upper(), names, n=1, cutoff=0.5)
    close = difflib.get_close_matches(word.strip().lower(), names, n=1, cutoff=0.5) or close
    return f"; did you mean {close[0]}?" if close else f" (the codes are {', '.join(CATALOGUE)})"
