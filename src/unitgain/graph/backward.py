"""Theory carried back through a pass: the gradient's mean square at each tensor, from those of the tensors made of it.

`BackwardPropagation` is a `Propagation` that keeps every call and looks at every gradient. When backward has run,
`predict_back` goes from the last tensor to the first: the gradient that arrives through each call
(moments/gradient_laws.py) is added over all calls that use the tensor, taken for independent of each other. Where a
call has no law, or uses a tensor in a way that is not seen, prediction begins anew from the gradient that is measured,
as it does in front of a claim that was wrong. It begins at the output, with the gradient that was put there.

A claim's moments are (mean square of the gradient, 0).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .moments import (
    GRID_WEIGHTS,
    Gradient,
    Known,
    Silent,
    Step,
    draw_gradient,
    given_tensor,
    groups_of,
    layout,
    measured_gradient,
    pull_back,
    slope,
)
from .node import Node
from .operations import Call
from .propagate import CHANCE, TOLERANCE, Claim, Propagation, _Held
from .stand_in import Made
from .values import Value


@dataclass
class _Entry:
    """One tensor of the pass.

    same   the number of the tensor that it is, where it is known already
    zeros  the share of its values that are exactly 0
    steep  (N,) of what an activation made: the mean square of its slopes, for each example
    """

    value: Value
    held: _Held
    step: Step | None
    same: int
    zeros: float
    steep: Tensor | None = None


class BackwardPropagation(Propagation):
    """A Propagation that keeps calls, for a pass with gradients.

    back, back_by_node  {number of the tensor: Claim}, {node: Claim} of the gradients, once `predict_back` was called
    """

    def __init__(self) -> None:
        super().__init__()
        self.gradients: dict[int, Gradient] = {}
        self.back: dict[int, Claim] = {}
        self.back_by_node: dict[str, Claim] = {}
        self._tape: dict[int, _Entry] = {}
        self._step: Step | None = None

    def _predicting(self, step: Step) -> None:
        self._step = step

    def _see(self, value: Value, tensor: Tensor, call: Call, function: Any, node: Node | None) -> None:
        self._step, before = None, self._same_tensor(tensor)
        super()._see(value, tensor, call, function, node)
        held = self._held.get(value.number)
        if held is None:
            return
        if self._step is not None and node is not None and node.role == "norm":
            self._step = replace(self._step, evenness=_evenness(call, held.known.axis, groups_of(self._step)))
        given = self._tape.get(value.parents[0].number) if value.parents else None
        if self._step is not None and given is not None:
            self._step = replace(self._step, zeros=given.zeros)
        same = value.number
        if self._step is None and before is not None:  # a block that returns a tensor that is known
            same = self._tape[before].same
        zeros = float((tensor == 0).float().mean())
        steep = _steep(self._step, call, held.known.axis) if node is not None else None
        self._tape[value.number] = _Entry(value, held, self._step, same, zeros, steep)
        if tensor.requires_grad and same == value.number:
            axis, number = held.known.axis, value.number

            def look(gradient: Tensor) -> None:
                self.gradients[number] = measured_gradient(layout(gradient, axis))

            tensor.register_hook(look)

    def predict_back(self) -> None:
        """Fills `back` and `back_by_node`."""
        arriving: dict[int, list[Gradient]] = {}
        silent: dict[int, Silent] = {}
        users: Counter[int] = Counter()
        uses: Counter[int] = Counter()
        for entry in self._tape.values():
            uses[entry.same] += entry.value.uses
            for parent in entry.value.parents:
                if parent.number in self._tape:
                    users[self._tape[parent.number].same] += 1
        for number in reversed(list(self._tape)):
            entry = self._tape[number]
            if entry.same != number:
                continue
            measured = self.gradients.get(number)
            if measured is None:
                continue
            lack = silent.get(number)
            reason = "" if lack is None else lack.reason
            if uses[number] > users[number]:
                reason = reason or "it is used in a way that is not seen"
            if not arriving.get(number) and not reason:
                reason = "nothing is known of the gradient that arrives here"
            found = measured
            if not reason:
                found, signal = _added(arriving[number]), entry.held.known.signal
                chance = found.chance(signal.examples, math.prod(signal.size))
                if found.sample is not None:  # which differs from its expectation as the batch does
                    chance *= math.sqrt(2)
                if number in self._bound:
                    chance = max(chance, found.least)
                found = replace(found, least=chance)
                if chance > CHANCE:
                    reason = f"the batch has too few independent values: chance alone makes {chance:.0%}"
            claim = Claim(entry.value.node or "", (measured.mean_square, 0.0), None, reason, start=True)
            if not reason:
                claim = Claim(claim.node, claim.measured, (found.mean_square, 0.0))
            found = replace(found, near=measured.near)
            if reason or claim.off > TOLERANCE:
                found = _begun(measured, arriving.get(number, []), lack)
            self._note(number, claim)
            self._pass_on(entry, found, arriving, silent)

    def _note(self, number: int, claim: Claim) -> None:
        for other, entry in self._tape.items():
            if entry.same == number:
                self.back[other] = replace(claim, node=entry.value.node or "")
                if entry.value.node:
                    self.back_by_node[entry.value.node] = self.back[other]

    def _pass_on(
        self,
        entry: _Entry,
        gradient: Gradient,
        arriving: dict[int, list[Gradient]],
        silent: dict[int, Silent],
    ) -> None:
        signals = [p.number for p in entry.value.parents if p.signal]
        parents = [self._tape[n].same for n in signals if n in self._tape]
        if entry.step is None or not parents:
            return
        try:
            parts = self._parts(entry, entry.step, gradient)
            if len(parts) != len(signals):
                raise Silent("a call with other inputs")
        except Silent as lack:
            silent.update(dict.fromkeys(parents, lack))
            return
        measured = self.gradients[entry.value.number]
        for number, part in zip(signals, parts):
            if number in self._tape and part is not None:
                if len(part.power) != self._tape[number].held.known.signal.channels:
                    silent[number] = Silent(
                        "its channels lie on another axis than those of what is made of it"
                    )
                    continue
                # what channels depend on each other here, those behind do too
                bound = entry.value.number in self._bound
                independent = gradient.independent if bound else measured.independent
                part = replace(part, independent=independent, least=gradient.least)
                part = _by_example(part, gradient.shares, entry.steep)
                arriving.setdefault(self._tape[number].same, []).append(part)

    def _parts(self, entry: _Entry, step: Step, gradient: Gradient) -> list[Gradient | None]:
        """By the call's own law, or by the call itself with what stands in for its inputs and for the gradient."""
        number = entry.value.number
        again = self._made.get(number) or self._joined.get(number)
        if number not in self._bound or again is None:
            try:
                return pull_back(step, entry.held.known.signal, replace(gradient, sample=None))
            except Silent:
                if again is None or entry.value.kind not in _REARRANGED:
                    raise
        known, numbers = entry.held.known, {n: self._tape[n].same for n in again.inputs if n in self._tape}
        if len(numbers) < len(again.inputs):
            raise Silent("nothing is known of what it was made from")
        sample = gradient.sample
        if sample is None or tuple(sample.shape) != known.shape:
            sample = draw_gradient(gradient, known.shape, known.axis, known.signal, seed=number)
        if entry.value.kind in _REARRANGED:
            inputs = {n: sample.new_zeros(self._tape[n].held.known.shape) for n in again.inputs}
        else:
            inputs = {n: self._stand_ins.of(n) for n in again.inputs}
        found = _back(again, inputs, sample)
        powers = None
        if entry.value.kind in _REARRANGED and gradient.sample is None:  # every value goes to one place
            powers = _back(again, inputs, _powers(gradient, known))
        parts: list[Gradient | None] = []
        for parent in (p for p in entry.value.parents if p.signal):
            same = self._tape[parent.number].same if parent.number in self._tape else None
            at = next((n for n, other in numbers.items() if other == same), None)
            if at is None or found[at] is None:
                parts.append(None)
                continue
            axis, values = self._tape[at].held.known.axis, found[at]
            part = replace(measured_gradient(layout(values, axis)), sample=values)
            if powers is not None:
                exact = layout(powers[at], axis)
                places = exact.mean((0, 1))
                part = replace(
                    part, power=exact.mean([0, *range(2, exact.dim())]), spotty=gradient.spotty or part.spotty,
                    profile=places / places.mean().clamp_min(1e-38) if places.dim() else None,
                )  # fmt: skip
            parts.append(part)
        return parts


