"""What a remedy did, in words and numbers; and how tensors are changed so that it is noted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """One tensor (or module) that is different now.

    name           of the parameter or buffer ("layers.0.weight"), or of a module that was replaced
    before, after  its root mean square; 0.0 where there is nothing to measure
    reason         one line
    """

    name: str
    before: float
    after: float
    reason: str


@dataclass(frozen=True)
class Measured:
    """A layer's output before and after a remedy: mean, and std (biased) over all values, or where it was wanted."""

    name: str
    mean_before: float
    std_before: float
    mean_after: float
    std_after: float
    status: str  # "reached", "skipped: why", "not reached: why"

    @property
    def reached(self) -> bool:
        return self.status.startswith("reached")


@dataclass
class RemedyReport:
    """title, changes, what was measured (LSUV), notes, and problems: one line for each thing that failed."""

    title: str
    changes: list[Change] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def change(self, name: str) -> Change:
        """The last change of a tensor. Raises KeyError if there is none."""
        for change in reversed(self.changes):
            if change.name == name:
                return change
        raise KeyError(name)

    @contextmanager
    def changing(self, name: str, tensor: Tensor, reason: str) -> Iterator[None]:
        """Notes what happens to a tensor inside; nothing if its values stay."""
        old = tensor.detach().clone()
        yield
        if not torch.equal(old, tensor.detach()):
            self.changes.append(Change(name, rms(old), rms(tensor), reason))

    def __str__(self) -> str:
        lines = [self.title]
        width = max((len(c.name) for c in (*self.changes, *self.measured)), default=0)
        for c in self.changes:
            lines.append(f"  {c.name:{width}}  rms {c.before:9.4g} -> {c.after:9.4g}  {c.reason}")
        for m in self.measured:
            values = f"std {m.std_before:9.4g} -> {m.std_after:9.4g}  mean {m.mean_before:9.3g} -> {m.mean_after:9.3g}"
            lines.append(f"  {m.name:{width}}  {values}  {m.status}")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  problem: {problem}" for problem in self.problems]
        if len(lines) == 1:
            lines.append("  nothing to change")
        return "\n".join(lines)


def rms(tensor: Tensor) -> float:
    """Root mean square, 0.0 for an empty tensor."""
    values = tensor.detach()
    return float(values.float().square().mean().sqrt()) if values.numel() else 0.0
