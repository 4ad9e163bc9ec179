"""A layer's weight and bias as something to pull: scale its output, shift it, leave what is frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ..graph import Node, outputs_of
from ..nn import ScaledStandardization, ScaledStd


class Lever:
    """Of one use of a weight. `blocked` says why its weight cannot be scaled, or is None.

    What is assumed: the output is linear in weight and bias together, y = W(x) + b, as for Linear, convolutions,
    Conv1D and, in its output projection, MultiheadAttention.
    """

    def __init__(self, model: nn.Module, node: Node):
        self.node = node
        self.names = node.parameters
        self.owner: nn.Module | None = node.module
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if isinstance(node.module, nn.MultiheadAttention):
            self.owner = node.module.out_proj
        if self.owner is not None:
            weight, bias = getattr(self.owner, "weight", None), getattr(self.owner, "bias", None)
            self.weight = weight if isinstance(weight, Tensor) else None
            self.bias = bias if isinstance(bias, nn.Parameter) else None
        else:  # bare parameters: a product takes one matrix and at most one bias
            named = dict(model.named_parameters())
            tensors = [named[n] for n in node.parameters]
            self.weight = next((t for t in tensors if t.dim() >= 2), None)
            self.bias = next((t for t in tensors if t.dim() == 1), None)
        self.standardized, self.gain = _standardization(self.owner)
        self.parametrized = not self.standardized and (
            self.owner is not None
            and not isinstance(self.weight, nn.Parameter)
            and parametrize.is_parametrized(self.owner, "weight")
        )
        self.blocked = self._why_blocked()

    def _why_blocked(self) -> str | None:
        if self.node.role == "recurrent":
            return "recurrent: its output is bounded and its gates are inside; init_ sets them"
        if self.weight is None or self.weight.dim() < 2:
            return "no weight matrix of its own"
        if self.standardized and self.gain is None:
            return "its weight is standardized and has no gain, so that nothing sets its scale"
        if self.standardized:
            assert self.gain is not None
            return (
                "frozen"
                if not self.gain.requires_grad
                else None
                if self.gain.any()
                else "its gain is all zero"
            )
        if self.parametrized:
            originals = self.owner.parametrizations.weight.parameters()  # type: ignore[union-attr]
            return None if all(p.requires_grad for p in originals) else "frozen"
        if not isinstance(self.weight, nn.Parameter):
            return "its weight is computed, not a parameter"
        if not self.weight.requires_grad:
            return "frozen"
        for name, parameter in self.owner.named_parameters() if self.owner is not None else ():
            if not name.endswith("bias") and not bool((parameter != 0).any()):
                return f"its {name} is all zero"  # a SkipInit gain, say
        return None if bool((self.weight != 0).any()) else "its weight is all zero"

    @property
    def constant(self) -> float:
        """What a standardized layer multiplies its weight by beside the gain: its output's scale for a gain of one."""
        if isinstance(self.owner, ScaledStd):
            return float(self.owner.gamma)
        steps: Any = getattr(self.owner, "parametrizations", {})
        return next((float(s.scale) for s in steps["weight"] if isinstance(s, ScaledStandardization)), 1.0)

    @property
    def scales(self) -> nn.Parameter | None:
        """The parameter that sets the output's scale: the weight, or the gain of a standardized one."""
        found = self.gain if self.standardized else self.weight
        return found if isinstance(found, nn.Parameter) else None

    @property
    def linear(self) -> bool:
        """Whether the class promises an output linear in weight and bias; a class of someone's own may standardize."""
        kind = type(self.owner)
        return kind.__module__.startswith("torch.nn.") or kind.__name__ == "Conv1D"

    def tensors(self) -> list[Tensor]:
        return [t for t in (self.weight, self.bias, self.gain) if isinstance(t, nn.Parameter)]

    @property
    def can_shift(self) -> bool:
        return self.bias is not None and self.bias.requires_grad

    @property
    def channel_axis(self) -> int | None:
        return self.node.channel_axis

    def weight_name(self) -> str:
        if isinstance(self.node.module, nn.MultiheadAttention):
            return f"{self.node.path}.out_proj.weight"
        if self.owner is not None:
            return f"{self.node.path}.weight".lstrip(".")
        return self.names[0]

    @torch.no_grad()
    def scale(self, factor: Tensor, *, bias: bool) -> None:
        """Multiplies the weight (and the bias) by a number, or by one per output channel."""
        assert self.weight is not None
        if self.standardized:
            assert self.gain is not None
            self.gain.mul_(factor.to(self.gain.dtype).view(-1, *(1,) * (self.gain.dim() - 1)))
            if bias and self.bias is not None:
                self.bias.mul_(factor.to(self.bias.dtype))
            return
        spread = self._spread(factor)
        if self.parametrized:
            assert self.owner is not None
            self.owner.weight = self.owner.weight * spread  # type: ignore[operator]  # through right_inverse
        else:
            self.weight.mul_(spread.to(self.weight.dtype))
        if bias and self.bias is not None:
            self.bias.mul_(factor.to(self.bias.dtype))

    def _spread(self, factor: Tensor) -> Tensor:
        """(channels,) to the weight's shape, minding where each layout has its outputs."""
        assert self.weight is not None
        if factor.dim() == 0:
            return factor
        ones = (1,) * (self.weight.dim() - 2)
        if isinstance(self.owner, _ConvNd) and self.owner.transposed:  # (in, out/groups, *k)
            groups = self.owner.groups
            by_group = factor.view(groups, 1, -1).expand(-1, self.weight.shape[0] // groups, -1)
            return by_group.reshape(self.weight.shape[0], -1, *ones)
        if type(self.owner).__name__ == "Conv1D":
            return factor.view(1, -1)
        return factor.view(-1, 1, *ones)

    @torch.no_grad()
    def shift(self, amount: Tensor) -> None:
        assert self.bias is not None
        self.bias.add_(amount.to(self.bias.dtype))

    def recompute(self, inputs: Any) -> Tensor:
        """The module's output now, without its hooks."""
        args, kwargs = inputs
        assert self.node.module is not None
        return next(t for _, t in outputs_of(self.node.module, self.node.module.forward(*args, **kwargs)))

    def project_mean(self, inputs: Any, target: float, per_channel: bool) -> None:
        """Moves the output's mean to target by the smallest change of the weight: for layers without a bias.

        The mean is linear in the weight, mean = <g, W>, so W - g (mean - target) / |g|^2 has it; with target 0 that
        takes the part of W along g away and never more.
        """
        assert isinstance(self.weight, nn.Parameter)
        with torch.enable_grad():
            y = self.recompute(inputs)
            (g,) = torch.autograd.grad(y.float().mean(), self.weight)
        with torch.no_grad():
            if not per_channel:
                square = g.float().square().sum()
                if square > 0:
                    self.weight.sub_(g * ((y.float().mean() - target) / square).to(g.dtype))
                return
            axis = self.channel_axis
            assert axis is not None
            channels = y.shape[axis]
            means = y.float().movedim(axis, 0).flatten(1).mean(1)  # (channels,)
            ones = torch.ones(channels, device=y.device)
            step = g.float() * channels  # the gradient of each channel's own mean, in that channel's slice
            squares = torch.zeros(channels, device=y.device)
            owner = self._spread(torch.arange(channels, device=y.device).float()).expand_as(step).long()
            squares.index_add_(0, owner.flatten(), step.square().flatten())
            ratio = torch.where(squares > 0, (means - target) / squares.clamp_min(1e-30), 0 * ones)
            self.weight.sub_((step * self._spread(ratio)).to(self.weight.dtype))


def _standardization(owner: nn.Module | None) -> tuple[bool, nn.Parameter | None]:
    """Whether a layer standardizes its weight whenever it is used, so that the stored one has no scale; its gain."""
    if isinstance(owner, ScaledStd):
        return True, owner.gain  # type: ignore[return-value]
    steps: Any = getattr(owner, "parametrizations", {})
    for step in [*steps["weight"]] if "weight" in steps else []:
        if isinstance(step, ScaledStandardization):
            return True, step.gain
    return False, None
