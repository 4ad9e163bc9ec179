"""UG403 no-gradient: trainable parameters that the loss does not reach, grouped by the reason.

Source: PyTorch's documentation of autograd and of find_unused_parameters. Parameters that only wait for a zero-
initialized one to move are left out: `check` tries out which those are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..record import CutFacts
from ._causes import has_whole_layer, is_error, names_site, no_worse
from ._cuts import cut_of, in_words, without
from ._no_gradient import cancels, has_no_choice, reason_of
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import MOST_KEPT, listed, plural
from .ug102_constant_output import SPREAD as CONSTANT

if TYPE_CHECKING:
    from . import ug102_constant_output as ug102
    from . import ug203_constant_feature as ug203
    from . import ug303_saturated as ug303
    from . import ug304_dead_units as ug304

ABOUT = About(
    code="UG403",
    name="no-gradient",
    rank=240,
    seen="A trainable parameter gets no gradient, or one that is exactly zero.",
    matters="It never learns, but costs memory, optimizer state and, in data-parallel training, an error.",
    source="PyTorch documentation: autograd mechanics; DistributedDataParallel, find_unused_parameters.",
    measured=(
        "Parameters without a gradient after backward, or with one that is zero everywhere. The reason is "
        "read off the sites: the owner never ran; it ran, but its output has no gradient; a zero gradient "
        "came back, and from which site on. One finding per reason; where no parameter at all gets a gradient, or the "
        "loss is exactly zero, one finding about the loss. Where a gradient is missing, one more pass is followed call "
        "by call: named are the function that cut it and the line that calls it. A term of the loss that was cut from "
        "the outputs is named too."
    ),
    action="Use the parameter in the forward pass and the loss, or freeze it (requires_grad=False).",
    effect="Every trainable parameter learns.",
    verify="Check again.",
    silent=(
        "frozen parameters",
        "layers left out by chance (stochastic depth): other random numbers are tried",
        "a generator in its critic's step, and target networks: for information",
        (
            "everything before a zero-initialized head or inside a zero-initialized branch: it gets gradient "
            "after one step"
        ),
        (
            "a bias whose effect cancels (before BatchNorm, of attention keys, of an energy that is differentiated) "
            "while its weight gets gradient"
        ),
    ),
)

ERROR = Threshold(0.5, "of all the numbers in trainable parameters: a few biases are no disaster")
STEPS = Threshold(
    3, "sampled steps of an optimizer: the first ones of a run may be made before anything is learnt"
)
WORTH_SAYING = Threshold(0.005, "of the numbers to be learnt: less is said to be less than 1%")


@dataclass(frozen=True)
class ParameterEvidence(BaseEvidence):
    """number: parameters without gradient, and the first of their names; of: trainable parameters; share: of the
    numbers in them; reason: a key of the table below; killed_by: the site where the way back ends, or from
    which nothing but zeros comes;
    cut_by, cut_at: the function that cut it from the loss, and the line of the caller's code."""

    parameters: Sequence[str]
    number: int
    of: int
    share: float
    reason: str
    killed_by: str | None
    cut_by: str | None = None
    cut_at: str | None = None

    @property
    def arrives_as_zero(self) -> bool:
        """Gradients of exactly zero: they fell below the smallest number, or a loss without targets sends none."""
        return self.reason in ("killed", "starved", "zero")


@dataclass(frozen=True)
class TermEvidence(BaseEvidence):
    """Of each term: the function that cut it, and the line of the caller's code."""

    functions: Sequence[str]
    lines: Sequence[str | None]

    @property
    def killed_by(self) -> str | None:
        return None

    @property
    def arrives_as_zero(self) -> bool:
        return False


Evidence = ParameterEvidence | TermEvidence

# reason: (cause, remedy)
_REASONS = {
    "unused": (
        "The module that owns it did not run in this pass, or its result is not used.",
        "Use it in the forward pass, remove it, or freeze it (requires_grad=False).",
    ),
    "detached": (
        "It ran, but its output does not lead to the loss: unused, or computed without grad.",
        "Look for .detach(), .data, torch.no_grad() or argmax after it, or add its output to the loss; if that is "
        "meant, freeze it (requires_grad=False).",
    ),
    "killed": (
        "The gradient that comes back is exactly zero from {killer} on.",
        "Repair {killer}: a function on its flat side, or weights that are zero.",
    ),
    "starved": (
        "What goes into its layer, from {killer}, is zero for every example, and its gradient with it.",
        "Repair {killer}: a function on its flat side, or weights that are zero.",
    ),
    "zero": (
        "The gradient that arrives is exactly zero.",
        "Look at what its output is multiplied with, and at functions on their flat side.",
    ),
    "left_out": (
        "Its module is left out of this step, as a generator is in its critic's step, or a target network.",
        "Nothing to do where another step trains it, or where it copies a network that is trained; else let the "
        "gradient through.",
    ),
    "reverse": (
        "The output at the last position alone is used, where the reverse direction has seen one element and its "
        "state is still zero.",
        "Take the last state of both directions (the second thing that the layer returns), or the mean over all "
        "positions.",
    ),
}

