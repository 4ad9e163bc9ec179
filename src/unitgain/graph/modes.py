"""Torch function modes: what happens between modules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._batch import tensors_in
from .frame import Frame, is_site
from .listener import Listener
from .operations import EMBEDDING, SITE_FUNCTIONS, Call, operation_of
from .recorder import Recorder
from .values import Value, Values, settle

Guard = Callable[[Callable[..., Any]], Callable[..., Any]]


def plain_guard(hook: Callable[..., Any]) -> Callable[..., Any]:
    """What hooks do is nothing that autograd or a mode should see."""

    @functools.wraps(hook)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            return hook(*args, **kwargs)

    return wrapped


class Following(TorchFunctionMode):
    """Writes down what every call of a torch function makes, and tells the listener.

    frames  the modules whose forwards are running, the innermost one last
    """

    def __init__(self, recorder: Recorder, listener: Listener, guard: Guard, frames: Sequence[Frame]):
        super().__init__()
        self._recorder, self._listener, self._frames = recorder, listener, frames
        self._seen = guard(self._see)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._frames or self._frames[-1].inside == "hidden":
            return out
        if isinstance(out, (Tensor, tuple, list)) or func is Tensor.__setitem__:
            self._seen(func, args, kwargs, out)
        return out

    def _see(self, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        """A function ran. What is known of its arguments is still that of before, also where it worked in place."""
        found, call, values = operation_of(function), Call(args, kwargs), self._recorder.values
        if found.kind == "none":
            return
        self._listener.function(function, args, out)
        known = values.known_in((args, kwargs))
        if found.kind == "part" and _looks_up(values, call):
            found = EMBEDDING
        if not known and not found.site:
            return
        if found.kind == "node":
            made = self._recorder.function(self._frames[-1], found, function, call, known, out)
            if made is not None:
                self._written(function, made[1])
                self._listener.value(made[2], made[1], call)
                self._listener.node(made[0], made[1], None)
            return
        if found.kind == "assign" and isinstance(args[0], Tensor):
            out = args[0]
        tensors = list(tensors_in(out, depth=1))
        value = values.follow(found, function, call, known) if tensors else None
        for number, tensor in enumerate(tensors):
            if value is None:
                values.forget(tensor)
                continue
            each = value if number == 0 else _another(values, value)
            values.put(tensor, each)
            settle(each, tensor, call)
            each.picked = each.picked or (found.kind == "part" and len(tensors) > 1)
            if each.signal and each.floating:
                self._recorder.value(self._frames[-1], each, tensor)
            self._written(function, tensor)
            self._listener.value(each, tensor, call)

    def _written(self, function: Any, tensor: Tensor) -> None:
        """What is written in place into a view changes the tensor that it is a view of."""
        name = getattr(function, "__name__", "")
        dunder = name.startswith("__") and name.endswith("__")
        if not (name.startswith("__i") or name == "__setitem__" if dunder else name.endswith("_")):
            return
        base, values = tensor._base, self._recorder.values
        value = values.of(tensor)
        if base is None or base is tensor or value is None or not value.signal:
            return
        parents = [v for v in (values.of(base), value) if v is not None and v.signal]
        values.put(base, values.new("other", parents, name))


class Naming(TorchFunctionMode):
    """Tells the listener of the calls that are sites of a known graph."""

    def __init__(self, recorder: Recorder, listener: Listener, guard: Guard, frames: Sequence[Frame]):
        super().__init__()
        self._recorder, self._listener, self._frames = recorder, listener, frames
        self._seen = guard(self._see)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = SITE_FUNCTIONS.get(func)
        if found is not None and self._frames:
            inside = self._frames[-1].inside
            if inside != "hidden" and is_site(found, inside):
                self._seen(found.name, out)
        return out

    def _see(self, name: str, out: Any) -> None:
        tensor = next((t for t in tensors_in(out, depth=1) if t.is_floating_point()), None)
        if tensor is None:
            return
        node = self._recorder.nodes.get(self._recorder.of_call(self._frames[-1].path, name)[0])
        if node is None:
            self._recorder.varies = True
        else:
            self._listener.node(node, tensor, None)


def _looks_up(values: Values, call: Call) -> bool:
    """Whether x[index] takes rows of a weight, as an embedding does."""
    if not call.args or not isinstance(call.args[0], Tensor) or len(call.args) < 2:
        return False
    weight = values.of(call.args[0])
    index = next(tensors_in(call.args[1:]), None)
    return weight is not None and not weight.signal and bool(weight.parameters) and index is not None


def _another(values: Values, value: Value) -> Value:
    """For the second and further tensors that one call returned."""
    more = values.new(value.kind, value.parents, value.name)
    more.direct, more.signal, more.parameters = False, value.signal, value.parameters
    return more
