"""UG504 and UG505: what the recorded loss says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .catalogue import CATALOGUE
from .entry import Entry
from .finding import Finding
from .view import CannotJudge, View, plural, show

_NORMAL = 1.4826  # median absolute deviation to standard deviation, of normal noise
_MEDIAN_ERROR = 1.2533  # a median's standard error over a mean's


@dataclass(frozen=True)
class Course:
    """A loss curve in windows of equal length.

    starts  (windows + 1,) index of each window's first value, and the number of all
    levels  (windows,) medians
    error   standard error of one level, from the scatter inside windows
    """

    starts: np.ndarray
    levels: np.ndarray
    error: float


def loss_diverging(view: View) -> Iterator[Finding]:
    """UG504: the loss ends above its lowest level by more than noise explains, or is no number any more."""
    entry = CATALOGUE["UG504"]
    gone = _gone(view)
    steps, losses = _curve(view, entry, short_too=gone is not None)
    end = _finite(losses)
    if end == 0:
        raise CannotJudge("the first recorded loss is not finite")
    if view.rehearsal and any(gradient.broken for gradient in view.parameter_gradients):
        raise CannotJudge("gradients were not finite before the first step was rehearsed")
    vanished = end < len(losses)
    course = _course(losses[:end], entry)
    best = int(np.argmin(course.levels))
    first, lowest, last = course.levels[0], course.levels[best], course.levels[-1]
    # before the first window's level could show it; one lucky batch at the start is not the lowest of all
    at_once = lowest > entry.limit("at_once") * losses[0] > 0 and losses[0] <= losses[:end].min()
    if at_once:
        first = lowest = losses[0]
    fall = max(first - lowest, 0.0)
    rise = last - lowest
    least = max(entry.limit("noise") * course.error, entry.limit("rise") * max(fall, abs(lowest)))
    if gone is None and rise <= least:
        if view.rehearsal and losses.max() > entry.limit("far") * losses[0] > 0:
            yield _leap(view, steps, losses, last, entry)
        return
    around = steps[0] if at_once else _middle(steps, course, best)
    if gone is not None and (rise <= least or len(losses) < _least(view, entry)):
        # too sudden or too early for windows: single losses say it
        began, best = gone - 1, int(np.argmin(losses[:gone]))
        first, lowest, last, around = losses[0], losses[best], losses[end - 1], steps[best]
    elif at_once:
        began = int(np.argmax(losses > entry.limit("at_once") * losses[0])) - 1
    else:
        began = _onset(course, best, entry)
        began = began if gone is None else min(began, gone - 1)
    worse = gone is not None or last > first + entry.limit("noise") * course.error
    what = _changed(view, steps, losses, began, entry)
    to = "is not finite" if vanished else f"is {show(last)}"
    when = f"at step {steps[end]}" if vanished and np.isfinite(losses[-1]) else "at the end"
    subject = "in the rehearsal the loss" if view.rehearsal else "the loss"
    yield entry.finding(
        "error" if worse else "warning",
        what.get("site"),
        f"{subject} {to} {when} after {show(lowest)} around step {around}; it left at step "
        f"{steps[began]}{_told(what)}",
        evidence={
            "began": int(steps[began]),
            "lowest": float(lowest),
            "last": math.nan if vanished else float(last),
            "first": float(first),
            "noise": course.error,
            **what,
        },
        cause=_cause(what),
        remedy=_remedy(what, entry),
    )


def _leap(view: View, steps: np.ndarray, losses: np.ndarray, last: float, entry: Entry) -> Finding:
    """Steps on one batch that first lead far up, and then perhaps down again: they were too large."""
    top, first = int(np.argmax(losses)), float(losses[0])
    what = _changed(view, steps, losses, max(0, int(np.argmax(losses > 2 * first)) - 1), entry)
    return entry.finding(
        "error" if last > first else "warning",
        what.get("site"),
        f"in the rehearsal the loss rises from {show(first)} to {show(losses[top])} at step {steps[top]}, and is "
        f"{show(last)} in the end{_told(what)}",
        evidence={"first": first, "highest": float(losses[top]), "last": last, **what},
        cause=_cause(what),
        remedy=_remedy(what, entry),
    )


def lost(view: View) -> int | None:
    """The first step of a run or a rehearsal whose loss, and every later one, is not finite or far above the first;
    what was measured from there on is of a wrecked network. None: there is none."""
    gone = _gone(view)
    steps, losses = view.losses
    recovered = len(losses) and np.isfinite(losses[-1]) and not np.isfinite(losses).all()
    return None if gone is None or recovered else int(steps[gone])


def no_progress(view: View) -> str | None:
    """Why a rehearsal does not show that training works: its loss does not fall. None if it falls, or there is none."""
    entry, losses = CATALOGUE["UG504"], view.losses[1]
    if not view.rehearsal or len(losses) < 2 or losses[0] == 0:
        return None
    steps = len(losses) - 1
    last = float(np.median(losses[-max(1, len(losses) // 4) :]))
    least = entry.limit("progress") * abs(losses[0]) if steps >= entry.limit("rehearsal") else 0.0
    if losses[0] - last > least:
        return None
    few = "" if steps >= entry.limit("rehearsal") else f"; rehearse {entry.limit('rehearsal'):g} to see more"
    return (
        f"the loss does not fall in the rehearsal ({show(losses[0])} at first, {show(last)} after "
        f"{plural(steps, 'step')}{few})"
    )


def hockey_stick(view: View) -> Iterator[Finding]:
    """UG505: training began by unlearning its initialization."""
    entry = CATALOGUE["UG505"]
    classes = view.number("target", "classes")
    if view.fact("loss", "kind") != "cross_entropy" or not classes >= 2:
        raise CannotJudge("not a classifier with cross entropy, or its number of classes is not recorded")
    steps, losses = _curve(view, entry)
    if steps[0] > 0:
        raise CannotJudge("the loss of the first step is not recorded")
    finite = losses[np.isfinite(losses)]
    if len(finite) < len(losses) or len(finite) < entry.limit("steps"):
        raise CannotJudge(f"needs the finite losses of {entry.limit('steps'):g} steps or more")
    expected = math.log(classes)
    first = float(finite[0])
    if first <= entry.limit("above") * expected:
        return
    early = max(1, round(entry.limit("early") * len(finite)))
    reached = float(np.median(finite[early : 2 * early]))
    last = float(np.median(finite[-max(1, len(finite) // 10) :]))
    part = (first - reached) / (first - last) if first > last else 0.0
    if part < entry.limit("part"):
        return
    yield entry.finding(
        "warning",
        None,
        f"{min(part, 1.0):.0%} of the loss's fall from {first:.2f} to {last:.2f} is in the first {early} of "
        f"{len(finite)} steps; from an even guess, ln({classes:g}) = {expected:.2f}, the curve would begin lower",
        evidence={"first": first, "reached": reached, "last": last, "expected": expected, "part": part,
                  "early_steps": early},
        cause="The untrained model is sure, and wrong: its logits are too large.",
    )  # fmt: skip


def _curve(view: View, entry: Entry, short_too: bool = False) -> tuple[np.ndarray, np.ndarray]:
    steps, losses = view.losses
    if not (view.training or view.rehearsal):
        raise CannotJudge("only training runs and rehearsals have a loss curve")
    least = _least(view, entry)
    if len(losses) < least and not short_too:
        raise CannotJudge(f"too few steps were recorded: needs {least:g} losses, there are {len(losses)}")
    return steps, losses


def _least(view: View, entry: Entry) -> float:
    """Losses that a curve needs; a rehearsal's are all of one batch."""
    rehearsed = view.rehearsal and "rehearsed" in entry.thresholds
    return entry.limit("rehearsed" if rehearsed else "steps")


