"""How a converted network's gradients are clipped: one rule for what `convert` advises and for its short trainings.

Measured on Fashion-MNIST at 128 and at 4 examples a step (benchmarks/results/2026-11-28-normfree-training.md): at 128
the factor 0.02 and four to sixteen times BatchNorm's learning rate. A gradient's noise grows with one over the square
root of the batch, so that at 4 examples 0.02 takes away most of what gradients say, and the factor grows alike. What a
step may change is learning rate times factor, so rates fall as the factor rises.
"""

from __future__ import annotations

from .._base import InputError

EXAMPLES = 128  # a step: from here on the factor is 0.02
CLIPPING = 0.02
RATES = (1.0, 4.0, 16.0)  # of BatchNorm's learning rate, to be tried at 128 examples a step


def clipping_for(examples: int) -> float:
    """The factor of adaptive gradient clipping for a converted network: 0.02 sqrt(128 / examples), at least 0.02.

    examples  that a step of the optimizer takes the gradient of, all accumulated ones and all processes together

    Raises InputError for less than one.

    >>> clipping_for(128), round(clipping_for(4), 3)
    (0.02, 0.113)
    """
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise InputError(f"clipping_for: examples is {examples!r}; expected a whole number from 1")
    return CLIPPING * looser(examples)


def looser(examples: int) -> float:
    """By how much: 1 from 128 examples a step on."""
    return max(EXAMPLES / examples, 1.0) ** 0.5


def rates_for(examples: int) -> tuple[float, ...]:
    """Of BatchNorm's learning rate, smallest first, to be tried with `clipping_for` from scratch."""
    return tuple(rate / looser(examples) for rate in RATES)


def advice(examples: int | None, *, from_scratch: bool) -> str:
    """How to train what a conversion gave. examples: of the batch that it was given; None: not known."""
    known = examples or EXAMPLES
    exclude = ", exclude=()" if from_scratch else ""
    said = (
        f"train it with ug.optim.AGC(optimizer, model, clipping=ug.normfree.clipping_for(examples){exclude}), where "
        f"examples are those of one step: {clipping_for(known):.2g} at the {known} of this batch, {CLIPPING:g} from "
        f"{EXAMPLES} on. "
    )
    if not from_scratch:
        return said + "BatchNorm's learning rate is the one to begin with"
    low, high = rates_for(known)[1:]
    return said + (
        f"At {known} try {low:.2g} to {high:.2g} times BatchNorm's learning rate; such rates need the head clipped "
        "too, which exclude=() does. Without AGC try about a fifteenth of BatchNorm's rate. The constants are for data "
        "scaled like this batch"
    )
