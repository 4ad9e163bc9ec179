"""What each tensor of a running pass is made of: values, function by function.

A `Value` stands for one tensor and keeps no reference to it. It knows the values that it was computed from, back to the
inputs; the nodes that it came from, directly or through arithmetic; and what it was multiplied by. A *signal* depends
on an input or is a module's output; everything else (parameters, and what is computed from parameters alone) is not.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._batch import tensors_in
from ..stats import shape_of
from .operations import Call, Operation, reversed_order

Known = list[tuple[Tensor, "Value"]]


class Value:
    """One tensor of a pass.

    number      its place in the pass; the same in every pass that does the same
    kind        node, view, part, scale, shift, sum, product, concat, stack, other; input or weight for what a pass
                begins with
    parents     the signals that it was computed from
    factors     of a sum: what each parent is multiplied by; of a scale: by what its one is. None: not by one number
    constant    of a scale: by a number in the code, as 2 * x, not by a tensor
    node        name of the node whose output this tensor is
    sources     names of the nodes that it came from, direct: of one, unchanged but for its shape
    signal      False for parameters and what is computed from them alone
    parameters  names of the parameters in it, of what is no signal
    axis        of its channels, None if that is not known
    uses        how many values were computed from it
    stack       of the sum of what was stacked: the stack
    """

    __slots__ = (
        "axis", "constant", "direct", "factors", "floating", "kind", "name", "node", "number", "parameters",
        "parents", "picked", "shape", "signal", "sources", "stack", "uses",
    )  # fmt: skip

    def __init__(self, number: int, kind: str, parents: tuple[Value, ...] = (), name: str = ""):
        self.number, self.kind, self.parents, self.name = number, kind, parents, name
        self.factors: tuple[float | None, ...] = ()
        self.node: str | None = None
        self.sources: tuple[str, ...] = tuple(
            dict.fromkeys(s for p in parents if p.signal for s in p.sources)
        )
        self.direct = False
        self.signal = True
        self.parameters: tuple[str, ...] = ()
        self.shape: tuple[int, ...] = ()
        self.floating = True
        self.axis: int | None = None
        self.constant = False
        self.picked = False  # a part of one position: x[:, 0], unbind
        self.uses = 0
        self.stack: Value | None = None

    def __repr__(self) -> str:
        return f"<{self.number} {self.kind} {self.name} {self.shape} of {[p.number for p in self.parents]}>"


class Values:
    """tensor -> Value, without keeping tensors alive, and what a call of a torch function adds to it.

    exact  whether factors that are tensors are read, for which an accelerator has to be waited for
    """

    def __init__(self, exact: bool = True) -> None:
        self._exact = exact
        self._known: dict[int, tuple[weakref.ref[Tensor], Value]] = {}
        self._count = 0

    # ---- the table -----------------------------------------------------------------------------------------

    def of(self, tensor: Tensor) -> Value | None:
        entry = self._known.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def known_in(self, value: Any) -> Known:
        return [(t, v) for t in tensors_in(value) if (v := self.of(t) or self._unseen(t)) is not None]

    def _unseen(self, tensor: Tensor) -> Value | None:
        """The value of a tensor that was made where no torch function is seen (in a scripted part, say): autograd knows
        which tensors it was computed from."""
        if tensor.grad_fn is None:
            return None
        made_by = {
            t.grad_fn: v
            for ref, v in self._known.values()
            if (t := ref()) is not None and t.grad_fn is not None and v.signal
        }
        found: dict[int, Value] = {}
        seen, stack = {tensor.grad_fn}, [tensor.grad_fn]
        while stack:
            step = stack.pop()
            if step in made_by:
                found[made_by[step].number] = made_by[step]
                continue
            following = [f for f, _ in step.next_functions if f is not None and f not in seen]
            seen.update(following)
            stack += following
        if not found:
            return None
        return self.put(tensor, self.new("other", [found[n] for n in sorted(found)], "unseen"))

    def new(self, kind: str, parents: Sequence[Value] = (), name: str = "") -> Value:
        value = Value(self._count, kind, tuple(parents), name)
        self._count += 1
        for parent in value.parents:
            parent.uses += 1
        return value

    def put(self, tensor: Tensor, value: Value) -> Value:
        value.shape, value.floating = shape_of(tensor), tensor.is_floating_point() or tensor.is_complex()
        self._known[id(tensor)] = (weakref.ref(tensor), value)
        return value

    def forget(self, tensor: Tensor) -> None:
        self._known.pop(id(tensor), None)

    def clear(self) -> None:
        self._known.clear()
        self._count = 0

    def add_parameter(self, tensor: Tensor, name: str) -> None:
        value = self.put(tensor, self.new("weight", name=name))
        value.signal, value.parameters = False, (name,)

    def add_node(self, tensor: Tensor, parents: Sequence[Value], node: str, axis: int | None) -> Value:
        """The tensor is the output of a node."""
        value = self.new("node", parents, node)
        value.node, value.sources, value.direct, value.axis = node, (node,), True, axis
        return self.put(tensor, value)

    # ---- functions that are no nodes -----------------------------------------------------------------------

    def follow(self, found: Operation, function: Any, call: Call, known: Known) -> Value | None:
        """The value that a call makes, to be `put` for its output when it has run; None for a new constant.

        known  the tensors among the arguments that have values, in order. A call that is a node's is not for this.
        """
        signals = [v for _, v in known if v.signal]
        if found.kind == "constant":
            return None
        if not signals:
            value = self.new("weight", [v for _, v in known], found.name)
            value.signal = False
            value.parameters = tuple(dict.fromkeys(p for _, v in known for p in v.parameters))
            return value
        make = getattr(self, f"_{found.kind}", None)
        value = make(found, function, call, signals) if make is not None else None
        return value if value is not None else self.new("other", all_of(known), found.name)

    def _view(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value:
        value = self.new("view", signals[:1], found.name)
        value.direct = signals[0].direct
        return value

    def _part(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value:
        return self.new("part", signals[:1], found.name)

    def _add(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        first, second = call.get(0, "input"), call.get(1, "other")
        return self._sum(found, first, second, 1.0, self._number(call.kwargs.get("alpha", 1.0)))

    def _sub(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        first, second = call.get(0, "input"), call.get(1, "other")
        alpha = self._number(call.kwargs.get("alpha", 1.0))
        minus = None if alpha is None else -alpha
        if reversed_order(function):
            first, second = second, first
        return self._sum(found, first, second, 1.0, minus)

    def _lerp(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        weight = self._number(call.get(2, "weight"))
        rest = None if weight is None else 1 - weight
        return self._sum(found, call.get(0, "input"), call.get(1, "end"), rest, weight)

    def _addcmul(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        one, other = call.get(1, "tensor1"), call.get(2, "tensor2")
        product = self._times(found, one, other)
        start = self._signal(call.get(0, "input"))
        if product is None or start is None:
            return None
        factor = self._number(call.kwargs.get("value", 1.0))
        product.shape = start.shape
        return self._summed(found, (start, product), (1.0, factor))

    def _scatter(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        into, source = self._signal(call.get(0, "input")), signals[-1]
        if into is None or source is into:
            return None
        moved = self.new("other", (source,), found.name)
        moved.shape = into.shape
        return self._summed(found, (into, moved), (1.0, self._number(call.kwargs.get("alpha", 1.0))))

    def _sum(
        self, found: Operation, first: Any, second: Any, one: float | None, other: float | None
    ) -> Value | None:
        a, b = self._signal(first), self._signal(second)
        if a is not None and b is not None:
            return self._summed(found, (a, b), (one, other))
        value, factor, constant = (a, one, second) if a is not None else (b, other, first)
        if value is None:
            return None
        if factor != 1.0:
            return self.new("other", (value,), found.name)
        weight = self.of(constant) if isinstance(constant, Tensor) else None
        if weight is not None and weight.shape == value.shape and _descends(value, weight):
            parents = (weight, value) if value is b else (value, weight)
            return self._summed(found, parents, (one, other))
        shifted = self.new("shift", (value,), found.name)
        shifted.axis = value.axis
        if weight is not None:
            shifted.parameters = weight.parameters
        if not isinstance(constant, Tensor) and constant == 0:  # the built-in sum() begins with 0
            shifted.kind, shifted.direct = "view", value.direct
        return shifted

    def _summed(
        self, found: Operation, parents: tuple[Value, ...], factors: tuple[float | None, ...]
    ) -> Value:
        value = self.new("sum", parents, found.name)
        value.factors = factors
        return value

    def _mul(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        return self._times(found, call.get(0, "input"), call.get(1, "other"))

    def _times(self, found: Operation, first: Any, second: Any) -> Value | None:
        a, b = self._signal(first), self._signal(second)
        if a is not None and b is not None:
            larger = max((first, second), key=lambda t: t.numel())
            value = self.new("product", (a, b), found.name)
            value.axis = a.axis if larger is first else b.axis
            return value
        if a is None and b is None:
            return None
        value, by = (a, second) if a is not None else (b, first)
        assert value is not None
        return self._scaled(found, value, by)

    def _div(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        first, second = call.get(0, "input"), call.get(1, "other")
        if reversed_order(function) or len(signals) > 1 or self._signal(first) is None:
            return None
        return self._scaled(found, signals[0], second, divides=True)

    def _neg(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value:
        return self._scaled(found, signals[0], -1.0)

    def _dropout(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value:
        return self._scaled(found, signals[0], 1.0)

    def _scaled(self, found: Operation, value: Value, by: Any, divides: bool = False) -> Value:
        if isinstance(by, Tensor) and shape_of(by) == value.shape and by.numel() > 1 and self.of(by) is None:
            return self.new("other", (value,), found.name)  # a mask or a state of the tensor's own shape
        made, factor = self.new("scale", (value,), found.name), self._number(by)
        if divides and factor is not None:
            factor = 1 / factor if factor else None
        made.factors, made.axis, made.constant = (factor,), value.axis, not isinstance(by, Tensor)
        return made

    def _cat(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        if len(signals) < 2:
            return None
        return self.new("concat", signals, found.name)

    def _stack(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        if len(signals) < 2:
            return None
        value = self.new("stack", signals, found.name)
        value.axis = call.get(1, "dim", 0)
        return value

    def _reduce(self, found: Operation, function: Any, call: Call, signals: list[Value]) -> Value | None:
        """The sum of what was stacked."""
        stacked, dim = signals[0], call.get(1, "dim")
        if isinstance(dim, (list, tuple)) and len(dim) == 1:
            dim = dim[0]
        if stacked.kind != "stack" or not isinstance(dim, int):
            return None
        if dim % len(stacked.shape) != (stacked.axis or 0) % len(stacked.shape):
            return None
        factor = 1.0 if found.name == "sum" else 1 / len(stacked.parents)
        value = self._summed(found, stacked.parents, (factor,) * len(stacked.parents))
        value.stack = stacked
        return value

    def _number(self, value: Any) -> float | None:
        """The factor that a number or a constant tensor multiplies by; None for masks and uneven scales."""
        if isinstance(value, (int, float)):
            return float(value)
        if not (self._exact and isinstance(value, Tensor) and value.numel()):
            return None
        if value.is_nested or value.layout != torch.strided or value.is_complex():
            return None
        with torch.no_grad():
            first = value.detach().flatten()[0]
            return float(first) if bool((value == first).all()) else None

    def _signal(self, tensor: Any) -> Value | None:
        value = self.of(tensor) if isinstance(tensor, Tensor) else None
        return value if value is not None and value.signal else None


def all_of(known: Known) -> list[Value]:
    """Signals first, then weights: a stream may begin with a parameter (a class token, learned latents)."""
    return [v for _, v in known if v.signal] + [v for _, v in known if not v.signal]


def _descends(value: Value, ancestor: Value) -> bool:
    """Whether a tensor was computed from another one."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        step = stack.pop()
        if step is ancestor:
            return True
        for parent in step.parents:
            if parent.number >= ancestor.number and parent.number not in seen:
                seen.add(parent.number)
                stack.append(parent)
    return False


