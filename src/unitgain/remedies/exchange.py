"""Other activation functions, norms and gains for a network as it is: what `ug.whatif` varies.

Weights keep their directions: `set_gain_` only rescales them, so that two gains are compared on one draw. Activations
that are modules are replaced by modules; those that are functions in somebody's forward (`F.relu(self.fc(x))`) are
replaced while the model's forward runs, by a torch function mode.
"""

from __future__ import annotations

import copy
import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from .. import graph as graphs
from .._base import InputError, did_you_mean
from ..graph import Graph, Node, activation_of_function
from ..nn import GeneralReLU
from . import fill
from .gains import forward_gain
from .lever import Lever
from .report import Change, RemedyReport, rms
from .structure import standardize_weights_

ACTIVATION_MODULES: Mapping[str, Callable[[], nn.Module]] = {
    "none": lambda: NoActivation(), "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "relu6": nn.ReLU6, "elu": nn.ELU,
    "selu": nn.SELU, "celu": nn.CELU, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid, "softsign": nn.Softsign, "softplus": nn.Softplus, "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh, "general_relu": lambda: GeneralReLU(leak=0.1, sub=0.4),
}  # fmt: skip
"""{name: a function that makes the module} of what `exchange_activations_` takes by name."""
NORM_KINDS = ("none", "batch", "layer", "group", "instance", "scaled-ws")
"""What `exchange_norms_` takes."""
_MOST_GROUPS = 32  # of GroupNorm, as its paper has it
_FEWEST = 4  # channels of a group: a group of one is InstanceNorm
_GATES = ("sigmoid", "hardsigmoid")  # where they are multiplied with another signal
_ALIKE = 1e-6  # a relative change of scale below this is none


