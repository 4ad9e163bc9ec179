"""Exact folding: what becomes of each BatchNorm of a trained network, in float64, and the proof by comparison.

A BatchNorm in evaluation mode is s x + t per channel, s = weight / sqrt(var + eps), t = bias - s mean.

    layer -> norm   W <- s W, b <- s b + t, whatever the layer's padding, stride, dilation and groups, as the norm acts
                    behind it. Where several layers are concatenated before the norm, each takes its part.
    norm -> layer   W <- W s by input channel, b <- b + sum W t, exact only without zero padding: a padded pixel is 0
                    behind the norm, which is -t/s before it. "fold" only
    anything else   s x + t stays as a layer of its own: before zero-padded convolutions, before activations (s may be
                    negative or zero, and few activations are scale-free), behind sums and pools
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..graph import Node
from ..nn import BranchScale, SkipInit, scaled_outputs
from .edits import Edit, apply, outputs_axis, paths_of, weight_of
from .reading import Place, Reading, channels_of, is_affine, is_batch_norm, is_converted


@dataclass(frozen=True)
class Affine:
    """gain * inverse_std * (x - mean) + bias, per channel, in float64, each (C,)."""

    gain: Tensor
    inverse_std: Tensor
    mean: Tensor
    bias: Tensor

    @property
    def scale(self) -> Tensor:
        return self.gain * self.inverse_std

    @property
    def shift(self) -> Tensor:
        return self.bias - self.scale * self.mean

    def part(self, start: int, count: int) -> Affine:
        return Affine(
            *(t[start : start + count] for t in (self.gain, self.inverse_std, self.mean, self.bias))
        )


def affine_of(module: nn.Module, channels: int) -> Affine:
    """What a norm computes in evaluation mode."""

    def numbers(name: str, missing: float) -> Tensor:
        tensor = getattr(module, name, None)
        like = next((t for t in (*module.parameters(), *module.buffers())), torch.zeros(()))
        if not isinstance(tensor, Tensor):
            return torch.full((channels,), missing, dtype=torch.float64, device=like.device)
        return tensor.detach().double()

    if isinstance(module, (BranchScale, SkipInit)):
        factor = module.gain.detach().double() * getattr(module, "alpha", 1.0)
        one, zero = torch.ones(channels).to(factor), torch.zeros(channels).to(factor)
        return Affine(one * factor, one, zero, zero)
    mean = numbers("running_mean", 0.0)
    if hasattr(module, "inverse_std"):
        inverse = numbers("inverse_std", 1.0)
    else:
        inverse = (numbers("running_var", 1.0) + float(getattr(module, "eps", 0.0))).rsqrt()
    return Affine(numbers("weight", 1.0), inverse, mean, numbers("bias", 0.0))


@dataclass(frozen=True)
class Decision:
    """What is to become of one norm.

    how    absorbed: into the layers before it; forward: into the one behind it; affine: stays as a scale and a shift;
           refused: stays as it is
    into   names of the layers
    why    of affine and refused: the reason
    """

    path: str
    kind: str
    how: str
    channels: int = 0
    rank: int = 0
    into: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    why: str = ""


def decide(
    model: nn.Module, readings: Sequence[Reading], *, plain: bool, norms: Collection[str] = ()
) -> list[Decision]:
    """One decision for every norm module, in the order of the model, and for each F.batch_norm of no module's.

    plain  "fold": affine modules that convert put in before are to go too
    norms  kinds beside BatchNorm that are to go
    """
    taken, found = _Taken(model, readings), []
    for path, module in model.named_modules():
        if is_converted(module, norms) or (is_affine(module) and plain):
            places = [p for reading in readings for p in reading.places.get(path, ())]
            found.append(_decide(path, module, places, readings, taken, plain))
    for name in dict.fromkeys(n for reading in readings for n in reading.functional):
        why = "it is a call of F.batch_norm in the code of a module, which cannot be edited from outside"
        found.append(Decision(name, "F.batch_norm", "refused", why=why))
    return found


def _decide(
    path: str, module: nn.Module, places: list[Place], readings: Sequence[Reading], taken: _Taken, plain: bool
) -> Decision:
    kind = type(module).__name__
    why = _refusal(module, places)
    if why:
        return Decision(path, kind, "refused", why=why)
    first = places[0]
    kept = Decision(path, kind, "affine", first.channels, first.rank)
    if any(len(r.places.get(path, ())) > 1 for r in readings):
        return replace(kept, why="it is used more than once")
    targets = {tuple((p.node.path, p.start, p.count) for p in place.producers) for place in places}
    why = next((place.why for place in places if place.why), "")
    if not why and len(targets) > 1:
        why = "different layers come before it in training and in evaluation"
    if not why:
        why = next((w for producer in first.producers if (w := taken.refusal(producer.node))), "")
    if not why and plain is False and (shared := is_affine(module)):
        why = "it is an affine layer already" if shared else ""
    if not why:
        into = first.producers
        return replace(
            kept, how="absorbed", into=tuple(p.node.path for p in into), starts=tuple(p.start for p in into),
            counts=tuple(p.count for p in into),
        )  # fmt: skip
    after = {None if p.following is None else p.following.path for p in places}
    following = first.following
    if plain and following is not None and len(after) == 1 and not taken.refusal(following):
        return replace(kept, how="forward", into=(following.path,), why=why)
    return replace(kept, why=why)


def _refusal(module: nn.Module, places: list[Place]) -> str:
    """Why this norm cannot even become a fixed scale and shift."""
    if not places and is_affine(module):  # timm's FrozenBatchNormAct2d
        return "it computes a fixed scale and shift in code of its own, which is not followed"
    if not places:
        return "it did not run on this batch, neither in training nor in evaluation"
    if not is_batch_norm(module) and not is_affine(module) and getattr(module, "running_mean", None) is None:
        return (
            "it normalizes each example by its own statistics, so that no fixed scale and shift is the same function; "
            'mode="train" takes it out'
        )
    if is_batch_norm(module) and getattr(module, "running_mean", None) is None:
        return "it keeps no running statistics, so that it normalizes by the batch in evaluation too"
    parts = [name for name, _ in module.named_children()]
    if any(name not in PARTS for name in parts):
        return f"it has parts of its own ({', '.join(parts)}), and what it does with them is not known"
    numbers = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    if not all(bool(torch.isfinite(t).all()) for t in numbers):
        return "its weights or running statistics are not finite"
    if any(place.channels < 1 or place.rank not in (2, 3, 4, 5) for place in places):
        return "its input is not (N, C, ...)"
    return ""


PARTS = ("drop", "act")  # of timm's norms with an activation inside: behind the norm, in this order


def parts_of(norm: nn.Module) -> tuple[str, ...]:
    """Names of those PARTS that it has."""
    return tuple(n for n in PARTS if isinstance(getattr(norm, n, None), nn.Module))


class _Taken:
    """Which layers may not be changed: their weight works elsewhere too."""

    def __init__(self, model: nn.Module, readings: Sequence[Reading]):
        self._homes: dict[int, int] = {}
        for module in model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    self._homes[id(parameter)] = self._homes.get(id(parameter), 0) + 1
        self._readings = readings

    def refusal(self, node: Node) -> str:
        layer = node.module
        assert layer is not None
        if not isinstance(getattr(layer, "weight", None), Tensor):
            return f"{node.path} keeps its weight elsewhere"
        weight, bias = weight_of(layer), getattr(layer, "bias", None)
        both = [t for t in (weight, bias) if isinstance(t, Tensor)]
        if any(self._homes.get(id(t), 1) > 1 for t in both):
            return f"the weight of {node.path} is shared with another layer"
        for reading in self._readings:
            if sum(n.module is layer for n in reading.graph) > 1:
                return f"{node.path} runs more than once"
            used = [
                n for n in reading.graph if n.module is not layer and set(node.parameters) & set(n.parameters)
            ]
            if any(n.kind != "block" for n in used):
                return f"the weight of {node.path} is used by {used[0].name} too"
        return ""


# ---- carrying it out ---------------------------------------------------------------------------------------


@torch.no_grad()
def carry_out(model: nn.Module, decisions: Iterable[Decision], *, plain: bool) -> list[Edit]:
    """Changes the model as decided; the edits that were made. The model is in float64."""
    edits: list[Edit] = []

    def make(edit: Edit) -> nn.Module:
        edits.append(edit)
        made = apply(model, edit)
        assert made is not None
        return made

    for decision in decisions:
        if decision.how == "refused":
            continue
        norm = model.get_submodule(decision.path)
        found = affine_of(norm, decision.channels)
        learns = next((p.requires_grad for p in norm.parameters(recurse=False)), False)
        parts = parts_of(norm)
        here = paths_of(model, norm)
        if decision.how == "affine":
            edit = Edit("depthwise" if plain else "affine", here, decision.channels, decision.rank, parts)
            _set_affine(make(edit), found, learns)
            continue
        for path, start, count in zip(decision.into, decision.starts or (0,), decision.counts or (0,)):
            layer = model.get_submodule(path)
            if layer._parameters.get("bias") is None:
                make(Edit("bias", paths_of(model, layer), count or weight_of(layer).shape[0]))
                layer.get_parameter("bias").requires_grad_(learns)
            bias = layer.get_parameter("bias")
            if decision.how == "forward":
                bias.add_(_through(layer, found.shift))
                weight_of(layer).copy_(_scaled_inputs(layer, found.scale))
                continue
            part = found.part(start, count)
            bias.copy_(part.scale * bias + part.shift)
            if plain:
                weight_of(layer).copy_(scaled_outputs(weight_of(layer), part.scale, *outputs_axis(layer)))
            else:
                step = make(Edit("frozen", paths_of(model, layer), count))
                step.get_parameter("gain").copy_(part.gain).requires_grad_(learns)
                step.get_buffer("inverse_std").copy_(part.inverse_std)
        make(Edit("identity", here, parts=parts))
    return edits


def _set_affine(layer: nn.Module, found: Affine, learns: bool) -> None:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    bias.copy_(found.shift).requires_grad_(learns)
    if hasattr(layer, "inverse_std"):
        weight.copy_(found.gain).requires_grad_(learns)
        layer.get_buffer("inverse_std").copy_(found.inverse_std)
    elif isinstance(layer, nn.Linear):
        weight.copy_(torch.diag(found.scale))
    else:
        weight.copy_(found.scale.view(weight.shape))


def _scaled_inputs(layer: nn.Module, scale: Tensor) -> Tensor:
    weight = weight_of(layer)
    groups = int(getattr(layer, "groups", 1))
    each = (
        scale.view(groups, 1, -1).expand(groups, len(weight) // groups, -1).flatten(0, 1)
    )  # (O, I / groups)
    return weight * each.view(*each.shape, *[1] * (weight.dim() - 2))


def _through(layer: nn.Module, shift: Tensor) -> Tensor:
    """What a constant input of each channel adds to the outputs: (O,)."""
    weight = weight_of(layer)
    return (_scaled_inputs(layer, shift)).flatten(1).sum(1) if weight.dim() > 1 else shift


def dead_channels(model: nn.Module) -> dict[str, int]:
    """{path of a BatchNorm: channels whose running variance is below a hundredth of eps}: what they let through is
    rounding, multiplied by up to 1/sqrt(eps)."""
    found = {}
    for path, module in model.named_modules():
        variance = getattr(module, "running_var", None)
        if is_batch_norm(module) and isinstance(variance, Tensor):
            dead = int((variance.detach().double() < 0.01 * float(module.eps)).sum())  # type: ignore[arg-type]
            if dead:
                found[path] = dead
    return found


__all__ = [
    "PARTS", "Affine", "Decision", "affine_of", "carry_out", "channels_of", "dead_channels", "decide", "parts_of",
]  # fmt: skip
