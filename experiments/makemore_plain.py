"""The lecture's training loop, restated: what experiments/makemore.py measures our speed against.

Source of procedure: A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3. Bare tensors, autograd, BatchNorm
by hand, one plain SGD update per parameter, the batch indexed and the loss noted at every step.

    N examples, B of a batch, T characters of context, E features of each, H hidden units, V characters
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unitgain.models import CharMLP

_MOMENTUM = 0.001


class PlainLoop:
    """Trains with weights that are copies of a one-hidden-layer CharMLP's. The generator draws the batches.

    With the same model and generator, its losses are those of FusedStep up to rounding.
    """

    def __init__(self, model: CharMLP, x: Tensor, y: Tensor, batch_size: int, generator: torch.Generator):
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.x, self.y, self.batch_size, self.generator = x, y, batch_size, generator  # (N, T), (N,)
        self.C = weights["embedding.weight"]  # (V, E)
        self.W1 = weights["hidden.weight"].t().contiguous()  # (T * E, H)
        self.b1 = weights.get("hidden.bias")  # (H,)
        self.W2 = weights["output.weight"].t().contiguous()  # (H, V)
        self.b2 = weights["output.bias"]  # (V,)
        self.gain, self.shift = weights.get("norm.weight"), weights.get("norm.bias")  # (H,) or None
        self.running_mean = torch.zeros(1, self.W1.shape[1])
        self.running_std = torch.ones(1, self.W1.shape[1])
        listed = (self.C, self.W1, self.b1, self.W2, self.b2, self.gain, self.shift)
        self.parameters = [p for p in listed if p is not None]
        for p in self.parameters:
            p.requires_grad_()

    def run(self, steps: int, lr: float) -> list[float]:
        """The loss of each step."""
        losses = []
        for _ in range(steps):
            rows = torch.randint(0, len(self.x), (self.batch_size,), generator=self.generator)
            x, y = self.x[rows], self.y[rows]  # (B, T), (B,)
            loss = F.cross_entropy(self._logits(x), y)
            for p in self.parameters:
                p.grad = None
            loss.backward()
            for p in self.parameters:
                assert p.grad is not None
                p.data += -lr * p.grad
            losses.append(loss.item())
        return losses

    def _logits(self, x: Tensor) -> Tensor:
        embedded = self.C[x]  # (B, T, E)
        h = embedded.view(embedded.shape[0], -1) @ self.W1  # (B, H)
        if self.b1 is not None:
            h = h + self.b1
        if self.gain is not None:
            assert self.shift is not None
            mean, std = h.mean(0, keepdim=True), h.std(0, keepdim=True)
            h = self.gain * (h - mean) / std + self.shift
            with torch.no_grad():
                self.running_mean = (1 - _MOMENTUM) * self.running_mean + _MOMENTUM * mean
                self.running_std = (1 - _MOMENTUM) * self.running_std + _MOMENTUM * std
        return torch.tanh(h) @ self.W2 + self.b2  # (B, V)
