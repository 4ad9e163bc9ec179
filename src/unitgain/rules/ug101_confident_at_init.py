"""UG101 confident-at-init: the loss of an untrained classifier is well above ln(C).

Source: Karpathy, Neural Networks: Zero to Hero, makemore part 3 (2022), which compares the first loss with ln(C)
by eye. The limits are ours, and so is what makes labels that are few or mostly of one class no finding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._causes import weights_come_before
from ._logits import OWN_GAIN, input_is_large, rows_sum_to_one
from ._loss_curve import learns_at_once
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import amount, listed, show

if TYPE_CHECKING:
    from . import ug201_input_not_normalized as ug201
    from . import ug302_exploding_activations as ug302
    from . import ug605_wrong_gain as ug605
    from . import ug607_residual_growth as ug607
    from . import ug703_eval_differs as ug703
    from . import ug707_drops_most as ug707

ABOUT = About(
    code="UG101",
    name="confident-at-init",
    rank=400,
    seen=(
        "A classifier's loss is well above ln(C), the loss of one that gives all C classes the same "
        "probability, and would be so whichever classes were right."
    ),
    matters=(
        "An untrained classifier cannot know anything, so every nat above ln(C) is confidence in wrong "
        "answers. The first hundreds of steps are spent on squashing the logits (the loss curve looks like a "
        "hockey stick), and large logits saturate the softmax, so most examples give hardly any gradient."
    ),
    source="Karpathy, Neural Networks: Zero to Hero, makemore part 3, 2022.",
    measured=(
        "The loss on the batch, against the loss that it has for outputs of zero (ln(C), unless the loss weighs or "
        "adds up in its own way). Where labels are few, or nearly all of one class, an untrained network's loss is "
        "above or below that by chance: so the cross entropy of the same logits, averaged over all classes as the "
        "right one, must be above the limit too; the smaller of the two is judged. The rms of the logits is the "
        "evidence."
    ),
    action="Scale the last layer's weights down (times 0.1 or less) and set its bias to zero.",
    effect="The loss starts at ln(C) and falls from the first step.",
    verify="Check again: the loss is within a few percent of ln(C).",
    remedies=("scale-head",),
    silent=(
        "probabilities or log-probabilities as output",
        "regression",
        "similarities of the pairs of a batch, where each example is a class of its own",
        "a loss up to twice that, where a rehearsal on different batches brings it clearly below ln(C)",
        "a loss above ln(C) by chance: few labels, or a rare class that an untrained network happens to prefer",
    ),
)

WARNING = Threshold(
    1.2,
    "times ln(C): logits of standard deviation 1 cost about half a nat, which default heads stay below",
)
NATS = Threshold(
    0.4,
    "beyond an even guess, which few classes need to be worth a warning: a text network of two classes that began at "
    "0.9 or 1.0 where ln(2) is 0.69 ended no higher after 80 steps than with a tenth of its head",
)
ERROR = Threshold(2.0, "times ln(C): worse than guessing by a whole ln(C)")
LN_C = Threshold(0.01, "relative: the loss of an even guess is called ln(C) where it is so near")
HEAD_SCALE = Threshold(
    0.1, "rms of the logits that the prescribed factor aims at, and the largest factor prescribed"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """expected: the loss of an even guess; even: the loss if each class were right equally often; logits_rms: of the
    model's output; head_input_rms: of what goes into the last layer."""

    loss: float
    expected: float
    classes: int
    logits_rms: float
    head_input_rms: float | None = None
    even: float | None = None

    @property
    def size(self) -> float:
        """Decades of the loss above that of a guess."""
        above = self.loss if self.even is None else min(self.loss, self.even)
        return math.log10(max(above / self.expected, 1.0))


def judge(view: View) -> Iterator[Found[Evidence]]:
    classes, loss, output = view.facts.classes, view.loss, view.facts.output
    if classes < 2:
        raise CannotJudge("not a classifier with cross entropy")
    if not math.isfinite(loss):
        raise CannotJudge("the loss is not known or not finite")
    if rows_sum_to_one(view):
        raise CannotJudge("the outputs are probabilities already")
    if view.facts.comparison.targets.several > 0:
        raise CannotJudge("targets hold several ones a row, of which the loss is a sum")
    if view.facts.target.kind == "probabilities" and view.facts.comparison.targets.distributions is False:
        raise CannotJudge("targets are no probabilities, so that ln(C) is not the loss of an even guess")
    if view.facts.comparison.targets.own_place and classes == output.examples:
        raise CannotJudge(
            "each example's class is its own place in the batch: similarities, not a classifier's scores"
        )
    expected, rms = _even_guess(view), output.rms
    even = output.even_loss * expected / math.log(classes)
    even = even if math.isfinite(even) else None
    judged = loss if even is None else min(loss, even)
    if judged <= max(WARNING * expected, expected + NATS):
        return
    severity = "error" if judged > ERROR * expected else "warning"
    if severity == "warning" and learns_at_once(view, expected):
        severity = "info"
    head = _last_layer(view)
    entering = max((m["rms"] for m in view.fed_by(head) if m["rms"] > 0), default=None) if head else None
    cause, remedy = _explain(view, head, rms, entering)
    yield ABOUT.found(
        severity,
        head.name if head else output.site,
        f"loss {amount(loss)} at initialization, expected {_in_words(classes, expected)}: the model is confident, "
        f"and wrong{f' (logits rms {show(rms)})' if math.isfinite(rms) else ''}",
        evidence=Evidence(loss, expected, classes, rms, entering, even),
        cause=f"{cause} (If the model is trained, its classes or its preprocessing do not match this batch.)",
        remedy=remedy,
    )


