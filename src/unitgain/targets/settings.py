"""--set key=value: the text of a setting, read as the type of that setting.

`none` is the text "none" for a setting whose values are "none", "layer" and "batch", and None for one that may be None.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .._base import InputError

WRONG = object()
"""What `read` and `fit` return for a value of another type."""
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """{key: text} of --set key=value, any number of times.

    >>> parse_settings(["depth=3", "act=relu"])
    {'depth': '3', 'act': 'relu'}
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise InputError(f"--set {pair!r}: write it as key=value, for example --set num_classes=10")
        if key in settings:
            raise InputError(f"--set {pair!r}: {key} is set twice")
        settings[key] = text.strip()
    return settings


def literal(text: str) -> Any:
    """The text as a Python literal, or one of true, false, none and null; otherwise the text itself.

    >>> [literal(text) for text in ("3", "false", "Null", "relu", "[1, 2]")]
    [3, False, None, 'relu', [1, 2]]
    """
    try:
        return _WORDS[text.lower()] if text.lower() in _WORDS else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def read(text: str, hint: Any) -> Any:
    """The text as a value of this type; WRONG if it is not one.

    >>> read("none", float | None), read("None", Literal["none", "all"]), read("1e3", str), read("3", float)
    (None, 'none', '1e3', 3.0)
    """
    value = literal(text)
    if hint is str:
        return value if isinstance(value, str) else text
    return next((fitted for v in (value, text, text.lower()) if (fitted := fit(v, hint)) is not WRONG), WRONG)


def fit(value: Any, hint: Any) -> Any:
    """The value in this type (a float for 1, a tuple for a list, where the type says so); WRONG if it does not fit."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return next((fitted for option in inside if (fitted := fit(value, option)) is not WRONG), WRONG)
    if origin is Literal:
        return value if value in inside else WRONG
    if origin is tuple:
        if isinstance(value, int) and not isinstance(value, bool):
            value = (value,)
        items = [fit(item, inside[0]) for item in value] if isinstance(value, (list, tuple)) else [WRONG]
        return WRONG if any(item is WRONG for item in items) else tuple(items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if origin is not None or not isinstance(hint, type):  # Python 3.10 calls list[int] a type
        return WRONG
    return value if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)) else WRONG


def typed(settings: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a callable: texts are read in the types that are known, and otherwise as literals."""
    values = {}
    for key, value in settings.items():
        if isinstance(value, str):
            fitted = read(value, types[key]) if key in types else WRONG
            value = literal(value) if fitted is WRONG else fitted
        values[key] = value
    return values


def argument_types(source: Callable[..., Any]) -> dict[str, Any]:
    """{argument: type} by its annotations or, where there are none, by a default that is a text."""
    try:
        parameters = inspect.signature(source).parameters
    except (TypeError, ValueError):
        return {}
    try:
        hints = get_type_hints(source.__init__ if isinstance(source, type) else source)
    except Exception:  # the caller's annotations may name things that do not exist at run time
        hints = {}
    texts = {name: str for name, p in parameters.items() if isinstance(p.default, str)}
    return texts | {name: hint for name, hint in hints.items() if name in parameters}


def in_words(hint: Any) -> str:
    """The type as a phrase for messages, like "a whole number"."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(in_words(option) for option in inside)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in inside)
    if origin is tuple:
        return f"a list of which each is {in_words(inside[0])}, like [16, 32]"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return words.get(hint, str(hint))
