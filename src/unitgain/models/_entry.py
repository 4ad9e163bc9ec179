"""Entry: a model that has a name. A file of this folder offers its models in a table ENTRIES, {name: Entry}."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Entry:
    """How a model is built, the keyword arguments it takes, one line about it, and whether `create` takes `pretrained`:
    False, True for the published weights of the model's name, or a file."""

    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    description: str
    pretrained: bool = False


def arguments_of(build: Callable[..., nn.Module]) -> tuple[str, ...]:
    """The arguments of a class or function that makes a model, but `config`."""
    return tuple(name for name in inspect.signature(build).parameters if name != "config")
