"""UG507 decay-dominates: weight decay, and not the loss, decides where the weights go.

Source: Krogh and Hertz, A simple weight decay can improve generalization (1991); Loshchilov and Hutter, Decoupled
weight decay regularization (2019). The limits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ._loss_curve import last_quarter
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._updates import is_adaptive
from ._view import View
from ._words import listed, plural, show

ABOUT = About(
    code="UG507",
    name="decay-dominates",
    rank=170,
    seen="The weights shrink to a fraction of what they were, and updates point straight against them.",
    matters=(
        "Weight decay pulls each weight towards zero. Where it pulls harder than the loss, the weights go to zero "
        "whatever the data say: signals vanish, every input gives the same output, and the loss stays at that of a "
        "constant."
    ),
    source=(
        "Krogh and Hertz, A simple weight decay can improve generalization, 1991; Loshchilov and Hutter, Decoupled "
        "weight decay regularization, 2019."
    ),
    measured=(
        "For each matrix, kernel and embedding: its rms now over that at the first sampled step, and the cosine "
        "between its update and the weights before it, median over the steps in which it shrank. Weights right "
        "before a norm, whose size does not matter, count only where a loss was recorded. Under Adam and its like a "
        "decay that is added to the gradient is compared with the loss's gradient, over the run and at its end."
    ),
    action="Lower the weight decay: 1e-4 to 5e-4 is usual for SGD, 0.01 to 0.1 for AdamW.",
    effect="The weights keep their size, and the loss falls below that of a constant.",
    verify="Train again and check the record: the weights' rms stays within a factor of a few.",
    needs="steps",
    silent=(
        "a run whose loss has fallen by half: what shrank was not needed",
        "weights that the loss itself drives to zero",
        "decay that balances the gradient, as in every network with normalization",
    ),
    wrecks=True,
)

SHRUNK = Threshold(
    0.1, "of the weights' rms at the start: three such layers in a row leave a thousandth of a signal"
)
LASTING = Threshold(
    0.3, "of it, that the weights stay below at the end: a momentum lets them swing through zero"
)
AGAINST = Threshold(
    -0.7,
    "cosine with the weights: a decay in Adam's gradient steps along -sign(w), whose cosine with w is -0.8",
)
PENALTY = Threshold(
    -0.9, "the same, where the optimizer has no decay and only a penalty in the loss could do it"
)
SIGNS = Threshold(
    -0.75, "the same under Adam and its like, whose steps along -sign(w) have a cosine of -0.8 with w"
)
MOST = Threshold(0.5, "of the weights: a single layer may have become useless")
LEARNT = Threshold(0.5, "of the first loss: below, training works with weights this small")
FORGETS = Threshold(
    0.01, "learning rate times decoupled decay: a weight forgets in a hundred steps what it has learnt"
)
STILL = Threshold(0.8, "of the first loss, that it stays above: nothing has been learnt")
SMALLER = Threshold(0.7, "of the weights' rms at the start, that they stay below then")
STRONG = Threshold(
    0.01,
    "of a decay that is added to the gradient: a hundred times the usual one; 0.01 to 0.1 are those of AdamW",
)
HOLDS = Threshold(
    0.33, "of the loss's gradient, that the decay in the gradient is in half of the run, and still at the end"
)
LEFT = Threshold(
    0.05, "of the first loss, that is left at the end: below, nearly all was learnt all the same"
)
BALANCE = Threshold(
    0.1, "of the gradient's size: a decay that is no more than this leaves the direction to the loss"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """shrunk: of `weights`, those that did; left: what is left of their rms, median; cosine: of updates with weights,
    median; decay: largest of the groups'; steps: in which they shrank to a tenth, median."""

    shrunk: int
    weights: int
    left: float
    cosine: float
    decay: float
    steps: float


