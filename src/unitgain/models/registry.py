"""Models by name: `create("char_mlp_deep", gain=1.0)`, `names("char*")`.

Every file of this folder that has a table ENTRIES offers the models in it: a new model is one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from torch import nn

from .._base import InputError, did_you_mean
from ._entry import Entry
from ._image import ImageModel
from .weights import load_pretrained


def create(name: str, **options: Any) -> nn.Module:
    """A new model.

    Raises InputError if the name, an option or an option's value is unknown, and says what there is.

    >>> create("char_mlp_deep", gain=1.0).config.gain
    1.0
    >>> create("convnt")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: model 'convnt' is unknown; did you mean 'convnet'?
    """
    entry, known = _entry(name), option_types(name)
    for option in options:
        if option not in known:
            raise InputError(f"model {name}: option {option!r} is unknown{_closest(option, known)}")
    weights = options.pop("pretrained", False)
    model = entry.build(**options)
    if isinstance(model, ImageModel):
        model.architecture = name
    return model if weights is False else load_pretrained(model, name, None if weights is True else weights)


def names(pattern: str = "*") -> list[str]:
    """Names of the models that match an fnmatch pattern, sorted.

    >>> names("char_mlp_deep*")
    ['char_mlp_deep', 'char_mlp_deep_batchnorm']
    """
    return sorted(name for name in _entries() if fnmatchcase(name, pattern))


def option_types(name: str) -> dict[str, Any]:
    """{option: type} of the options that `create` takes for this model, by which text on the command line is read.

    Raises InputError for an unknown name.
    """
    entry = _entry(name)
    return {**entry.options, **({"pretrained": bool | str} if entry.pretrained else {})}


def describe(name: str) -> str:
    """One line about a model. Raises InputError for an unknown name."""
    return _entry(name).description


def _entry(name: str) -> Entry:
    entry = _entries().get(name)
    if entry is None:
        raise InputError(f"model {name!r} is unknown{_closest(name, _entries())}")
    return entry


@cache
def _entries() -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for module in iter_modules([str(Path(__file__).parent)]):
        if module.name != "registry":
            table = getattr(import_module(f".{module.name}", __package__), "ENTRIES", {})
            assert not found.keys() & table.keys(), f"two models of one name: {found.keys() & table.keys()}"
            found |= table
    return found


def _closest(word: str, known: Iterable[str]) -> str:
    return did_you_mean(word, known, most=20) or "; names() lists what there is"
