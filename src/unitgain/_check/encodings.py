"""Encodings of times and positions whose argument leaves its range: they are constant, or tell nothing. For UG811.

A sine or cosine of what no learnt weight has made is an encoding, if its channels are one quantity (or one for each
coordinate) times several frequencies; so is a table of such values that a module keeps. It fails exactly where all of
its channels have one frequency, where it is the same for all values that differ, or where the quantity goes round many
times even at the lowest of frequencies that grow by one factor. Whole turns, sin(2 pi t) of whole t, are the same for
all t whatever the channels are. An index for an embedding fails where a conversion to whole numbers, or a clamp, makes
one number of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..record import EncodingFacts
from .kept import Kept
from .where import calling_line

_WAVES = {"sin", "cos"}
_WHOLE = {"long", "int", "short", "to", "type", "floor", "trunc"}
_HELD = {"clamp", "clip", "clamp_max", "clamp_min"}
_SAME_INDEX = {
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "expand",
    "flatten",
    "contiguous",
    "clone",
    "long",
    "int",
    "to",
}
_FEWEST = 8  # different values that come in: of fewer, that they give one may be chance
_CHANNELS = 4  # of an encoding: one or two waves are features of their own
_FLAT = 0.01  # what the waves of an encoding differ by: of a range of two
_WIDE = 0.01  # of its size, what the argument differs by: more than rounding
_TURNS = 8.0  # at the lowest frequency: the usual encodings stay below one
_SLOW = 1.05  # the largest argument, where fractions go into waves that are made for whole steps
_SPAN = 100.0  # between the highest and the lowest frequency of such waves
_EXACT = 1e-3  # relative: rounding of an argument; of a turn: how whole it is
_ROUNDING = 2.5e-7  # of a float32 number
_LEAST_WHOLE = 0.02  # of a turn: where rounding is more, it is not known whether turns are whole
_COORDINATES = 4  # quantities of one argument at most
_MOST = 1_000_000  # values of an argument that are looked at


@dataclass
class _Argument:
    """What sines and cosines were taken of: whether all of them were flat."""

    facts: EncodingFacts | None
    flat: list[bool] = field(default_factory=list)
    several: bool = False


class Encodings:
    """model: its tables are looked at; weights: ids of its parameters that learn."""

    def __init__(self, model: nn.Module, weights: set[int]):
        self.found: list[EncodingFacts] = []
        self._weights = weights
        self._learnt: Kept[bool] = Kept()
        self._one_index: Kept[tuple[str, int]] = (
            Kept()
        )  # the function that made one number of all, and how many it got
        self._arguments: Kept[int] = Kept()
        self._seen: list[_Argument] = []
        self._tables = [(path, b) for path, b in model.named_buffers() if _may_be_table(b)]

    def finish(self) -> tuple[EncodingFacts, ...]:
        """What was found, when the pass is over."""
        for argument in self._seen:
            if argument.several and argument.facts is not None and argument.flat and all(argument.flat):
                self._keep(argument.facts)
        self._seen.clear()
        for path, table in self._tables:
            if _is_table(rows := table.detach().double().reshape(-1, table.shape[-1])):
                kind = "same" if _one_frequency(rows[:, 0::2]) or _one_frequency(_halves(rows)) else None
                if kind is not None:
                    self._keep(EncodingFacts(kind, "table", path, tuple(map(int, table.shape))))
        self._tables = []
        return tuple(self.found)

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [a for a in args if isinstance(a, Tensor)]
        if not isinstance(out, Tensor) or not given:
            return
        if any(id(t) in self._weights or self._learnt[t] for t in given):
            self._learnt[out] = True
        if name in _WAVES and not self._learnt[given[0]]:
            self._look_at_wave(name, given[0], out)
        elif name == "embedding":
            index = next((t for t in given if not t.is_floating_point()), None)
            known = self._one_index[index]
            if known is not None and index is not None:
                shape = tuple(map(int, index.shape))
                self._keep(EncodingFacts("index", known[0], calling_line(), shape, values=known[1]))
        elif name in _WHOLE | _HELD:
            self._look_at_index(name, given[0], out)
        elif name in _SAME_INDEX and (known := self._one_index[given[0]]) is not None:
            self._one_index[out] = known

    # ---- indices ---------------------------------------------------------------------------------------------

    def _look_at_index(self, name: str, x: Tensor, out: Tensor) -> None:
        if (known := self._one_index[x]) is not None:
            self._one_index[out] = known
            return
        whole = (
            name in _WHOLE
            and x.is_floating_point()
            and not (out.is_floating_point() and name in ("to", "type"))
        )
        if not (whole or name in _HELD) or not 0 < x.numel() <= _MOST or x.is_complex() or self._learnt[x]:
            return
        if bool((out == out.reshape(-1)[0]).all()) and (values := len(x.unique())) >= _FEWEST:
            self._one_index[out] = name, values

    # ---- waves -----------------------------------------------------------------------------------------------

    def _look_at_wave(self, name: str, x: Tensor, out: Tensor) -> None:
        if not x.is_floating_point() or not 0 < x.numel() <= _MOST or not bool(x.isfinite().all()):
            return
        number = self._arguments[x]
        if number is None:
            number = len(self._seen)
            self._arguments[x] = number
            self._seen.append(_Argument(None))
            self._look_at_argument(name, x, self._seen[number])
        self._seen[number].flat.append(bool(out.max() - out.min() < _FLAT))

    def _look_at_argument(self, name: str, x: Tensor, argument: _Argument) -> None:
        shape, where = tuple(map(int, x.shape)), calling_line()
        values = x.detach().double()
        turns = values / (2 * math.pi)
        off = (turns - turns.round()).abs() - _ROUNDING * turns.abs()
        known = float(turns.abs().max()) * _ROUNDING < _LEAST_WHOLE
        if known and bool((off < _EXACT).all()) and len(turns.round().unique()) >= _FEWEST:
            self._keep(EncodingFacts("turns", name, where, shape))
            return
        rows = values.reshape(-1, shape[-1]) if values.dim() > 1 else values[:, None]
        encoded = _encoded(rows)
        if not encoded:
            return
        size = float(rows.abs().max())
        around = [_turns_at_lowest(rows, columns, f) for columns, f in encoded]
        far = float((rows.amax(0) - rows.amin(0)).max())
        if size <= _SLOW and far > 0 and all(_is_ladder(f) for _, f in encoded):
            self._keep(EncodingFacts("slow", name, where, shape, reach=size))
        elif all(float(f.max() - f.min()) <= _EXACT * float(f.max()) for _, f in encoded):
            self._keep(EncodingFacts("same", name, where, shape))
        elif float(rows.max() - rows.min()) > _WIDE * size:
            argument.several, argument.facts = True, EncodingFacts("constant", name, where, shape, reach=size)
            if min(around) > _TURNS and all(_grow_by_one_factor(f) for _, f in encoded):
                self._keep(EncodingFacts("aliased", name, where, shape, reach=min(around)))

    def _keep(self, facts: EncodingFacts) -> None:
        if all((f.kind, f.where) != (facts.kind, facts.where) for f in self.found):
            self.found.append(facts)


def _encoded(rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """[the columns of one quantity, and their frequencies up to a factor] of rows in which each column is one of few
    quantities times a frequency. Empty where they are not, or where a quantity has too few values."""
    sizes = rows.abs().amax(0)
    if rows.shape[1] < _CHANNELS or len(rows) < _FEWEST or float(sizes.min()) <= 0:
        return []
    found, left = [], torch.ones_like(sizes, dtype=torch.bool)
    while bool(left.any()):
        first = rows[:, int((sizes * left).argmax())]
        factors = (rows * first[:, None]).sum(0) / first.square().sum()
        off = (rows - first[:, None] * factors).abs().amax(0)
        alike = left & (off <= _EXACT * sizes)
        columns = alike.nonzero().reshape(-1)
        if len(columns) < _CHANNELS or len(first.unique()) < _FEWEST or len(found) == _COORDINATES:
            return []
        found.append((columns, factors[columns].abs()))
        left &= ~alike
    return found


def _turns_at_lowest(rows: Tensor, columns: Tensor, frequencies: Tensor) -> float:
    lowest = rows[:, columns[int(frequencies.argmin())]]
    return float(lowest.max() - lowest.min()) / (2 * math.pi)


def _is_ladder(frequencies: Tensor) -> bool:
    """Whether they are the frequencies for many steps: all but the first few are far below the highest."""
    return _grow_by_one_factor(frequencies) and float(frequencies.max() / frequencies.min()) >= _SPAN


def _grow_by_one_factor(frequencies: Tensor) -> bool:
    logs = frequencies.log().sort().values
    steps = logs.diff()
    steps = steps[steps > _EXACT]  # the same frequencies may come twice, for sines and cosines
    return len(steps) >= _CHANNELS - 1 and float(steps.max() - steps.min()) < 0.05 * float(steps.mean())


# ---- tables --------------------------------------------------------------------------------------------------


def _may_be_table(buffer: Tensor) -> bool:
    return (
        buffer.is_floating_point()
        and 2 <= buffer.dim() <= 3
        and buffer.shape[-1] >= 2 * _CHANNELS
        and buffer.shape[-1] % 2 == 0
        and _FEWEST * buffer.shape[-1] <= buffer.numel() <= _MOST
    )


def _halves(rows: Tensor) -> Tensor:
    return rows[:, : rows.shape[1] // 2]


def _is_table(rows: Tensor) -> bool:
    """Whether channels are sines and cosines of the same, side by side or in two halves."""
    half = rows.shape[1] // 2
    pairs = (rows[:, 0::2], rows[:, 1::2]), (rows[:, :half], rows[:, half:])
    return any(bool(((one.square() + two.square() - 1).abs() < _EXACT).all()) for one, two in pairs)


def _one_frequency(columns: Tensor) -> bool:
    varied = len(columns[:, 0].unique()) >= _FEWEST
    return varied and bool(((columns - columns[:, :1]).abs() < _EXACT).all())
