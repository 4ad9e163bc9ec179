"""Writes down the nodes of a pass as they come: outputs of modules, functions called between them, sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .. import theory
from .._base import InputError
from .._batch import tensors_in
from ..stats import shape_of
from . import activations, modules
from .frame import Frame, has_torchs_forward, is_site
from .names import unique_name
from .node import Elementwise, Node
from .operations import SUBTRACTS_MEAN, Call, Operation
from .values import Known, Value, Values, all_of, reshaped

_INSIDE = ("sum", "concat", "product")  # a layer with one of these inside is more than a layer


class Recorder:
    """The nodes so far, by name and in execution order, and the values of the pass that is running.

    theory     whether nodes carry their elementwise functions, and unknown modules are tried out
    most_calls further calls of one module or function in one pass share the last node
    """

    def __init__(self, model: nn.Module, *, theory: bool, exact: bool, most_calls: int | None):
        self._model, self._theory, self._most = model, theory, most_calls
        self.nodes: dict[str, Node] = {}
        self.values = Values(exact)
        self.sums: list[tuple[Value, Frame]] = []  # of this pass, in execution order
        self.whole: set[str] = set()  # paths of blocks that return a node's tensor unchanged
        self.ends: set[str] = set()  # nodes whose tensors they return
        self.examples: int | None = None
        self.has_functions = False  # whether any function is a site
        self.varies = False  # whether a node turned up that a known graph did not have
        self.paths = frozenset(path for path, *_ in modules.walk(model))
        self.output_name = self.unique("output", "")
        self.suffixes: dict[str, str] = {}  # of nodes of modules: which of its outputs it is, "" the first
        self._calls: dict[str, int] = {}
        self._inside: dict[str, str] = {}
        self._parameters = {id(p): n for n, p in modules.named_parameters(model)}
        self._functions = _elementwise(model) if theory else {}

    def inside_of(self, path: str, module: nn.Module, leaf: bool) -> str:
        """How a module's forward is followed; see Frame."""
        found = self._inside.get(path)
        if found is None:
            role = modules.role_of(module) if leaf else ""
            if role == "linear" and not has_torchs_forward(module):
                found = "layer"
            else:
                known = role not in ("", "other") or id(module) in self._functions
                found = "open" if not leaf else "hidden" if known else "leaf"
            self._inside[path] = found
        return found

    def begin(self, named: Iterable[tuple[str, Tensor]]) -> list[tuple[Node, Tensor]]:
        """A pass begins, with these inputs."""
        self.reset()
        for name, parameter in modules.named_parameters(self._model):
            self.values.add_parameter(parameter, name)
        return self.inputs(named)

    def reset(self) -> None:
        self._calls.clear()
        self.sums.clear()
        self.values.clear()

    def inputs(self, named: Iterable[tuple[str, Tensor]]) -> list[tuple[Node, Tensor]]:
        found = []
        for name, tensor in named:
            shape = shape_of(tensor)
            axis = modules.channel_axis(None, shape) if tensor.is_floating_point() else None
            node = self._add(
                Node(
                    name, "", 1, len(self.nodes), "input", "Tensor", "input", shape, _dtype(tensor), axis,
                    0 if shape else None,
                )
            )  # fmt: skip
            self.values.add_node(tensor, (), name, axis)
            found.append((node, tensor))
        return found

    def unique(self, label: str, path: str) -> str:
        """The name of a node that belongs to the module at path."""
        return unique_name(label, path, self.paths)

    def of_call(self, path: str, function: str) -> tuple[str, int]:
        """(the name of a function's node, the number of its call in this module in this pass)."""
        base = f"{path}:{function}"
        call = self.count(base)
        return self.unique(base + (f"#{call}" if call > 1 else ""), path), call

    def count(self, base: str) -> int:
        """The number of this call in this pass."""
        number = self._calls.get(base, 0) + 1
        if self._most is not None:
            number = min(number, self._most)
        self._calls[base] = number
        return number

    def known_signal(self, given: Any) -> Value | None:
        """The first floating-point tensor among what a module was given, or returned."""
        first = next((t for t in tensors_in(given) if t.is_floating_point() and t.dim() > 1), None)
        value = None if first is None else self.values.of(first)
        return value if value is not None and value.signal else None

    def _add(self, node: Node) -> Node:
        return self.nodes.setdefault(node.name, node)

    # ---- modules -------------------------------------------------------------------------------------------

    def module(
        self,
        frame: Frame | None,
        path: str,
        module: nn.Module,
        leaf: bool,
        given: Any,
        output: Any,
        call: int,
    ) -> list[tuple[Node, Tensor]]:
        """The nodes of a module's output, with their tensors: none for a block that returns another node's."""
        known = self.values.known_in(given)
        found: list[tuple[Node, Tensor]] = []
        followed = frame is not None and frame.inside != "hidden" and not modules.is_scripted(module)
        if followed and frame is not None and frame.inside == "layer":
            followed = any(n in self.nodes and self.nodes[n].kind in _INSIDE for n in frame.nodes)
            if not followed:
                for name in frame.nodes:
                    self.nodes.pop(name, None)
        for suffix, tensor in modules.outputs_of(module, output):
            made = self.values.of(tensor) if followed else None
            if not leaf and made is not None and made.direct and self.nodes[made.sources[0]].site:
                self.whole.add(path)
                self.ends.add(made.sources[0])
                continue
            label = (path or "output") + (f"#{call}" if call > 1 else "") + suffix
            name = self.unique(label, path)
            self.suffixes[name] = suffix
            inner = bool(frame is not None and frame.nodes and made is not None)
            node = self.nodes.get(name)
            if node is None:
                node = self._add(self._of_module(name, path, call, module, leaf, inner, tensor, made, known))
            parents = (made,) if made is not None else all_of(known)
            self.values.add_node(tensor, parents, name, node.channel_axis)
            found.append((node, tensor))
        return found

    def _of_module(
        self, name: str, path: str, call: int, module: nn.Module, leaf: bool, inner: bool, tensor: Tensor,
        made: Value | None, known: Known,
    ) -> Node:  # fmt: skip
        given = _origins([v for _, v in known if v.signal])
        flow = given if made is None else _origins([made])
        function = self._functions.get(id(module)) if leaf else None
        role = "block" if not leaf else "activation" if function is not None else modules.role_of(module)
        opaque = leaf and modules.is_scripted(module)
        kind = "opaque" if opaque else "block" if not leaf or inner else "module"
        if role == "other" and kind == "module" and made is None:
            kind = "opaque"
        shape = shape_of(tensor)
        first = made if made is not None else next((v for _, v in known if v.signal), None)
        children = bool(modules.measured_children(module))
        return Node(
            name, path, call, len(self.nodes), kind, type(module).__name__, role, shape, _dtype(tensor),
            modules.channel_axis(module if leaf else None, shape, self._axis(first, shape)),
            modules.batch_axis(module, shape, self.examples), *flow, *given,
            parameters=self._names(module.parameters(recurse=not children)),
            activation=activations.of_module(module) if leaf else None, function=function,
            subtracts_mean=modules.subtracts_mean(module) if leaf else None, site=True, leaf=leaf, module=module,
        )  # fmt: skip

    def _axis(self, value: Value | None, shape: tuple[int, ...]) -> int | None:
        """The channels' axis that a tensor of this shape takes over from what it was made of."""
        if value is None:
            return None
        if len(value.shape) == len(shape) and value.axis is not None:
            return value.axis
        source = self.nodes.get(value.sources[0]) if value.sources else None
        if source is not None and len(source.shape) == len(shape):
            return source.channel_axis
        return reshaped(value.axis, value.shape, shape)

    def _names(self, parameters: Iterable[Tensor]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for p in parameters if (n := self._parameters.get(id(p))) is not None))

    def attach(self, tensor: Tensor, name: str) -> Node:
        """A node that somebody asks for; what is computed from the tensor comes from there."""
        made, shape = self.values.of(tensor), shape_of(tensor)
        node = self.nodes.get(name)
        if node is None:
            flow = _origins([] if made is None else [made])
            axis = modules.channel_axis(None, shape, self._axis(made, shape))
            node = self._add(
                Node(
                    name, "", 1, len(self.nodes), "module", "Tensor", "other", shape, _dtype(tensor), axis,
                    modules.batch_axis(None, shape, self.examples), *flow, *flow, site=True,
                )
            )  # fmt: skip
        self.values.add_node(tensor, [] if made is None else [made], name, node.channel_axis)
        return node

    def scripted(self, path: str, module: nn.Module, given: Any, output: Any) -> None:
        """A scripted part takes no hooks and is no site; but what comes out of it is known to come from it."""
        call = self.count(path)
        known = self.values.known_in(given)
        for suffix, tensor in modules.outputs_of(module, output):
            name = self.unique(path + (f"#{call}" if call > 1 else "") + suffix, path)
            if name not in self.nodes:
                node = self._of_module(name, path, call, module, True, False, tensor, None, known)
                self._add(replace(node, kind="opaque", role="other", site=False))
            self.values.add_node(tensor, all_of(known), name, None)

    def root(self, module: nn.Module, tensor: Tensor) -> Node:
        """The node of the model's own output, which is no other node's tensor."""
        made = self.values.of(tensor)
        known = [] if made is None else [(tensor, made)]
        node = self._of_module(self.output_name, "", 1, module, False, True, tensor, made, known)
        node = self._add(replace(node, role="other"))
        self.values.add_node(tensor, [v for _, v in known], self.output_name, node.channel_axis)
        return node

    # ---- functions -----------------------------------------------------------------------------------------

    def function(
        self, frame: Frame, found: Operation, func: Any, call: Call, known: Known, out: Any
    ) -> tuple[Node, Tensor, Value] | None:
        """The node of a call that has one, its tensor and value. `known`: of its arguments, before it ran."""
        tensor = next((t for t in tensors_in(out, depth=1) if t.is_floating_point() or t.is_complex()), None)
        if tensor is None:
            return None
        signals, free = [v for _, v in known if v.signal], [v for _, v in known if not v.signal]
        role = found.role
        if role == "linear" and len(signals) > 1 and not any(v.parameters for v in free):
            role = "product"
        site = is_site(found, frame.inside) and not tensor.is_complex()
        axis = None
        if role == "norm":
            axis = len(shape_of(tensor)) - 1 if found.name in ("layer_norm", "rms_norm") else 1
        parameters = tuple(dict.fromkeys(p for v in free for p in v.parameters))
        activation = activations.ACTIVATIONS.get(found.name) if role == "activation" else None
        bound = _bound(func, call) if self._theory and role == "activation" else None
        node = self._of_function(
            frame, found.name, role, "product" if role == "product" else "function", tensor, signals, axis,
            parameters=parameters, activation=activation, function=bound, site=site,
            subtracts_mean=SUBTRACTS_MEAN.get(found.name),
        )  # fmt: skip
        value = self.values.add_node(tensor, all_of(known), node.name, node.channel_axis)
        if not signals and found.role != "embedding":
            value.signal, value.parameters = False, parameters
        self.has_functions = self.has_functions or site
        return node, tensor, value

    def value(self, frame: Frame, value: Value, tensor: Tensor) -> None:
        """Sums, concatenations and products of signals are nodes too; a bias belongs to the product before it."""
        if value.kind in ("sum", "concat", "product", "stack"):
            kind = "concat" if value.kind == "stack" else value.kind
            if kind == "sum":
                if value.stack is not None and value.stack.uses == 0:
                    self.nodes.pop(value.stack.node or "", None)
                self.sums.append((value, frame))
            node = self._of_function(frame, value.name, kind, kind, tensor, list(value.parents), value.axis)
            value.node, value.sources, value.direct = node.name, (node.name,), True
        elif value.kind == "shift" and value.parameters and value.parents[0].uses == 1:
            before = self.nodes.get(value.parents[0].node or "")
            if before is not None and before.kind == "function" and before.role == "linear":
                given = dict.fromkeys((*before.parameters, *value.parameters))
                self.nodes[before.name] = replace(before, parameters=tuple(given))

    def _of_function(
        self, frame: Frame, name: str, role: str, kind: str, tensor: Tensor, signals: Sequence[Value],
        axis: int | None, **more: Any,
    ) -> Node:  # fmt: skip
        full, call = self.of_call(frame.path, name)
        frame.nodes.append(full)
        if full in self.nodes:
            return self.nodes[full]
        shape = shape_of(tensor)
        if axis is None:
            inherited = self._axis(signals[0] if signals else None, shape)
            axis = modules.channel_axis(None, shape, inherited)
        flow = _origins(signals)
        return self._add(
            Node(
                full, frame.path, call, len(self.nodes), kind, name, role, shape, _dtype(tensor), axis,
                modules.batch_axis(None, shape, self.examples), *flow, *flow, **more,
            )
        )  # fmt: skip


