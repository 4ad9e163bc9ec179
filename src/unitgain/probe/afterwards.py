"""Whether gradients are made smaller after the step that used them: clipping that stands too low. For rule UG511.

The gradient of one small parameter is kept from a sampled step to the next forward pass, so that it is still there when
zero_grad() has taken it away. A sample of it is read at both times: clipping makes every value smaller, or leaves it;
clearing makes all of them zero; another backward pass adds to them. A loop that keeps momentum in the gradients, and
multiplies them where others clear them, makes them smaller by the same factor each time; a limit does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from .. import stats

_SAMPLE = 64  # values that are compared
_FEWEST = 8  # values of the parameter: a single one may become smaller by chance
_MOST_VALUES = 1_000_000  # of the parameter: its gradient is kept for as long as a forward pass begins
_MOST = 128  # steps that are kept before they are read
_LEFT = 0.999  # of the norm: less is more than rounding
_SAME_FACTOR = 0.01  # relative, over all steps: more than rounding in half precision


@dataclass(frozen=True)
class _Held:
    """A gradient, a sample of it at the step, how many steps there had been, and what the parameter has now."""

    gradient: Tensor
    sample: Tensor
    step: int
    now: Callable[[], Tensor | None]


class Afterwards:
    """Follows a gradient from each sampled step of an optimizer to the forward pass behind it."""

    def __init__(self) -> None:
        self._held: _Held | None = None
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self.judged = 0  # sampled steps whose gradients were finite, and still there
        self._left: list[float] = []  # of the norm, of those that were made smaller

    def stepped(self, step: int, gradients: Iterable[Callable[[], Tensor | None]]) -> None:
        """An optimizer has made a sampled step. gradients: of each parameter, the one that it has when asked."""
        there = [(g.numel(), i, g, now) for i, now in enumerate(gradients) if (g := now()) is not None]
        smallest = min((one for one in there if _FEWEST <= one[0] <= _MOST_VALUES), default=None)
        if smallest is not None:
            _, _, gradient, now = smallest
            self._held = _Held(gradient, stats.take_sample(gradient, _SAMPLE), step, now)

    def entered(self, steps: int) -> None:
        """A forward pass begins, after so many steps."""
        held, self._held = self._held, None
        if held is None:
            return
        if steps > held.step + 1 and held.now() is held.gradient:
            return  # steps that were not sampled have used the same tensor since
        self._pairs.append((held.sample, stats.take_sample(held.gradient, _SAMPLE)))
        if len(self._pairs) >= _MOST:
            self._read()

    def _read(self) -> None:
        for then, now in self._pairs:
            before, after = float(then.double().norm()), float(now.double().norm())
            if not math.isfinite(before + after) or not after:
                continue  # not finite, or cleared in place
            self.judged += 1
            none_larger = bool((now.abs() <= then.abs()).all()) and bool((now * then >= 0).all())
            if none_larger and after < _LEFT * before:
                self._left.append(after / before)
        self._pairs.clear()

    def left(self) -> list[float]:
        """What was left of the gradients' norm, at each sampled step after which it became smaller, ascending; nothing
        where it was the same factor every time."""
        self._read()
        left = sorted(self._left)
        decays = len(left) > 1 and left[-1] - left[0] < _SAME_FACTOR * left[-1]
        return [] if decays else left
