"""UG703 eval-differs: the given model's loss is far higher in evaluation mode than in training mode.

Source: Ioffe and Szegedy, Batch normalization (2015), section 3.1, for running statistics; Li et al., Understanding the
disharmony between dropout and batch normalization (2019), for how modes come apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import MaskFacts
from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG703",
    name="eval-differs",
    rank=230,
    seen="The loss of a trained model on one batch is far higher in evaluation mode than in training mode.",
    matters="What was trained is not what is used: accuracy is lost in validation and in production.",
    source=(
        "Ioffe and Szegedy, Batch normalization, 2015; Li et al., Understanding the disharmony between dropout and "
        "batch normalization, 2019."
    ),
    measured=(
        "The loss of the given model, never of a rehearsed one, on the batch, in training and in evaluation mode. "
        "Where it differs, the modules of one type after the other are put into evaluation mode alone, and the type "
        "that makes most of the difference is named. Not judged: models that are not trained yet (a loss near that "
        "of a constant output), losses that can be negative, steps of the caller's own, and BatchNorm whose "
        "statistics had no time to follow the weights. A mask of zeros and one other value that the model draws in "
        "training mode and multiplies activations with is followed to the numbers right behind it; the module that "
        "does so is run alone, in both modes."
    ),
    action="Look at the named module: what it does in evaluation mode is not what the weights were trained with.",
    effect="The same loss in both modes, but for dropout.",
    verify="Check again.",
    remedies=("recalibrate",),
    silent=(
        "masks of the inputs, and of what is learnt",
        "dropout, which makes the training loss the higher one",
        "networks that are not trained yet",
    ),
)

FACTOR = Threshold(
    3.0, "times the loss in training mode: healthy trained networks stay below 1.6, sick ones are above 10"
)
SHARE = Threshold(0.1, "of an untrained model's loss: between tiny losses a factor says little")
TRAINED = Threshold(0.5, "of an untrained model's loss: what is above has hardly been trained")
BEGUN = Threshold(
    0.01,
    "the weight that running statistics still give to where they began: 44 batches with the usual momentum of 0.1; "
    "while it is larger they lag behind the weights",
)
BATCHES = Threshold(100, "seen by plain averages (momentum=None), which hold all batches since the start")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """train, eval: the losses; untrained: the loss of outputs that are the same for all examples; module, number: what
    makes most of the difference; statistics_lost: whether BatchNorm has counted no batch, although the model is
    trained."""

    train: float
    eval: float
    untrained: float
    module: str | None
    number: int | None
    statistics_lost: bool


@dataclass(frozen=True)
class MaskEvidence(BaseEvidence):
    """where: the line of the caller's code; scale: by what means are multiplied in training mode alone."""

    where: str | None
    scale: float


def judge(view: View) -> Iterator[Found[Evidence | MaskEvidence]]:
    mask = view.facts.function.mask
    if mask is not None:
        yield _of_a_mask(mask)
    found = view.facts.function.evaluation
    if found.reason is not None:
        raise CannotJudge(found.reason)
    if math.isnan(found.train) or math.isnan(found.eval):
        raise CannotJudge("the loss was not measured in both modes")
    if found.eval <= FACTOR * found.train or found.eval - found.train <= SHARE * found.untrained:
        return
    lost = any(row.tracked == 0 for row in view.facts.batch_norms or ())
    is_norm = "BatchNorm" in (found.module or "")
    who = ""
    if found.module is not None:
        makes = "makes" if found.number == 1 else "make"
        layers = found.module if found.number == 1 else f"{found.number} modules of type {found.module}"
        who = f"; {layers} ({found.site or 'the model itself'}) {makes} the difference"
    cause = "A module computes something else in evaluation mode than in training mode."
    remedy = ABOUT.action
    if is_norm:
        cause = (
            "BatchNorm has counted no batch, although the weights are trained: its statistics were reset, or are "
            "not in the file that was loaded."
            if lost
            else "BatchNorm's running statistics are not those of this data with these weights."
        )
        remedy = (
            "Save and load the whole state_dict with strict=True, running_mean and running_var among it; or let the "
            "statistics follow: some batches through the model in training mode, without an optimizer step."
        )
    yield ABOUT.found(
        "error" if found.eval > found.untrained else "warning",
        found.site,
        f"the loss on the same batch is {show(found.eval)} in evaluation mode and {show(found.train)} in training mode"
        f"{who}",
        evidence=Evidence(found.train, found.eval, found.untrained, found.module, found.number, lost),
        cause=cause,
        remedy=remedy,
    )


def _of_a_mask(mask: MaskFacts) -> Found[MaskEvidence]:
    return ABOUT.found(
        "warning",
        mask.site or None,
        f"a mask that is drawn in training mode{at(mask.where)} multiplies the mean of what it keeps by "
        f"{show(mask.scale)}, and evaluation mode does not",
        evidence=MaskEvidence(mask.where, mask.scale),
        cause="What a dropout keeps has to be divided by the share that it keeps, so that means are the same in both "
        "modes: here it is not divided, or by another number.",
        remedy=f"Divide what is kept by the share that is kept{at(mask.where)}: x * mask / (1 - p), with p the share "
        "that is dropped; or take F.dropout(x, p, self.training), which does.",
    )


EXPLAINED_BY = ()

_TRAINED = """
batch = torch.randn(256, 20) + 1, torch.randint(4, (256,))
model = nn.Sequential(
    nn.Linear(20, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 64, bias=False),
    nn.BatchNorm1d(64),
    nn.ReLU(),
    nn.Linear(64, 4),
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(100):
    optimizer.zero_grad()
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()
"""

BAD = f"""
{_TRAINED.strip()}
for norm in (model[1], model[4]):
    norm.reset_running_stats()  # as if they were not in the file
report = ug.check(model, batch)
"""

GOOD = f"""
{_TRAINED.strip()}
report = ug.check(model, batch)
"""
