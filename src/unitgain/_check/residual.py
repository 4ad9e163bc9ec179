"""Finds residual sums while a model runs, and measures where their branches end and their blocks end.

Hooks see modules, but `x + f(x)` happens between them, in each library's own words. So one forward pass runs under a
torch function mode that follows every tensor from the inputs on. A sum is residual when both tensors have the same
shape, descend from a common one, and one has passed weights (a convolution, a matrix product) that the other has
not: that one is the branch.

Measured at once, before anything can change in place:

- the end of the branch: before multiplications by what does not depend on the input (skip gains, alpha, layer
  scales, stochastic depth) and before dropout;
- the end of the block: what the module that adds returns (so after an activation behind the sum), for the last sum
  in it; the sum itself for earlier ones, and for sums in the forward of the whole model.
"""

from __future__ import annotations

import functools
import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import stats
from .._batch import named_inputs, tensors_in
from ..probe.modules import channel_axis
from ..stats import Partial


def _all_of(*names: str) -> set[Any]:
    owners = (torch, Tensor, F)
    return {getattr(owner, name) for owner in owners for name in names if hasattr(owner, name)}


_ADDS = _all_of("add", "add_", "__add__", "__iadd__", "__radd__")
_DIVISIONS = _all_of("div", "div_", "__truediv__", "true_divide")
_SCALES = _DIVISIONS | _all_of("mul", "mul_", "__mul__", "__imul__", "__rmul__", "multiply")
_DROPOUTS = _all_of(
    "dropout", "dropout_", "feature_dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d"
)
_CONVS = _all_of(*(f"{kind}{n}d" for kind in ("conv", "conv_transpose") for n in (1, 2, 3)))
_PRODUCTS = _all_of("linear", "bilinear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "einsum",
                    "scaled_dot_product_attention", "multi_head_attention_forward")  # fmt: skip
_CHANNELS_FIRST = _all_of("batch_norm", "instance_norm", "group_norm")
_NORMS = _CHANNELS_FIRST | _all_of("layer_norm", "rms_norm")
_RELUS = _all_of("relu", "relu_")
_SHAPES = _all_of("view", "reshape", "flatten", "unflatten", "contiguous", "clone", "to", "float", "type", "detach",
                  "squeeze", "unsqueeze")  # fmt: skip
_MOVES = _all_of("permute")
_SWAPS = _all_of("transpose", "transpose_", "swapaxes")


@dataclass
class _Node:
    """What is known of one tensor.

    bit, before  its own bit, and those of all tensors that it descends from (with its own)
    weights      the bits of products with weights among them
    axis         of its channels, None if not known
    kind         of what made its values: "batch_norm", "norm", "standardized" (a product with a weight whose rows have
                 mean 0 and one norm), "product", "relu" or ""
    power        of a batch_norm the mean squared gain, of a product fan_in * mean squared weight, of a standardized one
                 its rows' mean squared norm
    source       the node that this function took (the input of the convolution, say)
    scale, end   what it was multiplied by (None if that is not one number) since the tensor measured as `end`
    """

    bit: int
    before: int
    weights: int
    axis: int | None = None
    kind: str = ""
    power: float = math.nan
    source: _Node | None = None
    scale: float | None = 1.0
    end: Partial | None = None

    @property
    def ends_in(self) -> str:
        """kind, and for a product whether its input is relu(batch_norm(.)), whose moments are known."""
        rectified = self.source is not None and self.source.kind == "relu" and self.source.source is not None
        if self.kind == "product" and rectified and self.source.source.kind == "batch_norm":  # type: ignore[union-attr]
            return "product of relu(batch_norm)"
        return self.kind

    def same_values(self, other: _Node) -> None:
        """For a function that moves or scales values: they are still made by what made them."""
        self.kind, self.power, self.source = other.kind, other.power, other.source
        self.scale, self.end = other.scale, other.end


@dataclass
class Sum:
    """One residual sum.

    path, call   of the module that added, and which of its calls in this pass (from 1)
    last         whether this is the last sum of that call, so that `block` is what the module returned
    branch       the branch's end;  block: the block's end;  axis: of their channels
    transition   whether the skip path has weights of its own
    alpha        what the branch is multiplied by between its end and the sum; None if that is not one number
    made_by, power              what made the branch's end, as in _Node.ends_in
    skip_made_by, skip_power    the same for the skip tensor
    after        "" if the block's end is the sum itself, "relu" if relu(sum), else "other"
    """

    path: str
    call: int
    shape: tuple[int, ...]
    axis: int | None
    branch: Partial
    block: Partial
    transition: bool
    alpha: float | None
    made_by: str
    power: float
    skip_made_by: str
    skip_power: float
    last: bool = True
    after: str = ""


