"""UG111 loss-does-not-fit-task: what the loss assumes of targets and outputs is not what they are.

Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990), for cross entropy
with a softmax; PyTorch's documentation of KLDivLoss. Hui and Belkin (2021) train classifiers well by squared errors
of plain outputs, which is for information only here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import LossCallFacts
from ._comparison import asked, last_function
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG111",
    name="loss-does-not-fit-task",
    rank=130,
    exact=True,
    seen=(
        "A squared or absolute error of class numbers or one-hot rows, several ones or none a row into cross "
        "entropy, several ones behind a softmax, a divergence without its logarithm, or a Dice loss of raw scores."
    ),
    matters=(
        "A squared error behind a softmax or sigmoid has no gradient where the model is confidently wrong; class "
        "numbers say that class 3 lies between 2 and 4; cross entropy lets classes compete that may hold together; and "
        "divergences and overlaps are lowest at nonsense where their inputs are no probabilities."
    ),
    source=(
        "Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990; PyTorch "
        "documentation of KLDivLoss; Milletari et al., V-Net, 2016, for Dice."
    ),
    measured=(
        "The loss is called on made-up outputs and targets: it is a distance if doubling the error doubles or "
        "quadruples it and nothing else matters, applies a softmax if a shift of all outputs changes nothing, is a "
        "divergence or an nll if it is linear in them. The targets' rows and numbers are counted. Values that "
        "a call of kl_div is given, in the loss or in the model, are looked at: rows that sum to one are "
        "probabilities, "
        "those whose exponentials do are their logarithms."
    ),
    action="Take cross entropy on logits.",
    effect="The gradient of a wrong answer does not vanish, and the loss is lowest where the answers are right.",
    verify="Check again.",
    remedies=("log-softmax",),
    silent=(
        "regression on 0 and 1 with one output (a Brier score)",
        "targets that are the input: autoencoders of one-hot rows, multinomial likelihoods of clicks",
        "rows of several ones that the loss divides by their sum",
        "counts, ratings and other whole numbers that are not spread evenly from 0 on",
    ),
)

ONE_HOT = Threshold(0.99, "of the rows: a few may be empty, of what is to be ignored")
SEVERAL = Threshold(0.05, "of the rows with more than one 1: fewer are mistakes in the data")
BLANK = Threshold(0.02, "of the rows without a one: fewer are examples that are to be left out")
CLASSES = Threshold(3, "class numbers at least: 0 and 1 are as good as a probability")
PER_CLASS = Threshold(5, "targets per class at least, so that an even spread can be told from chance")
RAREST = Threshold(
    0.25, "of the average count: classes of a data set are of similar size, counts of things are not"
)
EVEN = Threshold(
    0.05, "nats below the entropy of even targets: those smoothed by a tenth are more than one nat below it"
)
COMMONEST = Threshold(2.5, "times the average count: the same")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """takes: what the loss takes the outputs for; one_hot, several: share of the targets' rows with one and more
    ones."""

    takes: str
    one_hot: float | None = None
    several: float | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Divergence(BaseEvidence):
    """given, target: what the values are that the divergence got; log_target: whether it was told that its targets are
    logarithms; where: its call."""

    given: str | None
    target: str | None
    log_target: bool
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence | Divergence]]:
    call = next((found for c in view.facts.comparison.calls or () if (found := _call(view, c))), None)
    if call is not None:
        yield call
        return
    even = next((c for c in view.facts.comparison.calls or () if c.told < EVEN), None)
    if even is not None:
        yield _even(view, even)
        return
    takes, targets = asked(view).takes, view.facts.comparison.targets
    if view.facts.comparison.asked.extremes:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            "the targets are distributions, and the loss goes on falling when outputs become more certain than these",
            evidence=Evidence("log_probabilities"),
            cause="A divergence or cross entropy of probabilities without a logarithm is lowest where all of the "
            "probability lies on the likeliest class, not where outputs equal the targets.",
            remedy="Put log_softmax in the place of the softmax in the loss.",
        )
    elif takes in ("values", "probabilities") and targets.several > SEVERAL and _is_softmax(view):
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{targets.several:.0%} of the targets' rows hold several ones, and the outputs of a softmax sum to one",
            evidence=Evidence(takes, targets.one_hot, targets.several),
            cause="A softmax shares one among the classes; here several hold at once, and not all can be near one.",
            remedy="Drop the softmax and take binary cross entropy of logits (one sigmoid for each class).",
        )
    elif takes == "values":
        yield from _distance(view)
    elif (
        takes == "scores"
        and targets.several > SEVERAL
        and not targets.is_input
        and view.facts.comparison.asked.row_sum
    ):
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{targets.several:.0%} of the targets' rows hold several ones, and the loss applies a softmax, in which "
            "classes compete",
            evidence=Evidence(takes, targets.one_hot, targets.several),
            cause="Cross entropy assumes one class for each example; here several hold at once.",
            remedy="Take binary cross entropy of logits (one sigmoid for each class) instead of cross entropy.",
        )
    elif (
        takes == "scores"
        and targets.blank > BLANK
        and targets.one_hot > 0 == targets.several
        and _is_rows(view)
    ):
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"{targets.blank:.0%} of the targets' one-hot rows hold no one at all, and cross entropy takes nothing "
            "from those examples",
            evidence=Evidence(takes, targets.one_hot, 0.0),
            cause="Their class has no column: labels that start at one, say, or a class that was left out.",
            remedy=(
                "Look at how labels become one-hot rows: each row needs a single one. Subtract the smallest label "
                "first, or take class indices as targets."
            ),
        )
    elif takes == "log_probabilities":
        yield from _divergence(view)
    elif takes == "overlap":
        yield from _overlap(view)


_KINDS = {
    "probabilities": "probabilities",
    "scores": "values above zero, which no logarithm of a probability is",
}


def _call(view: View, call: LossCallFacts) -> Found[Divergence] | None:
    """A divergence of torch's that is given one thing for another."""
    if call.function != "kl_div":
        return None
    where = f" ({call.where})" if call.where else ""
    if call.given in _KINDS:
        text = f"kl_div{where} takes log-probabilities, and is given {_KINDS[call.given]}"
        cause = "Without a logarithm the divergence is lowest where outputs are largest, not where they are right."
        remedy = (
            f"Give kl_div{where} F.log_softmax(scores, dim) of the model's scores as its first argument, not "
            f"{'their softmax' if call.given == 'probabilities' else 'the scores themselves'}."
        )
    elif call.target == "log_probabilities" and not call.log_target:
        text = f"kl_div{where} takes its targets for probabilities, and they are logarithms"
        cause = "Targets below zero count for nothing or turn the divergence round."
        remedy = f"Say log_target=True to kl_div{where}, or give it softmax in the place of log_softmax."
    elif call.target == "probabilities" and call.log_target:
        text = f"kl_div{where} takes its targets for logarithms, and they are probabilities"
        cause = "Their exponentials are nearly equal, so that all classes are asked for alike."
        remedy = f"Leave log_target=True of kl_div{where} away, or give it the targets' logarithms."
    else:
        return None
    evidence = Divergence(call.given, call.target, bool(call.log_target), call.where)
    return ABOUT.found("error", view.facts.output.site, text, evidence=evidence, cause=cause, remedy=remedy)


