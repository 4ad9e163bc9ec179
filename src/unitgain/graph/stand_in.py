"""Values that stand in for the tensors of a pass: drawn where theory knows the moments, computed behind it by the very
calls of the pass.

A call is kept with numbers in the place of the tensors that theory follows, so that no activation is. What stands in
for a tensor is made by its call from what stands in for the call's inputs, back to the nearest sums (the stream of a
transformer), convolutional outputs, pools, or whatever else theory holds: there it is drawn (moments/drawn.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .._batch import tensors_in
from .._run import random_states
from .moments import Known, Silent, Source
from .operations import Call

_MOST = 64  # calls behind each other
_EXAMPLES = 128  # of all draws together; a batch of fewer is drawn several times
_MOST_VALUES = 4_000_000  # that are drawn for one tensor


@dataclass(frozen=True)
class _Number:
    """Stands for a tensor of the pass among a call's arguments."""

    of: int


@dataclass(frozen=True)
class Made:
    """How a tensor was made: function(*args, **kwargs)[index]."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    index: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """Numbers of the tensors that it was made from."""
        return tuple(dict.fromkeys(n.of for n in _numbers_in((self.args, self.kwargs))))

    def again(self, values: Mapping[int, Tensor]) -> Tensor:
        """Makes it from other values."""
        args, kwargs = (_filled(part, values) for part in (self.args, self.kwargs))
        with random_states.kept():
            out = self.function(*args, **kwargs)
        return list(tensors_in(out, depth=1))[self.index]


def made_by(
    call: Call, function: Any, module: nn.Module | None, tensor: Tensor, outputs: Any,
    number_of: Callable[[Any], int | None],
) -> Made | None:  # fmt: skip
    """None for a call that cannot be made again: one that is not seen, that changes what is not its own, or of a norm
    with running statistics.

    outputs    what the function returned, None of a module
    number_of  the number of a tensor that theory follows
    """
    if isinstance(module, _BatchNorm) or getattr(module, "running_mean", None) is not None:
        return None
    target: Any = function if module is None else module.forward
    if target is None:
        return None
    name = getattr(function, "__name__", "")
    if module is None and name in ("__setitem__", "batch_norm", "__set__"):
        return None
    index = 0
    if outputs is not None:
        found = [i for i, t in enumerate(tensors_in(outputs, depth=1)) if t is tensor]
        if not found:
            return None
        index = found[0]
    args, kwargs = (_numbered(part, number_of) for part in (call.args, call.kwargs))
    return Made(target, args, kwargs, index)


class StandIns:
    """What stands in for the tensors of one pass.

    made    {number: how it was made}, of what may be made again; the rest is drawn
    known   what theory holds of a tensor
    """

    def __init__(self, made: Mapping[int, Made], known: Callable[[int], Known | None]):
        self._made, self._known = made, known
        self._values: dict[tuple[int, int], Tensor] = {}
        self._sources: dict[int, Source] = {}

    def again(self, number: int) -> Tensor:
        """Values for this tensor, of as many draws as its examples need, one behind the other. Raises Silent."""
        shapes = [k.shape for n in self._roots(number) if (k := self._known(n)) is not None]
        draws = min(
            (min(_EXAMPLES // s[0], _MOST_VALUES // math.prod(s)) for s in shapes if math.prod(s)), default=1
        )
        draws = max(draws, 1)
        return torch.cat([self.of(number, i).detach() for i in range(draws)])

    def of(self, number: int, draw_number: int = 0) -> Tensor:
        """Values for this tensor, of its shape. Raises Silent where a call cannot be made again."""
        roots = self._roots(number)
        if any((root, draw_number) not in self._values for root in roots):
            self._values = {k: v for k, v in self._values.items() if k[1] != draw_number}
            self._sources = {k: v for k, v in self._sources.items() if k in roots}
            for root in roots:
                self._values[root, draw_number] = self._drawn(root, draw_number)
        return self._of(number, draw_number)

    def clear(self) -> None:
        self._values.clear()
        self._sources.clear()

    def _of(self, number: int, draw_number: int) -> Tensor:
        found = self._values.get((number, draw_number))
        if found is not None:
            return found
        made = self._made[number]
        try:
            value = made.again({n: self._of(n, draw_number) for n in made.inputs})
        except Silent:
            raise
        except Exception as error:  # a call that does not bear other values: that is no reason to end a pass
            raise Silent(f"its call cannot be made again ({type(error).__name__})") from error
        self._values[number, draw_number] = value
        return value

    def _roots(self, number: int) -> list[int]:
        found: dict[int, None] = {}
        seen, stack = {number}, [number]
        while stack:
            made = self._made.get(stack.pop())
            for parent in () if made is None else made.inputs:
                if parent in seen:
                    continue
                seen.add(parent)
                if parent in self._made:
                    stack.append(parent)
                else:
                    found[parent] = None
            if len(seen) > _MOST:
                raise Silent("too many calls lie between it and what is known")
        if number not in self._made:
            return [number]
        if not found:
            raise Silent("nothing is known of what it was made from")
        return list(found)

    def _drawn(self, number: int, draw_number: int) -> Tensor:
        known = self._known(number)
        if known is None:
            raise Silent("nothing is known of what it was made from")
        if number not in self._sources:
            self._sources[number] = Source(known.signal, known.shape, known.axis)
        return self._sources[number].draw(seed=1_000_003 * draw_number + number)


def _numbered(part: Any, number_of: Callable[[Any], int | None]) -> Any:
    if isinstance(part, Tensor):
        number = number_of(part)
        return part if number is None else _Number(number)
    if isinstance(part, dict):
        return {k: _numbered(v, number_of) for k, v in part.items()}
    if type(part) in (tuple, list):
        return type(part)(_numbered(v, number_of) for v in part)
    return part


def _filled(part: Any, values: Mapping[int, Tensor]) -> Any:
    if isinstance(part, _Number):
        return values[part.of].clone()  # some calls work in place
    if isinstance(part, dict):
        return {k: _filled(v, values) for k, v in part.items()}
    if type(part) in (tuple, list):
        return type(part)(_filled(v, values) for v in part)
    return part


def _numbers_in(part: Any) -> list[_Number]:
    if isinstance(part, _Number):
        return [part]
    if isinstance(part, dict):
        return [n for v in part.values() for n in _numbers_in(v)]
    if type(part) in (tuple, list):
        return [n for v in part for n in _numbers_in(v)]
    return []
