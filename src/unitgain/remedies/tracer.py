"""Follows a forward pass and draws its wiring.

By module hooks and the Probe's torch function mode, so that functional activations (with their slopes), skip
connections and weights used as bare parameters are seen, in execution order, whatever order the modules were
registered in. Why not guess from registration: it is wrong at every branch, for every functional activation, and for
every model that registers its layers out of order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError
from ..probe import modules
from ..probe.dataflow import Dataflow, Origin, Origins, tensors_in, union
from ..probe.sites import unique_name
from .wiring import Elementwise, Node, Wiring, activation_of

_PARAMETER = "parameter:"
_SUMS = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__, Tensor.__radd__}
_CONCATS = {torch.cat, torch.concat, torch.concatenate, torch.stack, torch.hstack, torch.vstack}
_PRODUCTS = {torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__imul__, Tensor.__rmul__,
             torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}  # fmt: skip


class Tracer:
    """Follows forward passes of a model. `visit(node, tensor)` may return a tensor to go on with in its place
    (heeded for modules only)."""

    def __init__(self, model: nn.Module, visit: Callable[[Node, Any, Any], Any] | None = None):
        if modules.is_compiled(model):
            raise InputError(
                "model: it is compiled or scripted, which cannot be followed; give the one it was made from"
            )
        self.model, self.visit = model, visit
        self.wiring = Wiring()
        self._origins = Origins()
        self._flow = _Flow(self._origins, self._saw_function)
        self._stack: list[tuple[str, nn.Module, bool]] = []
        self._calls: dict[str, int] = {}
        self._paths = {path for path, *_ in modules.walk(model)}
        self._names = {id(p): n for n, p in model.named_parameters(remove_duplicate=True)}
        self._activations = {
            id(m): f for _, m, leaf, _ in modules.walk(model) if leaf and (f := activation_of(m)) is not None
        }

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Hooks in place inside, taken away after, also when forward raises."""
        with ExitStack() as stack:
            for path, module, leaf, _ in modules.walk(self.model):
                enter = module.register_forward_pre_hook(_partial(self._enter, path, leaf))
                stack.callback(enter.remove)
                leave = module.register_forward_hook(_partial(self._leave, path, leaf), with_kwargs=True)
                stack.callback(leave.remove)
            yield

    def run(self, call: Callable[[], Any], inputs: Any) -> Wiring:
        """One pass: call() runs the model on inputs, whose tensors are the data."""
        self.wiring = Wiring()
        self._origins.clear()
        self._stack.clear()
        self._calls.clear()
        for number, tensor in enumerate(tensors_in(inputs)):
            name = unique_name("input" if number == 0 else f"input[{number}]", "", self._paths)
            self.wiring.add(Node(name, "", "input", "data", 0, shape=tuple(tensor.shape)))
            self._origins[tensor] = Origin((name,), True)
        for parameter in self.model.parameters():
            self._origins[parameter] = Origin((_PARAMETER + self._names[id(parameter)],), True)
        with self.hooked(), self._flow:
            self._aim()
            output = call()
        for tensor in tensors_in(output):
            for site in o.sites if (o := self._origins[tensor]) is not None else ():
                if site in self.wiring.nodes:
                    self.wiring.nodes[site].is_output = True
        return self.wiring

    # ---- hooks ---------------------------------------------------------------------------------------------

    def _aim(self) -> None:
        """Functions inside modules that we know as a whole are of no interest."""
        self._flow.paused = bool(self._stack) and self._stack[-1][2]

    def _enter(self, path: str, leaf: bool, module: nn.Module, *_: Any) -> None:
        known = leaf and (modules.role(module) != "other" or id(module) in self._activations)
        self._flow.in_leaf = True  # products with bare parameters are weights wherever they stand
        self._stack.append((path, module, known))
        self._aim()

    def _leave(self, path: str, leaf: bool, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        _, _, known = self._stack.pop()
        self._aim()
        if not known:
            return None
        with torch._C.DisableTorchFunction():
            sources = self._origins.of((args, kwargs))
            first = next((t for _, t in modules.outputs_of(module, output)), None)
            if first is None:
                return None
            call = self._calls[path] = self._calls.get(path, 0) + 1
            function = self._activations.get(id(module))
            node = Node(
                name=unique_name((path or "output") + (f"#{call}" if call > 1 else ""), path, self._paths),
                path=path, call=call,
                role="activation" if function is not None else modules.role(module),
                label=_label(function, type(module).__name__), position=len(self.wiring.nodes), module=module,
                function=function, subtracts_mean=modules.subtracts_mean(module), shape=tuple(first.shape),
                parameters=tuple(self._names[id(p)] for p in module.parameters()), **_inputs(sources),
            )  # fmt: skip
            self.wiring.add(node)
            changed = self.visit(node, first, (args, kwargs)) if self.visit is not None else None
            result = output if changed is None else _replaced(output, first, changed)
            for _, tensor in modules.outputs_of(module, result):
                self._origins[tensor] = Origin((node.name,), True)
        return None if changed is None else result

    def _saw_function(
        self, role: str, name: str, args: Any, kwargs: Any, out: Any, sources: tuple[Origin, ...]
    ) -> None:
        tensor = next((t for t in tensors_in(out, depth=1) if t.is_floating_point()), None)
        if tensor is None:
            return
        with torch._C.DisableTorchFunction():
            wired = _inputs(sources)
            parameters = tuple(
                s.removeprefix(_PARAMETER) for o in sources for s in o.sites if s.startswith(_PARAMETER)
            )
            if role == "linear" and not parameters:
                role = "product"
            path = self._stack[-1][0] if self._stack else ""
            base = f"{path}:{name}"
            call = self._calls[base] = self._calls.get(base, 0) + 1
            function = None
            if role == "activation":
                function = _bound(self._flow.current, args, kwargs)
            node = Node(
                name=unique_name(base + (f"#{call}" if call > 1 else ""), path, self._paths), path=path, call=call,
                role=role,
                label=_label(function, name), position=len(self.wiring.nodes), function=function,
                subtracts_mean={"batch_norm": "channel", "layer_norm": "layer", "group_norm": "group"}.get(name),
                shape=tuple(tensor.shape), parameters=parameters, **wired,
            )  # fmt: skip
            self.wiring.add(node)
            if self.visit is not None and role == "linear":
                self.visit(node, tensor, (args, kwargs))
            self._origins[tensor] = Origin((node.name,), True)


class _Flow(Dataflow):
    """The Probe's data flow, with sums, products and concatenations of two signals as places of their own."""

    current: Any = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.paused:
            return func(*args, **(kwargs or {}))
        self.current = func
        role = (
            "sum"
            if func in _SUMS
            else "concat"
            if func in _CONCATS
            else "product"
            if func in _PRODUCTS
            else None
        )
        if role is None:
            return super().__torch_function__(func, types, args, kwargs)
        sources = self.origins.of((args, kwargs or {}))
        signals = {s for o in sources for s in o.sites if not s.startswith(_PARAMETER)}
        if len(signals) < 2 or len(sources) < 2:
            return super().__torch_function__(func, types, args, kwargs)
        out = func(*args, **(kwargs or {}))
        self.on_site(role, role, args, kwargs, out, sources)
        return out


def _inputs(sources: tuple[Origin, ...]) -> dict[str, Any]:
    signals = [o for o in sources if not all(s.startswith(_PARAMETER) for s in o.sites)]
    names = tuple(n for n in union(signals) if not n.startswith(_PARAMETER))
    return {"inputs": names, "unchanged": bool(signals) and signals[0].direct}


def _replaced(output: Any, first: Tensor, changed: Tensor) -> Any:
    if output is first:
        return changed
    if isinstance(output, tuple) and type(output) is tuple:
        return tuple(changed if item is first else item for item in output)
    if isinstance(output, list):
        return [changed if item is first else item for item in output]
    first.copy_(changed)
    return output


def _bound(func: Any, args: Any, kwargs: Any) -> Elementwise:
    """The function with the arguments it was called with, of its input alone, and never in place."""
    rest = args[1:]
    named = {k: v for k, v in (kwargs or {}).items() if k not in ("input", "inplace", "training")}
    if func is F.leaky_relu and len(rest) > 1:
        rest = rest[:1]

    def function(x: Tensor) -> Tensor:
        # a slope in a tensor (PReLU's) lies where the model does; theory asks on the CPU, in float64
        there = [v.detach().to(x) if isinstance(v, Tensor) and v.is_floating_point() else v for v in rest]
        also = {k: v.detach().to(x) if isinstance(v, Tensor) else v for k, v in named.items()}
        return func(x.clone(), *there, **also)

    function.__name__ = getattr(func, "__name__", "activation").rstrip("_")
    return function


def _label(function: Elementwise | None, otherwise: str) -> str:
    if isinstance(function, nn.Module):
        given = function.extra_repr().replace("inplace=True", "").strip(", ")
        return type(function).__name__ + (f"({given})" if given else "")
    return otherwise


def _partial(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    return lambda *rest: function(*first, *rest)
