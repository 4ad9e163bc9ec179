"""UG303 saturated: many values of a bounded activation function lie in its flat tails.

Source: Glorot and Bengio (2010), Karpathy, makemore part 3 (2022). Recurrent layers, whose gates are not measured,
are judged by an estimate (_recurrent.py), which is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..record import ScoreFacts
from ._causes import comes_before, weights_come_before
from ._comparison import at
from ._finding import Prescription
from ._flow import why_trained
from ._logits import input_is_large
from ._recurrent import TAIL, Recurrent, recurrent_layers
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import as_layer, listed, plural, show

if TYPE_CHECKING:
    from . import ug201_input_not_normalized as ug201

ABOUT = About(
    code="UG303",
    name="saturated",
    rank=500,
    seen="Many values of a bounded activation lie in its flat tails.",
    matters=(
        "The derivative there is almost zero: these values pass no gradient to their weights or to anything "
        "before them."
    ),
    source=(
        "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010; "
        "Karpathy, makemore part 3, 2022."
    ),
    measured=(
        "Fraction of the outputs in the outer 1.5% of the range at either end (tanh: magnitude above 0.97; "
        "functions with corners: at the bound). The layers are reported together, the first one named: its "
        "input is where to begin. Of recurrent layers, whose inside is not seen: the share of outputs above "
        "0.97, and the share of flat gate values that their weights and input imply (a warning at most). Of attention "
        "scores, products of two activations: the share of rows that are nearly one-hot."
    ),
    action=(
        "Make the pre-activation smaller: scale the weights before it so that its standard deviation is about "
        "one (gain 5/3 over sqrt(fan_in) for tanh), or put a normalization layer before it."
    ),
    effect="About 5% of the values stay in the tails, and gradients reach the layers before.",
    verify="Check again: the saturated fraction is below 25%, in deeper layers near 5%.",
    remedies=("center-units", "lsuv", "init", "init-lsuv"),
    silent=(
        "softmax and attention probabilities, unless most rows of attention are nearly one-hot at the start",
        "cosines with a temperature, rows that see a few keys, trained weights; scores that were divided by something, "
        "and are large all the same, are for information",
        "the model's output, unless an untrained one ends in flat tails under squared or absolute error, whose "
        "gradient they stop: under cross entropy a wrong answer gets its gradient all the same",
        "gates and limits: a function whose output goes into arithmetic and not into a layer (a sigmoid that opens and "
        "closes, the tanh of a flow's scale or of an action) is meant to reach its ends; the end of a residual branch "
        "is judged",
        "the lower bound of ReLU6",
    ),
)

INFO = Threshold(0.15, "of all values, three times what a unit Gaussian has: worth a look, no defect")
WARNING = Threshold(
    0.25,
    "of all values: tanh's recommended gain of 5/3 makes pre-activations of that std, of which 21% lie in "
    "the tails, and batches and layers scatter around that; a unit Gaussian has 4%. In a trained model "
    "for information: units that have learnt to be confident are no defect of the initialization",
)
ERROR = Threshold(
    0.5, "of all values (in a trained model a warning): most of the layer passes hardly any gradient"
)
SHIFTED = Threshold(2.0, "standard deviations (or, if more, so many units), by which the mean lies off zero: the shift "
                         "alone puts most values into a tail")  # fmt: skip


@dataclass(frozen=True)
class FunctionEvidence(BaseEvidence):
    """saturated: of the first layer; worst: of all; sites: every saturated layer; preactivation: what goes into the
    first."""

    saturated: float
    worst: float
    sites: Mapping[str, float]
    preactivation_site: str | None
    preactivation_std: float

    @property
    def size(self) -> float:
        """The largest share of values in flat tails."""
        return self.worst


@dataclass(frozen=True, kw_only=True)
class RecurrentEvidence(BaseEvidence):
    """saturated: outputs of the first layer; gate_std, gates_flat: an estimate of its gates; sites: the worse of both
    for every layer."""

    saturated: float
    gate_std: float | None = None
    gates_flat: float | None = None
    sites: Mapping[str, float]

    @property
    def size(self) -> float:
        """The largest share of values in flat tails."""
        return max(self.sites.values())


@dataclass(frozen=True, kw_only=True)
class ScoreEvidence(BaseEvidence):
    """saturated: share of the rows of attention that are nearly one-hot; std: of the scores; width: of queries and
    keys; scaled: whether the scores were divided by something; where: the line that calls the softmax; sites: of these
    softmaxes, where they were measured."""

    saturated: float
    sites: Mapping[str, float]
    std: float
    width: int
    scaled: bool
    where: str | None

    @property
    def size(self) -> float:
        """The share of rows that are nearly one-hot."""
        return self.saturated


Evidence = FunctionEvidence | RecurrentEvidence | ScoreEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    judged = {m.name: m["saturated"] for m in view.activations if _can_saturate(view, m)}
    judged = {name: tail for name, tail in judged.items() if not math.isnan(tail)}
    recurrent = recurrent_layers(view)
    scores = view.facts.comparison.reach.scores
    if scores and not why_trained(view):
        yield from _judge_scores(view, scores)
    if not judged and not recurrent and not scores:
        raise CannotJudge("no bounded activation function")
    yield from _judge_recurrent(view, recurrent)
    yield from _judge_functions(view, judged)


def _can_saturate(view: View, measured: Measured) -> bool:
    if measured.role != "activation" or None in measured.bounds:
        return False
    if measured.is_output:
        return _output_stops_gradient(view)
    # otherwise a gate, or the bounds of a scale or an action: it goes into arithmetic
    return bool(view.feeds(measured)) or measured.ends_branch


def _output_stops_gradient(view: View) -> bool:
    """Whether the loss is a distance, and nothing was learnt yet: the error's gradient is then multiplied by the
    function's slope, which is zero in its tails, right or wrong."""
    distance = view.facts.loss.kind == "mse" or view.facts.comparison.asked.takes == "values"
    return distance and not why_trained(view) and view.loss > view.facts.loss_of_a_constant


