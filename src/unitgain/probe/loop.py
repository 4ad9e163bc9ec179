"""What happens around the model in training: are gradients cleared, does the optimizer hold the parameters, in which
mode is the model, is the gradient shrunk before the step.

Only sampled steps are looked at, by hooks that are gone in all others. What is decided is decided exactly:

A gradient is used again  if, when the next gradient is about to be added to it, it is the very tensor that the step
    before used, nothing has written to it since (its version), and it is not zero. That this is so at the first
    backward pass is no fault yet: in a GAN the generator's pass leaves gradients in the discriminator that are cleared
    before the discriminator's own. So each further pass is followed up to the step.
A parameter is missing    if it got a gradient, is in no group of the optimizer, and has the very values that it had
    when measuring began: what another optimizer moves is not missing.
A pass is another's       if the gradient that it gave the largest parameter was cleared before the next pass of the
    same step, or if the parameters were frozen in it: a discriminator's, when its generator trains.
Passes are thrown away    if their gradients are cleared one by one, and the last one's alone is used (thrown.py).
A gradient is lost        if it has come, and no parameter of the optimizer has one, or only zeros, when it steps.
A gradient is shrunk after the step    if it is when the next forward pass begins (afterwards.py).
A gradient is shrunk      if a sample of it has a smaller norm at the step than after the last backward pass.

Nothing waits for an accelerator before `facts` is called.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.hooks import RemovableHandle

from .. import stats
from ..optim import AGC
from ..record import UNKNOWN, AfterFacts, LoopFacts, ModeFacts, ReusedFacts, ShrinkFacts
from .afterwards import Afterwards
from .looks import Looks, depends_on_mode
from .optimizer import held_by
from .parameters import Parameter, list_parameters
from .sharded import local
from .thrown import Thrown
from .waiting import Waiting

_SAMPLE = 64  # values of a parameter or a gradient that are compared
_WATCHED = 3  # parameters whose gradients show what is done to all of them: the largest
_MOST = 128  # steps whose samples are kept; then every second one is, and so on
_ANOTHERS = (
    8  # steps of an optimizer that is not watched, with none of one that is between them, until it is said
)
_SHRUNK = 0.999  # of a norm: less is more than rounding
_POWER = 1e-4  # how near a factor must be to a power of two to be a loss scale


@dataclass
class _Watched:
    """A parameter of the model.

    values, version  those that it had when measuring began
    held             address and version of the gradient that the last step used, as long as nothing else has happened
                     to it
    suspect          whether that gradient was other than zero when the next one came: 0-dim, on its device
    reused           the steps at which it was used again, likewise
    got              whether a gradient other than zero has come to a parameter that is not in the optimizer, likewise
    """

    parameter: Parameter
    in_optimizer: bool
    values: Tensor
    version: int
    held: tuple[int, int] | None = None
    suspect: Tensor | None = None
    reused: Tensor | None = None
    got: Tensor | None = None
    arrived: bool = False  # whether a gradient has come in this sampled step; an older one may still be there

    def gradient(self) -> Tensor | None:
        """The whole gradient, where it is an ordinary tensor."""
        g = self.parameter.tensor.grad
        g = g if g is None else local(g)
        return g if g is not None and g.layout is torch.strided and not g.is_nested else None

    def state(self) -> tuple[int, int] | None:
        g = self.gradient()
        return None if g is None else (g.data_ptr(), g._version)

    def moved(self) -> bool:
        p = self.parameter.tensor
        if p._version != self.version or p.numel() == 0:
            return p._version != self.version
        return not torch.equal(stats.take_sample(local(p), _SAMPLE), self.values)


@dataclass
class _Bare:
    """A sampled step: whether a gradient had come, whether the optimizer has none of them (0-dim, on its device), and
    whether that is because there are no tensors, not because they are zero."""

    came: bool
    none: Tensor | bool
    absent: bool = False


class Loop:
    """Looks at the loop around one model and its optimizer. The Probe calls its methods."""

    def __init__(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], say: Callable[[str], None]
    ):
        self._model, self._optimizers, self._say = model, tuple(optimizers), say
        self._others_steps = 0  # of optimizers that are not watched, since the last one of those that are
        self._version: int | None = None  # of the largest parameter after it
        self._watched: list[_Watched] = []
        self._samples: list[list[tuple[Tensor, Tensor]]] = []  # of gradients, after backward and at the step
        self._sampled, self._kept = 0, 1  # of the sampled steps, every so manieth
        self._after_backward: dict[int, Tensor] = {}
        self._largest: list[_Watched] = []
        self._arrived = self._eval = self._lazy = False
        self._size = 0  # how many tensors the optimizer held
        self._passes = 0
        self.steps = 0  # of the optimizer so far
        self._judged = self._reused_steps = 0
        self._given_up: list[Tensor | bool] = []  # of the sampled steps
        self._bare: list[_Bare] = []  # of the sampled steps
        self._came: tuple[int, int] | None = (
            None  # address and version of the largest one's gradient after a pass
        )
        self._others: Tensor | bool = (
            False  # whether a pass of this sampled step was for another model's loss
        )
        self._thrown = Thrown(self._optimizers)
        self.afterwards = Afterwards()
        self.waiting = Waiting()
        self.looks = Looks(model)
        self._thrown_now: Tensor | bool = False  # whether this sampled step threw passes away
        self._thrown_away: list[Tensor | bool] = []  # of the sampled steps
        self._reused: list[Tensor] = []
        self._modes = ModeFacts()
        self._untouched: tuple[str, ...] = ()  # norms that had seen no batch at the last step in eval mode
        self._foreign: list[Tensor] = []  # tensors of the optimizer that are not the model's
        self._with_gradient: set[int] = set()  # of these
        self._outside: list[_Watched] = []  # what the optimizer does not hold

    @property
    def _held(self) -> set[int]:
        return held_by(self._optimizers)

    def start(self) -> None:
        """Remembers the parameters as they are, and which of them the optimizer holds."""
        known = {id(w.parameter.tensor): w for w in self._watched}
        held = self._held
        self._size, self._lazy = self._number_held(), False
        for p in list_parameters(self._model):
            tensor = p.tensor
            if id(tensor) in known:
                known[id(tensor)].in_optimizer = id(tensor) in held
            elif nn.parameter.is_lazy(tensor):
                self._lazy = True
            else:
                values = stats.take_sample(local(tensor), _SAMPLE)
                self._watched.append(_Watched(p, id(tensor) in held, values, tensor._version))
        ours = {id(w.parameter.tensor) for w in self._watched}
        self._foreign = [p for group in self._groups() for p in group["params"] if id(p) not in ours]
        held_by_it = [w for w in self._watched if w.in_optimizer]
        self._largest = sorted(held_by_it, key=lambda w: -w.parameter.tensor.numel())[:_WATCHED]
        self._outside = [w for w in self._watched if not w.in_optimizer]

    def _groups(self) -> Iterator[dict[str, Any]]:
        return (group for optimizer in self._optimizers for group in optimizer.param_groups)

    def _number_held(self) -> int:
        return sum(len(group["params"]) for group in self._groups())

    # ---- in a sampled step ---------------------------------------------------------------------------------

    def hook(self, guard: Callable[..., Callable[..., None]]) -> list[RemovableHandle]:
        handles = [
            w.parameter.tensor.register_hook(guard(functools.partial(self._arriving, w)))
            for w in self._watched
            if w.parameter.tensor.requires_grad
        ]
        for w in self._largest:
            if w.parameter.tensor.requires_grad:
                take = guard(functools.partial(self._added, w))
                handles.append(w.parameter.tensor.register_post_accumulate_grad_hook(take))
        handles.append(register_optimizer_step_post_hook(guard(self._stepped)))
        return handles

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Any optimizer, of whatever model, has made a step."""
        self._thrown.stepped(optimizer)
        if optimizer in self._optimizers or not self._largest:
            return
        if id(self._largest[0].parameter.tensor) in held_by([optimizer]):
            self._others_steps += 1
            if self._others_steps == _ANOTHERS:
                self._say_another(f"another optimizer ({type(optimizer).__name__}) makes steps with")

    def counted(self) -> None:
        """A step of the optimizers that are watched is over."""
        self.steps += 1
        self._others_steps = 0
        self._version = self._version_now()

    def ends(self) -> None:
        """The last step has been made."""
        now = self._version_now()
        if self._version is not None and now is not None and now - self._version >= _ANOTHERS:
            self._say_another(f"{now - self._version} changes were made to")

    def _version_now(self) -> int | None:
        return self._largest[0].parameter.tensor._version if self._largest else None

    def _say_another(self, what: str) -> None:
        ours, self._version = " and ".join(type(o).__name__ for o in self._optimizers), None
        self._say(
            f"after {self.steps} steps of the {ours} that it watches, {what} the same parameters, of which nothing is "
            "measured. Give the Probe every optimizer that trains the model (ug.Probe(model, [a, b])), or begin a new "
            "Probe where the optimizer is replaced"
        )

    def begin(self) -> None:
        """A sampled step follows; the gradients that the one before it used are still there."""
        self._after_backward.clear()
        self._came, self._others, self._thrown_now = None, False, False
        self._thrown.begin()
        self.looks.begin()
        for w in self._watched:
            w.held = w.state() if w.in_optimizer else None
            w.suspect = None
            w.arrived = False

    def entered(self, root: nn.Module, inputs: Any = ()) -> None:
        """A forward pass with gradients begins."""
        self._count_pass()
        if self._largest:
            self._thrown.entered(inputs, self._largest[0].parameter.tensor)
        self._eval = not root.training and not any(module.training for module in root.modules())
        if self._largest and not any(w.parameter.tensor.requires_grad for w in self._largest):
            self._others = True

    def _count_pass(self) -> None:
        self._passes += self._arrived
        self._arrived = False

    def _arriving(self, w: _Watched, _: Tensor) -> None:
        """A gradient is about to be added to what there is."""
        self._arrived = w.arrived = True
        if self._largest and w is self._largest[0] and self._came is not None:
            self._note_given_up(w, self._came)
        if w.held is None:
            return
        if w.state() != w.held:
            w.held = w.suspect = None
            return
        address, version = w.held
        w.held = address, version + 1  # as it will be
        if w.suspect is None:
            w.suspect = self._is_nonzero(w)

    def _added(self, w: _Watched, tensor: Tensor) -> None:
        if (gradient := w.gradient()) is not None:
            self._after_backward[id(w)] = stats.take_sample(gradient, _SAMPLE)
            if w is self._largest[0]:
                self._came = w.state()

    def _note_given_up(self, w: _Watched, came: tuple[int, int]) -> None:
        """Whether what an earlier pass of this step gave was cleared before the next one, and so was not for the
        optimizer that is watched."""
        state, cleared = w.state(), False
        if state is None or state[0] != came[0]:
            cleared = True
        elif state != came:
            nonzero = self._is_nonzero(w)
            cleared = False if nonzero is None else ~nonzero
        self._thrown.cleared(cleared)
        if self._others is False:
            self._others = cleared

    def _is_nonzero(self, w: _Watched) -> Tensor | None:
        g = w.gradient()
        return None if g is None or not g.numel() else (stats.take_sample(g, _SAMPLE * _SAMPLE) != 0).any()

    def before_step(self) -> None:
        """The gradients are what the optimizer gets."""
        self._count_pass()
        pairs = []
        for w in self._largest:
            after, g = self._after_backward.get(id(w)), w.gradient()
            if after is not None and g is not None:
                pairs.append((after, stats.take_sample(g, _SAMPLE)))
        self._note_bare()
        if self._largest:
            self._thrown_now = self._thrown.at_step(self._largest[0].parameter.tensor, pairs)
        self._sampled += 1
        if pairs and self._sampled % self._kept == 0:
            self._samples.append(pairs)
            if len(self._samples) > _MOST:
                self._samples, self._kept = self._samples[::2], 2 * self._kept
        for w in self._outside:
            nonzero = self._is_nonzero(w) if w.arrived else None
            if nonzero is not None:
                w.got = nonzero if w.got is None else w.got | nonzero

    def _note_bare(self) -> None:
        """Whether the optimizer is about to step without a gradient."""
        held = [w for w in self._watched if w.in_optimizer]
        came = any(w.arrived for w in held)
        if not held:
            return
        if len(self._bare) % _MOST == _MOST - 1:
            self._read_bare()
        if all(w.parameter.tensor.grad is None for w in held):
            self._bare.append(_Bare(came, True, absent=True))
            return
        first = self._largest[0]
        after, gradient = self._after_backward.get(id(first)), first.gradient()
        if after is None or gradient is None or first.state() == self._came:
            self._bare.append(_Bare(came, False))  # nothing has written to it since backward
        else:
            now = stats.take_sample(gradient, _SAMPLE)
            none = (after != 0).any() & ~(now != 0).any()
            if none.device.type != "cpu" or bool(
                none
            ):  # it may be one row, or one parameter, that was set to zero
                none &= _are_zero([w for w in held if w.parameter.tensor.grad is not None])
            self._bare.append(_Bare(came, none))

    def after_step(self, number: int) -> None:
        if self._bare and not self._bare[-1].came and any(w.arrived for w in self._watched if w.in_optimizer):
            self._bare[-1] = _Bare(True, False)  # the gradient came within the step: that of a closure
        self._judged += self.steps > 0  # else there was no step whose gradients could be used again
        flags = []
        for w in self._watched:
            if w.held is None:
                continue
            state = w.state()
            if state is None or state[0] != w.held[0]:
                continue  # given up since
            if w.suspect is None and state != w.held:
                continue  # no pass, and something was written: it was cleared
            still = self._is_nonzero(w)
            if still is None:
                continue
            again = still if w.suspect is None else w.suspect & still
            w.reused = again.long() if w.reused is None else w.reused + again
            flags.append(again)
        if flags:
            self._reused.append(torch.stack([flag.to(flags[0].device) for flag in flags]).any())
            if len(self._reused) > _MOST:
                self._read_reused()
        thrown, others = self._thrown_now, self._others
        self._thrown_away.append(thrown)
        if isinstance(thrown, Tensor):  # these passes are no other model's
            others = torch.as_tensor(others, device=thrown.device) & ~thrown
        self._given_up.append(others)
        self._with_gradient.update(id(p) for p in self._foreign if p.grad is not None)
        self.afterwards.stepped(self.steps, (w.gradient for w in self._watched if w.in_optimizer))
        self._note_mode(number)
        self.looks.stepped()
        if self._lazy or self._number_held() != self._size:
            self.start()  # lazy parameters have come, or a group was added

    def _note_mode(self, number: int) -> None:
        m = self._modes
        if not self._eval:
            self._modes = replace(m, train=m.train + 1, since=None)
        elif m.train:
            self._modes = replace(m, eval=m.eval + 1, since=number if m.since is None else m.since)
        else:
            self._modes = replace(m, before=m.before + 1)
            if not m.before or self._untouched:  # what has seen a batch stays so
                self._untouched = self._new_norms()

    # ---- afterwards ----------------------------------------------------------------------------------------

    def _read_reused(self) -> None:
        self._reused_steps += sum(bool(flag) for flag in self._reused)
        self._reused.clear()
        self._given_up = [True] * sum(bool(flag) for flag in self._given_up)
        self._thrown_away = [True] * sum(bool(flag) for flag in self._thrown_away)
        self._read_bare()

    def _read_bare(self) -> None:
        self._bare = [replace(one, none=bool(one.none)) for one in self._bare]

    def facts(self) -> LoopFacts:
        self._count_pass()
        self._read_reused()
        held, moved = self._held, any(w.moved() for w in self._watched)
        bare = [one for one in self._bare if bool(one.none)]
        if moved and len(bare) == len(self._bare) and all(one.absent for one in bare):
            bare = []  # an optimizer that moves weights without gradients in them keeps those elsewhere
        missing = [
            w.parameter.name
            for w in self._watched
            if w.got is not None and bool(w.got) and id(w.parameter.tensor) not in held and not w.moved()
        ]
        names = [w.parameter.name for w in self._watched if w.reused is not None and int(w.reused) > 0]
        watched = sum(w.in_optimizer for w in self._watched)
        return LoopFacts(
            passes=self._passes,
            steps=self.steps,
            moved=moved,
            missing=tuple(missing),
            sampled=len(self._bare),
            bare=len(bare),
            lost=sum(one.came for one in bare),
            given_up=len(self._given_up),
            thrown=len(self._thrown_away),
            parts=self._thrown.most,
            reused=ReusedFacts(self._judged, self._reused_steps, tuple(names), watched),
            mode=replace(
                self._modes, modules=self._changing(), untouched=() if self._modes.train else self._untouched
            ),
            shrink=self._shrink(),
            after=self._after(),
            looks=self.looks.facts(),
            waiting=self.waiting.broken(w.gradient() for w in self._watched if w.in_optimizer),
        )

    def count_foreign(self) -> int:
        """How many of the optimizer's tensors are not the model's and had no gradient at any sampled step."""
        return sum(id(p) not in self._with_gradient for p in self._foreign)

    def _changing(self) -> tuple[str, ...]:
        """Modules whose output depends on the mode: dropout, and norms with running statistics."""
        return tuple(depends_on_mode(self._model))

    def _new_norms(self) -> tuple[str, ...]:
        """Norms that no batch has come through in train mode, ever: their running mean is 0, the variance 1. Asked at
        each step: a pass in train mode after the last one is none that was trained."""
        return tuple(
            path
            for path, module in self._model.named_modules()
            if all(_is_zero(getattr(module, name, None)) for name in ("num_batches_tracked", "running_mean"))
        )

    def _after(self) -> AfterFacts:
        left = self.afterwards.left()
        return AfterFacts(self.afterwards.judged, len(left), left[len(left) // 2] if left else UNKNOWN)

    def _shrink(self) -> ShrinkFacts:
        left = []
        for pairs in self._samples:
            norms = [(float(before.double().norm()), float(now.double().norm())) for before, now in pairs]
            factors = sorted(now / before for before, now in norms if before > 0)
            if factors and math.isfinite(sum(factors)):
                left.append(factors[len(factors) // 2])
        shrunk = [f for f in left if f < _SHRUNK and not _is_loss_scale(f)]
        owners = (owner for optimizer in self._optimizers for owner in _owners(optimizer))
        agc = next((owner for owner in owners if isinstance(owner, AGC)), None)
        rates = {} if agc is None else agc.rates()
        units = sum(r.numel() for r in rates.values())
        return ShrinkFacts(
            judged=len(left),
            shrunk=len(shrunk),
            factor=sorted(shrunk)[len(shrunk) // 2] if shrunk else UNKNOWN,
            agc=UNKNOWN if agc is None else float(agc.clipping),
            share=UNKNOWN if not units else float(sum(r.sum() for r in rates.values())) / units,
        )


def _is_zero(buffer: Tensor | None) -> bool:
    return buffer is not None and not bool(buffer.any())


def _is_loss_scale(factor: float) -> bool:
    """A GradScaler divides the gradients by a power of two; that shrinks nothing."""
    exponent = math.log2(factor) if factor > 0 else 0.5
    return abs(exponent - round(exponent)) < _POWER and round(exponent) < 0


def _owners(optimizer: Any) -> list[Any]:
    hooks = getattr(optimizer, "_optimizer_step_pre_hooks", {}).values()
    return [getattr(hook, "__self__", None) for hook in hooks]


def _are_zero(watched: Sequence[_Watched]) -> Tensor | bool:
    """Whether all values of their gradients are zero; gradients that are no ordinary tensors are taken not to be."""
    gradients = [w.gradient() for w in watched]
    values = [g.detach() for g in gradients if g is not None and g.numel()]
    if len(gradients) != sum(g is not None for g in gradients) or not values:
        return False
    largest = torch._foreach_norm(values, math.inf)
    return torch.stack([n.to(largest[0].device, torch.float32) for n in largest]).max() == 0
