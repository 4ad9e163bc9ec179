"""UG109 target-not-normalized: a squared or absolute error on targets far larger or smaller than one.

Source: Bishop, Neural Networks for Pattern Recognition (1995), section 8.2. The limits are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._comparison import asked
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._view import View
from ._words import show

if TYPE_CHECKING:
    from . import ug201_input_not_normalized as ug201

ABOUT = About(
    code="UG109",
    name="target-not-normalized",
    rank=590,
    seen="The error of a regression is taken on targets far larger or far smaller than one.",
    matters=(
        "Layers are initialized for outputs of about one. Far larger targets make gradients as much larger, squared "
        "ones above all, so that the usual learning rates diverge or the biases take all of training to arrive; far "
        "smaller ones drown in what the untrained network gives."
    ),
    source="Bishop, Neural Networks for Pattern Recognition, 1995, section 8.2.",
    measured=(
        "rms of the targets, where the loss grows with the distance between outputs and targets alone. Outputs of the "
        "targets' size are right whatever that is."
    ),
    action="Standardize the targets with the training set's mean and standard deviation; undo it on predictions.",
    effect="The loss starts at about one, and the usual learning rates fit.",
    verify="Check again: the targets' mean is near zero and their standard deviation near one.",
    remedies=("scale-outputs",),
    silent=(
        "models that scale their outputs back themselves, and trained ones",
        "relative errors, and losses that scale the targets",
        "targets that are all zero, and maps of zeros with a few large values",
    ),
)

LARGE = Threshold(10, "rms of the targets: squared errors of a hundred ask for rates a hundred times smaller")
SMALL = Threshold(0.01, "rms of the targets: the initial outputs are a hundred times larger")
PEAK = Threshold(
    0.1, "largest target: maps of zeros with single large values have a small rms and nothing wrong"
)
FITS = Threshold(3.0, "times, up or down: outputs of so nearly the targets' rms were made for them")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """Of the targets; output_rms: of the outputs; power: of the distance in the loss, 2 for a squared error."""

    mean: float
    std: float
    rms: float
    output_rms: float
    power: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    facts, targets, output = asked(view), view.facts.comparison.targets, view.facts.output.rms
    if facts.takes != "values" or not targets.rms > 0 or targets.one_hot == 1:
        return
    small = targets.rms < SMALL and max(abs(targets.min), abs(targets.max)) < PEAK
    if not (targets.rms > LARGE or small) or targets.rms / FITS < output < targets.rms * FITS:
        return
    mean, std = show(targets.mean), show(targets.std or targets.rms)
    yield ABOUT.found(
        "warning",
        view.facts.output.site,
        f"the targets have rms {show(targets.rms)} (mean {mean}, standard deviation {std}), the outputs "
        f"{show(output)}, and the loss is the {'squared' if facts.power > 1 else 'absolute'} distance",
        evidence=Evidence(targets.mean, targets.std, targets.rms, output, facts.power),
        cause="The targets are in their own units, and the network starts with outputs of about one.",
        remedy=(
            f"Normalize the targets: (targets - {mean}) / {std}, and undo it on predictions; better, take both "
            "numbers from the whole training set."
        ),
    )


def _targets_are_inputs(cause: Found[ug201.Evidence], effect: Found[Evidence], view: View) -> bool:
    return bool(view.facts.comparison.targets.is_input)


EXPLAINED_BY = (Cause("UG111"), Cause("UG108"), Cause("UG107"), Cause("UG201", _targets_are_inputs))

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
price = 300_000 + 80_000 * x.sum(1, keepdim=True) / 20**0.5
report = ug.check(model, (x, price), F.mse_loss)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
price = 300_000 + 80_000 * x.sum(1, keepdim=True) / 20**0.5
report = ug.check(model, (x, (price - price.mean()) / price.std()), F.mse_loss)
"""
