"""Whether a loss compares each target with its own place of the outputs. For rule UG116.

One target is exchanged, and the gradient of the loss changes at the outputs that it is compared with. Their place is
that of the target, on the axes that both have. Where it is another one, a reshape stands for a transpose in the loss,
or outputs and targets are flattened in different orders. Left alone are losses that shift them against each other along
one axis, as those of language models do; those that pair them by their values (nearest neighbours, sorted values),
which pair them otherwise when the outputs are others; and those in which every output counts.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._batch import IGNORED_TARGET
from .._run import random_states
from ..record import PlaceFacts
from .asking import Question, put_in

Place = tuple[int, ...]

_PROBES = (0.37, 0.61, 0.83)  # of the targets that count: where they are exchanged
_CHANGED = 0.1  # of the largest change: a mean over weighted targets changes a little everywhere
_MOST_AXES = 5


def misplaced(ask: Question, reshaped: str | None, ignored: int = IGNORED_TARGET) -> PlaceFacts | None:
    """A target that is compared with another place than its own, None where there is none, or it cannot be told.

    reshaped  the line of the caller's code that changes the outputs' shape in the loss
    """
    outputs, targets = ask.logits.detach(), ask.target
    maps = list(_maps(targets.shape, outputs.shape))
    if not maps or targets.dtype.is_complex or len(set(targets.reshape(-1)[:1000].tolist())) < 2:
        return None
    places = _places(targets, ignored)
    wrong: list[tuple[Place, frozenset[Place]]] = []
    for number, place in enumerate(places):
        found: list[frozenset[Place]] = []
        for seed in (0, 1):
            changed = _compared_with(ask, _shuffled(outputs, seed), place, ignored)
            if changed is None:
                return None
            own = [_own(changed, place, axes) for axes in maps]
            if any(2 * len(mine) > len(changed) for mine in own):
                break  # compared with its own place
            found.append(changed)
        else:
            if found[0] != found[1]:
                return None
            wrong.append((place, found[0]))
        if number == 1 and not wrong:
            return None
    if len(wrong) < 2 or any(_is_shift(wrong, axes) for axes in maps):
        return None
    place, changed = wrong[0]
    return PlaceFacts(place, min(changed), tuple(targets.shape), tuple(outputs.shape), reshaped)


def _is_shift(found: list[tuple[Place, frozenset[Place]]], axes: tuple[int, ...]) -> bool:
    """Whether all outputs lie as many steps from their targets, along one axis."""
    steps = {
        tuple(output[axis] - at for axis, at in zip(axes, place))
        for place, changed in found
        for output in changed
    }
    return len(steps) == 1 and sum(step != 0 for step in next(iter(steps))) == 1


def _maps(targets: Sequence[int], outputs: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """For each axis of the targets an axis of the outputs of the same size, in every way in which that can be; nothing
    where more than one axis is left over, or none is longer than one."""
    if (
        not 0 <= len(outputs) - len(targets) <= 1
        or not 1 < len(outputs) <= _MOST_AXES
        or max(targets, default=0) < 2
    ):
        return
    for axes in itertools.permutations(range(len(outputs)), len(targets)):
        if all(outputs[axis] == size for axis, size in zip(axes, targets)):
            yield axes


def _own(changed: frozenset[Place], place: Place, axes: tuple[int, ...]) -> list[Place]:
    """Those of the outputs that lie at a target's place."""
    return [output for output in changed if all(output[axis] == at for axis, at in zip(axes, place))]


def _places(targets: Tensor, ignored: int) -> list[Place]:
    flat = targets.reshape(-1)
    counted = (flat != ignored).nonzero().reshape(-1).tolist()
    chosen = dict.fromkeys(counted[int(share * len(counted))] for share in _PROBES)
    return [tuple(int(i) for i in torch.unravel_index(torch.tensor(at), targets.shape)) for at in chosen]


def _shuffled(outputs: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(outputs.numel(), generator=generator).to(outputs.device)
    noise = torch.rand(outputs.numel(), generator=generator).to(outputs)
    x = outputs.reshape(-1)[order]
    low, high = x.min(), x.max()
    return (0.9 * x + 0.1 * (low + (high - low) * noise)).reshape(outputs.shape)  # where the outputs can be


def _compared_with(ask: Question, made: Tensor, place: Place, ignored: int) -> frozenset[Place] | None:
    """The outputs whose gradient changes with this target; None where there are none, or many."""
    other = ask.target.clone()
    values = other[other != ignored]
    far = (values.double() - other[place].double()).abs()
    other[place] = values[far.argmax()]
    one, two = _slope(ask, made, ask.target), _slope(ask, made, other)
    if one is None or two is None:
        return None
    change = (one.double() - two.double()).abs()
    if not bool(change.isfinite().all()) or not bool(change.any()):
        return None
    places = (change > _CHANGED * change.max()).nonzero()
    most = 2 * max(1, ask.logits.numel() // ask.target.numel())
    return None if len(places) > most else frozenset(tuple(row) for row in places.tolist())


def _slope(ask: Question, made: Tensor, target: Tensor) -> Tensor | None:
    leaf = made.clone().requires_grad_()
    with torch.enable_grad(), random_states.kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loss = ask.loss(put_in(ask.outputs, ask.logits, leaf), target.clone())
            (found,) = torch.autograd.grad(loss.reshape(()), [leaf], allow_unused=True)
        except Exception:  # the caller's own code, on outputs and targets that it may not take
            return None
    return found