def _finite(losses: np.ndarray) -> int:
    """How many losses there are before the first that is not finite."""
    broken = ~np.isfinite(losses)
    return int(np.argmax(broken)) if broken.any() else len(losses)


def _gone(view: View) -> int | None:
    """Index of the loss that `lost` is about."""
    losses, entry = view.losses[1], CATALOGUE["UG504"]
    if not (view.training or view.rehearsal) or not len(losses):
        return None
    end = _finite(losses)
    if end == 0:
        return 0
    far = losses[:end] > entry.limit("far") * losses[0] if losses[0] > 0 else np.zeros(end, dtype=bool)
    ending = max(1 if view.rehearsal else int(entry.limit("ending")), end // 5)
    if end < len(losses) or (end > ending and far[-ending:].all()):
        return int(np.nonzero(~far)[0][-1]) + 1
    return None


def _course(losses: np.ndarray, entry: Entry) -> Course:
    windows = int(min(entry.limit("windows"), max(1, len(losses) // 5)))
    starts = np.linspace(0, len(losses), windows + 1).astype(int)
    parts = [losses[a:b] for a, b in itertools.pairwise(starts)]
    levels = np.array([np.median(p) for p in parts])
    # differences of neighbours: a trend inside the windows is no noise
    jumps = np.abs(np.diff(losses))
    scatter = _NORMAL * float(np.median(jumps)) / math.sqrt(2) if len(jumps) else 0.0
    wander = _NORMAL * float(np.median(np.abs(np.diff(levels, 2)))) / math.sqrt(6) if windows > 4 else 0.0
    return Course(starts, levels, max(_MEDIAN_ERROR * scatter / math.sqrt(len(losses) / windows), wander))


def _onset(course: Course, best: int, entry: Entry) -> int:
    """Index of the window after which the level was never again within noise of the lowest."""
    near = course.levels <= course.levels[best] + entry.limit("noise") / 2 * course.error
    return int(course.starts[int(np.nonzero(near)[0][-1]) + 1])


def _middle(steps: np.ndarray, course: Course, window: int) -> int:
    return int(steps[(course.starts[window] + course.starts[window + 1]) // 2])


def _changed(view: View, steps: np.ndarray, losses: np.ndarray, began: int, entry: Entry) -> dict[str, Any]:
    """What was different where the loss left: the learning rate, or the site whose scale changed most. A rate before
    that is named only if the losses after steps at it were good; otherwise it is the rate at which the loss left."""
    at, margin = int(steps[began]), max(1, len(steps) // 20)
    before, after = int(steps[max(0, began - margin)]), int(steps[min(len(steps) - 1, began + margin)])
    found: dict[str, Any] = {}
    rate_steps, rates = view.record.metric("lr")
    known = np.isfinite(rates)
    rate_steps, rates = rate_steps[known], rates[known]
    if len(rates):
        near = rates[(rate_steps >= before) & (rate_steps <= after)]
        if len(near):
            found["lr"] = float(near.max())
            earlier = rates[rate_steps <= before]
            past = float(earlier[-1]) if len(earlier) else found["lr"]
            taken = int(rate_steps[rate_steps <= before][-1]) if len(earlier) else before
            begin = int(np.searchsorted(steps, taken, "right"))  # the first loss after a step at that rate
            later = losses[begin : max(began, begin) + 1]
            high = losses[0] + (entry.limit("at_once") - 1) * abs(losses[0])
            good = np.isfinite(later).all() and np.median(later) <= high
            found["lr_before" if good else "lr"] = past
    factor = entry.limit("changed")
    strongest = factor
    for kind in ("gradient", "activation", "update"):
        for name, values in view.over_steps(kind, "rms" if kind != "update" else "std").items():
            sampled = view.record.series(kind, name, "rms" if kind != "update" else "std")[0]
            past = values[(sampled < at) & np.isfinite(values)]
            now = values[(sampled >= before) & (sampled <= after)]
            if not len(past) or not len(now) or not np.median(past) > 0:
                continue
            top = math.inf if not np.isfinite(now).all() else float(now.max() / np.median(past))
            if top > strongest:
                strongest = top
                found |= {"site": name, "kind": kind, "site_before": float(np.median(past)),
                          "site_after": float(now.max()) if math.isfinite(top) else math.inf}  # fmt: skip
    return found


def _told(what: dict[str, Any]) -> str:
    words = []
    if _rate_rose(what):
        words.append(f"the learning rate went from {show(what['lr_before'])} to {show(what['lr'])}")
    if "site" in what:
        words.append(
            f"the {what['kind']} of {what['site']} grew from {show(what['site_before'])} to {show(what['site_after'])}"
        )
    return f", where {' and '.join(words)}" if words else ""


def _rate_rose(what: dict[str, Any]) -> bool:
    return what.get("lr", 0.0) > 1.5 * what.get("lr_before", math.inf)


def _cause(what: dict[str, Any]) -> str:
    if _rate_rose(what):
        return "The learning rate was raised beyond what the model bears."
    if "site" in what:
        return f"The {what['kind']} of {what['site']} is what grew most there; a step that it led to went too far."
    return "Steps went too far: at this learning rate the weights moved to where the loss is higher."


def _remedy(what: dict[str, Any], entry: Entry) -> str:
    if _rate_rose(what):
        return f"Keep the learning rate below {show(what['lr'])}: {show(what['lr_before'])} still worked."
    if "lr" in what and "lr_before" not in what:
        return f"Lower the learning rate well below {show(what['lr'])}: at that rate the loss left."
    return entry.action


__all__ = ["Course", "hockey_stick", "loss_diverging", "lost", "no_progress"]
