"""Where two tensors part: what each alone descends from, and what they have in common."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from .values import Value

_BUDGET = 20_000  # values that are looked at for one sum before it is taken for none


def part(a: Value, b: Value) -> tuple[list[Value], list[Value], set[int]] | None:
    """(values that only a descends from, only b, numbers of the common ones right behind them), a and b with
    themselves; None if they have nothing in common.

    As git finds a merge base: from the latest value back, until only common ones are left.
    """
    values = {a.number: a, b.number: b}
    flags = {a.number: 1}
    flags[b.number] = flags.get(b.number, 0) | 2
    heap = [-n for n in values]
    heapq.heapify(heap)
    open_ones = sum(f != 3 for f in flags.values())
    own: tuple[list[Value], list[Value]] = ([], [])
    common: set[int] = set()
    for _ in range(_BUDGET):
        if not heap or not open_ones:
            break
        number = -heapq.heappop(heap)
        value, flag = values[number], flags[number]
        if flag == 3:
            common.add(number)
        else:
            open_ones -= 1
            own[flag - 1].append(value)
        for parent in value.parents:
            before = flags.get(parent.number)
            if before is None:
                values[parent.number] = parent
                heapq.heappush(heap, -parent.number)
            after = (before or 0) | flag
            open_ones += (after != 3) - (before is not None and before != 3)
            flags[parent.number] = after
    if open_ones:
        return None
    common |= {n for n in (-i for i in heap) if flags[n] == 3}
    return (own[0][::-1], own[1][::-1], common) if common else None


def reached(start: Value, own: Sequence[Value], common: set[int]) -> list[Value]:
    """Those of a branch that descend from the start: not what comes from elsewhere, as an encoder's output does."""
    reached = {start.number} | {n for n in common if n > start.number}
    found = []
    for value in own:
        if any(p.number in reached for p in value.parents):
            reached.add(value.number)
            found.append(value)
    return found
