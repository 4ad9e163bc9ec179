"""Follows tensors between modules: which site's tensor went into which, through which functions.

Hooks see modules only. `torch.tanh(self.fc1(x))` and `x + self.branch(x)` happen between them, and are what a
diagnosis needs to know. `Dataflow` is a torch function mode that is active while a sampled forward pass runs; it
remembers for every tensor (by weak reference) the sites that it came from.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import functions


@dataclass(frozen=True)
class Origin:
    """Where a tensor came from: site names, and whether it is one site's tensor unchanged but for its shape."""

    sites: tuple[str, ...]
    direct: bool


_VIEWS = {
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in (
        "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "t", "detach",
        "swapaxes", "movedim", "view_as", "reshape_as", "clone", "requires_grad_", "to", "type", "float", "unflatten",
        "mT", "T",
    )
    if hasattr(owner, name)
}  # fmt: skip
_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_NORMS = {F.batch_norm: "batch_norm", F.instance_norm: "instance_norm", F.layer_norm: "layer_norm",
          F.group_norm: "group_norm"}  # fmt: skip
_SOFTMAX = {F.softmax: "softmax", torch.softmax: "softmax", Tensor.softmax: "softmax", F.log_softmax: "log_softmax",
            torch.log_softmax: "log_softmax", Tensor.log_softmax: "log_softmax"}  # fmt: skip
_PRODUCTS = {torch.matmul: "matmul", Tensor.matmul: "matmul", Tensor.__matmul__: "matmul", torch.mm: "matmul",
             Tensor.mm: "matmul", torch.addmm: "addmm", F.linear: "linear", F.conv1d: "conv1d", F.conv2d: "conv2d",
             F.conv3d: "conv3d"}  # fmt: skip


def role_of_function(function: Callable[..., Any], in_leaf: bool) -> tuple[str, str] | None:
    """(role, name) of a function whose output is a site of its own, else None.

    Products are sites only inside leaf modules: models written on bare parameters compute their layers so.
    """
    if function in functions.FUNCTIONS:
        return "activation", functions.FUNCTIONS[function]
    if function in _NORMS:
        return "norm", _NORMS[function]
    if function in _SOFTMAX:
        return "softmax", _SOFTMAX[function]
    if function is F.scaled_dot_product_attention:
        return "attention", "attention"
    if in_leaf and function in _PRODUCTS:
        return "linear", _PRODUCTS[function]
    return None


class Origins:
    """tensor -> Origin, without keeping the tensor alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def __getitem__(self, tensor: Tensor) -> Origin | None:
        entry = self._known.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def __setitem__(self, tensor: Tensor, origin: Origin) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), origin)

    def clear(self) -> None:
        self._known.clear()

    def of(self, value: Any) -> tuple[Origin, ...]:
        return tuple(o for t in tensors_in(value) if (o := self[t]) is not None)


def tensors_in(value: Any, depth: int = 4) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples, mappings and dataclasses, first come first."""
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, depth - 1)
    elif depth and isinstance(values := getattr(value, "values", None), Callable):
        for item in values():
            yield from tensors_in(item, depth - 1)
    elif depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in fields_of(value):
            yield from tensors_in(getattr(value, name, None), depth - 1)


def fields_of(value: Any) -> list[str]:
    """Names of a dataclass instance's fields."""
    return [field.name for field in dataclasses.fields(value)]


def union(origins: Iterable[Origin]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(site for origin in origins for site in origin.sites))


class Dataflow(TorchFunctionMode):
    """Calls `on_site(role, name, function, args, kwargs, out)` for functions that are sites and keeps `origins`.

    paused    True inside modules whose inner functions are of no interest
    in_leaf   True inside a leaf module of the user's own
    sums      pairs of origins that were added: candidates for residual connections
    on_break  if given, called with the name of each function that makes NaN or infinity out of finite tensors
    """

    def __init__(
        self,
        origins: Origins,
        on_site: Callable[..., None],
        on_break: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self.origins, self.on_site, self.on_break = origins, on_site, on_break
        self.paused = False
        self.in_leaf = False
        self.sums: list[tuple[Origin, Origin]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        sources = () if self.paused else self.origins.of((args, kwargs))  # before: func may work in place
        out = func(*args, **kwargs)
        if self.paused or not isinstance(out, (Tensor, tuple, list)):
            return out
        if self.on_break is not None and _breaks(func, args, out):
            self.on_break(func.__name__)
        found = role_of_function(func, self.in_leaf)
        if found is not None:
            self.on_site(*found, args, kwargs, out, sources)
        elif sources:
            if func in _SUMS and len(sources) == 2:
                self.sums.append((sources[0], sources[1]))
            direct = func in _VIEWS and len(sources) == 1 and sources[0].direct
            origin = Origin(union(sources), direct)
            for tensor in tensors_in(out, depth=1):
                self.origins[tensor] = origin
        return out


# Masks hold infinities on purpose.
_MASKING = {"masked_fill", "masked_fill_", "where", "full", "full_like", "new_full", "fill_", "triu", "tril"}


@torch.no_grad()  # checkpointing counts what is saved for backward
def _breaks(func: Any, args: Any, out: Any) -> bool:
    """Whether a function made NaN or infinity out of finite tensors. Waits for an accelerator."""
    if (
        not isinstance(out, Tensor)
        or not out.is_floating_point()
        or out.layout is not torch.strided
        or out.is_nested
        or getattr(func, "__name__", "") in _MASKING
    ):
        return False
    if bool(torch.isfinite(out).all()):
        return False
    given = [t for t in tensors_in(args, depth=2) if t is not out and t.is_floating_point()]
    return all(bool(torch.isfinite(t).all()) for t in given)
