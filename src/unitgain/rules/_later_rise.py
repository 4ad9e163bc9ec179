"""Steps on different batches under which the loss falls within a short rehearsal, and after which it may rise later.

Limits: from 500 random networks and rates near the lowest rate that diverges (experiments/random_rates.py), whose loss
fell in 20 steps, and of which forty had diverged after 100. What precedes that differs by kind of optimizer. With
momentum, weights swing more and more widely for tens of steps before the loss shows it. Plain SGD that goes too far
shows it at once. An adaptive optimizer's steps are as long as its rate, whatever the gradient, and most end well unless
they first replaced the weights.
"""

from __future__ import annotations

from ._loss_curve import leapt_on_fresh_batches
from ._rule import Threshold
from ._updates import Updates, has_long_first_steps, is_adaptive
from ._view import View
from ._words import plural, show

THIRD = Threshold(
    3, "the first of so many equal parts of a rehearsal, in which its loss may leap up and come down"
)
AT_RISK = Threshold(
    -1.4, "log10(update:data) of SGD with momentum, a twenty-fifth of the weights at every step"
)
AT_RISK_PLAIN = Threshold(-0.8, "the same of plain SGD and of RMSprop, a sixth of the weights")
VIOLENT = Threshold(
    -0.6,
    "the same of Adam-like optimizers in the first quarter of the steps, a quarter of the weights at each of them",
)
ENOUGH = Threshold(100, "rehearsed steps, whose loss shows where such updates lead")


def why_it_may_rise(view: View, updates: Updates) -> str | None:
    """What of a rehearsal's steps has come before a rise, in words; None where nothing has."""
    losses, steps = view.losses[1], view.facts.rehearsed_steps or 0
    times = leapt_on_fresh_batches(view)
    if times > 1 and losses[len(losses) // int(THIRD) :].max() > losses[0]:
        return (
            f"with large steps the loss rose to {show(times)} times the first one before it fell; rehearse more steps, "
            "or try a warm-up"
        )
    if steps >= ENOUGH or (what := _what(view, updates)) is None:
        return None
    return (
        f"{what}, and the loss falls within {plural(steps, 'step')}, which does not show where it goes; rehearse "
        f"{ENOUGH:g}"
    )


def _what(view: View, updates: Updates) -> str | None:
    if is_adaptive(view) and not has_long_first_steps(view):
        if updates.early <= VIOLENT:
            return None
        return f"the first steps changed the weights by 10^{updates.early:.1f} of their size"
    momentum = any(group.momentum for group in view.facts.optimizer.groups or ())
    if updates.median <= (AT_RISK if momentum else AT_RISK_PLAIN):
        return None
    return f"each step changes the weights by 10^{updates.median:.1f} of their size"