_ENDS = {"killed": "the way back ends at", "starved": "nothing but zeros comes from"}


def judge(view: View) -> Iterator[Found[ParameterEvidence] | Found[TermEvidence]]:
    trainable = [p for p in view.parameters if p.trainable]
    if not trainable:
        raise CannotJudge("no trainable parameter was measured")
    if (steps := _steps_without(view)) is not None:
        yield steps
        return
    reached = view.facts.gradients.reached
    if reached == 0 and view.facts.gradients.of and (not view.parameter_gradients or view.loss == 0):
        yield _nothing_reached(view, trainable)
        return
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    yield from _terms(view)
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for parameter in _without_gradient(view, trainable):
        groups[reason_of(view, parameter)].append(parameter)
    for (reason, killer), members in groups.items():
        names = [p.name for p in members]
        if (cut := cut_of(view, names)) is not None and cut.where in {
            t.where for t in view.facts.gradients.terms
        }:
            continue  # the term of the loss that is theirs was cut, and is named
        share = sum(map(_size, members)) / sum(map(_size, trainable))
        what = (
            "a gradient of exactly zero"
            if reason in ("killed", "starved", "zero", "reverse")
            else "no gradient"
        )
        cause, remedy = (text.format(killer=killer) for text in _REASONS[reason])
        cut = cut if reason in ("detached", "unused") else None
        if cut is not None:
            cause = f"It ran, and its result was cut from the loss by {in_words(cut)}."
            remedy = f"{without(cut)} If the cut is meant, freeze what lies before it (requires_grad=False)."
        severity = "error" if share > ERROR else "warning"
        yield ABOUT.found(
            "info" if reason == "left_out" else severity,
            members[0].name,
            f"{plural(len(members), 'trainable parameter')} of {len(trainable)} get"
            f"{'s' * (len(members) == 1)} {what} ({listed(names)})"
            f", {'less than 1%' if share < WORTH_SAYING else f'{share:.0%}'} of the numbers to be learnt"
            + (f": {_ENDS[reason]} {killer}" if killer else ""),
            evidence=ParameterEvidence(
                names[:MOST_KEPT],
                len(members),
                len(trainable),
                share,
                reason,
                killer or None,
                None if cut is None else cut.function,
                None if cut is None else cut.where,
            ),
            cause=cause,
            remedy=remedy,
        )


def _steps_without(view: View) -> Found[ParameterEvidence] | None:
    """An optimizer that is watched, and never gets a gradient of any of its parameters."""
    loop, held = view.facts.loop, view.facts.optimizer.held
    if loop.sampled is None or loop.sampled < STEPS or loop.bare != loop.sampled or loop.lost or not held:
        return None
    names = [p.name for p in view.parameters if p.trainable and p.name in held]
    if not names:
        return None
    optimizer = view.facts.optimizer.name or "the optimizer"
    return ABOUT.found(
        "error",
        None,
        f"none of the {plural(len(names), 'trainable parameter')} that {optimizer} holds had a gradient at any of "
        f"{loop.sampled} sampled steps",
        evidence=ParameterEvidence(names[:MOST_KEPT], len(names), len(names), 1.0, "detached", None),
        cause="No backward pass reaches them: the loss is computed from detached outputs (a generator's loss from "
        "fake.detach(), say), under torch.no_grad(), or from another model's; or loss.backward() is not called.",
        remedy="Compute this loss from the model's own outputs, without .detach(), and call its backward() before the "
        "step.",
    )


def _nothing_reached(view: View, trainable: list[Measured]) -> Found[ParameterEvidence]:
    """Not one parameter gets a gradient, because of the loss or of what comes between it and the model."""
    names, number = [p.name for p in trainable], len(trainable)
    cut: CutFacts | None = None
    if view.parameter_gradients:
        what, reason = "a gradient that is not zero: the loss is exactly zero", "zero"
        cause = (
            "The loss is zero whatever the model gives: it is multiplied by zero, no target counts, or every example "
            "is beyond its margin already."
        )
    else:
        what, reason = "a gradient", "detached"
        cut = next(iter(view.facts.gradients.cuts), None)
        cause = (
            "The loss does not depend on the parameters in a way that can be differentiated: the outputs were "
            "detached, computed under torch.no_grad(), or turned into something without a slope (argmax, .item())."
        )
        if cut is not None:
            what += f": {in_words(cut)} cut it"
            cause = f"The loss was cut from the parameters by {in_words(cut)}."
    return ABOUT.found(
        "error",
        None,
        f"none of the {plural(number, 'trainable parameter')} gets {what}",
        evidence=ParameterEvidence(
            names[:MOST_KEPT],
            number,
            number,
            1.0,
            reason,
            None,
            None if cut is None else cut.function,
            None if cut is None else cut.where,
        ),
        cause=cause,
        remedy=without(cut)
        if cut is not None
        else "Compute the loss from the model's own outputs, and see that nothing on the way cuts the gradient.",
    )


