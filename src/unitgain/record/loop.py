"""Facts about a training loop: which tensors the optimizer holds, whether gradients are cleared, modes, clipping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

UNKNOWN = math.nan


@dataclass(frozen=True)
class GroupFacts:
    """One parameter group of an optimizer.

    decoupled   whether the decay is taken off the weights and not added to the gradient
    momentum    of SGD's kind, which multiplies a step by 1 / (1 - momentum) in the long run
    eps_zero_in the type of its state, or weights, in which eps rounds to zero; None: there is none
    parameters  names of the model's parameters that it holds
    """

    lr: float = UNKNOWN
    weight_decay: float = 0.0
    decoupled: bool = False
    momentum: float = 0.0
    eps: float = UNKNOWN
    eps_zero_in: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerFacts:
    """name: the optimizer's class; lr: the learning rate of each parameter group, as it was last; groups: all of them,
    likewise; foreign: tensors in them that are not the model's and had no gradient at any step."""

    name: str | None = None
    lr: tuple[float, ...] = ()
    groups: tuple[GroupFacts, ...] | None = None
    foreign: int | None = None

    @property
    def held(self) -> frozenset[str] | None:
        """Names of the model's parameters that the optimizer holds; None where that is not known."""
        if self.groups is None:
            return None
        return frozenset(name for group in self.groups for name in group.parameters)

    def group_of(self, parameter: str) -> GroupFacts | None:
        return next((group for group in self.groups or () if parameter in group.parameters), None)


@dataclass(frozen=True)
class ReusedFacts:
    """Gradients that were used by a step, not cleared, and used again by the next one.

    judged      sampled steps in which that could be seen
    steps       of these, those that used a gradient again
    parameters  whose gradient it was at any of them
    of          parameters that were watched
    """

    judged: int = 0
    steps: int = 0
    parameters: tuple[str, ...] = ()
    of: int = 0


@dataclass(frozen=True)
class ModeFacts:
    """In which mode the model was when sampled steps were made.

    train     steps in train mode, or with only parts in eval mode
    eval      steps with the whole model in eval mode, after one in train mode
    since     the first of the last unbroken series of those; None: the last step was in train mode
    modules   those whose output depends on the mode
    before    steps with the whole model in eval mode before the first one in train mode
    untouched norms whose running statistics are still those of a new module, where no step was in train mode
    """

    train: int = 0
    eval: int = 0
    since: int | None = None
    modules: tuple[str, ...] = ()
    before: int = 0
    untouched: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShrinkFacts:
    """What happens to gradients between backward and the optimizer's step: clipping, most of all.

    judged  sampled steps; shrunk: those at which gradients came out smaller
    factor  what is left of the gradients' norm, median over the steps at which they were shrunk
    agc     the factor of `ug.optim.AGC`, where it clips this optimizer's gradients; share: of units that it clipped
    """

    judged: int = 0
    shrunk: int = 0
    factor: float = UNKNOWN
    agc: float = UNKNOWN
    share: float = UNKNOWN


@dataclass(frozen=True)
class AfterFacts:
    """What happens to gradients between the optimizer's step and the next forward pass.

    judged  sampled steps with finite gradients that were not set to zero; shrunk: those after which they were made
            smaller
    factor  what is left of their norm, median over those steps
    """

    judged: int = 0
    shrunk: int = 0
    factor: float = UNKNOWN


@dataclass(frozen=True)
class LookFacts:
    """Passes without gradients before sampled steps of the optimizer, but the first: those of a validation.

    judged     sampled steps; steps: of these, those with such passes in train mode before them; passes: how many in all
    evaluated  steps with such passes in eval mode, or with all that depends on the mode in eval mode
    regular    whether the steps with such passes in train mode lie equally far apart, of three or more
    modules    those whose output depends on the mode, and which were in train mode
    """

    judged: int = 0
    steps: int = 0
    passes: int = 0
    evaluated: int = 0
    regular: bool | None = None
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiedFacts:
    """Units of one layer that were active, and then never again for as long as the run was watched.

    units, died  how many there are, and how many of them died
    first, last  sampled steps between which nine tenths of them were active for the last time
    watched      sampled steps at the end in which none of them was active
    """

    units: int = 0
    died: int = 0
    first: int = 0
    last: int = 0
    watched: int = 0


@dataclass(frozen=True)
class LoopFacts:
    """What a Probe saw of the loop around the model, and `check` of the optimizer that it was given.

    passes   backward passes in sampled steps
    steps    of the optimizer
    moved    whether any parameter has changed since measuring began
    missing  trainable parameters that got a gradient, are in no parameter group, and still have the values that they
             began with
    sampled  steps of the optimizer that were looked at; bare: at which none of its parameters had a gradient; lost: of
             these, those whose gradients had come and were cleared between backward and the step
    given_up sampled steps in which the parameters got a gradient that was cleared before the optimizer could use it,
             or were frozen for a pass: that of another model's loss, an adversary's
    thrown   sampled steps that used the gradient of the last of several passes, those of the others having been
             cleared; parts: how many passes at most
    waiting  numbers logged since the last step, where the gradients that wait for one hold NaN or infinity in the end
    """

    passes: int | None = None
    steps: int | None = None
    moved: bool | None = None
    missing: tuple[str, ...] | None = None
    sampled: int | None = None
    bare: int | None = None
    lost: int | None = None
    given_up: int | None = None
    thrown: int | None = None
    parts: int | None = None
    reused: ReusedFacts = field(default=ReusedFacts())
    mode: ModeFacts = field(default=ModeFacts())
    shrink: ShrinkFacts = field(default=ShrinkFacts())
    after: AfterFacts = AfterFacts()
    looks: LookFacts = LookFacts()
    waiting: int | None = None
