"""Every object in which a run of a model could leave a trace, found by following references.

Followed are modules, optimizers, schedulers, containers, tensors, arrays, generators of random numbers, functions with
what they close over, and plain objects of the user's own, these to a depth of three. Not followed are classes and
python modules.

Of modules and optimizers that only a plain object or a function refers to (the other models of a trainer, a
discriminator in the loss) everything is noted but the values of their tensors, which would cost their memory again.
These are asked for by `values_of` when such a module runs or such an optimizer makes a step.

What cannot be rewound is noted by its path: iterators, files, sockets, processes, queues. A plain object that holds one
of these, or a lock or thread, is left alone as a whole: taking back half of what it knows would be worse. So are arrays
and tensors of more than a gigabyte that are no parameter, buffer or optimizer state: replay buffers and data sets.
"""

from __future__ import annotations

import collections
import enum
import functools
import io
import mmap
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .tensors import TensorState, untracked
from .values import (
    GENERATORS,
    ClassAttributes,
    Kept,
    KeptArray,
    KeptAttributes,
    KeptBytes,
    KeptCell,
    KeptEmpty,
    KeptGenerator,
    KeptMapping,
    KeptScript,
    KeptSequence,
    KeptSet,
    contents_of,
    package_of,
    slots_of,
)

_DEPTH = 3  # plain objects and functions between a module and what is still followed
_MOST = 300_000  # objects; a data set held as a list of millions of things is left alone
_LARGEST = 2**30  # bytes of a plain tensor or an array

_ATOMS: frozenset[type] = frozenset((
    bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), type, range, slice,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size,
    types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.MethodDescriptorType,
    types.WrapperDescriptorType,
    weakref.ref, weakref.ProxyType, re.Pattern, property, staticmethod, classmethod,
))  # fmt: skip
_CLASSES = (type, types.ModuleType, enum.Enum, np.generic)
_RUNNING = (  # go on by themselves or outside of the process
    io.IOBase, socket.socket, subprocess.Popen, queue.Queue, queue.SimpleQueue, mmap.mmap, np.memmap,
    sqlite3.Connection, sqlite3.Cursor,
)  # fmt: skip
_SHARED = (type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Condition, threading.Event,
           threading.Semaphore, threading.Barrier, threading.local, Executor)  # fmt: skip
_HOMES: tuple[type, ...] = (
    nn.Module,
    torch.optim.Optimizer,
    torch.optim.lr_scheduler.LRScheduler,
    torch.amp.GradScaler,
)
_CLEARED = {dict, list, set, collections.OrderedDict, collections.defaultdict, collections.deque}
_CONTAINERS = (dict, list, collections.deque, set, tuple, frozenset)
_LIBRARIES = {"torch", "numpy", "matplotlib", "tensorboard", "wandb", "mlflow", *sys.stdlib_module_names}
_OURS = (
    "unitgain.probe",
    "unitgain.record",
    "unitgain.train",
)  # a Probe mutes itself, a Learner is given in parts
_VALUES = {"types", "argparse", "dataclasses", "collections"}  # of the standard library, what holds values


class Place(NamedTuple):
    """Where an object was found.

    hops   plain objects and functions on the way from a module
    owner  number of the outside module or optimizer that holds it, if one does
    plain  whether it is an attribute, and no parameter, buffer or state of an optimizer
    """

    parent: Place | None
    name: str
    hops: int = 0
    owner: int | None = None
    plain: bool = True

    def inside(self, name: str, hops: int = 0) -> Place:
        return Place(self, name, self.hops + hops, self.owner, self.plain)

    def __str__(self) -> str:
        """
        >>> print(Place(Place(None, "model"), ".cache"))
        model.cache
        """
        return (str(self.parent) if self.parent is not None else "") + self.name


