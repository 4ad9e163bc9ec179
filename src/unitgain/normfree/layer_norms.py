"""LayerNorm in a transformer: made an RMSNorm exactly, or a pointwise function by least squares.

Exactly: a LayerNorm subtracts each token's mean over channels. Where every layer that writes into the residual stream
writes with mean 0, there is nothing to subtract, and LayerNorm is RMSNorm. So the mean over channels is taken out of
the writers: embeddings, positions, and the weights and biases of the layers whose outputs are added to the stream.

Fitted: no pointwise function can know a token's std, so that the fit is the better the less the tokens' stds differ: 3%
of the variance is left unexplained where they vary by 0.2, 12% at 0.5. For a given alpha the weight and bias of each
channel are a linear regression; alpha is searched on a grid. One norm after the other in execution order: inputs come
from the network as converted so far, targets from the original.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, did_you_mean
from .._batch import Batch
from .._run import in_place
from ..graph import Graph, Value
from ..nn import DynamicErf, DynamicISRU, DynamicTanh, RMSNorm
from .edits import _put, paths_of
from .proving import Proof, in_float64, settle, widened
from .reading import Values

_POINTWISE = {"tanh": DynamicTanh, "erf": DynamicErf, "isru": DynamicISRU}
_GRID = torch.logspace(-1.7, 0.4, 22, dtype=torch.float64)  # alpha * std: 0.02 to 2.5
_MANY = 20_000  # tokens of which a fit is made


@dataclass(frozen=True)
class NormFit:
    """One norm that became a pointwise function.

    unexplained         share of the variance of the LayerNorm's output, around each channel's mean, that the function
                        does not give; linear: the same for a fixed scale
    input_std, token_cv  std of its input, and the std of the tokens' stds over their mean
    measured  what `measure` gave after this norm was replaced
    """

    path: str
    function: str
    alpha: float
    unexplained: float
    linear: float
    input_std: float
    token_cv: float
    measured: float | None = None


@dataclass
class LayerNormReport:
    """What became of the LayerNorms of a model: `changed` by path, `kept` with the reason, and the fits.

    distance  "rms": rms of the outputs' difference over their rms, in float64 in evaluation mode
    """

    to: str
    model: nn.Module = field(repr=False)
    changed: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    fits: list[NormFit] = field(default_factory=list)
    distance: float | None = None
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{len(self.changed)} LayerNorms became {self.to}, {len(self.kept)} kept"]
        if self.distance is not None:
            lines.append(f"  outputs differ by {self.distance:.1e} (rms, relative, float64, evaluation mode)")
        for f in self.fits:
            lines.append(
                f"  {f.path:28} alpha {f.alpha:8.3g}  unexplained {f.unexplained:.1%} (fixed scale {f.linear:.1%})  "
                f"input std {f.input_std:.3g}, tokens' stds vary by {f.token_cv:.2f}"
                + ("" if f.measured is None else f"  then {f.measured:.4g}")
            )
        lines += [f"  kept {path}: {why}" for path, why in self.kept.items()]
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes)])


def convert_layer_norms(
    model: nn.Module,
    batch: Any,
    to: str = "rms",
    *,
    keep_last: bool = True,
    measure: Callable[[nn.Module], float] | None = None,
) -> LayerNormReport:
    """Replaces the LayerNorms of a transformer; in place.

    batch      as for `ug.check`: a few hundred tokens, for a fit real ones
    to         "rms": RMSNorm, exactly; "tanh", "erf" or "isru": a pointwise function, fitted, and to be fine-tuned
    keep_last  fitted: the last norm stays; it anchors the scale of the logits
    measure    fitted: called with the model after each norm is replaced, for a validation loss, say; what it returns is
               in the norm's fit. The model is put back after it

    Returns a LayerNormReport. "rms" is verified in float64 on the batch; where outputs change, the norms of that stream
    are kept, and named. Raises InputError for a batch that does not fit, an unknown `to`, a model without LayerNorms.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.fc(self.norm(x)).relu() @ torch.eye(8)
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> convert_layer_norms(net, torch.randn(3, 5, 4)).changed, type(net[1]).__name__
    (['1'], 'RMSNorm')
    """
    if to != "rms" and to not in _POINTWISE:
        known = ("rms", *_POINTWISE)
        raise InputError(
            f"convert_layer_norms: to is {to!r}{did_you_mean(to, known) or '; it is ' + ', '.join(known)}"
        )
    found = graphs.read("convert_layer_norms", model, batch)
    norms = [(path, module) for path, module in model.named_modules() if _is_layer_norm(module)]
    if not norms:
        raise InputError("convert_layer_norms: model: it has no torch.nn.LayerNorm over one axis")
    report = LayerNormReport(to, model)
    if to == "rms":
        _exactly(model, found, dict(norms), report)
    else:
        _fitted(model, found, dict(norms), report, keep_last, measure)
    return report


def _is_layer_norm(module: nn.Module) -> TypeGuard[nn.LayerNorm]:
    """torch's over one axis, the last; subclasses too (timm's), but not those over channels first."""
    over_last = isinstance(module, nn.LayerNorm) and "2d" not in type(module).__name__.lower()
    return over_last and len(module.normalized_shape) == 1  # type: ignore[union-attr, arg-type]


# ---- exactly -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stream:
    """Norms that read one stream, and what writes it: paths of modules, names of bare parameters."""

    norms: tuple[str, ...]
    modules: tuple[str, ...]
    parameters: tuple[str, ...]


@torch.no_grad()
def _exactly(model: nn.Module, batch: Batch, norms: dict[str, nn.LayerNorm], report: LayerNormReport) -> None:
    with in_float64(model):
        wide = widened(batch)
        proof = Proof(model, wide)
        values = Values()
        with in_place(model, batch=wide), torch.no_grad():
            model.train()  # evaluation takes shortcuts around the modules of torch's encoder layers
            for module in model.modules():
                if graphs.role_of(module) == "dropout":
                    module.eval()
            tracer = graphs.Tracer(model, values, theory=True)
            graphs.run(tracer, wide)
        streams = _streams(tracer.graph(), values, norms, report)

        def carry_out(some: Sequence[_Stream]) -> None:
            names = {name for stream in some for name in stream.modules}
            for name in names:
                _centre(model.get_submodule(name))
            for name in {name for stream in some for name in stream.parameters}:
                parameter = model.get_parameter(name)
                parameter.sub_(parameter.mean(-1, keepdim=True))
            for path in dict.fromkeys(p for stream in some for p in stream.norms):
                old = norms[path]
                affine, bias = old.weight is not None, old.bias is not None
                new = RMSNorm(old.normalized_shape[0], old.eps, affine, bias).to(next(model.parameters()))
                if affine:
                    new.get_parameter("weight").copy_(old.weight)
                if bias:
                    new.get_parameter("bias").copy_(old.bias)
                new.train(old.training)
                _put(model, paths_of(model, old), new)

        _, bad, off = settle(model, proof, streams, carry_out)
        lost = {path for stream in bad for path in stream.norms}
        report.kept.update(dict.fromkeys(lost, "with its stream's mean taken out the outputs changed"))
        report.changed = [p for stream in streams if stream not in bad for p in stream.norms]
        report.distance = off
    if any(graphs.role_of(m) == "dropout" and getattr(m, "p", 0) for m in model.modules()):
        report.notes.append("with dropout before a sum training differs: it leaves a mean behind")


def _streams(
    graph: Graph, values: Values, norms: dict[str, nn.LayerNorm], report: LayerNormReport
) -> list[_Stream]:
    """Norms whose streams share a writer belong together."""
    groups: list[tuple[set[str], set[str], set[str]]] = []
    for path in norms:
        nodes = [n for n in graph if n.path == path and n.role == "norm" and n.name in values.of_node]
        if not nodes:
            report.kept[path] = "it did not run on this batch"
            continue
        modules, parameters, why = set[str](), set[str](), ""
        for node in nodes:
            why = why or _writers(graph, values.of_node[node.name].parents[0], modules, parameters, set())
        if why:
            report.kept[path] = why
            continue
        same = [g for g in groups if g[1] & modules or g[2] & parameters]
        merged = ({path}, modules, parameters)
        for group in same:
            groups.remove(group)
            merged = (merged[0] | group[0], merged[1] | group[1], merged[2] | group[2])
        groups.append(merged)
    order = list(norms)
    return [
        _Stream(tuple(sorted(a, key=order.index)), tuple(sorted(b)), tuple(sorted(c))) for a, b, c in groups
    ]


def _writers(graph: Graph, value: Value, modules: set[str], parameters: set[str], seen: set[int]) -> str:
    """Collects what writes into a stream; or why it cannot be said."""
    if value.number in seen:
        return ""
    seen.add(value.number)
    node = graph.nodes.get(value.node or "")
    if value.kind == "weight":
        parameters.update(value.parameters)
        return "" if value.parameters else "a constant of the code is added to its stream"
    if value.kind == "shift" and not value.parameters:
        return "a tensor that is no parameter is added to its stream"
    if value.kind == "shift":
        parameters.update(value.parameters)
    writes = ("linear", "embedding", "attention")
    if node is not None and node.kind in ("module", "block", "opaque") and node.role in writes and node.leaf:
        if node.module is None or _writer_of(node.module) is None:
            return f"{node.path} writes into its stream, and its weight is not known"
        modules.add(node.path)
        return ""
    joined = value.kind == "other" and value.name in (
        "cat",
        "concat",
        "concatenate",
    )  # with a parameter: a class token
    moves = value.kind in ("view", "part", "sum", "shift", "concat", "scale")
    passes = moves or joined or (node is not None and node.transparent)
    if not passes or not value.parents:
        made = node.label if node is not None else value.name or value.kind
        return f"{made} writes into its stream, which leaves a mean behind"
    for parent in value.parents:
        why = _writers(graph, parent, modules, parameters, seen)
        if why:
            return why
    return ""


def _writer_of(module: nn.Module) -> nn.Module | None:
    """The module whose weight makes the output's channels."""
    if isinstance(module, nn.MultiheadAttention):
        return module.out_proj
    known = isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return module if known or type(module).__name__ == "Conv1D" else None


