"""Step: what has been measured in one step so far, still on its devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import stats
from ..stats import Partial


@dataclass
class Step:
    """What has been measured in one step so far.

    number    steps before it
    turn      sampled steps before it
    partials  sums of whole tensors
    held      copies of some examples of inputs and activations, reduced when the step is over or later: one tight
              loop is far faster than as many hooks in the middle of other work
    flat      samples of what has no channels: gradients, parameters, updates
    norms     norms of whole parameter gradients of which `flat` holds a sample, and of how many values
    pieces    keys of `flat` of which other ranks have the rest; their `norms` are sums of squares
    rate      the learning rate, where it is a tensor on an accelerator; any other was recorded at once
    skipped   above 0 if a GradScaler kept a fused optimizer from doing anything; None where none could have
    """

    number: int
    turn: int
    partials: dict[tuple[str, str], Partial] = field(default_factory=dict)
    held: dict[tuple[str, str], tuple[Tensor, dict[str, Any]]] = field(default_factory=dict)
    flat: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    norms: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    pieces: set[tuple[str, str]] = field(default_factory=set)
    rate: Tensor | None = None
    skipped: Tensor | None = None

    @property
    def empty(self) -> bool:
        return not (self.partials or self.held or self.flat)

    def has(self, kind: str) -> bool:
        return any(key[0] == kind for key in (*self.flat, *self.partials))

    def add(self, kind: str, name: str, partial: Partial) -> None:
        """A second tensor of the same site in the same step (gradient accumulation) is merged into the first."""
        known = self.partials.get((kind, name))
        if known is None:
            self.partials[kind, name] = partial
        else:
            known.merge(partial)

    def hold(self, kind: str, name: str, some: Tensor, how: dict[str, Any]) -> None:
        key = kind, name
        if key not in self.held and key not in self.partials:
            self.held[key] = some, how
            return
        if key in self.held:
            before, its = self.held.pop(key)
            self.add(kind, name, stats.summarize(before, **its))
        self.add(kind, name, stats.summarize(some, **how))

    def add_flat(self, kind: str, name: str, values: Tensor) -> None:
        known = self.flat.get((kind, name))
        self.flat[kind, name] = values if known is None else torch.cat([known, values])

    def set(self, kind: str, name: str, measured: Partial | Tensor) -> None:
        """In place of what there was: an accumulated gradient holds the earlier ones already."""
        self.partials.pop((kind, name), None)
        self.flat.pop((kind, name), None)
        self.norms.pop(name, None)
        if isinstance(measured, Partial):
            self.partials[kind, name] = measured
        else:
            self.flat[kind, name] = measured

    def absorb(self, other: Step) -> None:
        """Adds what another pass of this step measured."""
        for (kind, name), (some, how) in other.held.items():
            self.hold(kind, name, some, how)
        for (kind, name), partial in other.partials.items():
            self.add(kind, name, partial)
        for (kind, name), values in other.flat.items():
            self.add_flat(kind, name, values)
        other.held, other.partials, other.flat = {}, {}, {}

    def reduce_held(self) -> None:
        held, self.held = self.held, {}
        for (kind, name), partial in zip(held, stats.summarize_many(list(held.values()))):
            self.add(kind, name, partial)