class NoActivation(nn.Module):
    """The input itself, as a tensor of its own: a Probe measures it at the place of the function that was taken out."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


# ---- gains -------------------------------------------------------------------------------------------------


@torch.no_grad()
def set_gain_(
    model: nn.Module, batch: Any, gain: float | str = "auto", *, fan_in: bool = True
) -> RemedyReport:
    """Rescales the weight of every convolution and linear layer but the last to rms gain / sqrt(fan_in), in place.

    gain    a number; "auto": for each layer the one that keeps the variance behind the activation before it
    fan_in  False: rms gain, whatever the number of inputs

    A standardized layer has its gains set instead. Biases, norms, embeddings, recurrent and attention layers, and the
    layer that gives the model's output, stay. What cannot be rescaled (frozen, all zero) is in the report's notes.

    Raises InputError for a gain that is no number, and where there is no layer to rescale.

    >>> model = nn.Sequential(nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, 10))
    >>> _ = set_gain_(model, torch.randn(8, 64), 5 / 3)
    >>> round(float(model[0].weight.square().mean().sqrt()) * 8, 3)
    1.667
    """
    if gain != "auto" and not (isinstance(gain, (int, float)) and math.isfinite(gain) and gain > 0):
        raise InputError(f'set_gain_: gain is {gain!r}; expected a number above 0, or "auto"')
    graph = _graph("set_gain_", model, batch)
    report, done = RemedyReport("set_gain_"), set()
    hidden = [w for w in graph.weights() if w.node.role == "linear" and w.after.kind != "output"]
    for use in hidden:
        lever = Lever(model, use.node)
        if id(lever.owner) in done:
            continue
        done.add(id(lever.owner))
        if lever.blocked:
            report.notes.append(f"{use.name} stays as it is: {lever.blocked}")
            continue
        assert lever.weight is not None
        number = forward_gain(use.before.function, use.before.label).gain if gain == "auto" else float(gain)
        if lever.standardized:
            factor = _factor_of_gain(lever, number, report, use.name, fan_in)
        else:
            matrices = fill.matrices(use.node.module, lever.weight) if use.node.module is not None else []
            inputs = matrices[0].fan_in if matrices else lever.weight.shape[1]
            factor = number / (math.sqrt(inputs) if fan_in else 1.0) / rms(lever.weight)
        before = rms(lever.weight)
        if abs(factor - 1) > _ALIKE:
            lever.scale(torch.tensor(factor, device=lever.weight.device), bias=False)
        after = rms(Lever(model, use.node).weight)  # type: ignore[arg-type]  # computed anew where it is parametrized
        why = f"gain {number:.4g}" + ("" if fan_in else ", not divided by sqrt(fan_in)")
        report.changes.append(Change(lever.weight_name(), before, after, why))
    if not report.changes:
        told = f": {'; '.join(report.notes)}" if report.notes else ""
        raise InputError(f"gain: this model has no layer before its last whose weight can be rescaled{told}")
    return report


def _factor_of_gain(lever: Lever, number: float, report: RemedyReport, name: str, fan_in: bool) -> float:
    """By which the gains of a standardized layer are multiplied: their mean square becomes that of the gain wanted."""
    assert lever.gain is not None
    if not fan_in:
        report.notes.append(f"{name}: its weight is standardized, so that fan_in is always divided by")
    return number / lever.constant / rms(lever.gain)


# ---- activation functions ----------------------------------------------------------------------------------


def exchange_activations_(model: nn.Module, batch: Any, activation: str | nn.Module) -> RemedyReport:
    """Puts another activation function in the place of every hidden one, in place.

    activation  a name ("relu", "tanh", "gelu", "none", ...) or a module, which is copied to each place

    Gates (a sigmoid that is multiplied with another signal), GLU, and a function that gives the model's output stay.
    Functions that are called in a forward of the model's are replaced whenever the model runs; they are told apart by
    name, so that one that also serves as a gate stays. Weights stay as they are: another function usually wants
    another gain.

    Raises InputError for an unknown name, and where the model has no activation that can be exchanged.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = exchange_activations_(model, torch.randn(3, 4), "tanh")
    >>> model[1]
    Tanh()
    """
    if isinstance(activation, str):
        if activation not in ACTIVATION_MODULES:
            raise InputError(
                f"activation {activation!r}: unknown{did_you_mean(activation, ACTIVATION_MODULES, most=20)}"
            )
        make: Callable[[], nn.Module] = ACTIVATION_MODULES[activation]
    elif isinstance(activation, nn.Module):
        make = functools.partial(copy.deepcopy, activation)
    else:
        raise InputError(f"activation: expected a name or a module, got {type(activation).__name__}")
    graph = _graph("exchange_activations_", model, batch)
    report = RemedyReport("exchange_activations_")
    every = [n for n in graph if n.role == "activation"]
    kept = [n for n in every if _stays(graph, n)]
    chosen = [n for n in every if n not in kept]
    reserved = {n.activation.name for n in kept if n.activation is not None}
    named: dict[str, list[Node]] = {}
    done: set[int] = set()
    for node in chosen:
        if node.module is not None:
            if id(node.module) not in done:
                done.add(id(node.module))
                new = make().train(node.module.training)
                _replace(model, node.module, new)
                report.changes.append(Change(node.path, 0.0, 0.0, f"{node.label} -> {type(new).__name__}"))
        elif node.activation is not None and node.activation.name not in reserved:
            named.setdefault(node.activation.name, []).append(node)
        else:
            report.notes.append(f"{node.name} stays as it is: {node.type} is a gate elsewhere in this model")
    if named:
        new = make()
        _instead(model, frozenset(named), new)
        for name, nodes in named.items():
            report.changes.append(
                Change(nodes[0].name, 0.0, 0.0, f"{name} -> {type(new).__name__}, {len(nodes)} calls")
            )
    report.notes += [f"{n.name} ({n.label}) stays as it is: {_stays(graph, n)}" for n in kept]
    if not report.changes:
        told = f": {'; '.join(report.notes)}" if report.notes else ""
        raise InputError(f"activation: this model has no activation function that can be exchanged{told}")
    return report


def _stays(graph: Graph, node: Node) -> str:
    """Why an activation is no hidden one; "" if it is."""
    if node.activation is not None and node.activation.name == "glu":
        return "it halves its input"
    named = node.activation.name if node.activation is not None else ""
    if named in _GATES and any(taker.role == "product" for taker in graph.consumers(node)):
        return "it is a gate"
    return "it gives the model's output" if graph.after(node).kind == "output" else ""


class _Instead(TorchFunctionMode):
    """Calls of functions of these names give what the module gives."""

    def __init__(self, names: frozenset[str], new: nn.Module):
        super().__init__()
        self.names, self.new = names, new

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = activation_of_function(func)
        if known is None or known.name not in self.names:
            return func(*args, **(kwargs or {}))
        given: Tensor = args[0] if args else (kwargs or {})["input"]
        if getattr(func, "__name__", "").endswith("_"):  # x.relu_() as a statement: x itself has to change
            return given.copy_(self.new(given.clone()))
        return self.new(given)


def _instead(model: nn.Module, names: frozenset[str], new: nn.Module) -> None:
    """In forward, not around the model's call: a Probe's own mode then lies outside, and sees what really runs."""
    forward = model.forward

    @functools.wraps(forward)
    def exchanged(*args: Any, **kwargs: Any) -> Any:
        with _Instead(names, new):
            return forward(*args, **kwargs)

    model.forward = exchanged  # type: ignore[method-assign]


# ---- norms -------------------------------------------------------------------------------------------------


class Affine(nn.Module):
    """x * weight + bias along one axis: what is left of a norm that no longer normalizes.

    (B, C, ...) or (..., C) in, the same out; axis is that of C.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, axis: int):
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[self.axis] = -1
        x = x * self.weight.view(shape)
        return x if self.bias is None else x + self.bias.view(shape)


