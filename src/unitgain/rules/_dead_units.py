"""What to do about dead units, by the names of the layers. For rule UG304."""

from __future__ import annotations

from collections.abc import Sequence

from ._flow import leaders
from ._updates import rate_that_fits
from ._view import View
from ._words import as_layer, listed, show


def renewed(view: View, dead: Sequence[str]) -> str:
    """Re-initialize what goes into the dead layers."""
    before: dict[str, None] = {}
    for name in dead:
        measured = view.tensor(name)
        owner = (
            next((m for m in leaders(view, measured) if view.own_parameters(m)), None) if measured else None
        )
        if owner is not None:
            before[as_layer(owner.name)] = None
    what = (
        f"{listed(before)}, before {listed(map(as_layer, dead))},"
        if before
        else f"what goes into {listed(dead)}"
    )
    return f"Re-initialize {what} (weights for the function, bias zero)" + (
        "; if the units died in the first steps, lower the learning rate or use a function with a slope on both sides."
        if view.training
        else "."
    )


def slower(view: View, first: int, last: int, dead: Sequence[str]) -> str:
    """Smaller steps; first, last: the sampled steps between which units of the dead layers died."""
    at = listed(map(as_layer, dead))
    until = [float(rate) for step, rate in zip(*view.record.metric("lr", optional=True)) if step <= last]
    fits = rate_that_fits(view, first, max(until)) if until else None
    if fits is None:
        return f"Lower the learning rate, or use a function with a slope on both sides (leaky ReLU, GELU) at {at}."
    return (
        f"Lower the learning rate from {show(max(until))} to about {show(fits)}, or use a function with a "
        f"slope on both sides (leaky ReLU, GELU) at {at}."
    )
