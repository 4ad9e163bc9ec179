"""Gradients that hold NaN or infinity, and wait for a step that does not come: a GradScaler leaves it out without a
word, and what is sampled by steps sees nothing of it. For rule UG702."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


class Waiting:
    """Counts what is logged between steps: once a pass, whether it is sampled or not."""

    def __init__(self) -> None:
        self._name: str | None = None  # of the number that is counted
        self._logged = 0  # since the last step

    def logged(self, names: Sequence[str]) -> None:
        self._name = self._name or next(iter(names), None)
        self._logged += self._name in names

    def stepped(self) -> None:
        self._logged = 0

    def broken(self, gradients: Iterable[Tensor | None]) -> int | None:
        """How many numbers were logged since the last step, its own left out, if one of these gradients is not finite;
        else None."""
        there = [g.detach() for g in gradients if g is not None and g.numel()]
        return max(self._logged - 1, 0) if any(not bool(torch.isfinite(g).all()) for g in there) else None