class Walk:
    """Follows references from roots, again and again if asked to; what was seen once is not looked at again.

    kept          (place, what an object was) of everything but tensors, in the order in which it was found
    tensors       {id: (place, state)}
    modules       {id: module}, all that were found
    outside       {id: tensors} of modules and optimizers outside whose values nobody asked for yet
    classes       of the modules
    not_rewound   "loader.iterator (list_iterator)": what cannot be put back
    """

    def __init__(self) -> None:
        self._empty = KeptEmpty()
        self.kept: list[tuple[Place, Kept]] = [(Place(None, "what was empty"), self._empty)]
        self.tensors: dict[int, tuple[Place, TensorState]] = {}
        self.modules: dict[int, nn.Module] = {}
        self.outside: dict[int, list[Tensor]] = {}
        self.classes = ClassAttributes()
        self.not_rewound: list[str] = []
        self._seen: dict[int, Any] = {}  # holds what it saw, so that no number of an object is given twice
        self._waiting: collections.deque[tuple[Any, Place]] = collections.deque()
        self._values: list[Tensor] = []
        self._full = False

    def follow(self, root: Any, name: str) -> tuple[list[TensorState], list[Tensor]]:
        """Notes all that can be reached from a root.

        Returns, of what was not known before, the tensors' states, and the tensors whose values are to be kept.
        """
        known, self._values = len(self.tensors), []
        with untracked():
            self._visit(root, Place(None, name), is_root=True)
            while self._waiting:
                self._visit(*self._waiting.popleft())
        states = [state for _, state in list(self.tensors.values())[known:]]
        return states, [*self._values, *self.values_of(root)]

    def values_of(self, home: Any) -> list[Tensor]:
        """Tensors of an outside module, with its submodules, or of an outside optimizer, if nobody asked before."""
        homes = home.modules() if isinstance(home, nn.Module) else (home,)
        return [tensor for one in homes for tensor in self.outside.pop(id(one), ())]

    def knows(self, thing: Any) -> bool:
        return id(thing) in self._seen

    def gradient_only(self, tensor: Tensor, name: str) -> TensorState:
        """Keeps a leaf of a graph, which backward gives a gradient and nothing else happens to."""
        with untracked():
            state = TensorState(tensor)
        self.tensors[id(tensor)] = (Place(None, name), state)
        self._seen[id(tensor)] = tensor
        return state

    # ---- one object ----------------------------------------------------------------------------------------

    def _visit(self, value: Any, place: Place, is_root: bool = False) -> None:
        if type(value) in _ATOMS or id(value) in self._seen:
            return
        if isinstance(value, _HOMES):
            self._home(value, place)
            return
        if len(self._seen) > _MOST:
            if not self._full:
                self.not_rewound.append(f"{place} and more (over {_MOST:,} objects)")
            self._full = True
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._tensor(value, place)
        elif isinstance(value, _CONTAINERS):
            self._container(value, place)
        elif isinstance(value, bytearray):
            self.kept.append((place, KeptBytes(value)))
        elif isinstance(value, _RUNNING):
            self._cannot(place, type(value).__name__)
        elif isinstance(value, np.ndarray):
            self._array(value, place)
        elif isinstance(value, GENERATORS):
            self.kept.append((place, KeptGenerator(value)))
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            self._function(value, place)
        elif isinstance(value, (*_CLASSES, *_SHARED)):
            return
        elif _is_iterator(value) and not is_root:
            self._cannot(place, type(value).__name__)
        elif _has_state(value):
            self._plain(value, place, is_root)

    def _push(self, value: Any, place: Place) -> None:
        if id(value) not in self._seen:
            self._waiting.append((value, place))

    def _cannot(self, place: Place, why: str) -> None:
        self.not_rewound.append(f"{place} ({why})")

    def _home(self, value: Any, place: Place) -> None:
        """A module, an optimizer, a schedule or a scaler: its attributes, and what they hold."""
        self._seen[id(value)] = value
        self.kept.append((place, KeptAttributes(value)))
        self.classes.keep(type(value))
        outside = place.hops > 0 or place.owner is not None
        if outside:
            self.outside[id(value)] = []
        is_module = isinstance(value, nn.Module)
        here = Place(place.parent, place.name, 0, id(value) if outside else None, plain=is_module)
        registered = here._replace(plain=False)
        if is_module:
            self.modules[id(value)] = value
            if isinstance(value, torch.jit.ScriptModule):
                self._script(value, registered)
        for name, held in vars(value).items():
            if type(held) in _ATOMS:
                continue
            if is_module and name in ("_parameters", "_buffers", "_modules") and isinstance(held, dict):
                self._registered(held, registered, name)
            elif type(held) in _CLEARED and not held:
                if id(held) not in self._seen:
                    self._seen[id(held)] = held
                    self._empty.containers.append(held)
            else:
                self._push(held, here.inside(f".{name}"))

    def _registered(self, members: dict[str, Any], place: Place, name: str) -> None:
        """Submodules, parameters and buffers are known by their own names."""
        if id(members) not in self._seen:
            self._seen[id(members)] = members
            self.kept.append((place.inside(f".{name}"), KeptMapping(members)))
        for key, member in members.items():
            if member is not None:
                self._push(member, place.inside(f".{key}"))

    def _script(self, module: Any, place: Place) -> None:
        script = getattr(module, "_c", None)
        if not isinstance(script, torch._C.ScriptModule):
            return
        kept = KeptScript(script)
        self.kept.append((place, kept))
        for name, value in (*kept.values.items(), *module.named_children()):
            self._push(value, place.inside(f".{name}"))

    def _tensor(self, tensor: Tensor, place: Place) -> None:
        try:
            state = TensorState(tensor)
            size = tensor.numel() * tensor.element_size()
        except Exception as error:
            self._cannot(place, f"{type(tensor).__name__}: {type(error).__name__}")
            return
        self.tensors[id(tensor)] = place, state
        if place.plain and size > _LARGEST:
            self._cannot(place, f"the values of a tensor of {size / 2**30:.1f} GiB")
        else:
            (self._values if place.owner is None else self.outside[place.owner]).append(tensor)
        for hooks in state.hooks:
            self._push(hooks, place.inside("._hooks"))
        for part in state.parts:
            self._push(part, place)
        self._push(tensor.__dict__, place)

    def _container(self, value: Any, place: Place) -> None:
        if isinstance(value, dict):
            self.kept.append((place, KeptMapping(value)))
            for key, held in value.items():
                if type(key) is not str:
                    self._push(key, place.inside(".keys"))
                if type(held) not in _ATOMS:
                    self._push(held, place.inside(f"[{_short(key)}]"))
        else:
            if isinstance(value, (list, collections.deque)):
                self.kept.append((place, KeptSequence(value)))
            elif isinstance(value, set):
                self.kept.append((place, KeptSet(value)))
            for number, held in enumerate(value):
                if type(held) not in _ATOMS:
                    self._push(held, place.inside(f"[{number}]"))
        attributes = getattr(value, "__dict__", None)  # of a subclass
        if attributes is not None:
            self._push(attributes, place)

    def _array(self, array: np.ndarray, place: Place) -> None:
        if array.nbytes > _LARGEST:
            self._cannot(place, f"the values of an array of {array.nbytes / 2**30:.1f} GiB")
        elif array.flags.writeable:
            self.kept.append((place, KeptArray(array)))
        if array.dtype == object:
            for number, held in enumerate(array.flat):
                self._push(held, place.inside(f"[{number}]"))

    def _function(self, value: Any, place: Place) -> None:
        if place.hops >= _DEPTH:
            return
        deeper = place.inside("", hops=1)
        if isinstance(value, functools.partial):
            for held in (value.func, *value.args, *value.keywords.values()):
                self._push(held, deeper)
            return
        if isinstance(value, types.MethodType):
            self._push(value.__self__, deeper)
            value = value.__func__
        if not isinstance(value, types.FunctionType) or _is_foreign(value):
            return
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            if id(cell) not in self._seen:
                self._seen[id(cell)] = cell
                self.kept.append((deeper.inside(f".{name}"), KeptCell(cell)))
                self._push(contents_of(cell), deeper.inside(f".{name}"))
        for held in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), value.__dict__):
            self._push(held, deeper)
        for name, held in _named_in(value):
            self._push(held, deeper._replace(parent=None, name=name))

    def _plain(self, value: Any, place: Place, is_root: bool) -> None:
        """An object of the user's own: a configuration, a cache, counters."""
        if not is_root and (place.hops >= _DEPTH or _is_foreign(type(value))):
            del self._seen[id(value)]  # it may be given by itself
            return
        held = list(_fields(value))
        if not is_root:
            bound = [h for _, h in held if isinstance(h, (*_RUNNING, *_SHARED)) or _is_iterator(h)]
            if bound:
                self._cannot(
                    place, f"{type(value).__name__}: it holds a {type(bound[0]).__name__.lstrip('_')}"
                )
                return
        self.kept.append((place, KeptAttributes(value)))
        for name, one in held:
            self._push(one, place.inside(f".{name}", hops=0 if is_root else 1))


def _named_in(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Modules, optimizers and functions among the global variables that a function's code names."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for name in code.co_names:
            held = function.__globals__.get(name)
            if isinstance(held, (*_HOMES, types.FunctionType)):
                yield name, held


def _short(key: Any) -> str:
    return repr(key)[:40] if isinstance(key, (str, int, float, bool)) else type(key).__name__


def _is_foreign(kind: Any) -> bool:
    """Whether a class or function is of a library whose objects are not the user's to change."""
    if (getattr(kind, "__module__", None) or "").startswith(_OURS):
        return True
    return package_of(kind) in _LIBRARIES - _VALUES


def _has_state(value: Any) -> bool:
    return isinstance(getattr(value, "__dict__", None), dict) or bool(slots_of(value))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    yield from dict(getattr(value, "__dict__", {})).items()
    for name in slots_of(value):
        if hasattr(value, name):
            yield name, getattr(value, name)


def _is_iterator(value: Any) -> bool:
    """Whether it is one whose place cannot be set; an iterator of the user's own class is a plain object."""
    kind = type(value)
    return hasattr(kind, "__next__") and (_is_foreign(kind) or not _has_state(value))
