"""Codes that a model draws, mean + deviation * noise, and the divergence that holds them to a prior. For rule UG121.

One forward pass is followed: what noise is multiplied with is a deviation, and the functions that made it of one of the
outputs (exp(log_var / 2), say) are kept, so that they can be applied to other values. Then the loss is asked, as a
function of the outputs, with the code's means and deviations in its own hands:

- A deviation that cannot be less than about one is never narrower than the prior, whatever is learnt.
- A divergence from a standard normal prior is lowest where the deviation is one. Where the outputs at which it is
  lowest give another deviation, loss and model take the output for different things.
- Where the loss is c times the squared error of what is rebuilt and k times the squared means, it is that of a Gaussian
  likelihood of variance k / c. No direction of the data whose variance is less is worth coding (Lucas et al., Don't
  blame the ELBO, 2019): if that holds for all of them, the loss is lowest where the code tells nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from .._batch import Judged, find_logits, map_tensors, tensors_in
from .._run import random_states
from ..record import LatentFacts
from ..stats import is_plain
from .kept import Kept

_NOISE = {"randn_like", "randn", "normal", "normal_"}
_ONE_BY_ONE = {
    "exp", "exp2", "sqrt", "softplus", "sigmoid", "square", "pow", "abs", "log", "log1p", "expm1", "clamp", "clip",
    "clamp_min", "clamp_max", "mul", "rmul", "multiply", "div", "truediv", "divide", "add", "radd", "sub", "subtract",
    "neg", "tanh", "relu", "elu", "float", "to", "contiguous", "clone", "hardtanh",
}  # fmt: skip
_PRODUCTS = {"mul", "rmul", "multiply"}
_SUMS = {"add", "radd", "iadd"}
_NARROWEST = 0.9  # deviation, from which on a code cannot be narrower than its prior
_VALUES = [i / 10 for i in range(-80, 81)]  # that an output is tried at
_OFF = 1.25  # fold, that the deviation at the lowest divergence is from one
_SHARE = 0.02  # of what a deviation e times as large costs: more than that costs the deviation of one
_SAME = 1e-3
_MOST = 2_000_000  # values of an output
_EXAMPLES = 512  # of which the covariance is taken

Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Latent:
    """deviation, mean: places among the outputs (mean None: not among them); code: of the drawn code; steps: what makes
    the deviation of the output; low: the least that it can be."""

    deviation: int
    mean: int | None
    code: int | None
    steps: tuple[Step, ...]
    low: float

    def of(self, value: float) -> float:
        """The deviation that an output of this value gives."""
        made = torch.tensor([value], dtype=torch.float64)
        for function, args, kwargs in self.steps:
            made = function(made, *args, **kwargs)
        return float(made)


class Latents:
    """Looks for them among all calls of functions. found: the one code that is drawn, after the pass."""

    def __init__(self) -> None:
        self.found: Latent | None = None
        self._noise: Kept[bool] = Kept()
        self._made: Kept[tuple[Tensor, Step]] = Kept()
        self._scaled: Kept[Tensor] = Kept()  # the deviation of a product
        self._drawn: list[tuple[Tensor, Tensor, Tensor]] = []  # deviation, mean, code

    def see(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return
        if name in _NOISE:
            self._noise[out] = True
            return
        given = [a for a in args if isinstance(a, Tensor)]
        if len(given) == 2 and name in _PRODUCTS and len({bool(self._noise[t]) for t in given}) == 2:
            deviation = given[0] if self._noise[given[1]] else given[1]
            if deviation.shape == out.shape and out.dim() > 1:
                self._scaled[out] = deviation
        elif len(given) == 2 and name in _SUMS and len(self._drawn) < 2:
            one, two = given
            scaled, mean = (one, two) if self._scaled[one] is not None else (two, one)
            deviation = self._scaled[scaled]
            if deviation is not None and mean.shape == out.shape:
                self._drawn.append((deviation, mean, out))
        elif len(given) == 1 and given[0] is args[0] and name in _ONE_BY_ONE and given[0].shape == out.shape:
            self._made[out] = given[0], (func, args[1:], dict(kwargs))

    def finish(self, outputs: Any, low: Callable[[Tensor], float]) -> None:
        """Keeps the code that is drawn; none where there are several, or its deviation is none of the outputs'. low:
        the least value of a tensor, whatever the weights are."""
        if len(self._drawn) != 1:
            return
        deviation, mean, code = self._drawn[0]
        places = {id(t): place for place, t in enumerate(tensors_in(outputs))}
        steps: list[Step] = []
        at: Tensor = deviation
        while id(at) not in places:
            known = self._made[at]
            if known is None:
                return
            at, step = known
            steps.insert(0, step)
        self.found = Latent(
            places[id(at)], places.get(id(mean)), places.get(id(code)), tuple(steps), low(deviation)
        )


def latent_facts(done: Judged, latent: Latent | None) -> LatentFacts | None:
    """None where no code is drawn of the outputs, or the loss cannot be asked."""
    if latent is None or done.function is None or not isinstance(done.target, Tensor):
        return None
    tensors = list(tensors_in(done.compared))
    if max(latent.deviation, latent.mean or 0) >= len(tensors) or not all(map(is_plain, tensors)):
        return None
    if sum(t.numel() for t in tensors) > _MOST or done.target.numel() > _MOST:
        return None
    ask = _Asked(done, latent, tensors)
    if not math.isfinite(ask()):
        return None
    narrow = latent.low if latent.low >= _NARROWEST and math.isfinite(latent.low) else math.nan
    wanted = math.nan if not math.isnan(narrow) else _wanted_deviation(ask)
    variance, largest = _collapse(ask)
    return LatentFacts(narrow, wanted, variance, largest)


@dataclass(frozen=True)
class _Asked:
    """The loss of outputs in which some are exchanged."""

    done: Judged
    latent: Latent
    tensors: list[Tensor]

    def __call__(self, given: dict[int, Tensor] | None = None, target: Tensor | None = None) -> float:
        numbers = count()

        def exchanged(t: Tensor) -> Tensor:
            return (given or {}).get(next(numbers), t.detach()).clone()

        assert self.done.function is not None
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outputs = map_tensors(self.done.compared, exchanged)
                value = self.done.function(outputs, (self.done.target if target is None else target).clone())
            except Exception:  # the caller's own code, on outputs that it may not take
                return math.nan
        return float(value) if isinstance(value, Tensor) and value.numel() == 1 else math.nan

    def filled(self, place: int | None, value: float) -> dict[int, Tensor]:
        return {} if place is None else {place: torch.full_like(self.tensors[place], value)}


def _wanted_deviation(ask: _Asked) -> float:
    """The deviation at which the divergence is lowest, where that is not one; NaN else, or where the loss has none that
    stands by itself."""
    latent, target = ask.latent, ask.done.target
    assert isinstance(target, Tensor)
    beside = [
        t
        for place, t in enumerate(ask.tensors)
        if t.shape == ask.tensors[latent.deviation].shape
        and place not in (latent.deviation, latent.mean, latent.code)
    ]
    if latent.mean is None or beside or not target.is_floating_point():
        return math.nan  # a prior that is learnt, say

    def at(value: float, mean: float = 0.0, other: Tensor | None = None) -> float:
        return ask({**ask.filled(latent.deviation, value), **ask.filled(latent.mean, mean)}, other)

    known = [(latent.of(value), value) for value in _VALUES]
    known = [(deviation, value) for deviation, value in known if 1e-3 < deviation < 1e3]
    costs = [(at(value), deviation, value) for deviation, value in known]
    costs = [row for row in costs if math.isfinite(row[0])]
    if len(costs) < 10:
        return math.nan
    low, (_, one, value), wide = (
        min(costs),
        min(costs, key=lambda r: abs(math.log(r[1]))),
        max(d for _, d, _ in costs),
    )
    if abs(math.log(one)) > 0.1 or wide < math.e or low[1] in (costs[0][1], costs[-1][1]):
        return math.nan  # a deviation of one is none that it gives, or the divergence has no lowest point
    if not min(at(value, mean) for mean in (-1.0, 1.0)) > at(value):
        return math.nan  # means are not held to zero
    far = min(costs, key=lambda r: abs(math.log(r[1]) - 1))
    beside_others = at(far[2], other=2 * target + 1) - at(value, other=2 * target + 1)
    if abs(beside_others - (far[0] - at(value))) > _SAME * max(abs(far[0]), 1e-6):
        return math.nan  # it depends on the targets: a likelihood
    excess = at(value) - low[0]
    if excess <= _SHARE * abs(far[0] - low[0]) or abs(math.log(low[1])) < math.log(_OFF):
        return math.nan
    return low[1]


def _collapse(ask: _Asked) -> tuple[float, float]:
    """(the variance of the likelihood that the loss is that of, the largest variance of any direction of the targets);
    NaN where the loss is not made of squares."""
    latent, target = ask.latent, ask.done.target
    assert isinstance(target, Tensor)
    rebuilt = find_logits(ask.done.compared)
    place = next((i for i, t in enumerate(ask.tensors) if t is rebuilt), None)
    if latent.mean is None or place is None or rebuilt is None or not target.is_floating_point():
        return math.nan, math.nan
    if (
        rebuilt.numel() != target.numel()
        or len(target) != len(rebuilt)
        or len(target) < 8
        or target.dim() < 2
    ):
        return math.nan, math.nan
    error, divergence = _curvature(ask, place), _curvature(ask, latent.mean)
    if not (error > 0 and divergence > 0):
        return math.nan, math.nan
    rows = target.detach()[:_EXAMPLES].reshape(min(len(target), _EXAMPLES), -1).double()
    rows = rows - rows.mean(0)
    inner = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    if inner.shape[0] > 2 * _EXAMPLES or not bool(inner.isfinite().all()):
        return math.nan, math.nan
    return divergence / error, float(torch.linalg.eigvalsh(inner)[-1]) / (len(rows) - 1)


def _curvature(ask: _Asked, place: int) -> float:
    """Of the loss along all values of one output alike, each value's; NaN where it is not the same at any size."""
    base = ask.tensors[place].detach()

    def bend(step: float) -> float:
        up, down = (ask({place: base + sign * step}) for sign in (1, -1))
        return (up + down - 2 * ask({place: base})) / step**2 / base.numel()

    small, large = bend(1.0), bend(4.0)
    return small if math.isfinite(small) and abs(small - large) <= 0.01 * abs(large) else math.nan
