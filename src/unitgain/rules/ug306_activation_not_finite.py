"""UG306 activation-not-finite: where the first NaN or infinity of a forward pass comes from.

Source: IEEE 754 for how they spread. The advice by function is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..record import OverflowFacts
from ._causes import comes_before, ended_not_finite
from ._comparison import at
from ._loss_curve import is_sudden
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import as_layer, listed, show

ABOUT = About(
    code="UG306",
    name="activation-not-finite",
    rank=20,
    seen=(
        "NaN or infinity in an activation, while what went in was finite, or an overflow of float16 that a division "
        "hides."
    ),
    matters="It spreads to the loss and to every weight.",
    source="IEEE 754: NaN and infinity propagate through arithmetic.",
    measured=(
        "Fraction of non-finite values per site; the first site in execution order is named. If loss and "
        "gradients are finite all the same (a masked score of minus infinity), it is only mentioned. In float16 every "
        "sum, product and power is looked at too, whose infinity a division may hide."
    ),
    action=(
        "Look at the named module: weights that are not finite, a division by zero, a logarithm or root of a "
        "negative number, or an overflow of its dtype."
    ),
    effect="A finite loss.",
    verify="Check again.",
)

NEAR_OVERFLOW = Threshold(1e4, "largest input of a float16 module, above which its output may pass 65504")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """nonfinite: fraction of the site's values; sites: how many have NaN or infinity; input_min, input_max: of what
    went in; parameters: of the module, that are not finite; made_by, called_in: a function, and in which forward."""

    nonfinite: float
    sites: int
    input_min: float | None = None
    input_max: float | None = None
    parameters: Sequence[str] | None = None
    made_by: str | None = None
    called_in: str | None = None


@dataclass(frozen=True)
class Overflow(BaseEvidence):
    """function: that overflows in float16; where: the line that calls it; largest: of what went in."""

    function: str
    where: str | None
    largest: float


def judge(view: View) -> Iterator[Found[Evidence | Overflow]]:
    if not view.activations:
        raise CannotJudge("no activation was measured")
    first = next((m for m in view.activations if m.broken), None)
    if first is None or not _does_harm(view):
        overflow = view.facts.comparison.reach.overflow
        if overflow is not None:
            yield _overflown(view, overflow)
            return
    if first is None:
        return
    before = view.fed_by(first)
    lowest = min((m["min"] for m in before), default=math.nan)
    highest = max((m["max"] for m in before), default=math.nan)
    fed = f"; its inputs range from {show(lowest)} to {show(highest)}" if before else ""
    bad_weights = [p.name for p in view.own_parameters(first) if p.broken]
    if view.training and bad_weights and is_sudden(*view.losses):
        return  # a step after what UG104 names, when everything is NaN
    function, place = ("", "") if bad_weights else _maker(view, first)
    remedy = ABOUT.action.replace("the named module", as_layer(first.name))
    if bad_weights:
        cause = f"Its parameter {listed(bad_weights)} holds NaN or infinity."
    elif function:
        made = f"{function}, called in {place}, makes NaN or infinity out of finite values"
        cause = f"{made} before {first.name} is reached."
        remedy = _advice(function)
    elif any(m.broken for m in before):
        cause = "Its input is not finite already."
    elif first.role in ("softmax", "attention"):
        cause = "A row of its scores is minus infinity everywhere (a mask that leaves nothing), or holds infinity."
        remedy = _advice("softmax")
    elif highest > NEAR_OVERFLOW and first.site.dtype == "float16":
        cause = "float16 overflows at 65504."
    else:
        cause = "The module makes it from finite inputs."
    yield ABOUT.found(
        "error" if _does_harm(view) else "info",
        first.name,
        f"{as_layer(first.name)} ({first.site.module}) is the first with NaN or infinity: "
        f"{'all' if first['nonfinite'] == 1 else format(first['nonfinite'], '.2%')} of its values"
        f"{f', made by {function} before it' if function else ''}{fed}",
        evidence=Evidence(
            first["nonfinite"],
            sum(m.broken for m in view.activations),
            lowest if before else None,
            highest if before else None,
            bad_weights or None,
            function or None,
            place or None,
        ),
        cause=cause,
        remedy=remedy,
    )


def _overflown(view: View, overflow: OverflowFacts) -> Found[Overflow]:
    name = _SPELLINGS.get(overflow.function, overflow.function)
    return ABOUT.found(
        "error",
        None,
        f"{name}{at(overflow.where)} makes infinity of finite values up to {show(overflow.largest)}: float16 ends at "
        "65504",
        evidence=Overflow(overflow.function, overflow.where, overflow.largest),
        cause="What is divided by infinity is zero, and no NaN shows: the outputs lose what they should depend on.",
        remedy=f"Compute {name}{at(overflow.where)} in float32 (x.float()), or scale its input down before.",
    )


def _does_harm(view: View) -> bool:
    """True unless loss and gradients are known to be finite: then the infinities were masked out."""
    return not math.isfinite(view.loss) or any(m.broken for m in view.parameter_gradients)


def _maker(view: View, first: Measured) -> tuple[str, str]:
    """(name, where it was called) of the function, called between modules, that broke what the first bad site was
    given; ("", "") if there was none."""
    seen = [b for b in view.breaks if b.position < first.site.position]
    if not seen:
        return "", ""
    name = seen[-1].function.strip("_")
    return _SPELLINGS.get(name, name), seen[-1].module or "the forward of the model itself"


_SPELLINGS = {
    **dict.fromkeys(("div", "truediv", "rdiv", "rtruediv", "itruediv", "true_divide", "divide"), "division"),
    **dict.fromkeys(("pow", "rpow", "ipow", "float_power"), "power"),
    **dict.fromkeys(("mul", "rmul", "imul", "multiply"), "multiplication"),
    **dict.fromkeys(("add", "radd", "iadd", "sub", "rsub", "isub"), "addition or subtraction"),
}
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("exp", "exp2", "expm1", "sinh", "cosh"),
        "{name} overflows for arguments above 88 (in float16 above 11): clamp its argument, subtract the largest "
        "value first, or stay in the log domain (logsumexp, log_softmax).",
    ),
    (
        ("division", "reciprocal", "rsqrt"),
        "A denominator is zero: clamp it from below, or add a small constant (1e-6, say) to it.",
    ),
    (
        ("log", "log2", "log10", "log1p", "xlogy", "logit"),
        "Clamp the argument of {name} (from below at 1e-6, say), or stay in the log domain (log_softmax, logsigmoid): "
        "it leaves its domain, which begins above zero (log1p: above -1; logit: between 0 and 1).",
    ),
    (
        ("sqrt",),
        "The argument of sqrt is negative: clamp it at a small positive constant (its slope at zero is infinite "
        "too).",
    ),
    (
        ("power",),
        "A power of a negative base with a fractional exponent is NaN, of zero with a negative one infinite, and "
        "large ones overflow: clamp the base.",
    ),
    (
        ("acos", "arccos", "asin", "arcsin", "atanh", "arctanh", "erfinv"),
        "The argument of {name} lies outside of -1 to 1: clamp it just inside.",
    ),
    (
        ("softmax", "log_softmax", "scaled_dot_product_attention"),
        "A row of scores is minus infinity everywhere: let the mask leave at least one position in every row, or "
        "write a large negative number (-1e4) instead of minus infinity.",
    ),
    (
        ("std", "var", "std_mean", "var_mean"),
        "{name} divides by the number of values less one: take it over two values or more, or with correction=0.",
    ),
    (
        ("multiplication", "addition or subtraction", "matmul", "bmm", "mm", "einsum", "sum", "square", "prod"),
        "{name} overflows its dtype: scale its arguments down, or compute it in float32.",
    ),
)  # fmt: skip


def _advice(function: str) -> str:
    """What to do about a function that makes NaN or infinity."""
    for names, text in _ADVICE:
        if function in names:
            return text.replace("{name}", function)
    return f"Look at the arguments of {function}: outside of its domain, or too large for its dtype."


EXPLAINED_BY = (Cause("UG202"), Cause("UG302", comes_before), Cause("UG504", ended_not_finite))

BAD = """
class Root(nn.Module):
    def forward(self, x):
        return torch.sqrt(x)  # NaN for negative values


model = nn.Sequential(nn.Linear(20, 64), Root(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Root(nn.Module):
    def forward(self, x):
        return torch.sqrt(x.square() + 1)


model = nn.Sequential(nn.Linear(20, 64), Root(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
