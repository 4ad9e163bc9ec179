"""Passes of one step whose gradients are cleared before the next pass, where they were to be added up. For rule UG509.

Most passes whose gradients are cleared are meant so, and are told apart: another optimizer steps in between (a GAN's
other half), the weights are moved for them (SAM), the inputs have gradients (adversarial examples), or the gradient
that the step uses is not the last pass's (several tasks' gradients put together by hand). What is left, twice or more
in one step, is a zero_grad() that stands inside of the loop over parts of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_FEWEST = 2  # passes cleared in one step: a single one may have been looked at
_ALIKE = 0.999  # cosine between the last pass's gradient and the step's: clipping only scales it


class Thrown:
    """Of one sampled step after another."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]):
        self._ours = {id(optimizer) for optimizer in optimizers}
        self._cleared: list[Tensor | bool] = []
        self._version: int | None = None
        self._meant = False  # whether something says that the passes are no parts of one batch
        self.most = 0  # passes of one step

    def begin(self) -> None:
        self._cleared.clear()
        self._version, self._meant = None, False

    def entered(self, inputs: Any, parameter: Tensor) -> None:
        """A forward pass begins."""
        self._meant |= any(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        if self._version is None:
            self._version = parameter._version

    def stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """An optimizer, of whatever model, has made a step."""
        self._meant |= id(optimizer) not in self._ours

    def cleared(self, whether: Tensor | bool) -> None:
        """A further pass gives its gradient; whether that of the one before it has been cleared."""
        self._cleared.append(whether)

    def at_step(self, parameter: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor | bool:
        """Whether passes were thrown away. pairs: samples of gradients, after the last pass and now."""
        self._meant |= self._version != parameter._version
        if len(self._cleared) < _FEWEST or self._meant or not pairs:
            return False
        device = pairs[0][0].device
        flags = [torch.as_tensor(flag, device=device) for flag in self._cleared]
        cosines = [torch.cosine_similarity(a.float().flatten(), b.float().flatten(), 0) for a, b in pairs]
        self.most = max(self.most, len(flags) + 1)
        alike = torch.stack([cosine.to(device) for cosine in cosines]).amax() > _ALIKE
        return torch.stack(flags).all() & alike
