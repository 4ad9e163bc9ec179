"""What a row of the zoo is, and the tools that plant a defect in a healthy network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Case:
    """The arguments of one `unitgain.check`."""

    model: nn.Module
    batch: Any
    loss: Any = "auto"
    steps: int = 0
    optimizer: Any = None
    data: Any = None


@dataclass(frozen=True)
class Sick:
    """A network with planted defects, called by what an expert would call them.

    id       unique; says the family, the defect and its place
    must     one entry for each planted cause: the code that has to be found, "UG307|UG401" where an expert could
             argue for either. The codes follow from the definitions of the codes, never from what the rules find
    make     builds the case; whoever calls it has seeded torch's generator before
    may      codes that are true as well without being the planted cause. They are no false alarm, but a second
             warning for one cause stays a second warning
    """

    id: str
    must: tuple[str, ...]
    make: Callable[[], Case]
    may: frozenset[str] = frozenset()

    @property
    def alternatives(self) -> tuple[frozenset[str], ...]:
        """For each planted cause the codes of which one has to be found."""
        return tuple(frozenset(entry.split("|")) for entry in self.must)

    @property
    def accepted(self) -> frozenset[str]:
        return self.may.union(*self.alternatives)


@dataclass(frozen=True)
class Healthy:
    """A network that trains well, and so may have neither an error nor a warning."""

    id: str
    make: Callable[[], Case]
    needs: str = ""  # a package that it comes from


def sick(id: str, must: str, make: Callable[[], Case], may: str = "") -> Sick:
    """A row from short text: must="UG101" or "UG101 UG303" for two causes."""
    return Sick(id, tuple(must.split()), make, frozenset(may.split()))


# ---- planting ----------------------------------------------------------------------------------------------


def times(model: Model, pattern: str, factor: float) -> Model:
    """Multiplies the parameters whose names match."""
    for p in _matching(model, pattern):
        p.mul_(factor)
    return model


def plus(model: Model, pattern: str, value: float, first: float = 1.0) -> Model:
    """Adds a number to the parameters whose names match, or only to the first share of their units."""
    for p in _matching(model, pattern):
        p[: max(1, round(first * len(p)))].add_(value)
    return model


def fill(model: Model, pattern: str, value: float) -> Model:
    """Sets every value of the parameters whose names match."""
    for p in _matching(model, pattern):
        p.fill_(value)
    return model


def normal(model: Model, pattern: str, std: float, mean: float = 0.0) -> Model:
    """Draws the parameters whose names match anew."""
    for p in _matching(model, pattern):
        p.normal_(mean, std)
    return model


def spoil(model: Model, pattern: str, value: float = float("nan")) -> Model:
    """Puts one value that is not finite into the parameters whose names match."""
    for p in _matching(model, pattern):
        p.view(-1)[p.numel() // 2] = value
    return model


def alike(model: Model, pattern: str) -> Model:
    """Makes every unit's incoming weights those of the first unit."""
    for p in _matching(model, pattern):
        p.copy_(p[:1].clone().expand_as(p))
    return model


def statistics(model: Model, *batches: Tensor) -> Model:
    """Lets normalization layers see these batches in training mode, as training would have."""
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    return model


def rated(case: Case, pattern: str, rate: float, others: float, kind: Any = torch.optim.SGD) -> Case:
    """The case with six steps of an optimizer that gives the matching parameters a learning rate of their own."""
    named = list(case.model.named_parameters())
    own = [p for name, p in named if fnmatchcase(name, pattern)]
    assert own, f"no parameter is called {pattern}"
    rest = [p for name, p in named if not fnmatchcase(name, pattern)]
    optimizer = kind([{"params": own, "lr": rate}, {"params": rest}], lr=others)
    return replace(case, steps=6, optimizer=optimizer)


def given(case: Case, optimizer: Callable[[nn.Module], torch.optim.Optimizer], steps: int = 6) -> Case:
    """The case with some steps of an optimizer that is made from the model as it is."""
    return replace(case, steps=steps, optimizer=optimizer(case.model))


def trained(case: Case, steps: int, optimizer: Callable[[Any], torch.optim.Optimizer], loss: Any) -> Case:
    """The case after some training steps on its own batch."""
    inputs, target = case.batch
    made = optimizer(case.model.parameters())
    case.model.train()
    for _ in range(steps):
        loss(case.model(inputs), target).backward()
        made.step()
        made.zero_grad(set_to_none=True)
    return case


def _matching(model: nn.Module, pattern: str) -> Iterator[Tensor]:
    found = [p.data for name, p in model.named_parameters() if fnmatchcase(name, pattern)]
    assert found, f"no parameter is called {pattern}: nothing would be planted"
    yield from found