def _terms(view: View) -> Iterator[Found[TermEvidence]]:
    """Parts of the loss that depend on the outputs, and through which no gradient comes."""
    terms = view.facts.gradients.terms
    if not terms:
        return
    yield ABOUT.found(
        "warning",
        None,
        f"a term of the loss sends no gradient: {listed([in_words(term) for term in terms])}",
        evidence=TermEvidence([term.function for term in terms], [term.where for term in terms]),
        cause="It depends on the outputs, and is added to the loss, but it was cut from them before.",
        remedy="Compute the term from the outputs themselves, without .detach(), or leave it out of the loss."
        if all(term.function == "detach" for term in terms)
        else "Write the term so that it can be differentiated (a probability in the place of argmax or round), or "
        "leave it out of the loss and log it.",
    )


def _size(parameter: Measured) -> int:
    return math.prod(parameter.site.shape)


def _without_gradient(view: View, trainable: list[Measured]) -> list[Measured]:
    """Trainable parameters whose gradient is absent or exactly zero at every sampled step, less those that
    have a good reason: NaN or infinity beside zeros, unblocked after one step, before a zero head, a bias that
    cancels, or attention that has one key in this batch."""
    largest = {
        name: float(np.max(np.nan_to_num(values, nan=np.inf)))
        for name, values in view.over_steps("parameter_gradient", "absmax").items()
    }
    broken = view.over_steps("parameter_gradient", "nonfinite")
    excused = set(view.facts.unblocked or ()) | {name for name, share in broken.items() if np.any(share > 0)}
    found = []
    for parameter in trainable:
        aliases = [parameter.name, *parameter.site.attributes.get("aliases", ())]
        values = [largest[name] for name in aliases if name in largest]
        waits = values and view.facts.output.zero_head
        if any(v > 0 for v in values) or excused.intersection(aliases) or waits:
            continue
        found.append(parameter)
    missing = {p.name for p in found}
    return [
        p for p in found if not (cancels(view, p, missing) or (p.name in largest and has_no_choice(view, p)))
    ]


# ---- what explains it ----------------------------------------------------------------------------------------


def _layer_is_dead(cause: Found[ug304.Evidence], effect: Found[Evidence], view: View) -> bool:
    """A layer all of whose units are dead: nothing that depends on the input passes, forward or back."""
    whole = has_whole_layer(cause) and effect.evidence.arrives_as_zero
    return whole or names_site(cause, effect.evidence.killed_by)


def _ends_there(cause: Found[ug303.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The way back ends at a site that the cause names."""
    return names_site(cause, effect.evidence.killed_by)


def _constant_there(cause: Found[ug102.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The gradient ends at a function that gives one value whatever goes in, which is why the output is constant."""
    killer = effect.evidence.killed_by
    if killer is not None and killer == cause.site:
        return True
    start, end = view.tensor(cause.site), view.tensor(killer) or view.output
    if not effect.evidence.arrives_as_zero or start is None or end is None:
        return False
    return end["spread"] < CONSTANT and start.position <= end.position


def _arrives_as_zero(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    return effect.evidence.arrives_as_zero


def _all_inputs_are_zero(cause: Found[ug203.Evidence], effect: Found[Evidence], view: View) -> bool:
    return cause.evidence.one_value and all(m["rms"] == 0 for m in view.inputs)


def _boxes_do_not_meet(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    """Boxes with negative sides overlap nowhere."""
    return bool(view.facts.comparison.asked.not_corners)


EXPLAINED_BY = (
    Cause("UG106", _boxes_do_not_meet),
    Cause("UG112"),
    Cause("UG306", is_error),
    Cause("UG509"),
    Cause("UG203", _all_inputs_are_zero),
    Cause("UG304", _layer_is_dead),
    Cause("UG303", _ends_there),
    Cause("UG102", _constant_there),
    Cause("UG301", _arrives_as_zero),
    Cause("UG401", _arrives_as_zero),
    Cause("UG104", _arrives_as_zero),
    Cause("UG606", no_worse),
)

BAD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(F.relu(self.body(x)).detach())


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(F.relu(self.body(x)))


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""
