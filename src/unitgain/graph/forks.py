"""What a tensor was computed from, back to a given place in the pass."""

from __future__ import annotations

from collections.abc import Sequence

from .values import Value

_BUDGET = 50_000  # values that are looked at for one sum


def ancestors(value: Value, low: int) -> dict[int, Value]:
    """{number: value} of all that a value was computed from, no earlier in the pass than `low`; itself not."""
    found: dict[int, Value] = {}
    stack = [value]
    while stack and len(found) < _BUDGET:
        for parent in stack.pop().parents:
            if parent.number >= low and parent.number not in found:
                found[parent.number] = parent
                stack.append(parent)
    return found


def between(start: Value, values: Sequence[Value]) -> list[Value]:
    """Those of the values, in execution order, that were computed from `start`: not what comes from elsewhere, as an
    encoder's output does."""
    reached = {start.number}
    found = []
    for value in values:
        if any(parent.number in reached for parent in value.parents):
            reached.add(value.number)
            found.append(value)
    return found
