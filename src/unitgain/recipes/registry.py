"""Recipes by name. Each is a module of this folder with a `RECIPE`, imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from torch import Tensor

from .._base import InputError, did_you_mean, say

if TYPE_CHECKING:
    from ..train import Learner
    from .ladder import RunLadder
    from .runs import Outcome, RunFolder

Config = TypeVar("Config")

_MODULES = {
    "makemore": "makemore",
    "fashion-mnist": "fashion_mnist",
    "image-folder": "image_folder",
    "imagenet": "imagenet",
    "nf-vs-bn": "nf_vs_bn",
}


class Train(Protocol):
    """(settings, folder of the run or None; whether to go on in it; where progress is told) -> what came out.

    The folder is written to by rank 0 only; `say` is silent on the other ranks.
    """

    def __call__(
        self,
        config: Any,
        run: RunFolder | None = None,
        /,
        *,
        resume: bool = False,
        say: Callable[[str], None] = say,
    ) -> Outcome: ...


@dataclass(frozen=True)
class Recipe(Generic[Config]):
    """A complete training as plain functions.

    config   the settings when none is given: an instance of a frozen dataclass, whose docstring explains the fields
    train    see Train
    learner  the same model, data and optimizer in a Learner, untrained: what `unitgain lr-find` sweeps
    presets  further settings by name: `--set preset=NAME`
    sample   (settings, trained weights by name, how many, seed) -> texts; None where nothing can be drawn
    ladder   `unitgain ladder`: see ladder.py; None where there is none
    """

    name: str
    summary: str
    config: Config
    train: Train
    learner: Callable[[Config], Learner]
    presets: Mapping[str, Config] = field(default_factory=dict)
    sample: Callable[[Config, Mapping[str, Tensor], int, int], list[str]] | None = None
    ladder: RunLadder | None = None


def names() -> list[str]:
    """The recipes that there are.

    >>> "makemore" in names()
    True
    """
    return list(_MODULES)


def get(name: str) -> Recipe[Any]:
    """Raises InputError for an unknown name.

    >>> get("makemor")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: recipe 'makemor': unknown; did you mean 'makemore'?
    """
    if name not in names():
        raise InputError(f"recipe {name!r}: unknown{did_you_mean(name, names())}")
    recipe = import_module(f".{_MODULES[name]}", __package__).RECIPE
    assert isinstance(recipe, Recipe), name
    assert recipe.name == name
    return recipe
