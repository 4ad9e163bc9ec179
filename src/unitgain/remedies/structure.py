"""Small repairs: biases that a norm undoes, stale statistics, inputs off scale, units that are copies of each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from .._batch import Batch
from ..graph import Graph
from ..nn import calibrate_, scaled_std_
from ..stats import is_plain
from . import fill
from .gains import forward_gain
from .report import Change, RemedyReport, rms
from .residual import end_of

_MOST_CHANNELS = 64  # more are features, which get one mean and std together


@torch.no_grad()
def remove_redundant_bias_(model: nn.Module, batch: Any) -> RemedyReport:
    """Removes biases right before a norm that subtracts each channel's mean (BatchNorm, InstanceNorm).

    The module's bias becomes None. BatchNorm's running mean is lowered by it, so that outputs stay the same
    in evaluation too. The parameter leaves the state dict, and an optimizer that holds it holds it in vain.
    Raises InputError if the batch does not fit.
    """
    found = graphs.read("remove_redundant_bias_", model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    report = RemedyReport("remove_redundant_bias_")
    for norm in graph.norms():
        if norm.absorbs is None:
            continue
        path = norm.absorbs.rpartition(".")[0]
        module, owner = model.get_submodule(path), norm.node.module or model.get_submodule(norm.node.path)
        bias = module._parameters.get("bias")
        running = getattr(owner, "running_mean", None)
        if bias is None or (norm.node.module is None and running is None):
            continue  # computed, or normalized by running statistics that are not to be found
        if isinstance(running, Tensor):
            running.sub_(bias.detach().to(running.dtype))
        module.register_parameter("bias", None)
        why = f"removed: {norm.node.label} subtracts it"
        report.changes.append(Change(norm.absorbs, rms(bias), 0.0, why))
    return report


@opens_compiled
@torch.no_grad()
def recalibrate_(model: nn.Module, batches: Iterable[Any]) -> RemedyReport:
    """`ug.nn.calibrate_` with a report: BatchNorm's running statistics become those of the data. batches: as there.

    Raises InputError as calibrate_ does.
    """
    old = {n: b.clone() for n, b in model.named_buffers()}
    report = RemedyReport("recalibrate_")
    calibrate_(model, batches)
    for name, buffer in model.named_buffers():
        if not torch.equal(old[name], buffer):
            report.changes.append(Change(name, rms(old[name]), rms(buffer), "statistics of the data"))
    return report


class NormalizeInput(nn.Module):
    """(x - mean) / std with stored numbers: a transform for data, and what normalize_input_ does before a model.

    mean, std  (channels,) or one number, along `axis`

    >>> x = torch.rand(64, 3, 8, 8) * 255
    >>> y = NormalizeInput.of(x)(x)
    >>> abs(y.mean().item()) < 1e-5, round(y.std().item(), 3)
    (True, 1.0)
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, axis: int | None):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.axis = axis

    @classmethod
    def of(cls, x: Tensor) -> NormalizeInput:
        """The statistics of a float tensor, by channel if it has at most 64. Raises InputError for values that are not
        finite and for constant input."""
        if not is_plain(x):
            raise InputError(
                "normalize_input_: batch: the input is sparse or nested; scale the values that it stores"
            )
        if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
            raise InputError("normalize_input_: batch: the input must hold finite floating-point numbers")
        axis = graphs.channel_axis(None, tuple(x.shape))
        if axis is not None and x.shape[axis] > _MOST_CHANNELS:
            axis = None
        rows = (
            x.detach().float().movedim(axis, 0).flatten(1)
            if axis is not None
            else x.detach().float().reshape(1, -1)
        )
        mean, std = rows.mean(1), rows.std(1, correction=0)
        if bool((std <= 1e-12).all()):
            raise InputError("normalize_input_: batch: the input is constant, so that no scale is right")
        std = torch.where(std <= 1e-12, torch.ones_like(std), std)
        return cls(mean, std, axis) if axis is not None else cls(mean[0], std[0], None)

    def forward(self, x: Tensor) -> Tensor:
        return _normalized(x, self.mean, self.std, self.axis)


def _normalized(x: Tensor, mean: Tensor, std: Tensor, axis: int | None) -> Tensor:
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    return (x - mean.view(shape).to(x.dtype)) / std.view(shape).to(x.dtype)


class _Before:
    """The hook: normalizes the first floating-point input, given by position or by name."""

    def __init__(self, axis: int | None):
        self.axis = axis

    def normalize(self, module: nn.Module, x: Tensor) -> Tensor:
        return _normalized(x, module.input_mean, module.input_std, self.axis)  # type: ignore[arg-type]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = Batch(args, kwargs)
        first = next(iter(given.floating().items()), None)
        if first is None:
            return args, kwargs
        normalized = given.with_inputs({first[0]: self.normalize(module, first[1])})
        return normalized.args, normalized.kwargs


