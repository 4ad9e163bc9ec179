"""Facts about what function a model computes: on which weights and inputs its output depends, and in which mode."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .sequence import PaddingFacts, ShiftFacts

UNKNOWN = math.nan


@dataclass(frozen=True)
class CutFacts:
    """Where a gradient was cut.

    function   what cut it: "detach", "argmax", "no_grad", "item"
    where      the line of the caller's code: "model.py:31 in Net.forward"; None where it is not known
    hides      trainable parameters that lie behind it, at most 50 names
    """

    function: str = ""
    where: str | None = None
    hides: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeafFacts:
    """A tensor that learns, in the outputs' graph, which is neither a parameter of the model nor an input.

    name    the attribute that holds it ("layers[0].weight"), None where none was found
    owner   path of the module with that attribute
    """

    name: str | None = None
    owner: str | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class SharedFacts:
    """A list or Sequential that holds one module, with parameters that learn, in every place.

    path    of the list; times: how long it is; module: the type of what it holds
    how     its calls hang together: "chain", each on what another gave; "alike", on the same input; "apart"; "" where
            it cannot be told
    """

    path: str = ""
    times: int = 0
    module: str = ""
    how: str = ""


@dataclass(frozen=True)
class LinearFacts:
    """Of models in whose graph no nonlinear function stands before a weight.

    layers      the weights in series, in execution order; None where a nonlinear function stands between, or there are
                fewer than two
    deviation   |f(a) + f(b) - f(a+b) - f(0)| over the largest of these, at worst over three scales of the inputs, in
                float64 and evaluation mode
    change      |f(a) - f(0)| over the largest value: 0 for an output that is constant
    narrow      whether a layer between is narrower than both ends: a factorization, which one layer is not
    reason      why it could not be tested
    """

    layers: tuple[str, ...] | None = None
    deviation: float = UNKNOWN
    change: float = UNKNOWN
    narrow: bool | None = None
    reason: str | None = None


@dataclass(frozen=True)
class FutureFacts:
    """Of models whose targets are an input shifted by one step.

    input       its name; axis: of the time
    change      largest change of earlier outputs when later steps of that input are exchanged, over the largest output
    site, module   the first module at whose output earlier steps change
    reason      why it could not be tested
    """

    input: str | None = None
    axis: int | None = None
    change: float = UNKNOWN
    site: str | None = None
    module: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DrawFacts:
    """Dropout that a pass in evaluation mode draws.

    function, probability   "dropout", 0.5
    where     the line of the caller's code that calls it
    site, module   the module in which it is called: its path and its type
    made      whether a dropout module that was made in forward calls it
    meant     whether `training=` is written in the call
    """

    function: str = ""
    probability: float = UNKNOWN
    where: str | None = None
    site: str = ""
    module: str = ""
    made: bool = False
    meant: bool = False


@dataclass(frozen=True)
class EvaluationFacts:
    """The loss of the given model on the batch in either mode.

    untrained   the loss of outputs that are the same for all examples
    module, number, site   what alone in evaluation mode makes most of the difference: type, how many, the first's path
    reason      why it was not measured
    """

    train: float = UNKNOWN
    eval: float = UNKNOWN
    untrained: float = UNKNOWN
    module: str | None = None
    number: int | None = None
    site: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class EndFacts:
    """After a rehearsal on one batch, with the random numbers of the first pass.

    loss       of the batch
    spread     of the outputs, as in OutputFacts; deviation: its numerator, rms over examples of the deviation from the
               mean example
    constant   the loss if every example is given the mean output
    descent    by how much a short step against the gradient, from where the rehearsal began, lowers the loss, over what
               the gradient says; measured only where the rehearsal did not lower it
    """

    loss: float = UNKNOWN
    spread: float = UNKNOWN
    deviation: float = UNKNOWN
    constant: float = UNKNOWN
    descent: float = UNKNOWN


@dataclass(frozen=True)
class MaskFacts:
    """A mask that a module draws in training mode and multiplies with: the line of the caller's code, the module's
    path, and by what it multiplies means there and not in evaluation mode."""

    where: str | None = None
    site: str = ""
    scale: float = UNKNOWN


@dataclass(frozen=True)
class FunctionFacts:
    """`check` only. leaves: None where they were not looked for, likewise shared; draws: None where the model does not
    run so; unused_inputs: of several inputs, the names of those that change nothing, None where there are not several;
    mask: that the model draws in training, and which changes the mean of what it is multiplied with.
    """

    leaves: tuple[LeafFacts, ...] | None = None
    linear: LinearFacts = LinearFacts()
    future: FutureFacts = FutureFacts()
    evaluation: EvaluationFacts = EvaluationFacts()
    end: EndFacts = EndFacts()
    draws: tuple[DrawFacts, ...] | None = None
    shift: ShiftFacts = ShiftFacts()  # noqa: RUF009 (it is frozen)
    padding: PaddingFacts = PaddingFacts()  # noqa: RUF009
    shared: tuple[SharedFacts, ...] | None = None
    unused_inputs: tuple[str, ...] | None = None
    mask: MaskFacts | None = None
