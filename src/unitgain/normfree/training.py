"""Mode "train": the structure of a network that trains from scratch without BatchNorm.

    dense and grouped layers   scaled weight standardization with the gain of the activation before them
    depthwise kernels          scaled by their norm; their mean stays (see nn.NormalizedRows)
    fan-in 1, heads, gates     plain
    BatchNorm                  gone, with its activation kept where it held one; each layer beside it gets a bias
    residual branches          times alpha and a learnable scalar; alpha^2 of all branches of one sum together is 0.04
    constants and biases       measured on the batch, layer by layer in execution order: see calibrating.py

The learnable scalar starts at 1 and not, as SkipInit's, at 0: alpha bounds what a branch adds already, and a branch
that starts at zero gives its layers no gradient in the first step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from .. import theory
from .._base import InputError
from .._batch import Batch
from ..graph import Graph, Node
from ..nn import ScaledStd, fan_in
from . import calibrating
from .clipping import advice
from .edits import Edit, apply, is_weight_normed, paths_of
from .folding import PARTS, parts_of
from .plain_code import is_ours
from .reading import Reading, is_converted, read
from .report import Change, ConversionReport
from .residual import ends_of, residual_sums

ALPHA = 0.2


def convert_for_training(
    model: nn.Module,
    batch: Batch,
    report: ConversionReport,
    norms: Collection[str],
    doubted: Mapping[str, str],
) -> None:
    """Changes the structure and the constants of a model; in place. The batch is what it is scaled to.

    doubted  {path of a norm that stays: why}
    """
    readings = [read(model, batch, training=training, norms=norms) for training in (True, False)]
    report.changes = [
        replace(c, how="refused", why=doubted[c.path]) if c.path in doubted else c
        for c in _decide(model, readings, norms)
    ]
    gone = {c.path for c in report.changes if c.how == "removed"}
    ends = _branch_ends(readings, gone)
    layers, left = _layers(model, readings, gone)
    edits: list[Edit] = []
    for path, why in left.items():
        report.notes.append(
            f"{path}: its norm is gone, but its weight is not standardized or scaled, as {why}"
        )
    for layer, node in layers.items():
        if is_weight_normed(layer):  # standardization takes its part
            edits.append(Edit("plain", paths_of(model, layer)))
        if layer._parameters.get("bias") is None:
            edits.append(Edit("bias", paths_of(model, layer), _outputs(layer)))
        kind = "normalized" if _is_depthwise(layer) else "standardized"
        gain = _gain(readings[0].graph if node.name in readings[0].graph.nodes else readings[1].graph, node)
        edits.append(Edit(kind, paths_of(model, layer), value=gain))
    for path in gone:
        norm = model.get_submodule(path)
        parts = parts_of(norm)
        kind, alpha = ("branch", ends[path]) if path in ends else ("identity", 1.0)
        places = [p for reading in readings for p in reading.places.get(path, ())]
        if kind == "identity" and not all(p.producers for p in places):
            # the norm made a new tensor; an activation that works in place would now overwrite what others read, or
            # what the function before it has kept for the backward pass
            for module in _in_place_behind(readings, path, norm):
                edits.append(Edit("out_of_place", paths_of(model, module)))
            if _function_behind(readings, path):
                kind = "affine"
        channels, rank = (places[0].channels, places[0].rank) if kind == "affine" else (0, 0)
        edits.append(Edit(kind, paths_of(model, norm), channels, rank, parts, alpha))
    steps: dict[str, nn.Module] = {}
    for edit in edits:
        made = apply(model, edit)
        if edit.kind in ("standardized", "normalized") and made is not None:
            steps[edit.paths[0]] = made
    report.edits += edits
    report.standardized = len(steps)
    if not edits:
        return
    targets = {path: ends[path] for path in steps if path in ends}
    report.notes += calibrating.calibrate(model, batch, steps, targets)
    report.notes.append(advice(batch.examples, from_scratch=True))


def _decide(model: nn.Module, readings: list[Reading], norms: Collection[str]) -> list[Change]:
    found = []
    for path, module in model.named_modules():
        if not is_converted(module, norms):
            continue
        kind = type(module).__name__
        parts = [name for name, _ in module.named_children() if name not in PARTS]
        if not any(reading.places.get(path) for reading in readings):
            why = "it did not run on this batch, neither in training nor in evaluation"
            found.append(Change(path, kind, "refused", why=why))
        elif parts:
            why = f"it has parts of its own ({', '.join(parts)}), and what it does with them is not known"
            found.append(Change(path, kind, "refused", why=why))
        else:
            found.append(Change(path, kind, "removed"))
    for name in dict.fromkeys(n for reading in readings for n in reading.functional):
        why = "it is a call of F.batch_norm in the code of a module, which cannot be edited from outside"
        found.append(Change(name, "F.batch_norm", "refused", why=why))
    return found


def _branch_ends(readings: list[Reading], gone: set[str]) -> dict[str, float]:
    """{path of a norm or layer at the end of a residual branch: alpha}."""
    found: dict[str, float] = {}
    for reading in readings:
        for branches in residual_sums(reading.graph):
            terms = ends_of(reading.graph, branches, gone)
            for path in (path for makers in terms for path in makers):
                found.setdefault(path, ALPHA / len(terms) ** 0.5)
    return found


def _behind(readings: list[Reading], path: str) -> list[Node]:
    """The activations that take a norm's output."""
    return [
        taker
        for reading in readings
        for place in reading.places.get(path, ())
        for taker in reading.graph.consumers(place.node)
        if taker.role == "activation"
    ]


