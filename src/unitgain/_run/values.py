"""Python values as they were: containers, attributes, arrays, generators, closures' variables, scripted attributes.

Each class holds one object with what was in it; `put_back` writes only where something differs, into the very object,
since others may hold it too (a hook's handle holds the dictionary of hooks, an optimizer its list of groups).
"""

from __future__ import annotations

import collections
import operator
import random
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

_MISSING = object()


class Kept(Protocol):
    def put_back(self) -> None: ...


class KeptMapping:
    """A dict, OrderedDict, defaultdict or Counter: the same keys with the same objects, in the same order."""

    __slots__ = ("_keys", "_mapping", "_values")

    def __init__(self, mapping: dict[Any, Any]):
        self._mapping, self._keys, self._values = mapping, tuple(mapping), tuple(mapping.values())

    def put_back(self) -> None:
        mapping = self._mapping
        if not (_identical(mapping, self._keys) and _identical(mapping.values(), self._values)):
            # not a subclass's own methods, which may refuse
            base: Any = collections.OrderedDict if isinstance(mapping, collections.OrderedDict) else dict
            base.clear(mapping)
            for key, value in zip(self._keys, self._values):
                base.__setitem__(mapping, key, value)


class KeptEmpty:
    """Containers that were empty, all together: most of a module's dictionaries of hooks are."""

    __slots__ = ("containers",)

    def __init__(self) -> None:
        self.containers: list[dict[Any, Any] | list[Any] | set[Any]] = []

    def put_back(self) -> None:
        for container in self.containers:
            if container:
                container.clear()


class KeptSequence:
    """A list or deque."""

    __slots__ = ("_items", "_sequence")

    def __init__(self, sequence: list[Any] | collections.deque[Any]):
        self._sequence, self._items = sequence, tuple(sequence)

    def put_back(self) -> None:
        now = self._sequence
        if not _identical(now, self._items):
            now.clear()
            now.extend(self._items)


class KeptSet:
    __slots__ = ("_items", "_set")

    def __init__(self, members: set[Any]):
        self._set, self._items = members, frozenset(members)

    def put_back(self) -> None:
        if self._set != self._items:
            self._set.clear()
            self._set.update(self._items)


class KeptBytes:
    __slots__ = ("_bytes", "_items")

    def __init__(self, values: bytearray):
        self._bytes, self._items = values, bytes(values)

    def put_back(self) -> None:
        if self._bytes != self._items:
            self._bytes[:] = self._items


class KeptAttributes:
    """An object's class, its __dict__ and its slots."""

    __slots__ = ("_kind", "_namespace", "_owner", "_slots")

    def __init__(self, owner: Any):
        self._owner, self._kind = owner, type(owner)
        namespace = getattr(owner, "__dict__", None)
        self._namespace = KeptMapping(namespace) if isinstance(namespace, dict) else None
        self._slots = {name: getattr(owner, name, _MISSING) for name in slots_of(owner)}

    def put_back(self) -> None:
        if type(self._owner) is not self._kind:
            object.__setattr__(self._owner, "__class__", self._kind)
        if self._namespace is not None:
            self._namespace.put_back()
        for name, value in self._slots.items():
            if getattr(self._owner, name, _MISSING) is not value:
                if value is _MISSING:
                    object.__delattr__(self._owner, name)
                else:
                    object.__setattr__(self._owner, name, value)


class KeptArray:
    """A numpy array that may be written to: shape and values."""

    __slots__ = ("_array", "_values")

    def __init__(self, array: np.ndarray):
        self._array, self._values = array, array.copy()

    def put_back(self) -> None:
        if self._array.shape != self._values.shape:
            self._array.resize(self._values.shape, refcheck=False)
        np.copyto(self._array, self._values)


class KeptGenerator:
    """A generator of random numbers: torch's, python's or numpy's."""

    __slots__ = ("_generator", "_state")

    def __init__(self, generator: Any):
        self._generator = generator
        if isinstance(generator, torch.Generator):
            self._state: Any = generator.get_state()
        elif isinstance(generator, random.Random):
            self._state = generator.getstate()
        elif isinstance(generator, np.random.Generator):
            self._state = generator.bit_generator.state
        else:
            self._state = generator.get_state(legacy=False)

    def put_back(self) -> None:
        if isinstance(self._generator, random.Random):
            self._generator.setstate(self._state)
        elif isinstance(self._generator, np.random.Generator):
            self._generator.bit_generator.state = self._state
        else:
            self._generator.set_state(self._state)


GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


class KeptCell:
    """A variable that a closure holds."""

    __slots__ = ("_cell", "_value")

    def __init__(self, cell: types.CellType):
        self._cell, self._value = cell, contents_of(cell)

    def put_back(self) -> None:
        if contents_of(self._cell) is not self._value:
            if self._value is _MISSING:
                del self._cell.cell_contents
            else:
                self._cell.cell_contents = self._value


class KeptScript:
    """What a scripted or traced module keeps in C++: parameters, buffers, the training flag and plain attributes."""

    __slots__ = ("_module", "values")

    def __init__(self, module: Any):
        self._module = module
        names = torch._C.ConcreteModuleType.from_jit_type(module._type()).get_attributes()  # type: ignore[attr-defined]
        self.values = {name: module.getattr(name) for name in names}

    def put_back(self) -> None:
        for name, value in self.values.items():
            if isinstance(value, torch.Tensor) and self._module.getattr(name) is value:
                continue
            self._module.setattr(name, value)


class ClassAttributes:
    """Attributes of classes: shared by all that use them, so that changes are named and not undone."""

    def __init__(self) -> None:
        self._classes: dict[type, dict[str, Any]] = {}

    def keep(self, kind: type) -> None:
        for base in kind.__mro__:
            if base not in self._classes and is_own(base):
                self._classes[base] = {
                    n: _contents(v) for n, v in vars(base).items() if not n.startswith("__")
                }

    def changed(self) -> Iterator[str]:
        for kind, before in self._classes.items():
            now = vars(kind)
            for name in [*before, *(n for n in now if n not in before and not n.startswith("__"))]:
                if name not in now or name not in before or not _same(before[name], _contents(now[name])):
                    yield f"{kind.__name__}.{name} (attribute of a class)"


def slots_of(owner: Any) -> list[str]:
    """Names of its slots, private ones as they are really called."""
    found = []
    for kind in type(owner).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                found.append(f"_{kind.__name__.lstrip('_')}{name}" if private else name)
    return found


def contents_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable without a value yet
        return _MISSING


def is_own(kind: type) -> bool:
    """Whether a class is the user's own rather than one of python's, numpy's, torch's or ours."""
    return package_of(kind) not in _FOREIGN


def package_of(kind: Any) -> str:
    return (getattr(kind, "__module__", None) or "").partition(".")[0]


_FOREIGN = {"builtins", "torch", "torchvision", "numpy", "unitgain", "_io", "_thread"}


class _Contents:
    """A container's items, to be compared by identity."""

    def __init__(self, container: Any):
        pairs = container.items() if isinstance(container, Mapping) else ((x, x) for x in container)
        self.items = tuple(x for pair in pairs for x in pair)


def _contents(value: Any) -> Any:
    return _Contents(value) if isinstance(value, (dict, list, set, collections.deque)) else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, _Contents) and isinstance(b, _Contents):
        return _identical(a.items, b.items)
    return a is b


def _identical(a: Collection[Any], b: Collection[Any]) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))