def _judge_functions(view: View, judged: Mapping[str, float]) -> Iterator[Found[Evidence]]:
    """One finding for all layers, the first one named."""
    worst = max(judged.values(), default=0.0)
    high = {name: tail for name, tail in judged.items() if tail > (WARNING if worst > WARNING else INFO)}
    if not high:
        return
    first = view.tensor(next(iter(high)))
    assert first is not None
    function = first.function or first.site.module
    before = next(iter(view.fed_by(first)), None)
    also = (
        f"; {plural(len(high), 'layer')} of {len(judged)} in all, up to {worst:.0%}" if len(high) > 1 else ""
    )
    incoming = before["std"] if before else math.nan
    mean = before["mean"] if before else math.nan
    shifted = abs(mean) > SHIFTED * max(incoming, 1.0)
    remedy, prescription = _centre(view, before) if shifted else _shrink(view, before, incoming)
    if rest := [as_layer(name) for name in high if name != first.name]:
        remedy = f"{remedy.rstrip('.')}. Likewise before {listed(rest)}."
    fed = (
        f" (its input has std {show(incoming)}{f', mean {show(mean)}' if shifted else ''})"
        if math.isfinite(incoming)
        else ""
    )
    yield ABOUT.found(
        _level(view, worst > ERROR) if worst > WARNING else "info",
        first.name,
        f"{high[first.name]:.0%} of {first.name}'s values lie in the flat tails of {function}{fed}{also}",
        evidence=FunctionEvidence(high[first.name], worst, high, before.name if before else None, incoming),
        cause=_off_centre(function, mean)
        if shifted
        else f"What goes into {function} is too large"
        + (f": standard deviation {show(incoming)} where about 1 is right." if incoming > 1 else "."),
        remedy=remedy,
        prescription=prescription,
    )


def _level(view: View, far: bool) -> str:
    """The severity of saturation: a trained model's units may be confident of what they have learnt."""
    if view.training or not why_trained(view):
        return "error" if far else "warning"
    return "warning" if far else "info"


def _judge_recurrent(view: View, layers: list[Recurrent]) -> Iterator[Found[Evidence]]:
    """One finding for all recurrent layers. An error only for what was measured, not for what was estimated."""
    high = {layer.site.name: layer for layer in layers if layer.worst > WARNING}
    if not high:
        return
    first = next(iter(high.values()))
    name, module = first.site.name, first.site.site.module
    seen = []
    if first.outputs > WARNING:
        seen.append(
            f"{first.outputs:.0%} of the outputs of {name} ({module}) lie within {2 * TAIL:.0%} of -1 or 1"
        )
    if first.gates > WARNING:
        seen.append(
            f"the weights of {name} ({module}) and what goes in give its gates pre-activations of std "
            f"{show(first.gate_std)}, where {first.gates:.0%} of a sigmoid's values are flat (an estimate: gates are "
            "not measured)"
        )
    also = f"; {plural(len(high), 'layer')} of {len(layers)} in all" if len(high) > 1 else ""
    estimated = math.isfinite(first.gate_std)
    yield ABOUT.found(
        _level(view, max(layer.outputs for layer in high.values()) > ERROR),
        name,
        f"{'; '.join(seen)}{also}",
        evidence=RecurrentEvidence(
            saturated=first.outputs,
            gate_std=first.gate_std if estimated else None,
            gates_flat=first.gates if estimated else None,
            sites={key: layer.worst for key, layer in high.items()},
        ),
        cause="What goes into its gates and functions is too large: its weights are too large for the number of "
        "inputs and hidden units, or its input is.",
        remedy=f"Initialize the weights of {listed(high)} as torch does (uniform within 1/sqrt(hidden_size)), or "
        "weight_ih by Glorot and weight_hh orthogonal, so that pre-activations have standard deviation about 1.",
    )


