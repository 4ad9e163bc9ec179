"""Losses by name, what kind a given callable is, and targets checked before they crash deep inside torch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError, did_you_mean

Loss = Callable[[Any, Any], Tensor]
IGNORED_TARGET = -100  # torch's default ignore_index


@contextmanager
def without_broadcast_warning() -> Iterator[None]:
    """torch warns at each call of a loss that broadcasts; `check` says it once, with the cure (UG107)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")
        yield


def cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean cross entropy of logits (N, C, ...) with targets (N, ...), or of (N, ..., C) as language models give."""
    axis = class_axis(outputs, target)
    if not target.is_floating_point():
        target = target.long()
    return F.cross_entropy(outputs.movedim(axis, 1) if outputs.dim() > 1 else outputs, target)


def _elementwise(function: Callable[..., Tensor]) -> Loss:
    """torch's function on targets of the outputs' dtype. Where the shapes differ it compares what torch's does:
    (N, 1) with (N,) is all with all, which `check` reports (UG107) and a Learner refuses."""

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        target = target.to(outputs.dtype)
        if outputs.shape != target.shape and function in _BROADCAST:
            outputs, target = torch.broadcast_tensors(outputs, target)  # what torch does, less a warning
        return function(outputs, target)

    return loss


def _nll(outputs: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(outputs.movedim(class_axis(outputs, target), 1), target.long())


_BROADCAST = (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)  # torch's losses that do, with a warning
_BROADCASTING = ("mse", "l1", "smooth_l1")

LOSSES: Mapping[str, Loss] = {
    "cross_entropy": cross_entropy,
    "mse": _elementwise(F.mse_loss),
    "bce_with_logits": _elementwise(F.binary_cross_entropy_with_logits),
    "nll": _nll,
    "l1": _elementwise(F.l1_loss),
    "smooth_l1": _elementwise(F.smooth_l1_loss),
}


def check_loss(loss: object) -> None:
    """Raises InputError for an unknown name and for something that cannot be called."""
    if isinstance(loss, str) and loss != "auto" and loss not in LOSSES:
        raise InputError(f"loss {loss!r} is unknown{did_you_mean(loss, ['auto', *LOSSES])}")
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise InputError(f"loss: got the class {loss.__name__}; make a loss of it: {loss.__name__}()")
    if loss is not None and not isinstance(loss, str) and not callable(loss):
        raise InputError(
            f"loss: expected a name or a callable (outputs, targets) -> scalar, got {type(loss).__name__}"
        )


def of_outputs_alone(loss: Loss) -> Loss | None:
    """The loss as a function of (outputs, targets), where it takes outputs and nothing else, as a contrastive loss may;
    None where it takes targets too, or does not say."""
    try:
        arguments = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
        arguments.bind(None)
    except (TypeError, ValueError):
        return None
    try:
        arguments.bind(None, None)
    except TypeError:
        alone: Callable[[Any], Tensor] = cast("Any", loss)
        return lambda outputs, _: alone(outputs)
    return None


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


def broadcasts(name: str, loss: Loss) -> bool:
    """Whether this is one of torch's losses that broadcast outputs and targets of different shapes."""
    types = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
    return (name in _BROADCASTING and LOSSES[name] is loss) or loss in _BROADCAST or isinstance(loss, types)


def check_shapes(name: str, outputs: Any, target: Any) -> None:
    """Raises InputError for targets of another shape than the outputs' where a loss by name compares value by value,
    which would broadcast them or fail. One number for all is a target too."""
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)) or outputs.shape == target.shape:
        return
    if name == "bce_with_logits" or (name in _BROADCASTING and target.numel() > 1):
        raise InputError(
            f"targets: shape {tuple(target.shape)} is not that of the outputs, {tuple(outputs.shape)}, and {name} "
            f"compares them value by value{fitting(outputs.shape, target.shape)}"
        )


def fitting(outputs: torch.Size, target: torch.Size) -> str:
    """How to make the targets fit, as the end of a sentence."""
    if outputs.numel() != target.numel():
        return "; give targets of the outputs' shape"
    if outputs == (*target, 1):
        return "; give targets.unsqueeze(-1), or outputs.squeeze(-1)"
    if target == (*outputs, 1):
        return "; give targets.squeeze(-1)"
    return "; give targets.reshape(outputs.shape)"


def _is_known(name: str, loss: Loss | None) -> bool:
    """Whether a loss of this name is torch's, or ours; people call functions of their own `nll` and `mse` too."""
    ours = loss is None or LOSSES.get(name) is loss
    return ours or any(str(getattr(one, "__module__", "")).startswith("torch.") for one in (loss, type(loss)))


def check_targets(
    name: str, outputs: Any, target: Any, ignored: int = IGNORED_TARGET, loss: Loss | None = None
) -> None:
    """Raises InputError for targets that the named loss cannot take; torch's own messages name neither.

    ignored  the class index that the loss leaves out, its `ignore_index`
    loss     the function of that name; one that is neither torch's nor ours takes what it takes
    """
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)) or not _is_known(name, loss):
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
        real = target[target != ignored]
        if real.numel() and (int(real.min()) < 0 or int(real.max()) >= classes):
            raise InputError(
                f"targets: class indices run from {int(real.min())} to {int(real.max())}, but the model gives "
                f"{classes} outputs, so they must lie in 0..{classes - 1}"
            )
    elif name in LOSSES and outputs.shape != target.shape and not _is_broadcast(name, outputs, target):
        labels = name == "mse" and target.dim() < outputs.dim() and outputs.numel() != target.numel()
        raise InputError(
            f"targets: shape {tuple(target.shape)} does not fit outputs of shape {tuple(outputs.shape)} for {name}"
            + (
                "; class labels must be integers (.long())"
                if labels
                else fitting(outputs.shape, target.shape)
            )
        )


def _is_broadcast(name: str, outputs: Tensor, target: Tensor) -> bool:
    try:
        torch.broadcast_shapes(outputs.shape, target.shape)
    except RuntimeError:
        return False
    return name in _BROADCASTING


def kind_of(name: str, loss: Loss | None, value: Tensor, outputs: Any, target: Any) -> str:
    """ "cross_entropy", "mse" or "other", found by comparing values where the callable does not tell."""
    known = _is_known(name, loss)
    if (known and name == "cross_entropy") or isinstance(loss, nn.CrossEntropyLoss):
        return "cross_entropy"
    if (known and name in ("mse", "mse_loss")) or isinstance(loss, nn.MSELoss):
        return "mse"
    if not (isinstance(outputs, Tensor) and isinstance(target, Tensor)) or (known and name in LOSSES):
        return "other"
    reshaped = target.reshape(outputs.shape) if outputs.numel() == target.numel() else target
    for kind, compared in (("cross_entropy", target), ("mse", reshaped), ("mse", target)):
        try:
            expected = LOSSES[kind](outputs.detach(), compared)
        except (RuntimeError, ValueError, IndexError):
            continue
        if expected.dim() == 0 and torch.isclose(expected, value.detach().to(expected.dtype), rtol=1e-4):
            return kind
    return "other"