def _even(view: View, call: LossCallFacts) -> Found[Evidence]:
    return ABOUT.found(
        "warning",
        view.facts.output.site,
        f"the targets of {call.function}{f' ({call.where})' if call.where else ''} are nearly even: all classes are "
        f"asked for alike, to within {show(call.told)} nats",
        evidence=Evidence("scores"),
        cause="They were smoothed too much (label_smoothing is the share that is taken away), or come from a softmax "
        "at too high a temperature: scores are divided by it, not multiplied.",
        remedy="Make the targets sharper: label_smoothing near 0.1, soft targets of scores / temperature with a "
        "temperature below the scores' spread.",
    )


def _is_softmax(view: View) -> bool:
    return view.facts.comparison.reach.function == "softmax" and not view.facts.comparison.targets.is_input


def _is_rows(view: View) -> bool:
    """One row for each example, not for each pixel or token, of which some are padding."""
    return len(view.facts.output.shape or ()) == 2


def _distance(view: View) -> Iterator[Found[Evidence]]:
    facts, targets, reach = (
        view.facts.comparison.asked,
        view.facts.comparison.targets,
        view.facts.comparison.reach,
    )
    error = "squared" if facts.power > 1 else "absolute"
    if targets.one_hot > ONE_HOT and not targets.is_input:
        squeezed = reach.low == 0 and reach.high == 1
        name, site = last_function(view)
        yield ABOUT.found(
            "warning" if squeezed else "info",
            site,
            f"the targets are one-hot rows of classes, and the loss is the {error} error"
            + (
                f" behind {name}: a confidently wrong answer gets no gradient"
                if squeezed
                else " of plain outputs"
            ),
            evidence=Evidence("values", targets.one_hot, targets.several),
            cause="An error of probabilities is at most one, however wrong the answer is, and flat at its ends.",
            remedy=f"{f'Drop {name} and take' if squeezed else 'Take'} cross entropy on logits instead.",
        )
    elif targets.one_for_all and targets.whole and targets.min == 0 and _fit_the_outputs(view):
        width = (view.facts.output.shape or (0, 0))[1]
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"all {width} outputs of an example have the same target, a whole number from 0 to {show(targets.max)}, as "
            f"numbers of {width} classes are, and the loss is the {error} error",
            evidence=Evidence("values", classes=targets.different),
            cause="The class numbers were laid out along the outputs' axis by broadcasting or expand: every output "
            "learns the number of the class.",
            remedy="Give the class numbers to cross entropy as they are, or make one-hot rows of them "
            "(F.one_hot(target, classes)).",
        )
    elif _are_class_numbers(view):
        yield ABOUT.found(
            "warning",
            view.facts.output.site,
            f"the targets are the numbers 0 to {show(targets.max)}, evenly spread, as numbers of classes are, and "
            f"the loss is the {error} error of one output",
            evidence=Evidence("values", classes=targets.different),
            cause="The number of a class is a name: class 3 does not lie between class 2 and class 4.",
            remedy=f"If these are classes, give the model {targets.different} outputs and take cross entropy.",
        )


