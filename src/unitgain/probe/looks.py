"""Passes without gradients between two steps of the optimizer, as a validation makes them: in which mode is the model?
For rule UG708.

Only those before sampled steps are seen, and none before the first step: those set a network up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import nn

from ..record import LookFacts

_MOST = 1000  # steps whose numbers are kept


class Looks:
    """Counts sampled steps, and those with such passes before them."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._training = self._evaluating = 0  # passes before the present step
        self._steps = self._with = self._passes = self._evaluated = 0
        self._modules: tuple[str, ...] = ()
        self._places: list[int] = []  # of the steps with passes in train mode, among the sampled ones

    def begin(self) -> None:
        """A sampled step follows."""
        self._training = self._evaluating = 0

    def looked(self) -> None:
        """A pass without gradients begins."""
        modules = tuple(depends_on_mode(self._model, training=True)) if self._model.training else ()
        if modules:
            self._modules = modules
            self._training += 1
        else:
            self._evaluating += 1

    def stepped(self) -> None:
        """The optimizer has made a step that is sampled."""
        if self._training and len(self._places) < _MOST:
            self._places.append(self._steps)
        self._steps += 1
        self._with += self._training > 0
        self._passes += self._training
        self._evaluated += self._evaluating > 0

    def facts(self) -> LookFacts:
        apart = [two - one for one, two in itertools.pairwise(self._places)]
        regular = max(apart) - min(apart) <= 1 if len(apart) > 1 else None
        return LookFacts(
            self._steps, self._with, self._passes, self._evaluated, regular, self._modules[:_MOST]
        )


def depends_on_mode(model: nn.Module, training: bool = False) -> Iterator[str]:
    """Modules whose output depends on the mode: dropout, and norms with running statistics; training: only those that
    are in train mode."""
    for path, module in model.named_modules():
        kind, dropout = type(module).__name__.lower(), getattr(module, "dropout", 0.0)
        drops = (
            getattr(module, "p", None) != 0 if "drop" in kind else isinstance(dropout, float) and dropout > 0
        )
        if (drops or getattr(module, "running_mean", None) is not None) and (module.training or not training):
            yield path or kind
