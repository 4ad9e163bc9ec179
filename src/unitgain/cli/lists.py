"""unitgain rules and unitgain models: what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .errors import Debug
from .output import Console, table_of

if TYPE_CHECKING:
    from torch import nn


def rules(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A rule's code or name.")] = None,
    debug: Debug = False,
) -> None:
    """List the rules, or explain one.

    \b
    Example:
      unitgain rules UG101
    """
    from ..diagnose.catalogue import CATALOGUE, explain

    if code is not None:
        print(explain(code))
        return
    Console().print(
        table_of(("code", "name", "seen"), [(e.code, e.name, e.seen) for e in CATALOGUE.values()])
    )


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Like char*.")] = "*",
    debug: Debug = False,
) -> None:
    """List the built-in models.

    \b
    Example:
      unitgain models 'char*'
    """
    from .. import models as registry
    from ..targets import did_you_mean

    names = registry.names(pattern)
    if not names:
        raise InputError(
            f"pattern {pattern!r}: no built-in model matches{did_you_mean(pattern, registry.names())}"
        )
    rows = [(name, f"{_parameters(registry.create, name):,}", registry.describe(name)) for name in names]
    Console().print(table_of(("name", ">parameters", "description"), rows))


def _parameters(create: Callable[[str], nn.Module], name: str) -> int:
    """Parameter count, without memory for the weights where the model can be built without them."""
    import torch

    try:
        with torch.device("meta"):
            model = create(name)
    except Exception:  # draws from a generator of its own, say
        model = create(name)
    return sum(p.numel() for p in model.parameters())