def _judge_scores(view: View, scores: Sequence[ScoreFacts]) -> Iterator[Found[ScoreEvidence]]:
    """One finding for all softmaxes of attention scores."""
    high = [one for one in scores if one.flat > ERROR]
    if not high:
        return
    worst = max(high, key=lambda one: (not one.scaled, one.flat))
    root = f"sqrt({worst.width})"
    also = f"; {plural(len(high), 'call')} of {len(scores)} in all" if len(high) > 1 else ""
    yield ABOUT.found(
        "info" if worst.scaled else "warning",  # what made scaled ones large is found where it is
        _site_of(view, worst),
        f"{worst.flat:.0%} of the rows of attention weights {worst.shape}{at(worst.where)} are nearly one-hot at the "
        f"start (scores of std {show(worst.std)}){also}",
        evidence=ScoreEvidence(
            saturated=worst.flat,
            sites={site: one.flat for one in high if (site := _site_of(view, one))},
            std=worst.std,
            width=worst.width,
            scaled=worst.scaled,
            where=worst.where,
        ),
        cause="The softmax passes hardly any gradient where one weight is nearly 1: queries and keys cannot learn "
        "what to attend to. "
        + (
            "Its scores are too large."
            if worst.scaled
            else f"Products of queries and keys grow with the root of their width, {worst.width}, and were not divided "
            "by it."
        ),
        remedy=f"Divide the scores by {show(worst.std)}, or make queries and keys smaller: normalize what they are "
        "made of, or initialize their weights with a smaller gain."
        if worst.scaled
        else f"Divide the scores by {root} before the softmax.",
    )


def _site_of(view: View, call: ScoreFacts) -> str | None:
    """Where functions of this name and shape were measured; else None."""
    sites = (m.site for m in view.activations)
    return next(
        (s.name for s in sites if s.module.lower() == call.function and tuple(s.shape) == call.shape), None
    )


def _off_centre(function: str, mean: float) -> str:
    return f"What goes into {function} lies to one side: its mean is {show(mean)} where about 0 is right."


def _centre(view: View, before: Measured | None) -> tuple[str, Prescription | None]:
    """The prescription where a common shift puts the values into the tails, which no factor takes out."""
    bias = next((p.name for p in view.own_parameters(before, "bias")), None)
    if before is None or before.role != "linear":
        return "", None
    if bias is None:
        return (
            f"Centre what goes into the function: {before.name} has no bias that would, so subtract the mean of its "
            "input, or put a normalization layer in between.",
            None,
        )
    return (
        f"Subtract {show(before['mean'])} from {bias}, so that the pre-activation has mean 0, and find what put it "
        "there: the input's mean, or the bias's initial value.",
        Prescription(shift={bias: -before["mean"]}),
    )


def _shrink(view: View, before: Measured | None, std: float) -> tuple[str, Prescription | None]:
    """The prescription with its factor, where the layer before is a linear one and too large."""
    weight = next((p.name for p in view.own_parameters(before, "weight")), None)
    if before is None or before.role != "linear" or weight is None or not std > 1:
        return "", None
    if why_trained(view):  # its weights hold what was learnt
        return (
            "Leave trained weights as they are; for a new run, initialize so that pre-activations have std 1.",
            None,
        )
    bias = [p.name for p in view.own_parameters(before, "bias")]
    return (
        f"Multiply {weight} by {show(1 / std)}, so that the pre-activation has standard deviation 1, "
        "and its bias likewise; or put a normalization layer in between.",
        Prescription(scale=dict.fromkeys((weight, *bias), 1 / std)),
    )


# ---- what explains it ----------------------------------------------------------------------------------------


def _large_input(cause: Found[ug201.Evidence], effect: Found[Evidence], view: View) -> bool:
    evidence = effect.evidence
    return isinstance(evidence, FunctionEvidence) and input_is_large(cause, evidence.preactivation_std)


EXPLAINED_BY = (
    Cause("UG302", comes_before),
    Cause("UG201", _large_input),
    Cause("UG606", weights_come_before),
)

BAD = """
model = nn.Sequential(nn.Linear(30, 200), nn.Tanh(), nn.Linear(200, 27))
nn.init.normal_(model[0].weight)  # std 1 over 30 inputs: pre-activations of std 5
report = ug.check(model, (torch.randn(256, 30), torch.randint(27, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(30, 200), nn.Tanh(), nn.Linear(200, 27))
nn.init.normal_(model[0].weight, std=1 / 30**0.5)
report = ug.check(model, (torch.randn(256, 30), torch.randint(27, (256,))))
"""
