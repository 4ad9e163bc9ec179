"""What a Probe is asked to measure, checked at the door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, did_you_mean, no_module
from ..optim import unwrapped, unwrapped_model

SIGNALS = ("input", "activation", "gradient", "parameter", "parameter_gradient", "update")
FLAT_SAMPLE = 1024  # values taken of gradients, parameters and updates when there is a limit
MOST_OF_UPDATE = (
    65_536  # values of each update without a limit: its std is right to 0.3%, at a small part of the memory
)
SELDOM = 8  # what changes slowly is measured at every 8th sampled step, another eighth of the sites each time


@dataclass(frozen=True)
class Options:
    """The arguments of `Probe` that decide what is measured; sample is 0 without histograms."""

    every: int
    signals: frozenset[str]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    sample: int
    limit: int | None
    examples: int | None
    maps: bool
    seen: set[str] = field(default_factory=set, compare=False)  # names that were asked about

    def selects(self, name: str) -> bool:
        self.seen.add(name)
        return any(fnmatchcase(name, p) for p in self.include) and not any(
            fnmatchcase(name, p) for p in self.exclude
        )

    def unmatched(self, model: nn.Module) -> list[str]:
        """A sentence for each name in include and exclude that nothing had, patterns with wildcards left out."""
        known = self.seen | {name for name, _ in model.named_parameters()}
        asked = [(key, name) for key in ("include", "exclude") for name in getattr(self, key)]
        return [
            f"Probe({key}=...): there is no site or parameter {name!r}{did_you_mean(name, known)}"
            for key, name in asked
            if self.seen and not set(name) & set("*?[") and name not in known
        ]


def check_every(every: object) -> int:
    """`every`, the distance of measured steps, if it is a whole number of at least 1; else InputError."""
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise InputError(f"Probe(every={every!r}): expected a whole number of at least 1")
    return every


def check_signals(signals: Sequence[str]) -> frozenset[str]:
    for name in signals:
        if name not in SIGNALS:
            raise InputError(f"Probe(signals=...): {name!r} is unknown; there are {', '.join(SIGNALS)}")
    return frozenset(signals)


def check_number(name: str, value: Any) -> float:
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:60]
        raise InputError(f"probe.log({name}=...): {what} is not one number") from error


def check_model(model: Any) -> nn.Module:
    """The module to be hooked: the one inside a data-parallel wrapper, or that a compiled one was made from."""
    if not isinstance(model, nn.Module):
        raise no_module("Probe(model=...)", model)
    model = unwrapped_model(model, "Probe(model=...)")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("Probe(model=...): a scripted model takes no hooks; give the one it was made from")
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise InputError(
            "Probe(model=...): it has lazy parameters without a shape yet; run it once on a batch first"
        )
    return model


def check_optimizers(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """None, one, or several."""
    several = isinstance(given, (list, tuple))
    if several and not given:
        raise InputError("Probe(optimizer=[]): expected a torch optimizer, or several, or None")
    found = [
        unwrapped(one, "Probe(optimizer=...)") for one in (given if several else [given]) if one is not None
    ]
    return tuple({id(one): one for one in found}.values())


def holds_nothing(optimizer: torch.optim.Optimizer, model: nn.Module) -> str:
    """What is said of an optimizer that holds no parameter of the model."""
    name, whose = type(optimizer).__name__, type(model).__name__
    return (
        f"Probe(optimizer=...): this {name} holds none of the {sum(1 for _ in model.parameters())} parameters of the "
        f"{whose}, so its steps do not train it. Was the model made anew after the optimizer? Make the optimizer from "
        f"this very model: {name}(model.parameters(), ...)"
    )
