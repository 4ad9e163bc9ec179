"""Which call a module's output belongs to when reentrant checkpointing runs a part of the forward pass again.

The first pass runs without gradients, so the gradients' hooks can only be put on the recomputed tensors. Backward
recomputes the checkpointed parts from last to first, but each part in forward order: a module that is called twice
in each of two parts is called in the order 3, 4, 1, 2. Where a part ends is seen by its first gradient: it comes
when the whole part has been recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Recomputed:
    """One recomputed call of the module at path. Its site's name is known when its part has been recomputed."""

    path: str
    name: str | None = None


class Recomputation:
    """Matches recomputed calls with those of the first pass: per module, the last part has the last calls."""

    def __init__(self) -> None:
        self._first: dict[str, list[str]] = {}  # path -> sites of calls without gradients, in order
        self._part: list[Recomputed] = []

    def clear(self) -> None:
        self._first.clear()
        self._part.clear()

    def ran_without_gradients(self, path: str, name: str) -> None:
        self._first.setdefault(path, []).append(name)

    def ran_again(self, path: str) -> Recomputed | None:
        """None where the first pass had gradients: nothing is missing."""
        if not self._first.get(path):
            return None
        self._part.append(Recomputed(path))
        return self._part[-1]

    def name_of(self, call: Recomputed) -> str | None:
        """Asked when a gradient comes, which ends the part.

        >>> calls = Recomputation()
        >>> for name in ("fc", "fc#2", "fc#3", "fc#4"):
        ...     calls.ran_without_gradients("fc", name)
        >>> part = [calls.ran_again("fc"), calls.ran_again("fc")]
        >>> [calls.name_of(call) for call in part]
        ['fc#3', 'fc#4']
        """
        for member in reversed(self._part):
            left = self._first[member.path]
            member.name = left.pop() if left else None
        self._part.clear()
        return call.name