def settle(value: Value, tensor: Tensor, call: Call) -> None:
    """What is known of a value only once its tensor is there: its channels' axis, what was picked."""
    shape = shape_of(tensor)
    if not value.parents or not shape:
        return
    before = value.parents[0]
    if value.kind == "view":
        value.axis = _moved(value.name, before.axis, before.shape, shape, call)
    elif value.kind == "part":
        value.axis = reshaped(before.axis, before.shape, shape)
        fewer_axes = len(shape) < len(before.shape)
        single = any(n == 1 < m for n, m in zip(shape, before.shape)) and len(shape) == len(before.shape)
        value.picked = fewer_axes or single
    elif value.kind == "sum":
        value.axis = next((p.axis for p in value.parents if p.axis is not None), None)
    elif value.kind in ("other", "scale", "shift") and shape == before.shape:
        value.axis = before.axis


def _moved(
    name: str, axis: int | None, before: tuple[int, ...], after: tuple[int, ...], call: Call
) -> int | None:
    rank = len(after)
    if axis is None:
        return None
    if name == "permute":
        given = call.get(1, "dims")
        order = given if isinstance(given, (list, tuple)) else call.args[1:]
        return [d % rank for d in order].index(axis)
    if name in ("transpose", "swapaxes", "swapdims") and len(call.args) == 3:
        a, b = (d % rank for d in call.args[1:])
        return {a: b, b: a}.get(axis, axis)
    if name in ("t", "T", "mT", "H", "mH", "adjoint") and rank > 1:
        return {rank - 1: rank - 2, rank - 2: rank - 1}.get(axis, axis)
    if name in ("movedim", "moveaxis"):
        return None
    return reshaped(axis, before, after)


def reshaped(axis: int | None, before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """Where the channels are after a view: at the same place, or at the same end."""
    if axis is None or axis >= len(before):
        return None
    size = before[axis]
    if len(before) == len(after):
        return axis if after[axis] == size else None
    if axis == len(before) - 1 and after and after[-1] == size:
        return len(after) - 1
    return axis if axis < len(after) and after[axis] == size else None