@dataclass(frozen=True)
class _Shrinking:
    left: float
    cosine: float
    until: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    sizes = view.over_steps("parameter", "rms")
    angles = view.over_steps("update", "cosine")
    names = [n for n in angles if n in sizes and _is_weight(view, n)]
    if not names:
        raise CannotJudge("no update of a weight was measured")
    decays = {n: _decay(view, n) for n in names}
    decayed = any(decays.values())
    held = _balanced(view, names)
    if held is not None:
        yield held
        return
    if decayed and _end_of_loss(view) <= LEARNT:
        return
    judged = [n for n in names if (decayed and len(view.losses[1])) or not _before_norm(view, n)]
    rows = {n: row for n in judged if (row := _shrinking(sizes[n], angles[n])) is not None}
    penalty = SIGNS if is_adaptive(view) else PENALTY
    found = {n: r for n, r in rows.items() if r.cosine < (AGAINST if decays[n] else penalty)}
    if len(found) < MOST * len(judged):
        found = {n: r for n in judged if (r := _held_down(view, n, sizes[n], angles[n])) is not None}
    if len(found) < MOST * len(judged) or not found:
        return
    if not any(decays[n] for n in found) and len(found) < len(judged):
        return
    decay = max(decays[n] for n in found)
    left = float(np.median([r.left for r in found.values()]))
    cosine = float(np.median([r.cosine for r in found.values()]))
    until = float(np.median([r.until for r in found.values()]))
    yield ABOUT.found(
        "error",
        None,
        f"{len(found)} of {plural(len(judged), 'weight')} shrank to {show(left)} of their size ({listed(found)}), by "
        f"updates that point against the weights (cosine {show(cosine)})",
        evidence=Evidence(len(found), len(judged), left, cosine, decay, until),
        cause=f"The weight decay of {show(decay)} is stronger than the gradient of the loss."
        if decay
        else "The optimizer has no weight decay: a penalty in the loss is stronger than the rest of it.",
        remedy=_remedy(view, decay, list(found)),
    )


def _balanced(view: View, names: list[str]) -> Found[Evidence] | None:
    """A decay in the gradient that is of the size of the loss's own throughout: an adaptive optimizer, which divides
    the sum of both by its size, then follows the decay as much as the loss."""
    coupled = [n for n in names if (g := view.facts.optimizer.group_of(n)) is not None and not g.decoupled]
    coupled = [n for n in coupled if _decay(view, n) >= STRONG and not _before_norm(view, n)]
    sizes, angles = view.over_steps("parameter", "rms"), view.over_steps("update", "cosine")
    gradients = view.over_steps("parameter_gradient", "rms")
    judged = [n for n in coupled if _measured(n, sizes, gradients)]
    if (
        not is_adaptive(view)
        or not judged
        or len(judged) < MOST * len(names)
        or not _end_of_loss(view) > LEFT
    ):
        return None
    shares = [_decay(view, n) * sizes[n] / gradients[n] for n in judged]
    half, last = (
        float(np.median([part(share) for share in shares])) for part in (lambda s: np.median(s), last_quarter)
    )
    if not (half >= HOLDS and last >= HOLDS):
        return None
    first = [float(c[np.isfinite(c)][0]) for n in judged if np.isfinite(c := angles[n]).any()]
    turned = float(np.median(first)) if first else math.nan
    shrunk = [float(sizes[n][-1] / sizes[n][0]) for n in coupled if sizes[n][0] > 0]
    decay = max(_decay(view, n) for n in coupled)
    return ABOUT.found(
        "warning",
        None,
        f"the weight decay of {show(decay)} is {show(half)} times as large as the gradient of the loss in the middle "
        f"of the run and {show(last)} times at the end ({plural(len(judged), 'weight')}); the loss is still "
        f"{show(_end_of_loss(view))} of what it was",
        evidence=Evidence(len(judged), len(names), float(np.median(shrunk)), turned, decay, 0.0),
        cause=f"{view.facts.optimizer.name} adds this decay to the gradients and divides both by their size: it is "
        "made for a decay a hundred times smaller, and what the loss asks for is held back.",
        remedy=_remedy(view, decay, coupled) + " 0.01 to 0.1 are values for AdamW, whose decay is decoupled.",
    )


def _measured(name: str, sizes: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]) -> bool:
    return (
        name in gradients and len(sizes[name]) == len(gradients[name]) and bool((gradients[name] > 0).all())
    )