def _fit_the_outputs(view: View) -> bool:
    """Whether the targets are numbers of as many classes as there are outputs."""
    shape, targets = view.facts.output.shape or (), view.facts.comparison.targets
    return len(shape) == 2 and shape[1] > CLASSES - 1 and 0 < targets.max < shape[1]


def _are_class_numbers(view: View) -> bool:
    targets, output = view.facts.comparison.targets, view.facts.output.shape or ()
    if not targets.whole or not targets.labels or targets.min != 0 or targets.is_input:
        return False
    one_output = all(size == 1 for size in output[1:])
    classes = targets.different or 0
    even = targets.rarest > RAREST and targets.commonest < COMMONEST
    enough = (targets.count or 0) >= PER_CLASS * classes
    return one_output and even and enough and classes >= CLASSES and targets.max == classes - 1


def _divergence(view: View) -> Iterator[Found[Evidence]]:
    reach, targets = view.facts.comparison.reach, view.facts.comparison.targets
    if not targets.distributions or reach.log_probabilities or reach.high <= 0:
        return
    if -math.inf < reach.low < 0 and reach.high < math.inf:
        return  # cosines, say: of them a linear loss is lowest where they are right
    probabilities = reach.low == 0 and reach.high == 1
    yield ABOUT.found(
        "error",
        view.facts.output.site,
        f"the outputs are {'probabilities' if probabilities else 'scores of any size'}, and the loss (a divergence, "
        "linear in them) takes log-probabilities",
        evidence=Evidence("log_probabilities"),
        cause="Without a logarithm the divergence is lowest where outputs are as large as can be, not where they are "
        "right.",
        remedy="Apply log_softmax over the classes to the model's scores before the divergence.",
    )


def _overlap(view: View) -> Iterator[Found[Evidence]]:
    reach, output = view.facts.comparison.reach, view.facts.output
    if (reach.low >= 0 and reach.high <= 1) or (output.min >= 0 and output.max <= 1):
        return
    if reach.function == "cosine_similarity":
        return  # of classes: the largest minus is best there too
    yield ABOUT.found(
        "error",
        output.site,
        f"the outputs are raw scores ({show(output.min)} to {show(output.max)}), and the loss (an overlap, as Dice and "
        "Jaccard are) takes probabilities",
        evidence=Evidence("overlap"),
        cause="An overlap of numbers outside of 0 to 1 can be less than none and more than all.",
        remedy="Apply a sigmoid (or softmax) to the outputs before the Dice or Jaccard loss.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"), Cause("UG119"))

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5), nn.Softmax(dim=1))
x = torch.randn(256, 20)
rows = F.one_hot(x[:, :5].argmax(1), 5).float()
report = ug.check(model, (x, rows), F.mse_loss)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
x = torch.randn(256, 20)
report = ug.check(model, (x, x[:, :5].argmax(1)), F.cross_entropy)
"""
