"""Settings: a recipe's frozen dataclass with some of its fields set from text, checked against their types."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from .._base import InputError, did_you_mean
from ..targets import WRONG, fit, in_words, literal, parse_settings, read

Config = TypeVar("Config")


def from_text(config: Config, pairs: Sequence[str], presets: Mapping[str, Config] | None = None) -> Config:
    """config with "key=value" texts put in. The key `preset` replaces config by the one of that name first, and
    `rung=7` is short for `preset=rung7`.

    Raises InputError for an unknown key or preset, and for a value of the wrong type.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Plan:
    ...     epochs: int = 3
    ...     lr: float = 0.1
    >>> from_text(Plan(), ["epochs=5", "lr=1e-2"])
    Plan(epochs=5, lr=0.01)
    """
    given = parse_settings(pairs)
    presets = presets or {}
    if "rung" in given and presets:
        if "preset" in given:
            raise InputError("--set rung: it is short for preset=rungN; give one of the two")
        given["preset"] = f"rung{given.pop('rung')}"
    if "preset" in given and presets:
        name = str(given.pop("preset"))
        if name not in presets:
            raise InputError(f"--set preset={name}: unknown{did_you_mean(name, presets, most=20)}")
        config = presets[name]
    return override(config, given)


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """config with these fields replaced, texts read in the field's type; InputError as from_text."""
    hints = get_type_hints(type(config))
    checked = {}
    for key, value in values.items():
        if key not in hints or key == "preset":
            known = [name for name in hints if name != "preset"]
            raise InputError(f"--set {key}: there is no such setting{did_you_mean(key, known, most=40)}")
        fitted = read(value, hints[key]) if isinstance(value, str) else fit(value, hints[key])
        if fitted is WRONG:
            shown = literal(value) if isinstance(value, str) else value
            raise InputError(f"--set {key}={shown!r}: expected {in_words(hints[key])}")
        checked[key] = fitted
    return dataclasses.replace(config, **checked)  # type: ignore[type-var]


def at_least(config: Any, **lowest: float) -> None:
    """InputError for the first of these settings that is below its lowest value (or not a number). A setting with
    several values is checked value by value, also in `above_zero` and `fractions`."""
    for name, low in lowest.items():
        _require(config, name, lambda value, low=low: value >= low, f"at least {low:g}")


def above_zero(config: Any, *names: str) -> None:
    for name in names:
        _require(config, name, lambda value: 0 < value < math.inf, "a finite number above 0")


def fractions(config: Any, *names: str) -> None:
    for name in names:
        _require(config, name, lambda value: 0 <= value < 1, "a number from 0 to below 1")


def _require(config: Any, name: str, holds: Callable[[Any], bool], expected: str) -> None:
    value = getattr(config, name)
    if isinstance(value, tuple):
        if not all(holds(v) for v in value):
            raise InputError(f"--set {name}={list(value)}: expected of each: {expected}")
    elif not holds(value):
        raise InputError(f"--set {name}={value}: expected {expected}")


def as_json(config: Any) -> dict[str, Any]:
    """Field names and values that JSON can hold; `from_json` reads them back."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def from_json(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass of these values, checked like settings on the command line, since the file may have been edited."""
    hints = get_type_hints(kind)
    unknown = next((key for key in values if key not in hints), None)
    if unknown is not None:
        raise InputError(f"{unknown}: there is no such setting{did_you_mean(unknown, hints, most=40)}")
    fitted = {key: fit(value, hints[key]) for key, value in values.items()}
    for key, value in fitted.items():
        if value is WRONG:
            raise InputError(f"{key}: {values[key]!r} is not {in_words(hints[key])}")
    return kind(**fitted)