def _even_guess(view: View) -> float:
    """The loss of outputs of zero; ln(C) where the loss could not be asked."""
    asked = view.facts.comparison.asked.of_zeros
    return asked if 0 < asked < math.inf else math.log(view.facts.classes)


def _in_words(classes: int, expected: float) -> str:
    usual = math.isclose(expected, math.log(classes), rel_tol=LN_C)
    return f"ln({classes}) = {expected:.2f}" if usual else f"{show(expected)}, the loss of an even guess"


def _explain(view: View, head: Measured | None, rms: float, entering: float | None) -> tuple[str, str]:
    """(cause, remedy): the last layer itself, or what goes into it."""
    cause, first, size = (
        "The logits are too large: the last layer's weights, its bias, or what goes into it.",
        "",
        rms,
    )
    if (
        head is not None and entering is not None and entering > OWN_GAIN
    ):  # scaling the head alone would only hide it
        size = rms / entering
        cause = (
            f"What goes into {head.name} is too large already: its rms is {show(entering)} where about 1 is right, "
            "so the cause lies before it"
            + (f"; it multiplies that by {show(size)} more." if size > OWN_GAIN else ".")
        )
        first = (
            f"First bring what goes into {head.name} to an rms of about 1: initialize the layers before it for "
            "their fan-in and activation function (Kaiming for ReLU). "
        )
    elif entering is not None and rms > OWN_GAIN * entering:
        cause = (
            f"The last layer's weights are too large: it multiplies what goes in (rms {show(entering)}) by "
            f"{show(rms / entering)}."
        )
    factor = min(HEAD_SCALE, HEAD_SCALE / size) if size > 0 else HEAD_SCALE
    if (shared := _shared_with(view, head)) is not None:
        return (
            cause,
            f"{first}{'Then d' if first else 'D'}ivide the logits by {show(1 / factor)}: the last layer's weight is "
            f"also {shared}, which scaling it would change too (or initialize both with standard deviation 0.02).",
        )
    scale = f"ultiply the weights of {_layer(view, head)} by {show(factor)} and set its bias to zero."
    return cause, f"{first}{'Then m' if first else 'M'}{scale}"


def _shared_with(view: View, head: Measured | None) -> str | None:
    """What else has the last layer's weight, an embedding say."""
    for weight in (p for p in view.own_parameters(head) if len(p.site.shape) > 1):
        aliases = weight.site.attributes.get("aliases") or ()
        others = [m.name for m in view.activations if m is not head and m.role != "block"
                  and weight.name in m.site.attributes.get("parameters", ())]  # fmt: skip
        if others or aliases:
            return f"that of {listed(others or aliases)}"
    return None


def _last_layer(view: View) -> Measured | None:
    """The layer that makes the logits: the output's own, or the last one with weights before it."""
    output = view.output
    end = output.position if output else math.inf
    weighted = [
        m for m in view.activations if m.position <= end and m.role in ("linear", "norm", "embedding")
    ]
    return weighted[-1] if weighted else output


def _layer(view: View, head: Measured | None) -> str:
    weight = next((p.name for p in view.own_parameters(head, "weight")), head.name if head else None)
    return f"the last layer ({weight})" if weight else "the last layer"


# ---- what explains it ----------------------------------------------------------------------------------------


def _head_gain_below(view: View, times: float) -> bool:
    """Whether the last layer enlarges what goes in by less than so many times the moderate gain."""
    output = view.output
    into = [m["rms"] for m in view.fed_by(output) if m["rms"] > 0] if output else []
    return not into or view.facts.output.rms < OWN_GAIN * times * max(into)


def _features_are_large(cause: Found[ug302.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The logits are large because the features are: the last layer's gain is moderate, or that of the others."""
    return _head_gain_below(view, max(1.0, cause.evidence.per_layer or 1.0))


def _stream_is_large(cause: Found[ug607.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The same of a residual stream: without its growth the logits would be moderate."""
    return _head_gain_below(view, 1) and effect.evidence.logits_rms <= OWN_GAIN * math.sqrt(
        cause.evidence.change
    )


def _large_input(cause: Found[ug201.Evidence], effect: Found[Evidence], view: View) -> bool:
    return input_is_large(cause, effect.evidence.logits_rms)


def _large_weight_before(cause: Found[ug605.Evidence], effect: Found[Evidence], view: View) -> bool:
    """A weight far too large before the last layer, whose own gain is moderate: with a bounded function in between
    only the last layer can make large logits."""
    grows = cause.severity != "info" and cause.evidence.per_layer > 1
    return grows and weights_come_before(cause, effect, view) and _head_gain_below(view, 1)


def _drops_most(cause: Found[ug707.Evidence], effect: Found[Evidence], view: View) -> bool:
    """What dropout keeps it divides by the share that it keeps."""
    return cause.severity != "info"


def _scaled_by_a_mask(cause: Found[ug703.MaskEvidence], effect: Found[Evidence], view: View) -> bool:
    """What a mask keeps in training is made larger."""
    return getattr(cause.evidence, "scale", 0.0) > 1


EXPLAINED_BY = (
    Cause("UG106"),
    Cause("UG703", _scaled_by_a_mask),
    Cause("UG112"),
    Cause("UG302", _features_are_large),
    Cause("UG607", _stream_is_large),
    Cause("UG201", _large_input),
    Cause("UG606", weights_come_before),
    Cause("UG605", _large_weight_before),
    Cause("UG707", _drops_most),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.normal_(model[2].weight)  # std 1 over 64 inputs: logits of std 5
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.normal_(model[2].weight, std=0.01)
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch)
"""
