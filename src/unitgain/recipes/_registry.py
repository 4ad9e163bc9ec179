"""Recipes by name, found by their files: makemore.py in this folder is the recipe makemore, and has a `RECIPE`.

Files that begin with an underscore hold parts of recipes. _ladders/NAME.py, where it exists, is the
ladder of the recipe of that name. A file is imported when its recipe is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from torch import Tensor

from .._base import InputError, did_you_mean, say

if TYPE_CHECKING:
    from ..train import Learner
    from ._ladder import RunLadder
    from ._runs import Outcome, RunFolder

Config = TypeVar("Config")


class Train(Protocol):
    """(settings, folder of the run or None; whether to resume the run in it; a function that prints progress) -> the
    outcome.

    Only rank 0 writes to the folder; `say` prints nothing on the other ranks.
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
    """

    name: str
    summary: str
    config: Config
    train: Train
    learner: Callable[[Config], Learner]
    presets: Mapping[str, Config] = field(default_factory=dict)
    sample: Callable[[Config, Mapping[str, Tensor], int, int], list[str]] | None = None


def names() -> list[str]:
    """The recipes' names.

    >>> "makemore" in names()
    True
    """
    return _names_in(Path(__file__).parent)


def get(name: str) -> Recipe[Any]:
    """Raises InputError for an unknown name.

    >>> get("makemor")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: recipe 'makemor': unknown; did you mean 'makemore'?
    """
    if name not in names():
        raise InputError(f"recipe {name!r}: unknown{did_you_mean(name, names())}")
    recipe = import_module(f".{_file(name)}", __package__).RECIPE
    assert isinstance(recipe, Recipe), name
    assert recipe.name == name
    return recipe


def ladders() -> list[str]:
    """The names of the recipes that have a ladder.

    >>> "fashion-mnist" in ladders()
    True
    """
    return _names_in(Path(__file__).with_name("_ladders"))


def ladder(name: str) -> RunLadder:
    """Raises InputError for a recipe that is unknown or has no ladder."""
    if name not in ladders():
        get(name)
        raise InputError(f"recipe {name}: it has no ladder; these recipes have one: {', '.join(ladders())}")
    return import_module(f"._ladders.{_file(name)}", __package__).run


def _names_in(folder: Path) -> list[str]:
    files = (module.name for module in iter_modules([str(folder)]))
    return sorted(file.replace("_", "-") for file in files if not file.startswith("_"))


def _file(name: str) -> str:
    return name.replace("-", "_")
