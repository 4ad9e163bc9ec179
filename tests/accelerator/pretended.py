"""A pretended accelerator: tensors that say they lie elsewhere, compute on the CPU, and tell when somebody would wait.

`Pretended` is a tensor on the device "meta" (the one device besides the CPU for which autograd needs no driver)
around a tensor on the CPU, which does the work. Inside `watched()`:

- what a real accelerator could only answer after all queued work is done is noted in `waits`: a number asked for
  (item, bool, float), a mask's places (nonzero, indexing by a mask), a copy to or from the host that is not
  declared non-blocking
- what a real one refuses raises: tensors of both places in one operation, unless the one on the CPU has no axes
- `calls` are the operations, each about one kernel; `launches` counts those that are more than views

So that code which never runs on an accelerator here can still be held to its promise not to wait.
"""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")

_ANSWERS = {
    "_local_scalar_dense", "nonzero", "nonzero_numpy", "masked_select", "equal", "is_nonzero", "_unique2",
    "unique_dim", "unique_consecutive", "bincount", "histc",
}  # fmt: skip
_VIEWS = {
    "detach", "view", "_unsafe_view", "t", "transpose", "alias", "permute", "expand", "squeeze", "unsqueeze",
    "select", "slice", "split", "split_with_sizes", "as_strided", "reshape", "narrow",
}  # fmt: skip
_COPIES = {"_to_copy", "copy_", "copy", "_pin_memory"}


class Pretended(Tensor):
    """Says it lies on DEVICE; `inner` on the CPU has the values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Pretended:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip

    def __init__(self, inner: Tensor):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def there(value: Tensor) -> Pretended:
    """A copy on the pretended accelerator."""
    return Pretended(value.detach().clone())


def here(value: Any) -> Any:
    """The values, on the CPU, without anybody waiting."""
    return value.inner.detach() if isinstance(value, Pretended) else value


def moved(model: nn.Module) -> nn.Module:
    """A copy of a model with its parameters and buffers there."""
    model = copy.deepcopy(model)
    known: dict[int, Any] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                known.setdefault(id(p), nn.Parameter(there(p), p.requires_grad))
                module._parameters[name] = known[id(p)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = there(buffer)
    return model


@dataclass
class Watch:
    """waits: what was asked, and where in unitgain (or in the test) from. calls: names of operations."""

    waits: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    @property
    def launches(self) -> int:
        return sum(name not in _VIEWS for name in self.calls)

    def forget(self) -> None:
        self.waits.clear()
        self.calls.clear()


_watches: list[Watch] = []


class _Factories(TorchDispatchMode):
    """Makes what is made on DEVICE a Pretended tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if _is_there(kwargs.get("device")) or any(isinstance(leaf, Pretended) for leaf in leaves):
            return _run(func, args, kwargs)
        return func(*args, **kwargs)


class _Literals(TorchFunctionMode):
    """What does not reach the dispatcher: literals, which are copied from the host, and lists of numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            _note(f"{func.__name__}(..., device)")
            return Pretended(func(*args, **{**kwargs, "device": "cpu"}))
        if func is Tensor.tolist and isinstance(args[0], Pretended):
            _note("tolist")
            return args[0].inner.tolist()
        return func(*args, **kwargs)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    watch = Watch()
    _watches.append(watch)
    try:
        with _Literals(), _Factories():
            yield watch
    finally:
        _watches.remove(watch)


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _note(what: str) -> None:
    frames = [f for f in traceback.extract_stack() if "torch" not in f.filename and f.filename != __file__]
    where = next((f for f in reversed(frames) if "unitgain" in f.filename), frames[-1] if frames else None)
    for watch in _watches:
        watch.waits.append(
            f"{what} at {where.filename.rpartition('unitgain/')[2]}:{where.lineno}" if where else what
        )


def _waits_for(name: str, func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    if name in _ANSWERS:
        return True
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [i for i in args[1] if isinstance(i, Tensor)]
        return any(i.dtype in (torch.bool, torch.uint8) or not isinstance(i, Pretended) for i in indices)
    if name in _COPIES:
        blocking = not kwargs.get("non_blocking", False) and not (
            name == "copy_" and len(args) > 2 and args[2]
        )
        sources = [isinstance(a, Pretended) for a in args[:2] if isinstance(a, Tensor)]
        target = kwargs.get("device")
        crosses = len(set(sources)) > 1 or (target is not None and _is_there(target) != sources[0])
        return crosses and (blocking or not _is_there(target))  # the host cannot look before it has come
    return False


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.rpartition("::")[2]
    leaves = tree_leaves((args, kwargs))
    for watch in _watches:
        watch.calls.append(name)
    if _waits_for(name, func, args, kwargs):
        _note(name)
    elif name not in _COPIES and not name.startswith("index"):
        strangers = [t for t in leaves if isinstance(t, Tensor) and not isinstance(t, Pretended) and t.dim()]
        if strangers and any(isinstance(t, Pretended) for t in leaves):
            raise RuntimeError(
                f"{name}: a tensor on the CPU, {tuple(strangers[0].shape)}, and one that is not"
            )
    target = kwargs.get("device")
    inner_args, inner_kwargs = tree_map(lambda t: t.inner if isinstance(t, Pretended) else t, (args, kwargs))
    if target is not None:
        inner_kwargs["device"] = torch.device("cpu")
    out = func(*inner_args, **inner_kwargs)
    stays = _is_there(target) if target is not None else True
    if name == "copy_" and not isinstance(args[0], Pretended):
        stays = False
    given = [t for t in leaves if isinstance(t, Pretended)]

    def outside(value: Any) -> Any:
        if not isinstance(value, Tensor) or not stays:
            return value
        same = next((t for t in given if t.inner is value), None)  # of an operation in place
        return same if same is not None else Pretended(value)

    return tree_map(outside, out)
