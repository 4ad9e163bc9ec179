"""What a loss is, found by asking it: it is called on made-up outputs and targets, never judged by its name.

A loss with a softmax gives the same when all outputs of an example are shifted; one with a sigmoid is lowest far
outside of 0..1; -log(p) doubles when p falls from 1/2 to 1/4; a squared error grows fourfold when the distance
doubles. So a loss of the caller's own is known as well as one of torch. Each call gets copies and the same random
numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._batch import Judged, Loss, class_axis, find_logits
from .._run import random_states
from ..record import AskedFacts, ReachFacts

MOST_VALUES = 1_000_000  # outputs at most in one question: of more, the first examples are taken
SMALL = 1e-4  # relative: float32 keeps seven digits, and a loss sums many values
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True)
class Question:
    """A loss as a function of the one tensor of outputs that matters, and of targets.

    loss     the caller's (outputs, target) -> scalar
    outputs  as the model gave them: a tensor, or a structure that holds `logits`
    """

    loss: Loss
    outputs: Any
    logits: Tensor
    target: Tensor

    def __call__(self, made: Tensor, target: Tensor | None = None) -> float:
        """NaN where it cannot be asked so."""
        answer = self.target if target is None else target
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                value = self.loss(
                    put_in(self.outputs, self.logits, made.to(self.logits.dtype)), answer.clone()
                )
            except Exception:  # the caller's own code, on outputs and targets that it may not take
                return math.nan
        return float(value) if isinstance(value, Tensor) and value.numel() == 1 else math.nan


def put_in(outputs: Any, logits: Tensor, made: Tensor) -> Any:
    """The outputs with another tensor in the place of `logits`."""
    if outputs is logits:
        return made.clone()
    if isinstance(outputs, Tensor):
        return outputs.detach().clone()
    if type(outputs) in (list, tuple):
        return type(outputs)(put_in(part, logits, made) for part in outputs)
    if isinstance(outputs, dict):
        return type(outputs)({key: put_in(part, logits, made) for key, part in outputs.items()})
    return outputs


def _holds(outputs: Any, logits: Tensor) -> bool:
    """Whether `put_in` finds the tensor."""
    parts = (
        outputs.values() if isinstance(outputs, dict) else outputs if type(outputs) in (list, tuple) else ()
    )
    return outputs is logits or any(_holds(part, logits) for part in parts)


def question(loss: Loss, outputs: Any, logits: Tensor | None, target: Any) -> Question | None:
    """None where the loss is not one of outputs and a tensor of targets."""
    if logits is None or not isinstance(target, Tensor) or not logits.dim() or not target.numel():
        return None
    if not _holds(outputs, logits):
        return None
    whole = logits.detach()
    if whole.numel() <= MOST_VALUES:
        return Question(loss, outputs, logits, target)
    n = MOST_VALUES * len(whole) // whole.numel()
    if outputs is not logits or not n or not target.dim() or len(target) != len(whole):
        return None
    some = whole[:n]
    return Question(loss, some, some, target[:n])


def loss_of_mean_output(done: Judged) -> float:
    """The loss if every example is given the mean output; NaN where the loss cannot be asked for it."""
    if done.function is None:
        return math.nan
    ask = question(done.function, done.compared, find_logits(done.compared), done.target)
    if ask is None or len(ask.logits) < 2:
        return math.nan
    return ask(ask.logits.detach().mean(0, keepdim=True).expand_as(ask.logits))


def asked_facts(ask: Question, reach: ReachFacts) -> AskedFacts:
    """What it takes outputs for, and how low it can get."""
    shape, device = ask.logits.shape, ask.logits.device
    made = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    if math.isnan(ask(made)) and math.isnan(ask(made.sigmoid())):
        return AskedFacts()
    rights = list(right_answers(ask))
    takes, power, right = _takes(ask, made, rights)
    constant = takes is None and _is_constant(ask, made)
    lowest = within = math.nan
    if right is not None and takes in ("scores", "logits"):
        lowest = _lowest(ask, *right, -math.inf, math.inf)
        low = -math.inf if math.isnan(reach.low) else reach.low
        within = _lowest(ask, *right, low, math.inf if math.isnan(reach.high) else reach.high)
    negative, backwards = math.nan, None
    if takes in ("scores", "logits", "probabilities") and right is not None:
        negative, backwards = _in_vain(ask, takes)
    extremes = _wants_extremes(ask) if takes in (None, "scores") and not constant else None
    row_sum, of_zeros = _minds_row_sums(ask, made), ask(torch.zeros_like(made))
    silent = math.nan if takes in ("values", "log_probabilities") else _silent_label(ask, made)
    over, classes = (None, None) if constant else _axis_of_softmax(ask, made, rights)
    return AskedFacts(
        takes,
        power,
        constant,
        lowest,
        within,
        negative,
        backwards,
        row_sum,
        of_zeros,
        extremes,
        over=over,
        classes=classes,
        silent_label=silent,
    )


# ---- right answers ---------------------------------------------------------------------------------------------


Right = tuple[Tensor, Tensor]  # 0 and 1 in the outputs' shape, and the targets that they answer


def right_answers(ask: Question) -> Iterator[Right]:
    """Made-up outputs of 0 and 1 with targets to which they are the right answer, in the forms that targets have."""
    shape, target, device = ask.logits.shape, ask.target, ask.logits.device
    if not target.is_floating_point() and target.numel():
        yield from _one_hot_of_indices(ask)
    if target.numel() == ask.logits.numel():
        bits = (
            (torch.arange(ask.logits.numel(), device=device) % 4 != 1).float().reshape(shape)
        )  # three quarters
        yield bits, bits.reshape(target.shape).to(target.dtype)
        for axis in {1, len(shape) - 1} if len(shape) > 1 else ():
            if shape[axis] > 1:
                places = torch.arange(ask.logits.numel() // shape[axis], device=device) % shape[axis]
                rest = [size for d, size in enumerate(shape) if d != axis]
                rows = (
                    torch.nn.functional.one_hot(places.reshape(rest), shape[axis]).movedim(-1, axis).float()
                )
                yield rows, rows.reshape(target.shape).to(target.dtype)


def _one_hot_of_indices(ask: Question) -> Iterator[Right]:
    outputs, target = ask.logits, ask.target
    if outputs.numel() % target.numel():
        return
    real = target.clamp(min=0)
    classes = outputs.numel() // target.numel()
    if classes < 2:
        return
    axis = class_axis(outputs, target)
    if target.dim() == outputs.dim() - 1 and outputs.shape[axis] != classes:
        return
    real = real.clamp(max=classes - 1)  # what is larger is ignored, or else the loss has refused it
    rows = torch.nn.functional.one_hot(real.long(), classes).float()
    if target.dim() == outputs.dim() - 1:
        yield rows.movedim(-1, axis), target
    else:
        yield rows.reshape(outputs.shape), target


# ---- what it takes outputs for ---------------------------------------------------------------------------------


def _takes(ask: Question, made: Tensor, rights: list[Right]) -> tuple[str | None, float, Right | None]:
    """(what it takes, power, the right answers with which that was found)."""
    if _same_when_shifted(ask, made):
        liked = [r for r in rights if _likes(ask, r)]
        if not liked and ask.target.is_floating_point():
            return None, math.nan, None
        return "scores", math.nan, min(liked, key=lambda r: ask(8 * (2 * r[0] - 1), r[1]), default=None)
    power = _power(ask, made)  # before what is linear: an absolute error is, far from the targets
    if power is not None:
        return "values", power, None
    if _linear_in_shifts(ask, made):
        return "log_probabilities", math.nan, None
    for right in rights:
        for kind, test in (
            ("logits", _wants_logits),
            ("probabilities", _wants_logarithm),
            ("overlap", _is_overlap),
        ):
            if test(ask, *right):
                return kind, math.nan, right
    return None, math.nan, None


def _is_constant(ask: Question, made: Tensor) -> bool:
    """Whether outputs of any size, that of the targets included, change nothing."""
    size = 1 + float(ask.target.double().nan_to_num().abs().max())
    at = {ask(factor * made) for factor in (0, 1, -1, 10 * size)}
    return len(at) == 1 and math.isfinite(at.pop())


_LABELS = 8  # of either kind at least: that all of one are silent is no chance then
_DRAWS = (1.0, -1.0, 4.0, -4.0)  # a hinge is flat on one side


def _silent_label(ask: Question, made: Tensor) -> float:
    """Of targets of two whole values, one for each output: the value at whose outputs the loss does not look, while it
    looks at the others; NaN where there is none."""
    target = ask.target
    if target.numel() != made.numel() or target.dtype == torch.bool or bool((target != target.round()).any()):
        return math.nan
    values, counts = target.unique(return_counts=True)
    if len(values) != 2 or int(counts.min()) < _LABELS:
        return math.nan
    low = (target == values[0]).reshape(made.shape)
    squashed = not math.isfinite(ask(made))  # a logarithm takes probabilities only
    ends = [made, *(factor * made.roll(1, 0) for factor in _DRAWS)]
    made, *draws = [x.sigmoid() for x in ends] if squashed else ends
    base = ask(made)
    moved = [{ask(torch.where(at, other, made)) for other in draws} for at in (low, ~low)]
    if not math.isfinite(base) or {len(m - {base}) > 0 for m in moved} != {True, False}:
        return math.nan
    return float(values[0] if moved[0] == {base} else values[1])


def _close(a: float, b: float, tolerance: float = SMALL) -> bool:
    return math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


def _same_when_shifted(ask: Question, made: Tensor) -> bool:
    """Whether a number added to all outputs of an example changes nothing, while other outputs do."""
    first = ask(made)
    if not math.isfinite(first) or _close(first, ask(made.flip(-1) * 2 + made), 1e-3):
        return False
    shift = torch.linspace(-2, 3, max(len(made), 2), device=made.device)[: len(made)]
    shifted = made + shift.reshape(-1, *[1] * (made.dim() - 1)) if made.dim() > 1 else made + 2
    return _close(first, ask(shifted))


def _axis_of_softmax(ask: Question, made: Tensor, rights: list[Right]) -> tuple[int | None, int | None]:
    """(the axis along which numbers added to all outputs change nothing, while others do; the axis along which the
    targets have their classes, if that is another one). Distances between embeddings do not change either, but they do
    not tell right answers from their negatives."""
    first, shape = ask(made), tuple(made.shape)
    if len(shape) < 2 or not math.isfinite(first) or _close(first, ask(made.flip(-1) * 2 + made), 1e-3):
        return None, None
    over = [
        axis
        for axis in range(len(shape))
        if shape[axis] > 1 and _close(first, ask(made + _constant_along(made, axis)))
    ]
    classes = [axis for axis in _axes_of_classes(ask.target, shape) if shape[axis] > 1]
    if len(over) != 1 or not any(_likes(ask, right) for right in rights):
        return None, None
    return over[0], classes[0] if classes and over[0] not in classes else None


def _constant_along(made: Tensor, axis: int) -> Tensor:
    """One number for each line along the axis."""
    rest = [1 if d == axis else size for d, size in enumerate(made.shape)]
    return 2 * torch.randn(rest, generator=torch.Generator().manual_seed(1)).to(made)


def _axes_of_classes(target: Tensor, shape: tuple[int, ...]) -> list[int]:
    """Those that targets of class indices lack, or along which others sum to one."""
    axes = range(len(shape))
    if not target.is_floating_point() and target.dim() == len(shape) - 1:
        return [axis for axis in axes if (*shape[:axis], *shape[axis + 1 :]) == tuple(target.shape)]
    if target.shape != shape or bool((target < 0).any()):
        return []
    return [axis for axis in axes if bool(((target.double().sum(axis) - 1).abs() < 1e-3).all())]


def _linear_in_shifts(ask: Question, made: Tensor) -> bool:
    """Whether it falls by the same amount for each number added to all outputs."""
    at = [ask(made + c) for c in (0.0, 1.0, 2.0, -3.0)]
    slope = at[0] - at[1]
    if not all(map(math.isfinite, at)) or slope <= SMALL:
        return False
    return _close(at[0] - at[2], 2 * slope, 1e-3) and _close(at[3] - at[0], 3 * slope, 1e-3)


def _likes(ask: Question, right: Right) -> bool:
    """Whether right answers, far from zero, give less than no answer and far less than wrong ones."""
    outputs, target = right
    far = 8 * (2 * outputs - 1)
    good, none, bad = (ask(o, target) for o in (far, torch.zeros_like(far), -far))
    return good < none < bad and not _close(good, none, 1e-2)


def _wants_logits(ask: Question, outputs: Tensor, target: Tensor) -> bool:
    """Right answers of 0 and 1 are beaten by large ones of either sign, and those by no larger ones."""
    sign = 2 * outputs - 1
    unit, far, farther, wrong = (ask(o, target) for o in (outputs, 30 * sign, 60 * sign, -30 * sign))
    gain = unit - far
    if not all(map(math.isfinite, (unit, far, farther, wrong))):
        return False
    return gain > 0.02 * max(abs(unit), abs(far), 1e-3) and abs(farther - far) < 0.05 * gain and wrong > unit


def _wants_logarithm(ask: Question, outputs: Tensor, target: Tensor) -> bool:
    """-log(p): p of 1/4 for the right answer costs twice as much as p of 1/2, and 1/8 three times."""
    at = [ask(torch.where(outputs > 0, p, 1 - p), target) for p in (0.5, 0.25, 0.125)]
    return at[0] > 0 and _close(at[1], 2 * at[0], 0.03) and _close(at[2], 3 * at[0], 0.03)


def _is_overlap(ask: Question, outputs: Tensor, target: Tensor) -> bool:
    """Best at right answers of 0 and 1 (loss 0 or -1), and yet lower for ten times as much."""
    best, ten, half, wrong = (ask(o, target) for o in (outputs, 10 * outputs, outputs / 2, 1 - outputs))
    if not all(map(math.isfinite, (best, ten, half, wrong))) or min(abs(best), abs(best + 1)) > 0.02:
        return False
    return ten < best - 0.3 and half > best + 0.05 and wrong > best + 0.3


def _power(ask: Question, made: Tensor) -> float | None:
    """1 or 2 (or what lies between) if it grows with the distance from the targets and minds nothing else."""
    if not ask.target.is_floating_point() or ask.target.numel() != made.numel():
        return None
    spot, shape = made * 0.7, ask.target.shape

    def away(distance: float, at: Tensor = spot) -> float:
        return ask(at + distance, at.reshape(shape))

    zero, one, two, down, other = away(0), away(1), away(2), away(-1), away(1, spot + 5)
    near, far = one - zero, two - zero
    if not all(map(math.isfinite, (zero, near, far, down, other))) or near <= 0 or down <= zero:
        return None
    power = math.log2(far / near) if far > 0 else 0.0
    if not 0.9 <= power <= 2.1 or not _close(one, other, 1e-3):
        return None
    return power


def power_of_one_hot(ask: Question) -> float | None:
    """The power of the distance between outputs and one-hot rows, of a loss that makes these of class indices."""
    target = ask.target
    if target.is_floating_point() or target.dim() != ask.logits.dim() - 1:
        return None
    for rows, answer in _one_hot_of_indices(ask):
        zero, one, two, down = (ask(rows + distance, answer) for distance in (0, 1, 2, -1))
        if not all(map(math.isfinite, (zero, one, two, down))) or min(one, two, down) <= 0:
            return None
        power = math.log2(two / one)
        if abs(zero) <= SMALL * one and _close(one, down, 1e-3) and 0.9 <= power <= 2.1:
            return power
    return None


# ---- how low it gets -------------------------------------------------------------------------------------------


def _lowest(ask: Question, outputs: Tensor, target: Tensor, low: float, high: float) -> float:
    """The lowest loss for right answers of any size between two ends."""
    sign = 2 * outputs - 1
    found = [ask((factor * sign).clamp(low, high), target) for factor in _FACTORS]
    return min((v for v in found if math.isfinite(v)), default=math.nan)


def _in_vain(ask: Question, takes: str) -> tuple[float, bool | None]:
    """(the lowest loss if it is below zero, whether right answers cost more than none) for these targets, where neither
    is so with the targets clipped to 0..1."""
    target = ask.target
    if target.numel() != ask.logits.numel():
        return math.nan, None
    values = target.double().nan_to_num()
    if float(values.min()) >= 0 and float(values.max()) <= 1:
        return math.nan, False
    clipped = values.clamp(0, 1).to(target.dtype)
    lowest, otherwise = (min(_along(ask, t)) for t in (target, clipped))
    negative = lowest if lowest < -SMALL and otherwise >= -SMALL else math.nan
    right, right_clipped = (_gain(ask, t, takes) for t in (target, clipped))
    return negative, right < -SMALL and right_clipped > 0


def _gain(ask: Question, target: Tensor, takes: str) -> float:
    """By how much right answers, far from zero, cost less than none; NaN for probabilities, which cannot be far."""
    if takes == "probabilities":
        return math.nan
    sign = _wanted(ask, target)
    return ask(0 * sign, target) - ask(8 * sign, target)


def _wanted(ask: Question, target: Tensor) -> Tensor:
    """1 where the targets ask for yes, else -1, in the outputs' shape."""
    return torch.where(target.float().reshape(ask.logits.shape) >= 0.5, 1.0, -1.0)