class NormOverLast(nn.Module):
    """BatchNorm1d or GroupNorm where channels are the last axis: (..., C) in, the same out."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, -2)).view(x.shape)


def exchange_norms_(model: nn.Module, batch: Any, norm: str) -> RemedyReport:
    """Gives a network other norms, in place: each norm that it has is exchanged; a network without any gets one between
    each layer and the activation behind it.

    norm  "none": what normalizes goes, a norm's gains and biases stay; "batch", "layer" (over channels and pixels),
          "group" (of at most 32), "instance"; "scaled-ws": none, and scaled weight standardization of every layer but
          the last (`standardize_weights_`)

    Gains and biases are taken over; running statistics begin anew. Nothing is changed where the network has these
    norms already. Raises InputError for an unknown name, and, naming the place, where a norm does not fit.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = exchange_norms_(model, torch.randn(3, 4), "batch")
    >>> list(dict(model[0].named_children()))
    ['layer', 'norm']
    """
    if norm not in NORM_KINDS:
        raise InputError(f"norm {norm!r}: unknown{did_you_mean(norm, NORM_KINDS)}")
    graph = _graph("exchange_norms_", model, batch)
    report = RemedyReport("exchange_norms_")
    functions = [n for n in graph if n.role == "norm" and n.module is None]
    if functions:
        raise InputError(
            f"norm: {functions[0].name} is a function in the model's forward ({functions[0].type}), which cannot be "
            "exchanged; write it as a module"
        )
    norms = {id(n.module): n for n in reversed(list(graph)) if n.role == "norm"}
    for node in reversed(norms.values()):
        old = node.module
        assert old is not None
        if norm in ("none", "scaled-ws"):
            _replace(model, old, _affine_of(old, node))
            report.changes.append(Change(node.path, 0.0, 0.0, f"{node.type} -> none"))
        elif not _is_kind(old, norm):
            new = _placed(_made(norm, node), old)
            _take_over(new, old)
            _replace(model, old, new)
            report.changes.append(Change(node.path, 0.0, 0.0, f"{node.type} -> {type(new).__name__}"))
    if not norms and norm not in ("none", "scaled-ws"):
        _insert(model, graph, norm, report)
    if norm == "scaled-ws":
        done = standardize_weights_(model, batch)
        report.changes += done.changes
        report.notes += done.notes
    if not report.changes:
        report.notes.append(
            "nothing was changed: " + (f"its norms are {norm}" if norms else "it has no norm")
        )
    return report


def _insert(model: nn.Module, graph: Graph, norm: str, report: RemedyReport) -> None:
    done: set[int] = set()
    for use in graph.weights():
        layer = use.node.module
        if use.node.role != "linear" or use.after.kind != "activation" or layer is None or id(layer) in done:
            continue
        done.add(id(layer))
        made = _placed(_made(norm, use.node), layer)
        _replace(model, layer, nn.Sequential(OrderedDict(layer=layer, norm=made)).train(layer.training))
        report.changes.append(Change(use.node.path, 0.0, 0.0, f"{type(made).__name__} behind it"))
    if not done:
        raise InputError(
            f"norm={norm}: this model has no norm, and no layer with an activation behind it to put one between"
        )


def _made(kind: str, node: Node) -> nn.Module:
    """A norm of this kind for a node's tensor."""
    axis, dims = node.channel_axis, len(node.shape)
    if axis is None or dims < 2:
        raise InputError(f"norm={kind}: the channels of {node.name} {node.shape} are not known")
    channels, last = node.shape[axis], axis == dims - 1 and dims > 2
    if kind == "layer":
        return nn.LayerNorm(channels) if last or dims == 2 else nn.GroupNorm(1, channels)
    if kind == "group":
        counts = [g for g in range(1, _MOST_GROUPS + 1) if channels % g == 0 and channels >= _FEWEST * g]
        made: nn.Module = nn.GroupNorm(max(counts, default=1), channels)
    elif kind == "instance":
        if last or dims == 2 or math.prod(node.shape) == node.shape[0] * channels:
            raise InputError(f"norm=instance: {node.name} {node.shape} has no pixels to normalize over")
        made = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}[dims](channels, affine=True)
    else:
        kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
        made = (nn.BatchNorm1d if last else kinds[dims])(channels)
    return NormOverLast(made) if last else made


