"""Entry: a model that has a name. A file of this folder offers its models in a table ENTRIES, {name: Entry}."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from torch import nn


@dataclass(frozen=True)
class Entry:
    """How a model is built, its keyword arguments and their types, one line about it, and whether `create` takes
    `pretrained`: False, True for the published weights of the model's name, or a file."""

    build: Callable[..., nn.Module]
    options: Mapping[str, Any]
    description: str
    pretrained: bool = False


def arguments_of(build: Callable[..., nn.Module]) -> dict[str, Any]:
    """{argument: type} of a class or function that makes a model, without `config`."""
    types = get_type_hints(build.__init__ if isinstance(build, type) else build)
    return {name: types.get(name, Any) for name in inspect.signature(build).parameters if name != "config"}