def normalize_input_(model: nn.Module, batch: Any) -> RemedyReport:
    """Normalizes what goes into the model by this batch's mean and std: buffers input_mean, input_std and a hook.

    Better done where the data is loaded: `NormalizeInput.of(inputs)` is that transform. Raises InputError for inputs
    that are not finite, constant or integer.
    """
    found = graphs.read("normalize_input_", model, batch)
    floats = list(found.floating().values())
    if not floats:
        raise InputError("normalize_input_: batch: it has no floating-point input to normalize")
    report = RemedyReport("normalize_input_")
    if hasattr(model, "input_mean"):
        report.problems.append("the model normalizes its input already")
        return report
    made = NormalizeInput.of(floats[0])
    model.register_buffer("input_mean", made.mean)  # no submodule: it would be a layer of a Sequential
    model.register_buffer("input_std", made.std)
    model.register_forward_pre_hook(_Before(made.axis), with_kwargs=True)
    std = float(floats[0].float().std(correction=0))
    report.changes.append(Change("input", std, 1.0, f"mean {made.mean.tolist()}, std {made.std.tolist()}"))
    return report


@opens_compiled
@torch.no_grad()
def break_symmetry_(model: nn.Module, batch: Any) -> RemedyReport:
    """Draws units anew that are exact copies of another unit of their layer, and weights that are all zero.

    Copies get equal gradients and stay copies. New rows have std gain/sqrt(fan_in); the first of each set of copies
    stays, unless the whole layer is one set. All-zero weights at the end of a residual branch and in the last layer
    are meant to be zero, and stay, as frozen ones do. Raises InputError if the batch does not fit.
    """
    found = graphs.read("break_symmetry_", model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    report, names = RemedyReport("break_symmetry_"), {id(p): n for n, p in model.named_parameters()}
    silent = _may_be_zero(graph)
    seen: set[int] = set()
    for use in graph.weights():
        node = use.node
        weight = node.module._parameters.get("weight") if node.module is not None else None
        if (
            weight is None
            or weight.dim() < 2
            or id(weight) in seen
            or node.module is None
            or node.role != "linear"
        ):
            continue
        seen.add(id(weight))
        if not weight.requires_grad or (node.name in silent and not bool((weight != 0).any())):
            continue
        recipe = forward_gain(use.before.function, use.before.label)
        with report.changing(
            names[id(weight)], weight, f"copies drawn anew, gain {recipe.gain:.4g} {recipe.why}".strip()
        ):
            for matrix in fill.matrices(node.module, weight):
                copies = _copies(matrix.rows)
                if bool(copies.any()):
                    fresh = matrix.rows.clone()
                    fill.draw_(fresh, recipe.gain / matrix.fan_in**0.5, fill.Style())
                    matrix.rows[copies] = fresh[copies]
    return report


@torch.no_grad()
def standardize_weights_(model: nn.Module, batch: Any) -> RemedyReport:
    """Scaled weight standardization for every convolution and linear layer that no norm follows, but the last one: rows
    that sum to zero pass no mean on. Each becomes `ug.nn.scaled_std_`, with the gain for the function before it.

    The state dict changes (`parametrizations.weight.original` and `.0.gain` in the place of `weight`), and optimizers
    have to be made afterwards. Raises InputError if the batch does not fit.
    """
    found = graphs.read("standardize_weights_", model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    report, head, done = RemedyReport("standardize_weights_"), graph.head(), set()
    for use in graph.weights():
        module = use.node.module
        if module is None or use.node.role == "embedding" or use.node is head or use.norm is not None:
            continue
        if id(module) in done:
            continue
        done.add(id(module))
        weight = module._parameters.get("weight")
        if weight is None or not weight.requires_grad:
            continue
        before = rms(weight)
        try:
            scaled_std_(module, gamma=forward_gain(use.before.function, use.before.label).gain)
        except InputError as error:
            report.notes.append(f"{use.node.path}: {error}")
            continue
        _give_scale_of_use(module)
        after = rms(module.weight)  # type: ignore[arg-type]
        report.changes.append(
            Change(f"{use.node.path}.weight", before, after, "standardized (nn.scaled_std_)")
        )
    return report


def _give_scale_of_use(module: Any) -> None:
    """The stored weight gets the scale of the standardized one: it does not matter to the output, and decides how
    large a step of the optimizer is beside it."""
    stored, used = module.parametrizations.weight.original, module.weight
    if stored.shape == used.shape:
        stored.mul_(rms(used) / max(rms(stored), 1e-30))


def _copies(rows: Tensor) -> Tensor:
    """(out, ...) -> (out,) bool: rows that repeat an earlier one; all of them if all are equal."""
    if len(rows) < 2:
        return (rows == 0).flatten(1).all(1)
    _, inverse = torch.unique(rows.flatten(1), dim=0, return_inverse=True)
    if int(inverse.max()) == 0:
        return torch.ones_like(inverse, dtype=torch.bool)
    first = torch.full((int(inverse.max()) + 1,), len(rows), device=rows.device)
    first.scatter_reduce_(0, inverse, torch.arange(len(rows), device=rows.device), "amin")
    return first[inverse] != torch.arange(len(rows), device=rows.device)


def _may_be_zero(graph: Graph) -> set[str]:
    ends = {end.name for b in graph.branches if (end := end_of(graph, b)) is not None}
    return ends | {w.name for w in graph.weights() if w.after.kind == "output"}