def _is_kind(module: nn.Module, kind: str) -> bool:
    """Whether a norm is of this kind already."""
    if isinstance(module, nn.GroupNorm):
        return kind == ("layer" if module.num_groups == 1 else "group")
    if isinstance(module, _InstanceNorm):
        return kind == "instance"
    if isinstance(module, _BatchNorm):
        return kind == "batch"
    return kind == "layer" and isinstance(module, nn.LayerNorm)


def _affine_of(old: nn.Module, node: Node) -> nn.Module:
    weight, bias = getattr(old, "weight", None), getattr(old, "bias", None)
    if isinstance(weight, Tensor) and weight.dim() == 1 and node.channel_axis is not None:
        return Affine(weight, bias if isinstance(bias, Tensor) else None, node.channel_axis).train(
            old.training
        )
    return nn.Identity()


def _take_over(new: nn.Module, old: nn.Module) -> None:
    inner = new.norm if isinstance(new, NormOverLast) else new
    for name in ("weight", "bias"):
        theirs, ours = getattr(old, name, None), getattr(inner, name, None)
        if isinstance(theirs, Tensor) and isinstance(ours, Tensor) and theirs.shape == ours.shape:
            with torch.no_grad():
                ours.copy_(theirs)


def _placed(new: nn.Module, beside: nn.Module) -> nn.Module:
    """On the device, and of the type and mode, of the module that it is for."""
    like = next(beside.parameters(), None)
    if like is not None and like.is_floating_point():
        new.to(device=like.device, dtype=like.dtype)
    return new.train(beside.training)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Wherever a module is registered."""
    if old is model:
        raise InputError(f"model: it is a single {type(old).__name__}, with nothing in it to exchange")
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old and parent is not new:
                parent._modules[name] = new


def _graph(caller: str, model: nn.Module, batch: Any) -> Graph:
    found = graphs.read(caller, model, batch)
    with graphs.undisturbed(model, found):
        return graphs.follow(model, found)
