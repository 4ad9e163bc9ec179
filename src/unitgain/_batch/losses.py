"""Losses by name, what kind a given callable is, and targets checked before they crash deep inside torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError

Loss = Callable[[Any, Any], Tensor]
IGNORED_TARGET = -100  # torch's default ignore_index


def cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of logits (N, C, ...) with targets (N, ...), or of (N, ..., C) as language models give."""
    axis = class_axis(outputs, target)
    if not target.is_floating_point():
        target = target.long()
    return F.cross_entropy(outputs.movedim(axis, 1) if outputs.dim() > 1 else outputs, target)


def _same_shape(function: Callable[..., Tensor]) -> Loss:
    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        if outputs.shape != target.shape and outputs.numel() == target.numel():
            target = target.reshape(
                outputs.shape
            )  # (N, 1) against (N,): broadcasting would compare all with all
        return function(outputs, target.to(outputs.dtype))

    return loss


def _nll(outputs: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(outputs.movedim(class_axis(outputs, target), 1), target.long())


LOSSES: Mapping[str, Loss] = {
    "cross_entropy": cross_entropy,
    "mse": _same_shape(F.mse_loss),
    "bce_with_logits": _same_shape(F.binary_cross_entropy_with_logits),
    "nll": _nll,
    "l1": _same_shape(F.l1_loss),
    "smooth_l1": _same_shape(F.smooth_l1_loss),
}


def check_loss(loss: object) -> None:
    """Raises InputError for an unknown name and for something that cannot be called."""
    if isinstance(loss, str) and loss != "auto" and loss not in LOSSES:
        near = difflib.get_close_matches(loss, LOSSES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(LOSSES)} and auto"
        raise InputError(f"loss {loss!r} is unknown; {hint}")
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise InputError(
            f"loss: expected a name or a callable (outputs, targets) -> scalar, got {type(loss).__name__}"
        )


def by_name(name: str, target: Any) -> tuple[str, Loss]:
    """(name, function). "auto": cross entropy for integer targets, mean squared error for float ones."""
    if name == "auto":
        integer = isinstance(target, Tensor) and not target.is_floating_point()
        name = "cross_entropy" if integer else "mse"
    return name, LOSSES[name]


def class_axis(outputs: Tensor, target: Tensor) -> int:
    """The axis of the logits: 1 as torch has it, or the last one where only that fits the targets' shape."""
    if outputs.dim() < 2:
        return 0
    if target.dim() == outputs.dim():  # class probabilities
        return 1
    rest = outputs.shape[:1] + outputs.shape[2:]
    return outputs.dim() - 1 if rest != target.shape and outputs.shape[:-1] == target.shape else 1


def check_targets(name: str, outputs: Any, target: Any) -> None:
    """Raises InputError for targets that the named loss cannot take; torch's own messages name neither."""
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)):
        return
    if name in ("cross_entropy", "nll", "CrossEntropyLoss", "NLLLoss", "nll_loss"):
        if target.is_floating_point() and target.shape != outputs.shape:
            raise InputError(
                f"targets: {name} takes class indices (integers) or probabilities of the outputs' shape "
                f"{tuple(outputs.shape)}, got {str(target.dtype).removeprefix('torch.')} of shape {tuple(target.shape)}"
            )
        if target.is_floating_point():
            return
        axis = class_axis(outputs, target)
        rest = tuple(outputs.shape[:axis] + outputs.shape[axis + 1 :])
        if rest != tuple(target.shape):
            raise InputError(
                f"targets: shape {tuple(target.shape)} does not fit outputs of shape {tuple(outputs.shape)}; "
                f"{name} wants targets of shape {rest} for {outputs.shape[axis]} classes"
            )
        classes = outputs.shape[axis]
        real = target[target != IGNORED_TARGET]
        if real.numel() and (int(real.min()) < 0 or int(real.max()) >= classes):
            raise InputError(
                f"targets: class indices run from {int(real.min())} to {int(real.max())}, but the model gives "
                f"{classes} outputs, so they must lie in 0..{classes - 1}"
            )
    elif name in LOSSES and outputs.numel() != target.numel():
        raise InputError(
            f"targets: shape {tuple(target.shape)} does not fit outputs of shape {tuple(outputs.shape)} for {name}"
            + (
                "; class labels must be integers (.long())"
                if name == "mse" and target.dim() < outputs.dim()
                else ""
            )
        )


def kind_of(name: str, loss: Loss | None, value: Tensor, outputs: Any, target: Any) -> str:
    """ "cross_entropy", "mse" or "other", found by comparing values where the callable does not tell."""
    if name == "cross_entropy" or isinstance(loss, nn.CrossEntropyLoss):
        return "cross_entropy"
    if name in ("mse", "mse_loss") or isinstance(loss, nn.MSELoss):
        return "mse"
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)) or name in LOSSES:
        return "other"
    for kind in ("cross_entropy", "mse"):
        if kind == "mse" and outputs.numel() != target.numel():
            continue
        try:
            expected = LOSSES[kind](outputs.detach(), target)
        except (RuntimeError, ValueError, IndexError):
            continue
        if expected.dim() == 0 and torch.isclose(expected, value.detach().to(expected.dtype), rtol=1e-4):
            return kind
    return "other"
