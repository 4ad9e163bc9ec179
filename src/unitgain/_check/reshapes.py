"""Reshapes in the place of a transpose: an axis that loses its place although another one has its size. For rule UG806.

A view or reshape keeps the order of the values. An axis lies where the product of the sizes behind it says:
(N, H, W, C) to (N, C, H, W) moves H, W and C without moving a value, so that channels, rows and columns get mixed.
Splitting and merging neighbouring axes leaves each of the others in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

_LEAST = 3  # size of an axis: of two values one cannot be told from the other
_STACKED = (2, 3, 4)  # steps that are merged into one with as many times the features


def moved_axis(before: Sequence[int], after: Sequence[int]) -> int | None:
    """The size of an axis behind the first that a reshape between these shapes takes apart while it makes another axis
    of that size; None if there is none, or if the first axis changes too.

    >>> moved_axis((8, 32, 32, 3), (8, 3, 32, 32)), moved_axis((8, 12, 64), (8, 12, 4, 16))
    (32, None)
    """
    if before[:1] != after[:1]:
        return None  # the examples are regrouped on purpose, as windows and patches are (MobileViT)
    was, now = _places(before), _places(after)
    gone = [size for size, behind in was[1:] if (size, behind) not in now]
    new = [size for size, behind in now if (size, behind) not in was]
    moved = [size for size in gone if size in new and size >= _LEAST]
    if not moved:
        return None
    rest = [size for size, _ in was[1:]]
    if len(was) == len(now) == 3 and rest == [size for size, _ in now[1:]][::-1]:
        many, few = rest
        if many % few == 0 and many // few in _STACKED:
            return None  # (N, T, C) to (N, T / 3, 3 C), where T / 3 happens to be C
    return moved[0]


def _places(shape: Sequence[int]) -> list[tuple[int, int]]:
    """(size, product of the sizes behind it) of every axis longer than one."""
    found, behind = [], 1
    for size in reversed(shape):
        if size > 1:
            found.append((int(size), behind))
        behind *= int(size)
    return found[::-1]
