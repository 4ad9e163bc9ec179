"""UG111 loss-does-not-fit-task: what the loss assumes of targets and outputs is not what they are.

Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990), for cross entropy
with a softmax; PyTorch's documentation of KLDivLoss. Hui and Belkin (2021) train classifiers well by squared errors
of plain outputs, which is for information only here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
        "entropy, a divergence without its logarithm, or a Dice loss of raw scores."
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
        "divergence or an nll if it is linear in them. The targets' rows and numbers are counted."
    ),
    action="Take cross entropy on logits.",
    effect="The gradient of a wrong answer does not vanish, and the loss is lowest where the answers are right.",
    verify="Check again.",
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
COMMONEST = Threshold(2.5, "times the average count: the same")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """takes: what the loss takes the outputs for; one_hot, several: share of the targets' rows with one and more
    ones."""

    takes: str
    one_hot: float | None = None
    several: float | None = None
    classes: int | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    takes, targets = asked(view).takes, view.facts.comparison.targets
    if takes == "values":
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
    yield ABOUT.found(
        "error",
        output.site,
        f"the outputs are raw scores ({show(output.min)} to {show(output.max)}), and the loss (an overlap, as Dice and "
        "Jaccard are) takes probabilities",
        evidence=Evidence("overlap"),
        cause="An overlap of numbers outside of 0 to 1 can be less than none and more than all.",
        remedy="Apply a sigmoid (or softmax) to the outputs before the Dice or Jaccard loss.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"),)

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
