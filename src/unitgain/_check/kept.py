"""What is known of tensors, as long as they live."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

from torch import Tensor

V = TypeVar("V")


class Kept(Generic[V]):
    """Values of tensors that are still alive."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[weakref.ref[Tensor], V]] = {}

    def __getitem__(self, tensor: Any) -> V | None:
        entry = self._held.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __setitem__(self, tensor: Tensor, value: V) -> None:
        self._held[id(tensor)] = weakref.ref(tensor), value