def _steep(step: Step | None, call: Call, axis: int) -> Tensor | None:
    """(N,): of an activation's input, the mean square of the slopes there."""
    function = None if step is None or step.node is None else step.node.function
    given = given_tensor(call)
    if (
        step is None
        or step.node is None
        or step.node.role != "activation"
        or function is None
        or given is None
    ):
        return None
    if tuple(given.shape) != step.shape or axis == 0:
        return None
    x = layout(given, axis).movedim(1, -1)  # (N, *S, C)
    x = x.reshape(len(x), -1, x.shape[-1])
    x = x[:, :: -(-x.shape[1] * x.shape[2] // _SLOPES)]  # of some positions
    return slope(function, x.reshape(-1, x.shape[-1])).square().view(len(x), -1).mean(1)


def _by_example(part: Gradient, shares: Tensor | None, steep: Tensor | None) -> Gradient:
    """An activation's slopes of each example go with the power that this example has already."""
    if shares is None or steep is None or len(shares) != len(steep) or part.sample is not None:
        return replace(part, shares=shares)
    both = shares * steep
    factor = float(both.mean() / (shares.mean() * steep.mean()).clamp_min(1e-38))
    return replace(part, power=part.power * factor, shares=both / both.mean().clamp_min(1e-38))


_SLOPES = 16_384  # of each example
_REARRANGED = ("view", "part", "concat")  # every value goes to one place, or to none


def _back(made: Made, inputs: dict[int, Tensor], gradient: Tensor) -> dict[int, Tensor]:
    """Of the inputs of a call, by autograd. Raises Silent where it cannot be made again."""
    with torch.enable_grad():
        leaves = {n: x.detach().requires_grad_() for n, x in inputs.items()}
        try:
            out = made.again(leaves)
            found = torch.autograd.grad(out, list(leaves.values()), gradient, allow_unused=True)
        except Exception as error:  # a call that does not bear other values
            raise Silent(f"its call cannot be made again ({type(error).__name__})") from error
    return {n: torch.zeros_like(leaves[n]) if g is None else g.detach() for n, g in zip(leaves, found)}


def _powers(gradient: Gradient, known: Known) -> Tensor:
    """The gradient's mean square at every value of a tensor."""
    size = known.signal.size
    examples = next(n for i, n in enumerate(known.shape) if i != known.axis)
    power = gradient.power.float().expand(examples, *size, -1)
    if gradient.profile is not None and gradient.profile.numel() == math.prod(size):
        power = power * gradient.profile.to(power).reshape(size)[..., None]
    return power.movedim(-1, known.axis)


def _begun(measured: Gradient, parts: list[Gradient], lack: Silent | None) -> Gradient:
    """The gradient that is measured, with what is known of how it depends on the values."""
    tied = lack is not None and lack.tied
    if not parts:
        return replace(measured, tied=tied)
    known = _added(parts)
    kept: dict[str, Any] = {"least": known.least}
    kept |= {"chosen": known.chosen, "slopes": known.slopes, "bent": known.bent, "tied": tied or known.tied}
    return replace(measured, **kept)


def _evenness(call: Call, axis: int, groups: int) -> float | None:
    """groups: of a group norm, 0 of a norm of each place."""
    given, over_examples = given_tensor(call), groups > 0
    if given is None or axis >= given.dim():
        return None
    if over_examples:  # a group norm: of each example and group
        x = layout(given, axis)
        q = x.reshape(len(x), groups, -1).var(2, correction=0)
        return float((q.mean(0) * q.clamp_min(1e-30).reciprocal().mean(0)).mean())
    q = given.detach().float().var(axis, correction=0)
    return float(q.mean() * q.clamp_min(1e-30).reciprocal().mean())


def _added(parts: list[Gradient]) -> Gradient:
    if len(parts) == 1:
        return parts[0]
    samples = [p.sample for p in parts if p.sample is not None]
    sample = torch.stack(samples).sum(0) if len(samples) == len(parts) else None
    power = sum(p.power for p in parts)
    assert isinstance(power, Tensor)
    total = sum(p.mean_square for p in parts)
    held = sum(p.mean_square * p.coherent for p in parts) / total if total > 0 else 0.0
    tied = sum(p.mean_square for p in parts if p.tied) > 0.1 * total
    spotty = any(p.spotty for p in parts)
    profile = _added_profiles([p for p in parts if p.mean_square > 0])
    independent = min(p.independent for p in parts)
    chosen = _added_choices(parts)
    return Gradient(
        power, held, spotty, tied, chosen=chosen, profile=profile, independent=independent, sample=sample,
        least=max(p.least for p in parts), shares=_added_shares(parts),
    )  # fmt: skip


def _added_choices(parts: list[Gradient]) -> Tensor | None:
    """A gradient that comes through a maximum is at large values, one beside it at all of them."""
    given = next((p.chosen for p in parts if p.chosen is not None), None)
    total = sum(p.mean_square for p in parts)
    if given is None or total <= 0:
        return None
    even = GRID_WEIGHTS.to(given)
    each = [p.mean_square / total * (even if p.chosen is None else p.chosen) for p in parts]
    return torch.stack(each).sum(0)


def _added_shares(parts: list[Gradient]) -> Tensor | None:
    total = sum(p.mean_square for p in parts)
    each = [p.mean_square / total * p.shares for p in parts if p.shares is not None] if total > 0 else []
    if len(each) < len(parts) or any(s.shape != each[0].shape for s in each):
        return None
    return torch.stack(each).sum(0)


def _added_profiles(parts: list[Gradient]) -> Tensor | None:
    known = [p.profile for p in parts if p.profile is not None]
    if not known or any(p.shape != known[0].shape for p in known):
        return None
    total = sum(p.mean_square for p in parts)
    shares = [
        (p.mean_square / total, torch.ones_like(known[0]) if p.profile is None else p.profile) for p in parts
    ]
    return torch.stack([share * profile for share, profile in shares]).sum(0)
