"""Whether a model looks untrained, so that nothing would be lost by drawing its weights anew."""

from __future__ import annotations

from torch import nn

from ..report import Report

# a loss below this part of that of a constant is that of a model that has learned something; the rules take 0.7, but
# what is drawn anew by mistake cannot be had back
_LEARNED = 0.9


def looks_untrained(model: nn.Module, report: Report) -> bool:
    """As far as it can be seen from outside: no BatchNorm has seen batches, and the loss is that of a guess."""
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked") and bool(buffer > 0):
            return False
    facts = report.record.facts
    return facts.loss.value is None or not facts.loss.value < _LEARNED * facts.loss_of_a_constant
