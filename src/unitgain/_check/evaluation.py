"""The loss of the given model in evaluation mode against that in training mode. For rule UG703.

Of the model as it was given, never of one that a rehearsal has moved: running statistics follow slowly. Where the loss
is far higher in evaluation mode, the modules of one type after the other are put into it alone, to see which it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .._base import InputError
from .._batch import Judged
from ..record import BatchNormFacts, EvaluationFacts
from ..rules import CATALOGUE
from .asking import loss_of_mean_output
from .passes import Passes

_SAME_IN_BOTH_MODES = (
    nn.Linear,
    nn.Embedding,
    nn.Identity,
    nn.Flatten,
    nn.modules.conv._ConvNd,
    nn.LayerNorm,
    nn.GroupNorm,
)
_MOST_TYPES = 8  # of modules that are tried, one pass each


def evaluation_facts(
    passes: Passes, done: Judged, known: float, norms: Sequence[BatchNormFacts]
) -> EvaluationFacts:
    """done: the first pass, in training mode; known: the loss of a constant output, NaN where it is not known.

    One forward pass where the model is trained, and a few more where its loss differs.
    """
    rule = CATALOGUE["UG703"]
    if passes.job.step is not None or done.loss is None:
        return EvaluationFacts(reason="only a loss of outputs and targets, or the model's own, is compared")
    train, untrained = float(done.loss.detach()), known
    if math.isnan(untrained):
        untrained = loss_of_mean_output(done)
    if not math.isfinite(train) or math.isnan(untrained):
        return EvaluationFacts(reason="the loss of an untrained model is not known")
    if train < 0:
        return EvaluationFacts(train, reason="the loss can be negative")
    if train > rule.limit("trained") * untrained:
        return EvaluationFacts(train, untrained=untrained, reason="the model is not trained yet")
    for row in norms:
        weight = 1.0 if row.momentum is None else 1 - (1 - row.momentum) ** row.tracked
        few = row.momentum is None and row.tracked < rule.limit("batches")
        if row.tracked and (few or weight < 1 - rule.limit("begun")):
            return EvaluationFacts(
                train, untrained=untrained, reason="BatchNorm's statistics had no time to follow"
            )
    evaluated = _loss(passes, None)
    facts = EvaluationFacts(train, evaluated, untrained)
    if evaluated <= rule.limit("factor") * train or evaluated - train <= rule.limit("share") * untrained:
        return facts
    return _whose(passes, facts)


def _loss(passes: Passes, alone: type[nn.Module] | None) -> float:
    """The batch's loss in evaluation mode, or with the modules of one type alone in it; NaN where it raises."""
    passes.rewind()
    if alone is None:
        passes.model.eval()
    else:
        for module in passes.model.modules():
            module.training = type(module) is not alone
    try:
        with torch.no_grad():
            done = passes.run(backward=False)
    except InputError:
        return math.nan
    finally:
        passes.rewind()
    return math.nan if done.loss is None else float(done.loss.detach())


def _whose(passes: Passes, facts: EvaluationFacts) -> EvaluationFacts:
    types = dict.fromkeys(type(m) for m in passes.model.modules() if not isinstance(m, _SAME_IN_BOTH_MODES))
    found = []
    for kind in list(types)[:_MOST_TYPES]:
        loss = _loss(passes, kind)
        if loss - facts.train > (facts.eval - facts.train) / 2:
            found.append((loss, kind))
    if not found:
        return facts
    kind = max(found, key=lambda pair: pair[0])[1]
    paths = [path for path, m in passes.model.named_modules() if type(m) is kind]
    return EvaluationFacts(facts.train, facts.eval, facts.untrained, kind.__name__, len(paths), paths[0])
