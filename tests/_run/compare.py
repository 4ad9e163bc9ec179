"""Whether objects are exactly what they were: the one comparison behind every test that nothing leaves a trace.

`Photograph(model=model, batch=batch, ...)` writes down, by path, everything that can be reached from its arguments, and
torch's, numpy's and python's global state. `before.differences()` writes it down again and names the paths at which
something differs: values byte by byte, identities, where values lie in memory, version counters (a graph made before
must still work), gradients, hooks, flags, classes, the order of keys, cells of closures, states of generators, locks.

It knows nothing of unitgain: it follows references its own way. test_compare.py shows that it sees each kind of change.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import random
import threading
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
_VALUES = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    type(None),
    torch.dtype,
    torch.device,
    torch.Size,
)
_STATE_OF_LIBRARIES = (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)


class Photograph:
    """What its arguments are at one moment.

    >>> model = nn.Linear(2, 2)
    >>> before = Photograph(model=model)
    >>> model.train(False).weight.requires_grad_(False)
    Parameter containing:
    ...
    >>> before.differences()
    ["model.__dict__['training']", "model._parameters['weight']: requires_grad"]
    """

    def __init__(self, **roots: Any):
        self._roots = roots
        self.seen: dict[str, Any] = {}
        self._held: dict[int, Any] = {}  # so that no id is given twice
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            for name, root in roots.items():
                self._write(root, name)
        self.seen.update(global_state())

    def differences(self) -> list[str]:
        now = Photograph(**self._roots).seen
        paths = [*self.seen, *(path for path in now if path not in self.seen)]
        return [path for path in paths if self.seen.get(path, "absent") != now.get(path, "absent")]

    # ---- objects -------------------------------------------------------------------------------------------

    def _write(self, value: Any, path: str) -> None:
        if isinstance(value, _VALUES):
            self.seen[path] = (type(value).__name__, repr(value))
            return
        self.seen[path] = (type(value).__name__, id(value))
        if id(value) in self._held:
            return
        self._held[id(value)] = value
        if isinstance(value, Tensor):
            self._tensor(value, path)
        elif isinstance(value, np.ndarray):
            self.seen[f"{path}: values"] = (value.shape, value.dtype.str, value.tobytes())
        elif isinstance(value, _CONTAINERS):
            self._container(value, path)
        elif isinstance(value, _GENERATORS):
            self.seen[f"{path}: state"] = _state_of(value)
        elif isinstance(value, _LOCKS):
            self.seen[f"{path}: locked"] = "unlocked" in repr(value)
        elif isinstance(value, types.FunctionType):
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
                self._cell(cell, f"{path}<{name}>")
            self._write(value.__defaults__, f"{path}.__defaults__")
            self._write(value.__dict__, f"{path}.__dict__")
        elif isinstance(value, types.MethodType):
            self._write(value.__self__, f"{path}.__self__")
        elif isinstance(value, functools.partial):
            for number, part in enumerate((value.func, value.args, value.keywords)):
                self._write(part, f"{path}.partial[{number}]")
        elif isinstance(value, (type, types.ModuleType)):
            return
        else:
            self._object(value, path)

    def _cell(self, cell: Any, path: str) -> None:
        try:
            self._write(cell.cell_contents, path)
        except ValueError:
            self.seen[path] = "empty"

    def _object(self, value: Any, path: str) -> None:
        own = type(value).__module__.split(".")[0] not in ("torch", "numpy", "threading", "concurrent", "_io")
        if not own and not isinstance(value, _STATE_OF_LIBRARIES):
            return
        self.seen[f"{path}: class"] = type(value)
        if isinstance(value, torch.jit.ScriptModule):
            self._script(value, path)
        for name in getattr(type(value), "__slots__", ()):
            if hasattr(value, name):
                self._write(getattr(value, name), f"{path}.{name}")
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            self.seen[f"{path}: attributes"] = list(attributes)
            for name, held in attributes.items():
                inside = isinstance(value, nn.Module) and name in ("_parameters", "_buffers", "_modules")
                self._write(held, f"{path}.{name}" if inside else f"{path}.__dict__[{name!r}]")

    def _script(self, value: Any, path: str) -> None:
        script = getattr(value, "_c", None)
        if script is None:
            return
        names = torch._C.ConcreteModuleType.from_jit_type(script._type()).get_attributes()
        for name in names:
            self._write(script.getattr(name), f"{path}::{name}")
        for name, child in value.named_children():
            self._write(child, f"{path}::{name}")
        # lists come out of C++ as new ones each time
        for name in names:
            if isinstance(script.getattr(name), (list, dict, tuple)):
                self.seen[f"{path}::{name}"] = repr(script.getattr(name))

    def _container(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            keys = list(value)
            self.seen[f"{path}: keys"] = [k if isinstance(k, (str, int)) else id(k) for k in keys]
            for key in keys:
                if not isinstance(key, _VALUES):
                    self._write(
                        key, f"{path}: key {keys.index(key) if not isinstance(key, Tensor) else id(key)}"
                    )
                self._write(
                    value[key], f"{path}[{key!r}]" if isinstance(key, (str, int)) else f"{path}[{id(key)}]"
                )
        elif isinstance(value, (set, frozenset)):
            self.seen[f"{path}: members"] = sorted(
                repr(v) if isinstance(v, _VALUES) else str(id(v)) for v in value
            )
            for member in value:
                if not isinstance(member, _VALUES):
                    self._write(member, f"{path}{{{id(member)}}}")
        else:
            self.seen[f"{path}: length"] = len(value)
            for number, item in enumerate(value):
                self._write(item, f"{path}[{number}]")
        if getattr(value, "__dict__", None):
            self._write(value.__dict__, f"{path}.__dict__")

    # ---- tensors -------------------------------------------------------------------------------------------

    def _tensor(self, tensor: Tensor, path: str) -> None:
        note = self.seen
        note[f"{path}: class"] = type(tensor)
        note[f"{path}: kind"] = (tensor.dtype, tensor.device, tensor.layout)
        note[f"{path}: shape"] = str(tensor.shape) if not tensor.is_nested else str(tensor.size(0))
        note[f"{path}: requires_grad"] = tensor.requires_grad
        note[f"{path}: graph"] = (tensor.is_leaf, id(tensor.grad_fn))
        self._held[id(tensor.grad_fn)] = tensor.grad_fn
        note[f"{path}: version"] = tensor._version if not tensor.is_inference() else None
        note[f"{path}: memory"] = _place(tensor)
        note[f"{path}: values"] = _bytes(tensor)
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            self._write(getattr(tensor, name), f"{path}: {name}")
        if tensor.is_leaf:
            self._write(tensor.grad, f"{path}.grad")
        if tensor.__dict__:
            self._write(tensor.__dict__, f"{path}.__dict__")


def global_state() -> dict[str, Any]:
    registries = {
        n: v for n, v in vars(torch_modules).items() if n.startswith("_global_") and isinstance(v, dict)
    }
    hooks = {name: list(held) for name, held in registries.items()}
    return {
        "python's random state": random.getstate(),
        "numpy's random state": _numbers(np.random.get_state()),  # noqa: NPY002
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "random states of CUDA": [
            s.numpy().tobytes()
            for s in (torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])
        ],
        "gradient mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "hooks on all modules": hooks,
        "seeds that wait for CUDA": len(torch.cuda._queued_calls),
    }


def _place(tensor: Tensor) -> Any:
    try:
        storage = tensor.untyped_storage()
        where = (storage._cdata, storage.nbytes(), storage.resizable(), tensor.data_ptr())
        return (*where, tensor.storage_offset(), None if tensor.is_nested else tensor.stride())
    except (NotImplementedError, RuntimeError):
        return None


def _bytes(tensor: Tensor) -> Any:
    value = tensor.detach()
    if hasattr(type(tensor), "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        return {name: (id(getattr(tensor, name)), _bytes(getattr(tensor, name))) for name in names}
    if value.layout is torch.sparse_coo:
        return value.is_coalesced(), _bytes(value._indices()), _bytes(value._values())
    if value.layout in (torch.sparse_csr, torch.sparse_bsr):
        return _bytes(value.crow_indices()), _bytes(value.col_indices()), _bytes(value.values())
    if value.device.type == "meta":
        return None
    if value.is_nested:
        return [_bytes(part) for part in value.unbind()]
    if value.is_quantized:
        return value.int_repr().numpy().tobytes(), value.q_scale(), value.q_zero_point()
    # a copy: numpy would make the very storage one that cannot be resized any more
    flat = value.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).clone()
    return hashlib.sha256(flat.view(torch.uint8).numpy().tobytes()).hexdigest() if flat.numel() else ""


def _state_of(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    return _numbers(generator.get_state())


def _numbers(state: Any) -> list[Any]:
    return [part.tobytes() if isinstance(part, np.ndarray) else part for part in state]
