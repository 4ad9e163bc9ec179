"""UG103 double-softmax: probabilities go into cross entropy, which applies a softmax itself.

Source: PyTorch's documentation of CrossEntropyLoss. Log-probabilities are fine: their softmax gives them back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import is_blank
from ._comparison import Again, again, at, in_words, stops_short
from ._logits import ROW_SUM, rows_sum_to_one
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG103",
    name="double-softmax",
    rank=120,
    exact=True,
    seen=(
        "The model's outputs are probabilities (not negative, rows sum to one) and go into cross entropy, "
        "which applies a softmax itself; or the loss takes a softmax twice."
    ),
    matters=(
        "The second softmax sees numbers between 0 and 1 only, so the loss cannot fall below ln(C - 1 + e) - "
        "1 however right the model is, and gradients shrink."
    ),
    source=(
        "PyTorch documentation of CrossEntropyLoss: the input is expected to contain unnormalized logits."
    ),
    measured=(
        "Largest deviation of a row's sum from one, where no value is negative. A softmax that was reshaped or "
        "flattened afterwards is followed to the output. The loss is called on made-up outputs: it applies a "
        "softmax if a shift of all outputs of an example changes nothing. In one pass, a softmax is followed to "
        "each softmax and cross entropy that the loss, or the model's own loss, calls. In a run with a Probe the "
        "gradient of the first sampled outputs tells: that of a cross entropy is their softmax, less one at the label."
    ),
    action="Drop the softmax at the end of the model (apply it only when probabilities are shown).",
    effect="The loss can reach zero, and gradients are C times larger at the start.",
    verify="Check again: the output holds negative values and its rows no longer sum to one.",
    remedies=("drop-last-function",),
    wrecks=True,
    silent=(
        "log-softmax before cross entropy, which changes nothing",
        "a softmax inside the model",
        "probabilities that are divided by a small temperature before the next softmax",
    ),
)


BATCHES = Threshold(3, "sampled steps at which probabilities go into a cross entropy: not by chance then")
MOST = Threshold(0.5, "of the sampled steps that were compared: another loss now and then is another matter")


@dataclass(frozen=True)
class Outputs(BaseEvidence):
    """row_sum_error: largest deviation of a row's sum from one; min, max: of the output."""

    row_sum_error: float
    min: float
    max: float


@dataclass(frozen=True)
class Gradients(BaseEvidence):
    """again: sampled steps at which probabilities went into a cross entropy, of those that were compared."""

    again: int
    compared: int


Evidence = Outputs | Again | Gradients


def judge(view: View) -> Iterator[Found[Outputs | Again | Gradients]]:
    labels = view.facts.labels
    again_and_again, compared = labels.again or 0, labels.compared or 0
    if view.training and again_and_again >= BATCHES and again_and_again > MOST * compared:
        yield _in_training(view, again_and_again, compared)
        return
    output, classes = view.facts.output, view.facts.classes
    takes_scores = view.facts.loss.kind == "cross_entropy" or view.facts.comparison.asked.takes == "scores"
    known = takes_scores and not is_blank(output)
    if not known or not (rows_sum_to_one(view) or _ends_in_softmax(view)):
        yield from _in_the_loss(view)
        if not known and view.facts.comparison.reach.twice is None:
            raise CannotJudge("the loss is not cross entropy")
        return
    softmax = next((m for m in reversed(view.activations) if m.role == "softmax"), None)
    site = softmax.name if softmax else output.site
    loss = "cross entropy" if view.facts.loss.kind == "cross_entropy" else "the loss"
    floor = f"; the loss cannot fall below {math.log(classes - 1 + math.e) - 1:.2f}" if classes >= 2 else ""
    yield ABOUT.found(
        "error",
        site,
        f"the outputs are probabilities already (not negative, rows sum to one within {ROW_SUM:g}), and {loss} "
        f"takes their softmax again{floor}",
        evidence=Outputs(output.row_sum_error, output.min, output.max),
        cause="Cross entropy expects logits and applies log-softmax itself.",
        remedy=f"Drop module {site} ({softmax.site.module}) and return its input." if softmax else "",
    )


def _in_training(view: View, again: int, compared: int) -> Found[Gradients]:
    softmax = next((m for m in reversed(view.activations) if m.role == "softmax"), None)
    site = softmax.name if softmax else view.output.name if view.output else None
    return ABOUT.found(
        "error",
        site,
        f"the outputs are probabilities already, and the gradient that comes back is that of a cross entropy, which "
        f"takes their softmax again (at {again} of {compared} sampled steps)",
        evidence=Gradients(again, compared),
        cause="Cross entropy expects logits and applies log-softmax itself.",
        remedy=f"Drop module {site} ({softmax.site.module}) and return its input." if softmax else "",
    )


def _in_the_loss(view: View) -> Iterator[Found[Again]]:
    """A softmax that the loss takes itself, before a function that takes one."""
    call = again(view, softmax=True)
    if call is None:
        return
    yield ABOUT.found(
        "error",
        view.facts.output.site,
        f"{in_words(call.second)}{at(call.where)} takes the softmax of what is one already",
        evidence=Again(call.first, call.second, call.where),
        cause="Its input has passed a softmax before, in the loss or in the model.",
        remedy=f"Give {call.second}{at(call.where)} the scores themselves, not their softmax.",
    )


def _ends_in_softmax(view: View) -> bool:
    """Whether the output is a softmax, in whatever shape, and the loss is lowest outside of its reach."""
    reach = view.facts.comparison.reach
    return "softmax" in (reach.function or "") and (reach.low, reach.high) == (0, 1) and stops_short(view)


EXPLAINED_BY = (Cause("UG112"),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(dim=1))
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, loss=F.cross_entropy)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch, loss=F.cross_entropy)
"""