def _in_place_behind(readings: list[Reading], path: str, norm: nn.Module) -> list[nn.Module]:
    behind = [node.module for node in _behind(readings, path) if node.module is not None]
    found = dict.fromkeys([*norm.children(), *behind])
    return [m for m in found if getattr(m, "inplace", False) is True]


def _function_behind(readings: list[Reading], path: str) -> bool:
    """Whether a function is called on the norm's output, which may work in place."""
    return any(node.module is None for node in _behind(readings, path))


def _layers(
    model: nn.Module, readings: list[Reading], gone: set[str]
) -> tuple[dict[nn.Module, Node], dict[str, str]]:
    """(The layers that are to be standardized: those next to a norm that goes; {path of one that feeds such a norm, and
    cannot be: why})."""
    homes: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                homes[id(parameter)] = homes.get(id(parameter), 0) + 1
    found: dict[nn.Module, Node] = {}
    left: dict[str, str] = {}
    for reading in readings:
        for node in reading.graph:
            layer = node.module
            if (
                layer is None
                or layer in found
                or node.role != "linear"
                or not isinstance(layer, (_ConvNd, nn.Linear))
            ):
                continue
            feeds = _feeds(reading.graph, node, gone)
            if not feeds and not _is_fed_by(reading, node, gone):
                continue
            own = layer._parameters.get("weight")
            why = ""
            if is_weight_normed(layer):
                own = layer.weight
            elif own is None or parametrize.is_parametrized(layer):
                why = "it is computed from other numbers (a parametrization)"
            elif homes.get(id(own), 1) > 1:
                why = "it is shared with another layer"
            if why:
                left |= (
                    {node.path: why}
                    if feeds and not isinstance(layer, ScaledStd) and not _standardizes(layer)
                    else {}
                )
                continue
            assert own is not None
            if not (isinstance(layer, ScaledStd) or "Std" in type(layer).__name__ or fan_in(layer, own) < 2):
                found[layer] = node
    return found, left


def _standardizes(layer: nn.Module) -> bool:
    """Whether its parametrization is this package's already."""
    stack: Any = getattr(layer, "parametrizations", None)
    return stack is not None and "weight" in stack and any(is_ours(step) for step in stack.weight)


def _feeds(graph: Graph, node: Node, gone: set[str]) -> bool:
    """Whether a norm that goes takes the layer's output, behind its activation or before it."""
    waiting, seen = [node], {node.name}
    while waiting:
        for taker in graph.consumers(waiting.pop()):
            if taker.path in gone and taker.role == "norm":
                return True
            passes = taker.transparent or taker.role in ("concat", "activation", "pool", "dropout")
            if taker.name not in seen and passes:
                seen.add(taker.name)
                waiting.append(taker)
    return False


def _is_fed_by(reading: Reading, node: Node, gone: set[str]) -> bool:
    """Whether a norm that goes, and no other layer, stands before it. Behind a pool over all positions, or in
    another arrangement of axes, there are gates and heads, which stay plain."""
    graph = reading.graph
    if graph.after(node).kind == "output":
        return False
    value = reading.values.of_node.get(node.name)
    given = value.parents[0].shape if value is not None and value.parents else ()
    waiting, seen = [node], {node.name}
    while waiting:
        for source in graph.producers(waiting.pop()):
            if source.name in seen:
                continue
            seen.add(source.name)
            if source.path in gone and source.role == "norm":
                return len(given) == len(source.shape) and (len(given) == 2 or _positions(given) > 1)
            if source.role in (
                "activation",
                "concat",
                "sum",
                "pool",
                "dropout",
                "reshape",
                "block",
                "product",
            ):
                waiting.append(source)
    return False


def _positions(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape[2:]:
        size *= n
    return size


def _gain(graph: Graph, node: Node) -> float:
    """1 / std of the activation before a layer for a standard normal input; 1 where there is none, or it is unknown."""
    function = graph.before(node).function
    if function is None:
        return 1.0
    try:
        return theory.centered_gain(function)
    except InputError:
        return 1.0


def _is_depthwise(layer: nn.Module) -> bool:
    groups = int(getattr(layer, "groups", 1))
    return (
        groups > 1 and groups == getattr(layer, "in_channels", 0) and not getattr(layer, "transposed", False)
    )


def _outputs(layer: nn.Module) -> int:
    size = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
    assert isinstance(size, int)
    return size


__all__ = ["ALPHA", "convert_for_training"]
