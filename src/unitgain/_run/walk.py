"""Every object in which a run of a model could leave a trace, found by following references.

Followed are modules, optimizers, schedulers, containers, tensors, arrays, generators of random numbers, functions with
what they close over, and plain objects of the user's own, these to a depth of three. Not followed are classes and
python modules.

Of modules and optimizers that only a plain object or a function refers to (the other models of a trainer, a
discriminator in the loss) everything is noted but the values of their tensors, which would cost their memory again.
These are asked for by `values_of` when such a module runs or such an optimizer makes a step.

What cannot be rewound is noted by its path: iterators, files, sockets, processes, queues. A plain object that holds one
of these, or a lock or thread, is left alone as a whole: taking back half of what it knows would be worse.
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
from typing import Any

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

_ATOMS: frozenset[type] = frozenset((
    bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), type, range, slice,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size,
    types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.MethodDescriptorType,
    types.WrapperDescriptorType,
    weakref.ref, weakref.ProxyType, re.Pattern, property, staticmethod, classmethod,
))  # fmt: skip
_RUNNING = (  # go on by themselves or on other machines
    io.IOBase, socket.socket, subprocess.Popen, queue.Queue, queue.SimpleQueue, mmap.mmap, np.memmap,
    sqlite3.Connection, sqlite3.Cursor,
)  # fmt: skip
_SHARED = (type(threading.Lock()), type(threading.RLock()), threading.Thread, threading.Condition, threading.Event,
           threading.Semaphore, threading.Barrier, threading.local, Executor)  # fmt: skip
_HOMES: tuple[type, ...] = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
_LIBRARIES = {"torch", "numpy", "unitgain", "matplotlib", "tensorboard", "wandb", "mlflow"} | set(
    sys.stdlib_module_names
)

Path = tuple[Any, str]  # (path of what holds it, the last part)
Owner = int | None  # number of the outside module or optimizer that holds it


class Walk:
    """Follows references from roots, again and again if asked to; what was seen once is not looked at again.

    kept          (path, what an object was) of everything but tensors, in the order in which it was found
    tensors       {id: (path, state)}
    modules       {id: module}, all that were found
    outside       {id: tensors} of modules and optimizers outside whose values nobody asked for yet
    not_rewound   "loader.iterator (list_iterator)": what cannot be put back
    """

    def __init__(self) -> None:
        self._empty = KeptEmpty()
        self.kept: list[tuple[Path, Kept]] = [((None, "what was empty"), self._empty)]
        self.tensors: dict[int, tuple[Path, TensorState]] = {}
        self.modules: dict[int, nn.Module] = {}
        self.outside: dict[int, list[Tensor]] = {}
        self.classes = ClassAttributes()
        self.not_rewound: list[str] = []
        self._seen: dict[int, Any] = {}  # holds what it saw, so that no number of an object is given twice
        self._full = False

    def follow(self, root: Any, name: str) -> tuple[list[TensorState], list[Tensor]]:
        """Notes all that can be reached from a root.

        Returns, of what was not known before, the tensors' states, and the tensors whose values are to be kept.
        """
        known = len(self.tensors)
        self._waiting: collections.deque[tuple[Any, Path, int, Owner]] = collections.deque()
        self._values: list[Tensor] = []
        with untracked():
            self._visit(root, (None, name), 0, None, is_root=True)
            while self._waiting:
                self._visit(*self._waiting.popleft())
        return [state for _, state in list(self.tensors.values())[known:]], [
            *self._values,
            *self.values_of(root),
        ]

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
        self.tensors[id(tensor)] = ((None, name), state)
        self._seen[id(tensor)] = tensor
        return state

    # ---- one object ----------------------------------------------------------------------------------------

    def _visit(self, value: Any, path: Path, hops: int, owner: Owner, is_root: bool = False) -> None:
        kind = type(value)
        if kind in _ATOMS or id(value) in self._seen:
            return
        if isinstance(value, _HOMES):
            if hops or owner is not None:
                self.outside[id(value)] = []
            self._home(value, path, id(value) if hops or owner is not None else None)
            return
        if len(self._seen) > _MOST:
            if not self._full:
                self.not_rewound.append(f"{text(path)} and more (over {_MOST:,} objects)")
            self._full = True
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self._tensor(value, path, hops, owner)
        elif isinstance(value, (dict, list, collections.deque, set, tuple, frozenset)):
            self._container(value, path, hops, owner)
        elif isinstance(value, bytearray):
            self.kept.append((path, KeptBytes(value)))
        elif isinstance(value, _RUNNING):
            self._cannot(value, path)
        elif isinstance(value, np.ndarray):
            self._array(value, path, hops, owner)
        elif isinstance(value, GENERATORS):
            self.kept.append((path, KeptGenerator(value)))
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            self._function(value, path, hops, owner)
        elif isinstance(value, (type, enum.Enum, np.generic, *_SHARED)):
            return
        elif _is_iterator(value) and not is_root:
            self._cannot(value, path)
        elif _has_state(value):
            self._plain(value, path, hops, owner, is_root)

    def _push(self, value: Any, path: Path, hops: int, owner: Owner) -> None:
        if type(value) not in _ATOMS and id(value) not in self._seen:
            self._waiting.append((value, path, hops, owner))

    def _cannot(self, value: Any, path: Path) -> None:
        self.not_rewound.append(f"{text(path)} ({type(value).__name__})")

    def _home(self, value: Any, path: Path, owner: Owner) -> None:
        """A module, an optimizer or a schedule: its attributes, and what they hold."""
        self._seen[id(value)] = value
        self.kept.append((path, KeptAttributes(value)))
        self.classes.keep(type(value))
        if isinstance(value, nn.Module):
            self.modules[id(value)] = value
            if isinstance(value, torch.jit.ScriptModule):
                self._script(value, path, owner)
        for name, held in vars(value).items():
            if type(held) in _ATOMS:
                continue
            if type(held) in _CLEARED and not held:
                if id(held) not in self._seen:
                    self._seen[id(held)] = held
                    self._empty.containers.append(held)
                continue
            # modules, parameters and buffers are known by their own names
            inside = isinstance(value, nn.Module) and name in ("_parameters", "_buffers", "_modules")
            if inside and isinstance(held, dict):
                if id(held) not in self._seen:
                    self._seen[id(held)] = held
                    self.kept.append(((path, f".{name}"), KeptMapping(held)))
                for key, member in held.items():
                    self._push(member, (path, f".{key}"), 0, owner)
            else:
                self._push(held, (path, f".{name}"), 0, owner)

    def _script(self, module: Any, path: Path, owner: Owner) -> None:
        script = getattr(module, "_c", None)
        if not isinstance(script, torch._C.ScriptModule):
            return
        kept = KeptScript(script)
        self.kept.append((path, kept))
        for name, value in kept.values.items():
            self._push(value, (path, f".{name}"), 0, owner)
        for name, child in module.named_children():
            self._push(child, (path, f".{name}"), 0, owner)

    def _tensor(self, tensor: Tensor, path: Path, hops: int, owner: Owner) -> None:
        try:
            state = TensorState(tensor)
        except Exception as error:
            self.not_rewound.append(f"{text(path)} ({type(tensor).__name__}: {type(error).__name__})")
            return
        self.tensors[id(tensor)] = path, state
        (self._values if owner is None else self.outside[owner]).append(tensor)
        for hooks in state.hooks:
            self._push(hooks, (path, "._hooks"), hops, owner)
        for part in state.parts:
            self._push(part, path, hops, owner)
        self._push(tensor.__dict__, path, hops, owner)

    def _container(self, value: Any, path: Path, hops: int, owner: Owner) -> None:
        if isinstance(value, dict):
            self.kept.append((path, KeptMapping(value)))
            for key, held in value.items():
                if type(key) is not str:
                    self._push(key, (path, ".keys"), hops, owner)
                if type(held) not in _ATOMS:
                    self._push(held, (path, f"[{_short(key)}]"), hops, owner)
        else:
            if isinstance(value, (list, collections.deque)):
                self.kept.append((path, KeptSequence(value)))
            elif isinstance(value, set):
                self.kept.append((path, KeptSet(value)))
            for number, held in enumerate(value):
                if type(held) not in _ATOMS:
                    self._push(held, (path, f"[{number}]"), hops, owner)
        if type(value) not in _PLAIN_CONTAINERS and getattr(value, "__dict__", None):
            self._push(value.__dict__, path, hops, owner)

    def _array(self, array: np.ndarray, path: Path, hops: int, owner: Owner) -> None:
        if array.flags.writeable:
            self.kept.append((path, KeptArray(array)))
        if array.dtype == object:
            for number, held in enumerate(array.flat):
                self._push(held, (path, f"[{number}]"), hops, owner)

    def _function(self, value: Any, path: Path, hops: int, owner: Owner) -> None:
        if hops >= _DEPTH:
            return
        if isinstance(value, functools.partial):
            for held in (value.func, *value.args, *value.keywords.values()):
                self._push(held, path, hops + 1, owner)
            return
        if isinstance(value, types.MethodType):
            self._push(value.__self__, path, hops + 1, owner)
            value = value.__func__
        if not isinstance(value, types.FunctionType) or package_of(value) in _LIBRARIES:
            return
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            if id(cell) not in self._seen:
                self._seen[id(cell)] = cell
                self.kept.append(((path, f".{name}"), KeptCell(cell)))
                self._push(contents_of(cell), (path, f".{name}"), hops + 1, owner)
        for held in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), value.__dict__):
            self._push(held, path, hops + 1, owner)
        for name, held in _named_in(value):
            self._push(held, (None, name), hops + 1, owner)

    def _plain(self, value: Any, path: Path, hops: int, owner: Owner, is_root: bool) -> None:
        """An object of the user's own: a configuration, a cache, counters."""
        if not is_root and (hops >= _DEPTH or package_of(type(value)) in _LIBRARIES - _PLAIN):
            del self._seen[id(value)]  # it may be given by itself
            return
        held = list(_fields(value))
        if not is_root:
            bound = next(
                (h for _, h in held if isinstance(h, (*_RUNNING, *_SHARED)) or _is_iterator(h)), None
            )
            if bound is not None:
                kind = type(bound).__name__.lstrip("_")
                self.not_rewound.append(f"{text(path)} ({type(value).__name__}: it holds a {kind})")
                return
        self.kept.append((path, KeptAttributes(value)))
        for name, one in held:
            self._push(one, (path, f".{name}"), 0 if is_root else hops + 1, owner)


_PLAIN = {"types", "argparse", "dataclasses", "collections"}  # whose objects are values
_CLEARED = {dict, list, set, collections.OrderedDict, collections.defaultdict, collections.deque}
_PLAIN_CONTAINERS = {dict, list, set, tuple, frozenset, collections.OrderedDict, collections.defaultdict,
                     collections.deque, collections.Counter}  # fmt: skip


def text(path: Path) -> str:
    """ "model.layers.0.cache": a path in words.

    >>> text(((None, "model"), ".cache"))
    'model.cache'
    """
    parts: list[str] = []
    step: Any = path
    while step is not None:
        step, part = step
        parts.append(part)
    return "".join(reversed(parts))


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
    return hasattr(kind, "__next__") and (package_of(kind) in _LIBRARIES or not _has_state(value))
