"""Finds the rules: every file ug*.py of this folder is one, and CATALOGUE holds them all, by code."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

from .._base import InputError, did_you_mean, names_given
from ._rule import Rule, Threshold

_PARTS = ("ABOUT", "Evidence", "judge", "EXPLAINED_BY", "BAD", "GOOD")


def _discover() -> dict[str, Rule]:
    folder = sys.modules[__name__.rpartition(".")[0]].__path__
    names = [found.name for found in pkgutil.iter_modules(folder) if re.match(r"ug\d", found.name)]
    rules = [assemble(import_module(f".{name}", __package__)) for name in names]
    return {rule.code: rule for rule in sorted(rules, key=lambda rule: rule.code)}


def assemble(module: ModuleType) -> Rule:
    """The rule in a file. An AssertionError says what the file lacks."""
    held: dict[str, Any] = vars(module)
    missing = [part for part in _PARTS if part not in held]
    assert not missing, f"{module.__name__}: a rule's file holds {', '.join(missing)} too; see rules/_rule.py"
    about, file = held["ABOUT"], module.__name__.rpartition(".")[2]
    wanted = f"{about.code.lower()}_{about.name.replace('-', '_')}"
    assert file == wanted, f"{module.__name__}: the file of {about.code} {about.name} is called {wanted}.py"
    return Rule(
        **vars(about),
        provenance=module.__doc__ or "",
        thresholds={key.lower(): value for key, value in held.items() if isinstance(value, Threshold)},
        judge=held["judge"],
        evidence=get_args(held["Evidence"]) or (held["Evidence"],),
        explained_by=held["EXPLAINED_BY"],
        doubt=held.get("doubt"),
        bad=held["BAD"],
        good=held["GOOD"],
    )


CATALOGUE: dict[str, Rule] = _discover()


def explain(code: str) -> str:
    """What a rule sees, why it matters and what to do, as Markdown. Takes a code or a name.

    Raises InputError for one that does not exist.

    >>> print(explain("UG104").splitlines()[0])
    # UG104 loss-not-finite
    """
    known = {**CATALOGUE, **{rule.name: rule for rule in CATALOGUE.values()}}
    rule = known.get(code) or known.get(code.upper()) or known.get(code.lower())
    if rule is None:
        raise InputError(f"rule {code!r} does not exist{_suggestion(code)}")
    return rule.page()


def as_data() -> list[dict[str, Any]]:
    """All rules as plain dictionaries, lists, texts and numbers, for JSON and for programs.

    >>> [rule["code"] for rule in as_data()][:2], as_data()[0]["thresholds"]["warning"]["value"]
    (['UG101', 'UG102'], 1.2)
    """
    return [rule.to_dict() for rule in CATALOGUE.values()]


def resolve(words: str | Sequence[str], option: str) -> set[str]:
    """The codes meant by codes ("UG101"), prefixes ("UG1") and names ("saturated").

    Raises InputError, naming `option`, for a word that matches no rule.

    >>> sorted(resolve(["UG2", "saturated"], "select"))
    ['UG201', 'UG202', 'UG203', 'UG204', 'UG205', 'UG206', 'UG303']
    """
    codes: set[str] = set()
    for word in names_given(option, words):
        if not word.strip():
            raise InputError(
                f"{option} {word!r}: a code (UG303), a prefix (UG3) or a name (saturated) is expected"
            )
        prefix = word.strip().upper()
        matching = {
            code
            for code, rule in CATALOGUE.items()
            if rule.name == word.strip().lower() or (prefix.startswith("UG") and code.startswith(prefix))
        }
        if not matching:
            raise InputError(f"{option}: no rule is called {word!r}{_suggestion(word)}")
        codes |= matching
    return codes


_FEW = 4  # rules whose names hold a word: more are no suggestion


def _suggestion(word: str) -> str:
    names = [*CATALOGUE, *(rule.name for rule in CATALOGUE.values())]
    groups = sorted({code[:3] for code in CATALOGUE})
    if re.fullmatch(r"UG\d{0,2}", word.strip(), re.I):
        return (
            f"; groups of rules are {groups[0]} to {groups[-1]}, a rule's code has three digits, like UG303"
        )
    digits = [code for code in CATALOGUE if code[2:] == word.strip()]
    parts = digits or [name for name in names if word.strip().lower() in name]
    if 0 < len(parts) <= _FEW:
        return f"; did you mean {' or '.join(map(repr, parts))}?"
    return did_you_mean(word.strip(), names, most=0) or "; `unitgain rules` lists them"
