"""Intervals in which all values of a tensor lie, and what sums, products, quotients and clamps make of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

INF = math.inf


@dataclass(frozen=True)
class Interval:
    """Lowest and highest value, the function that sees to it, and the axis that a layer with one unit made.

    rectified   the function that keeps what went into the last softmax or sigmoid at zero or more, and which that is
    """

    low: float = -INF
    high: float = INF
    function: str | None = None
    unit_axis: int | None = None
    rectified: tuple[str, str] | None = None

    @property
    def limited(self) -> bool:
        return self.low > -INF or self.high < INF


ANYTHING = Interval()


def clamped(name: str, x: Interval, args: Any, kwargs: Any) -> Interval:
    """name, args, kwargs: of the call, of clamp, hardtanh and their kin."""
    low, high = -INF, INF
    rest = list(args[1:])
    if name == "hardtanh":
        low, high = -1.0, 1.0
        low = kwargs.get("min_val", rest[0] if rest else low)
        high = kwargs.get("max_val", rest[1] if len(rest) > 1 else high)
    else:
        names = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(name, ("min", "max"))
        ends = dict(zip(names, rest)) | {k: v for k, v in kwargs.items() if k in names}
        given_low, given_high = ends.get("min"), ends.get("max")
        low = given_low if isinstance(given_low, (int, float)) else -INF
        high = given_high if isinstance(given_high, (int, float)) else INF
    within = x.function is not None and math.isfinite(x.low) and math.isfinite(x.high)
    kept = x.function if within else name  # a sigmoid that is clamped for its logarithm's sake is one still
    found = Interval(max(x.low, float(low)), min(x.high, float(high)), kept, rectified=x.rectified)
    return found if found.limited else ANYTHING


def union(parts: Sequence[Interval]) -> Interval:
    """Of values that come from any of these."""
    if not parts:
        return ANYTHING
    rectified = parts[0].rectified if all(p.rectified == parts[0].rectified for p in parts) else None
    found = Interval(
        min(p.low for p in parts), max(p.high for p in parts), parts[0].function, rectified=rectified
    )
    return found if found.limited else ANYTHING


def arithmetic(name: str, a: Interval, b: Interval, args: Any) -> Interval:
    """Of sums, products and powers of two tensors, or of a tensor and a number."""
    if name in ("radd", "rmul", "iadd", "imul", "isub", "idiv", "itruediv"):
        name = name[1:]
    if name in ("rsub", "rdiv", "rtruediv"):
        a, b, name = b, a, name[1:]
    same = len(args) > 1 and args[0] is args[1]
    if name == "neg":
        ends = [-a.low, -a.high]
    elif name == "abs":
        ends = [0.0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high)), max(abs(a.low), abs(a.high))]
    elif name == "square" or (name == "mul" and same) or (name == "pow" and b.low == b.high == 2):
        most = max(abs(a.low), abs(a.high))
        ends = [0.0, most * most]
    elif name == "reciprocal":
        ends = list(_quotients(Interval(1, 1), a))
    elif name == "add":
        ends = [a.low + b.low, a.high + b.high]
    elif name == "sub":
        ends = [a.low - b.high, a.high - b.low]
    elif name in ("mul", "multiply"):
        ends = [0.0 if 0 in (x, y) else x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    elif name in ("div", "truediv", "true_divide", "divide"):
        ends = list(_quotients(a, b))
    else:
        return ANYTHING
    if any(math.isnan(end) for end in ends):
        return ANYTHING
    rectified = a.rectified if b.low == b.high else b.rectified if a.low == a.high else None
    found = Interval(min(ends), max(ends), a.function or b.function or name, rectified=rectified)
    return found if found.limited else ANYTHING


def _quotients(a: Interval, b: Interval) -> Iterator[float]:
    if b.low < 0 < b.high:
        yield from (-INF, INF)
        return
    for x in (a.low, a.high):
        for y in (b.low, b.high):
            if math.isinf(y):
                yield math.nan if math.isinf(x) else 0.0
            elif y == 0:
                yield math.copysign(INF, x) if x else math.nan
            else:
                yield x / y