def _centre(module: nn.Module) -> None:
    """Takes the mean over output channels out of weight and bias. A weight that others share becomes its own."""
    layer = _writer_of(module)
    assert layer is not None
    axis = 1 if isinstance(layer, nn.Embedding) or type(layer).__name__ == "Conv1D" else 0
    weight: Any = layer.weight
    centred = weight - weight.mean(axis, keepdim=True)
    if isinstance(layer, nn.Embedding):  # the output layer often has the same weight
        layer.weight = nn.Parameter(centred, requires_grad=weight.requires_grad)
    else:
        weight.copy_(centred)
    bias: Any = getattr(layer, "bias", None)
    if isinstance(bias, Tensor):
        bias.sub_(bias.mean())


# ---- fitted ------------------------------------------------------------------------------------------------


@torch.no_grad()
def _fitted(
    model: nn.Module,
    batch: Batch,
    norms: dict[str, nn.LayerNorm],
    report: LayerNormReport,
    keep_last: bool,
    measure: Callable[[nn.Module], float] | None,
) -> None:
    wanted = _seen(model, batch, list(norms))
    order = list(wanted)
    report.kept.update({path: "it did not run on this batch" for path in norms if path not in wanted})
    for path in order:
        if keep_last and path == order[-1]:
            report.kept[path] = "the last norm anchors the scale of the logits; keep_last=False fits it too"
            continue
        old = norms[path]
        x, target = _seen(model, batch, [path])[path][0].double(), wanted[path][1].double()
        new, fit = _fit(path, report.to, old, x, target)
        _put(model, paths_of(model, old), new)
        if measure is not None:
            with in_place(model):
                fit = replace(fit, measured=float(measure(model)))
        report.fits.append(fit)
        report.changed.append(path)
    with graphs.undisturbed(model, batch):
        graph = graphs.follow(model, batch)
    if any(branch.order == "post" for branch in graph.branches):
        report.notes.append(
            "it has norms behind its sums: each function squashes the stream itself, block after block"
        )
    report.notes.append("fine-tune it: some 300 steps bring back most of what the fit leaves open")
    if any(f.unexplained > 0.2 for f in report.fits):
        report.notes.append(
            "more than a fifth of a norm's output is unexplained: its tokens' stds differ much"
        )