@dataclass
class _Frame:
    """A running call of a module; `start` is its input, kept until the first sum is found."""

    path: str
    call: int
    start: Partial | None
    last: Sum | None = None
    node: _Node | None = None  # of the last sum


class Watch(TorchFunctionMode):
    """Follows the forward passes inside of it: `sums` are the residual sums in execution order, `stem` the input of the
    block with the first one, None where that is the model itself. Its hooks are gone afterwards.

    >>> from torch import nn
    >>> class Block(nn.Linear):
    ...     def forward(self, x): return x + 0.2 * super().forward(torch.relu(x))
    >>> model = nn.Sequential(Block(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with Watch(model) as watch: _ = model(torch.randn(4, 8))
    >>> [(s.path, s.alpha, s.transition, s.made_by) for s in watch.sums]
    [('0', 0.2, False, 'product')]
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.sums: list[Sum] = []
        self.stem: Partial | None = None
        self._model = model
        self._nodes: dict[int, tuple[weakref.ref[Tensor], _Node]] = {}
        self._bits = 0
        self._frames: list[_Frame] = []
        self._calls: dict[str, int] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Watch:
        for path, module in self._model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            enter, leave = functools.partial(self._enter, path), functools.partial(self._leave, path)
            self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(leave, always_call=True))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._nodes.clear()

    # ---- modules -------------------------------------------------------------------------------------------

    def _enter(self, path: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        call = self._calls[path] = self._calls.get(path, 0) + 1
        given = list(tensors_in((args, kwargs)))
        if not self._frames:
            for _name, tensor in named_inputs(args, kwargs):
                self._remember(tensor, self._node())
        first = next((t for t in given if t.is_floating_point() and t.dim() > 1), None)
        start = (
            self._summary(first, self._of(first)) if first is not None and path and not self.sums else None
        )
        self._frames.append(_Frame(path, call, start))

    def _leave(self, path: str, _: nn.Module, __: Any, output: Any) -> None:
        frame = self._frames.pop() if self._frames else None
        if frame is None or frame.last is None or not path or output is None:
            return
        tensor = next((t for t in tensors_in(output) if t.is_floating_point()), None)
        node = self._of(tensor) if tensor is not None else None
        if tensor is None or node is None or node is frame.node or stats.shape_of(tensor) != frame.last.shape:
            return
        frame.last.block = self._summary(tensor, node, frame.last.axis)
        frame.last.after = "relu" if node.kind == "relu" and node.source is frame.node else "other"

    # ---- functions -----------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [(t, node) for t in tensors_in((args, kwargs)) if (node := self._of(t)) is not None]
        if not known or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        made = self._follow(func, args, kwargs, known)  # before: func may work in place
        found = self._residual(args, kwargs, known) if func in _ADDS and len(known) == 2 else None
        out = func(*args, **kwargs)
        if isinstance(out, (Tensor, tuple, list)):
            for tensor in tensors_in(out, depth=1):
                self._remember(tensor, made)
        if found is not None and isinstance(out, Tensor):
            self._keep(found, out, made)
        return out

    def _follow(self, func: Any, args: Any, kwargs: Any, known: list[tuple[Tensor, _Node]]) -> _Node:
        tensor, first = known[0]
        node = self._node(*(n for _, n in known))
        node.axis, last = first.axis, tensor.dim() - 1
        if func in _CONVS or func in _PRODUCTS:
            node.weights |= node.bit
            node.kind, node.source, node.axis = "product", first, 1 if func in _CONVS else None
            if func in _CONVS or func is F.linear:
                node.axis = 1 if func in _CONVS else last
                node.kind, node.power = _describe_weight(args[1] if len(args) > 1 else kwargs["weight"])
        elif func in _NORMS:
            node.kind, node.source = ("batch_norm" if func is F.batch_norm else "norm"), first
            node.axis = 1 if func in _CHANNELS_FIRST else last
            if func is F.batch_norm:
                gain = args[3] if len(args) > 3 else kwargs.get("weight")
                node.power = 1.0 if gain is None else float(gain.detach().square().mean())
        elif func in _RELUS:
            node.kind, node.source = "relu", first
        elif func in _SCALES and len(known) == 1:
            self._scale(node, tensor, first, func in _DIVISIONS, args, kwargs)
        elif func in _SCALES and len(known) == 2:  # a gate, as of squeeze-and-excitation
            larger = max(known, key=lambda pair: pair[0].numel())
            if larger[0].numel() > min(known, key=lambda pair: pair[0].numel())[0].numel():
                node.kind, node.power, node.axis = larger[1].kind, larger[1].power, larger[1].axis
        elif func in _DROPOUTS:
            self._scale(node, tensor, first, False, (), {})
        elif func in _MOVES and first.axis is not None:
            node.same_values(first)
            order = kwargs.get("dims") or (args[1] if not isinstance(args[1], int) else args[1:])
            node.axis = [d % tensor.dim() for d in order].index(first.axis)
        elif func in _SWAPS and first.axis is not None and len(args) == 3:
            node.same_values(first)
            a, b = (d % tensor.dim() for d in args[1:])
            node.axis = {a: b, b: a}.get(first.axis, first.axis)
        elif func in _SHAPES:
            node.same_values(first)
        return node

    def _scale(
        self, node: _Node, tensor: Tensor, first: _Node, divides: bool, args: Any, kwargs: Any
    ) -> None:
        """Multiplication by something without a past: a skip gain, alpha, a layer scale, a mask; or dropout."""
        others = [v for v in (*args, *kwargs.values()) if v is not tensor]
        factor = _one_number(others[0]) if others else 1.0
        if divides and factor:
            factor = 1 / factor
        node.same_values(first)
        if others and not isinstance(others[0], Tensor) and factor is not None and abs(factor) > 1:
            node.scale, node.end = 1.0, None  # a gain of the branch itself, as that of 2 behind a gate
            return
        node.end = first.end if first.end is not None else self._summary(tensor, first)
        node.scale = None if factor is None or first.scale is None else first.scale * factor

    def _residual(self, args: Any, kwargs: Any, known: list[tuple[Tensor, _Node]]) -> Sum | None:
        (a, first), (b, second) = known
        common = first.before & second.before
        if a.shape != b.shape or a.dim() < 2 or not a.is_floating_point() or not common:
            return None
        own = [(n.weights & ~common).bit_count() for n in (first, second)]
        if own[0] == own[1]:
            return None
        number = 0 if own[0] > own[1] else 1
        (tensor, branch), (_, skip) = known[number], known[1 - number]
        alpha = branch.scale
        if alpha is not None and number == 1:
            alpha *= float(kwargs.get("alpha", 1.0))
        end = branch.end if branch.end is not None else self._summary(tensor, branch)
        frame = self._frames[-1] if self._frames else _Frame("", 1, None)
        return Sum(
            path=frame.path, call=frame.call, shape=stats.shape_of(a), block=end, branch=end,
            axis=branch.axis if branch.axis is not None else skip.axis, transition=own[1 - number] > 0, alpha=alpha,
            made_by=branch.ends_in, power=branch.power, skip_made_by=skip.ends_in, skip_power=skip.power,
        )  # fmt: skip

    def _keep(self, found: Sum, out: Tensor, node: _Node) -> None:
        found.block = self._summary(out, node, found.axis)
        node.axis, node.kind, node.scale, node.end = found.axis, "", 1.0, None
        if not self.sums and self._frames:
            self.stem = self._frames[-1].start
        self.sums.append(found)
        if self._frames:
            frame = self._frames[-1]
            if frame.last is not None:
                frame.last.last = False
            frame.last, frame.node = found, node
            found.last = bool(frame.path)

    # ---- bookkeeping ---------------------------------------------------------------------------------------

    def _node(self, *parents: _Node) -> _Node:
        bit = 1 << self._bits
        self._bits += 1
        before, weights = bit, 0
        for parent in parents:
            before |= parent.before
            weights |= parent.weights
        return _Node(bit, before, weights)

    def _of(self, tensor: Tensor) -> _Node | None:
        entry = self._nodes.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _remember(self, tensor: Tensor, node: _Node) -> None:
        self._nodes[id(tensor)] = (weakref.ref(tensor), node)

    def _summary(self, tensor: Tensor, node: _Node | None, axis: int | None = None) -> Partial:
        if axis is None and node is not None:
            axis = node.axis
        if axis is None or axis >= tensor.dim():
            axis = channel_axis(None, stats.shape_of(tensor))
        with torch._C.DisableTorchFunction():
            return stats.summarize(tensor, channel_axis=axis)


def _describe_weight(weight: Tensor) -> tuple[str, float]:
    """("standardized", mean squared row norm), or ("product", fan_in * mean squared weight), which is that too."""
    with torch._C.DisableTorchFunction():
        rows = weight.detach().flatten(1).float()  # (O, N)
        norms = rows.norm(dim=1)
        means = rows.mean(1).abs() * rows.shape[1] ** 0.5
        centred = bool((means <= 1e-3 * norms.amax().clamp_min(1e-30)).all())
        alike = bool(norms.amax() - norms.amin() <= 0.3 * norms.amax())
        power = float(norms.square().mean())
    return ("standardized" if centred and alike and rows.shape[1] > 1 else "product"), power


def _one_number(value: Any) -> float | None:
    """The factor that a number or a constant tensor multiplies by; None for masks and uneven scales."""
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, Tensor) or not value.numel():
        return None
    with torch._C.DisableTorchFunction():
        first = value.detach().flatten()[0]
        return float(first) if bool((value == first).all()) else None
