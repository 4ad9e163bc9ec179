"""Facts about models of sequences: how far ahead they are asked to predict, and what padding does to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

UNKNOWN = math.nan


@dataclass(frozen=True)
class ShiftFacts:
    """Of models whose targets are the tokens of an input, shifted by some steps.

    input, axis   its name, and its axis of time
    data     by how many steps the data shifts the targets: target[t] is input[t + data]
    loss     by how many the loss shifts them against the outputs
    model    by how many the model shifts its input: output t has read the input up to t - model
    ahead    the sum: how far the token that is asked for lies behind the last one that was read
    turned   whether outputs in one row, time first, meet targets in one row, example first
    reason   why it could not be told
    """

    input: str | None = None
    axis: int | None = None
    data: int | None = None
    loss: int | None = None
    model: int | None = None
    ahead: int | None = None
    turned: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class PaddingFacts:
    """Of batches whose examples are filled up to one length.

    input    the name of what is filled up; steps: its length; left: whether padding stands before what is real
    length   of the examples that were compared
    change   of their outputs when their padding is cut off: rms over the standard deviation between examples (of
    outputs
             at each step: the median step); infinite where they are then not finite
    border   the same if only a third of the padding is cut off, of models with convolutions, which see its border
    alike    the spread between these outputs with padding, over that without: small where padding hides the examples
    site, module   the first module at whose output they change; recurrent: the first recurrent layer
    share    of the outputs that the loss counts, those that stand for padding
    value    that fills up the targets
    reason   why outputs could not be compared
    """

    input: str | None = None
    steps: int | None = None
    left: bool | None = None
    length: int | None = None
    change: float = UNKNOWN
    border: float = UNKNOWN
    alike: float = UNKNOWN
    site: str | None = None
    module: str | None = None
    recurrent: str | None = None
    share: float = UNKNOWN
    value: float = UNKNOWN
    reason: str | None = None