def _is_weight(view: View, name: str) -> bool:
    site = view.record.site("parameter", name)
    held = view.facts.optimizer.held
    return (
        site is not None
        and len(site.shape) > 1
        and site.attributes.get("role") in ("weight", "embedding")
        and (held is None or name in held)
    )


def _before_norm(view: View, name: str) -> bool:
    parameter = view.parameter(name)
    made = view.tensor(parameter.owner) if parameter else None
    return made is not None and any(m.role == "norm" for m in view.feeds(made))


def _end_of_loss(view: View) -> float:
    """Median of the later half of the recorded losses over the first one; NaN where none was recorded."""
    losses = view.losses[1]
    losses = losses[np.isfinite(losses)]
    return (
        float(np.median(losses[len(losses) // 2 :]) / losses[0])
        if len(losses) > 1 and losses[0] > 0
        else math.nan
    )


def _held_down(view: View, name: str, sizes: np.ndarray, angles: np.ndarray) -> _Shrinking | None:
    """Of a weight whose decay is taken off it so fast that it keeps the gradients of a few dozen steps alone, so that
    Adam's steps balance it, far below where it began, and the loss does not fall."""
    group = view.facts.optimizer.group_of(name)
    if (
        group is None
        or not group.decoupled
        or not group.lr * group.weight_decay > FORGETS
        or not sizes[0] > 0
    ):
        return None
    left = float(np.median(sizes[len(sizes) // 2 :]) / sizes[0])
    until = int(np.argmax(sizes < SMALLER * sizes[0]))
    way = angles[: max(1, until)][np.isfinite(angles[: max(1, until)])]
    if not _end_of_loss(view) > STILL or left > SMALLER or not way.size or not np.median(way) < AGAINST:
        return None
    return _Shrinking(left, float(np.median(way)), until)


def _shrinking(sizes: np.ndarray, angles: np.ndarray) -> _Shrinking | None:
    """Of a weight that shrank to a tenth: how far, and along which direction until it was there. Momentum lets it swing
    through zero, so that it need not be as small at every later step."""
    end = last_quarter(sizes)
    if not sizes[0] > 0 or not sizes.min() < SHRUNK * sizes[0] or not end < LASTING * sizes[0]:
        return None
    until = int(np.argmax(sizes < SHRUNK * sizes[0]))
    way = angles[: max(1, min(until, len(angles)))]
    way = way[np.isfinite(way)]
    return _Shrinking(end / float(sizes[0]), float(np.median(way)), until) if way.size else None


def _decay(view: View, name: str) -> float:
    group = view.facts.optimizer.group_of(name)
    return group.weight_decay if group is not None else 0.0


def _remedy(view: View, decay: float, names: list[str]) -> str:
    """The decay that would be a tenth of the gradient at the first sampled step, for a decay in the gradient."""
    group = view.facts.optimizer.group_of(names[0])
    if not decay or group is None:
        return "Lower the factor of the penalty on the weights in the loss." if not decay else ""
    usual = "0.01 to 0.1 is usual" if group.decoupled else "1e-4 to 5e-4 is usual"
    sizes, gradients = view.over_steps("parameter", "rms"), view.over_steps("parameter_gradient", "rms")
    balanced = [gradients[n][0] / sizes[n][0] for n in names if n in gradients and sizes[n][0] > 0]
    most = BALANCE * float(np.median(balanced)) if balanced else math.nan
    if group.decoupled or not 0 < most < decay:
        return f"Lower the weight decay from {show(decay)}: {usual}. The learning rate need not be lowered for it."
    return (
        f"Lower the weight decay from {show(decay)} to about {show(most)} or less, a tenth of the gradient at the "
        f"start ({usual}). The learning rate need not be lowered for it."
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
y = (x @ torch.randn(20, 10)).argmax(1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.5)
report = ug.check(model, (x, y), steps=80, optimizer=optimizer)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
x = torch.randn(256, 20)
y = (x @ torch.randn(20, 10)).argmax(1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
report = ug.check(model, (x, y), steps=80, optimizer=optimizer)
"""
