"""What a loss function of torch is given: kinds of values, labels that are ignored, weights of classes.

For rules UG104, UG106, UG111, UG115 and UG118, whatever function of the caller's own it is called from.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..record import LossCallFacts
from .where import calling_line

TAKES_SCORES = {"cross_entropy", "binary_cross_entropy_with_logits"}
_TAKES_SIGNS = {
    "cosine_embedding_loss": 2,
    "hinge_embedding_loss": 1,
    "margin_ranking_loss": 2,
    "soft_margin_loss": 1,
}  # which of its arguments the targets are, -1 or 1
_TAKES_YES_OR_NO = {
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "multilabel_soft_margin_loss",
}  # 1 or 0
LOSS_FUNCTIONS = TAKES_SCORES | _TAKES_YES_OR_NO | {"nll_loss", "kl_div"} | _TAKES_SIGNS.keys()
_MOST_CLASSES = 1000
_SUM = 1e-3  # rounding of bfloat16 stays below it


def loss_call(name: str, args: Any, kwargs: Any) -> LossCallFacts | None:
    """One of `LOSS_FUNCTIONS` with the arguments that it was called with; None where they are no two tensors."""
    if name in _TAKES_SIGNS:
        return _of_signs(name, args, kwargs)
    given = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if not isinstance(given, Tensor) or not isinstance(target, Tensor) or not given.numel():
        return None
    where = calling_line()
    if name == "kl_div":
        log_target = bool(kwargs.get("log_target", False))
        return LossCallFacts(name, where, kind_of_values(given), kind_of_values(target), log_target)
    if name == "binary_cross_entropy_with_logits":
        call = _of_yes_and_no(name, where, target, kwargs.get("pos_weight"))
        return replace(call, instead=_instead(target, 1, -1, kwargs))
    if name in _TAKES_YES_OR_NO:
        instead = _instead(target, 1, -1, kwargs)
        return (
            LossCallFacts(name, where, instead=instead) if instead or name == "binary_cross_entropy" else None
        )
    smoothing = float(kwargs.get("label_smoothing", 0.0)) if name == "cross_entropy" else 0.0
    if target.is_floating_point():
        return LossCallFacts(name, where, told=_told(target, given, smoothing))
    ignored = kwargs.get("ignore_index", -100)
    real = target[target != ignored].reshape(-1)
    call = LossCallFacts(
        name, where, labels=target.numel(), counted=real.numel(), told=_told_by_smoothing(given, smoothing)
    )
    weight = kwargs.get("weight")
    if not isinstance(weight, Tensor) or weight.numel() > _MOST_CLASSES or not real.numel():
        return call
    counts = torch.bincount(real.long(), minlength=weight.numel())
    return _weighted(call, weight, counts)


def _of_signs(name: str, args: Any, kwargs: Any) -> LossCallFacts | None:
    """A loss whose targets are -1 and 1, where they are not."""
    place = _TAKES_SIGNS[name]
    target = args[place] if len(args) > place else kwargs.get("target")
    instead = _instead(target, 1, 0, kwargs) if isinstance(target, Tensor) else None
    return None if instead is None else LossCallFacts(name, calling_line(), instead=instead)


def _instead(target: Tensor, one: float, other: float, kwargs: Any) -> tuple[float, float] | None:
    """Both values of targets that have these two alone, and both. What the caller weighs or masks afterwards may be
    meant, and so may a third value (a tie, an example that is left out)."""
    if kwargs.get("reduction", "mean") == "none" or isinstance(kwargs.get("weight"), Tensor):
        return None
    yes, no = target == one, target == other
    found = bool((yes | no).all()) and bool(yes.any()) and bool(no.any())
    return (float(other), float(one)) if found else None


def _told(target: Tensor, given: Tensor, smoothing: float) -> float:
    """NaN where the targets are no distributions over the classes."""
    if target.shape != given.shape or target.dim() < 2 or target.shape[1] < 2:
        return math.nan
    rows = target.detach().double().movedim(1, -1)
    if float(rows.min()) < 0 or not bool(((rows.sum(-1) - 1).abs() < _SUM).all()):
        return math.nan
    classes = rows.shape[-1]
    rows = (1 - smoothing) * rows + smoothing / classes
    return float((rows * (rows * classes).clamp(min=1e-12).log()).sum(-1).mean())


def _told_by_smoothing(given: Tensor, smoothing: float) -> float:
    if not smoothing or given.dim() < 2 or given.shape[1] < 2:
        return math.nan
    classes = given.shape[1]
    other = smoothing / classes
    own = 1 - smoothing + other
    return own * math.log(own * classes) + (classes - 1) * other * math.log(other * classes)


def _of_yes_and_no(name: str, where: str | None, target: Tensor, weight: Any) -> LossCallFacts:
    call = LossCallFacts(name, where)
    if not isinstance(weight, Tensor) or not bool(((target == 0) | (target == 1)).all()):
        return call
    if weight.numel() == 1:  # of yes, where no weighs one
        yes = (target == 1).sum()
        return _weighted(
            call, torch.cat([weight.new_ones(1), weight.reshape(1)]), torch.stack([target.numel() - yes, yes])
        )
    if weight.dim() != 1 or target.dim() != 2 or weight.numel() > _MOST_CLASSES:
        return call
    return _weighted(call, weight, (target == 1).sum(0))


def _weighted(call: LossCallFacts, weight: Tensor, counts: Tensor) -> LossCallFacts:
    pairs = list(zip(weight.reshape(-1).tolist(), counts.tolist(), strict=False))
    return LossCallFacts(
        call.function,
        call.where,
        labels=call.labels,
        counted=call.counted,
        told=call.told,
        weights={str(c): float(w) for c, (w, _) in enumerate(pairs)},
        counts={str(c): int(n) for c, (_, n) in enumerate(pairs)},
    )


def kind_of_values(x: Tensor) -> str | None:
    """Whether rows along some axis are probabilities or their logarithms; "scores" where neither and some value is
    above zero, which no logarithm of a probability is. Rows of padding may be empty."""
    x = x.detach().double()
    if bool(x.isnan().any()):
        return None
    if float(x.min()) >= 0 and _sums_to_one(x):
        return "probabilities"
    if float(x.max()) > _SUM:
        return "scores"
    return "log_probabilities" if _sums_to_one(x.exp()) else None


def _sums_to_one(x: Tensor) -> bool:
    for axis in range(x.dim()):
        if x.shape[axis] > 1:
            total = x.sum(axis)
            one = (total - 1).abs() < _SUM
            if bool((one | (total == 0)).all()) and 2 * int(one.sum()) >= one.numel():
                return True
    return False
