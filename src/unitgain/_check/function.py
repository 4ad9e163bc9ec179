"""What function a model computes, as typed facts: on which weights and inputs it depends, in which mode, and where a
rehearsal leads. For rules UG110, UG114, UG703, UG706, UG116, UG205, UG801 to UG803 and UG809."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from .._batch import Judged
from .._run import Run
from ..graph import Graph
from ..record import (
    BatchNormFacts,
    EndFacts,
    FunctionFacts,
    FutureFacts,
    LeafFacts,
    LinearFacts,
    PaddingFacts,
    ShiftFacts,
)
from .called import Called
from .drawing import draw_facts
from .ending import descent
from .evaluation import evaluation_facts
from .future import future_facts
from .linear import linear_facts
from .masks import Masks, mask_facts
from .padding import padding_facts
from .passes import Passes
from .shared import shared_facts
from .shift import shift_facts
from .unused_inputs import unused_inputs


@dataclass(frozen=True)
class Known:
    """What the passes of a check have shown already: the first one, the loss of a constant output (NaN if that is not
    known), what the graph's leaves are, BatchNorm's statistics, the end of the rehearsal, the random states before the
    first pass, whether evaluation mode draws random numbers, which module a step calls,
    what its loss compares, and the masks that the model draws."""

    done: Judged
    constant: float
    leaves: tuple[LeafFacts, ...] | None
    norms: Sequence[BatchNormFacts]
    end: EndFacts | None
    random: Any
    random_in_eval: bool | None = None
    called: Called | None = None
    compared: Judged | None = None
    masks: Masks | None = None


def function_facts(model: nn.Module, passes: Passes, graph: Graph, run: Run, known: Known) -> FunctionFacts:
    """Tries what is worth trying, and rewinds: most models ask for no further pass."""
    batch, done = passes.job.batch, known.done
    own_step = passes.job.step is not None
    run.rewind()
    end = known.end or EndFacts()
    if known.end is not None and done.loss is not None:
        end = replace(end, descent=descent(passes, model, float(done.loss.detach()), end, known.random))
    if not own_step:
        linear, future = linear_facts(model, graph, batch, run), future_facts(model, batch, done, run)
    elif known.called is not None:
        module, given = known.called.module, known.called.batch
        linear = linear_facts(model, graph, given, run, module)
        future = future_facts(model, given, known.compared or done, run, module)
    else:
        linear, future = LinearFacts(), FutureFacts()
    return FunctionFacts(
        known.leaves,
        linear,
        future,
        evaluation_facts(passes, done, known.constant, known.norms),
        end,
        None if own_step or known.random_in_eval is False else draw_facts(model, batch, run),
        ShiftFacts() if own_step else shift_facts(model, batch, done, run),
        PaddingFacts() if own_step else padding_facts(model, batch, done, run),
        shared_facts(model, passes),
        None if own_step else unused_inputs(model, batch, run),
        None if known.masks is None else mask_facts(model, known.masks, batch, run),
    )
