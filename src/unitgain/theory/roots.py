"""One root of a continuous function inside a bracket, in few evaluations."""

from __future__ import annotations

from collections.abc import Callable


def root(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-13) -> float:
    """The Illinois form of regula falsi; function(low) and function(high) must differ in sign or be zero.

    Stops when the bracket or the function's value is below tolerance (relative to the bracket's larger end).

    >>> round(root(lambda x: x * x - 2, 0.0, 2.0), 12)
    1.414213562373
    """
    at_low, at_high = function(low), function(high)
    if at_low == 0:
        return low
    if at_high == 0:
        return high
    assert (at_low < 0) != (at_high < 0), "the bracket holds no root"
    size, kept = max(abs(at_low), abs(at_high)), 0
    x = low
    for step in range(100):
        if step % 8 == 7:  # now and then a bisection, for functions that are flat at one end
            x = (low + high) / 2
        else:
            x = (low * at_high - high * at_low) / (at_high - at_low)
        at = function(x)
        if abs(at) <= tolerance * size or abs(high - low) <= tolerance * max(abs(low), abs(high)):
            break
        if (at < 0) == (at_low < 0):
            low, at_low = x, at
            at_high = at_high / 2 if kept == 1 else at_high
            kept = 1
        else:
            high, at_high = x, at
            at_low = at_low / 2 if kept == -1 else at_low
            kept = -1
    return x