def _seen(model: nn.Module, batch: Batch, paths: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """{path: (inputs, outputs) of its first call, (tokens, C)} in execution order, in evaluation mode."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(path: str) -> Any:
        def see(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if path not in found:
                c = output.shape[-1]
                rows = given[0].reshape(-1, c), output.reshape(-1, c)
                found[path] = (rows[0][:_MANY].clone(), rows[1][:_MANY].clone())

        return see

    with in_place(model, batch=batch), torch.no_grad():
        model.eval()
        for path in paths:
            model.get_submodule(path).register_forward_hook(hook(path))
        given = batch.clone()
        model(*given.args, **given.kwargs)
    return found


def _fit(path: str, to: str, old: nn.LayerNorm, x: Tensor, target: Tensor) -> tuple[nn.Module, NormFit]:
    layer = _POINTWISE[to](old.normalized_shape[0])
    std = float(x.std(correction=0).clamp_min(1e-12))
    best, alpha = None, 1.0
    for step in _GRID.tolist():
        found = _regression(layer.squash(step / std * x), target)
        if best is None or found[2] < best[2]:
            best, alpha = found, step / std
    assert best is not None
    weight, bias, unexplained = best
    layer = layer.to(next(iter(old.parameters()), x.float()))
    layer.alpha.fill_(alpha)
    layer.weight.copy_(weight)
    layer.get_parameter("bias").copy_(bias)
    layer.train(old.training)
    tokens = x.std(1, correction=0)
    cv = float(tokens.std(correction=0) / tokens.mean())
    linear = _regression(x, target)[2]
    return layer, NormFit(path, to, alpha, unexplained, linear, std, cv)


def _regression(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """(weight, bias of each channel, share of y's variance that is left): y ~ weight x + bias by least squares."""
    mx, my = x.mean(0), y.mean(0)
    dx, dy = x - mx, y - my
    weight = (dx * dy).sum(0) / dx.square().sum(0).clamp_min(1e-30)
    left = (dy - weight * dx).square().sum() / dy.square().sum().clamp_min(1e-30)
    return weight, my - weight * mx, float(left)