def _along(ask: Question, target: Tensor) -> Iterator[float]:
    """Losses on the way to ever larger right answers, and of probabilities."""
    sign = _wanted(ask, target)
    made = [factor * sign for factor in (*_FACTORS, 100.0, 1000.0)]
    made += [0.5 + step * sign for step in (0.2, 0.4, 0.49)]
    found = [v for v in (ask(o, target) for o in made) if math.isfinite(v)]
    yield from found or [math.nan]


def _minds_row_sums(ask: Question, made: Tensor) -> bool | None:
    """Whether rows of targets are not divided by their sum inside of the loss."""
    target = ask.target
    if not target.is_floating_point() or target.shape != ask.logits.shape or target.dim() < 2:
        return None
    total = target.sum(1, keepdim=True)
    shared = torch.where(total > 0, target / total.clamp(min=1e-12), target)
    one, other = ask(made), ask(made, shared)
    return None if math.isnan(one) or math.isnan(other) else not _close(one, other, 1e-3)


_CERTAIN = (
    1.0,
    4.0,
    16.0,
    64.0,
)  # times the targets' logarithms: a temperature in the loss is rarely above 20


def _wants_extremes(ask: Question) -> bool | None:
    """Of a loss that applies a softmax, and of targets that are distributions: whether the targets' own logarithms cost
    more than ever larger multiples of these, which say with certainty what the targets say to be likely."""
    target, shape = ask.target, ask.logits.shape
    if (
        not target.is_floating_point()
        or target.shape != shape
        or target.dim() < 2
        or bool((target < 0).any())
    ):
        return None
    axes = [a for a in {1, target.dim() - 1} if bool(((target.double().sum(a) - 1).abs() < 1e-3).all())]
    if not axes or float(target.amax(axes[0]).double().mean()) > 0.95:  # one-hot rows are certain themselves
        return None
    right = target.clamp(min=1e-4).log()
    at = [ask(factor * right) for factor in _CERTAIN]
    if not all(map(math.isfinite, at)):
        return None
    gain = at[0] - at[2]
    if gain <= 0.01 * max(abs(at[0]), abs(at[2])):
        return False
    return at[1] < at[0] and at[2] <= at[1] and at[3] <= at[2] + SMALL * gain
