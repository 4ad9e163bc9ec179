"""Which parameters a gradient reaches, and which ones it would reach once all-zero parameters have moved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import InputError
from ..record import GradientFacts
from ..stats import stored
from .passes import Passes

_NUDGE = 0.02  # std of the noise that stands for "zero-initialized parameters have moved"


def gradient_facts(model: nn.Module) -> tuple[GradientFacts, list[str]]:
    """(facts, names of trainable parameters whose gradient is there but exactly zero)."""
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.numel()]
    reached = {n for n, p in trainable if p.grad is not None and _has_values(p.grad)}
    silent = [n for n, p in trainable if n not in reached and p.grad is not None]
    return GradientFacts(len(reached), len(trainable)), silent


def unblocked(passes: Passes, silent: list[str]) -> tuple[str, ...]:
    """Which of the silent parameters get a gradient once all-zero parameters have moved a little.

    Zero-initialized residual ends, SkipInit and zero heads stop the gradient at step 0 only. Whether that is
    the reason is tried out, from the state in which the check began, rather than guessed from names.
    """
    passes.rewind()
    model = passes.model
    zeros = [p for p in model.parameters() if _is_zero(p)]
    if not zeros:
        return ()
    with torch.no_grad():
        for p in zeros:
            p.normal_(0, _NUDGE)
    try:
        passes.run()
    except InputError:
        return ()
    by_name = dict(model.named_parameters())
    gradients = {name: by_name[name].grad for name in silent}
    return tuple(n for n, gradient in gradients.items() if gradient is not None and _has_values(gradient))


def _is_zero(p: Tensor) -> bool:
    return p.requires_grad and p.numel() > 0 and not _has_values(p)


def _has_values(tensor: Tensor) -> bool:
    return bool((stored(tensor) != 0).any())