def _origins(values: Sequence[Value]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs, sources) of what is computed from these values."""
    direct = dict.fromkeys(s for v in values if v.direct for s in v.sources)
    return tuple(direct), tuple(dict.fromkeys(s for v in values for s in v.sources))


def _dtype(tensor: Tensor) -> str:
    """ "float32" """
    return str(tensor.dtype).removeprefix("torch.")


def _elementwise(model: nn.Module) -> dict[int, Elementwise]:
    """{id of the module: the module} of those that are elementwise functions, known by class or found by trying."""
    found: dict[int, Elementwise] = {}
    for _, module, leaf, _ in modules.walk(model):
        if leaf and is_elementwise(module):
            found[id(module)] = module
    return found


def is_elementwise(module: nn.Module) -> bool:
    """Whether a module is an elementwise function: one that we know, or one without parameters that behaves so."""
    if activations.of_module(module) is not None:
        return True
    if next(module.parameters(), None) is not None or modules.role_of(module) != "other":
        return False
    if modules.is_scripted(module):
        return False
    try:
        theory.moments(module)
    except InputError:
        return False
    return True


def _bound(func: Callable[..., Any], call: Call) -> Elementwise:
    """The function with the arguments it was called with, of its input alone, and never in place."""
    rest = call.args[1:]
    named = {k: v for k, v in call.kwargs.items() if k not in ("input", "inplace", "training")}
    if func is F.leaky_relu and len(rest) > 1:
        rest = rest[:1]

    def function(x: Tensor) -> Tensor:
        # a slope in a tensor (PReLU's) lies where the model does; theory asks on the CPU, in float64
        there = [v.detach().to(x) if isinstance(v, Tensor) and v.is_floating_point() else v for v in rest]
        also = {k: v.detach().to(x) if isinstance(v, Tensor) else v for k, v in named.items()}
        return func(x.clone(), *there, **also)

    function.__name__ = getattr(func, "__name__", "activation").rstrip("_")
    return function
