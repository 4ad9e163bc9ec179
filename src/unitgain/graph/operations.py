"""What torch's functions do to a signal, as far as the graph minds: one table.

kind          what happens
node          the output is a node of the graph: an activation, a norm, a product with a weight, ...
view          the same values in another shape, order, type or place
part          some of the values: x[:, 0], chunk, split
add, sub      sums; `lerp` and `addcmul` are sums with factors
mul, div      by something that does not depend on the input a scale, else a product of two signals
dropout       scales at random; the values stay what they are in expectation
cat, stack    concatenations
reduce        mean or sum over axes: of a stack, over its new axis, the sum of what was stacked
constant      a new tensor that only took the shape of another one
scatter       index_add and its like: a sum where the first argument is a signal
assign        x[...] = y
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .activations import FUNCTIONS


class Operation(NamedTuple):
    """kind: see above. role and name: of the node, where the output is one. site: whether a Probe measures it;
    "leaf" only inside leaf modules of the user's own, which compute their layers on bare parameters."""

    kind: str
    name: str
    role: str = ""
    site: bool | str = False


_OWNERS = (torch, Tensor, F, torch.special, torch.fft, torch.linalg)


def _all_of(names: str) -> list[tuple[Callable[..., Any], str]]:
    found = []
    for name in names.split():
        for owner in _OWNERS:
            for spelling in (name, f"{name}_", f"__{name}__", f"__i{name}__", f"__r{name}__"):
                function = getattr(owner, spelling, None)
                if callable(function) and not isinstance(function, type):
                    found.append((function, name))
    return found


_VIEWS = """view reshape flatten ravel permute transpose squeeze unsqueeze contiguous t detach swapaxes swapdims
    movedim moveaxis view_as reshape_as clone requires_grad to type type_as float half bfloat16 double cpu cuda
    unflatten adjoint roll flip pixel_shuffle pixel_unshuffle channel_shuffle positive alias resolve_conj"""
_PARTS = """getitem chunk split tensor_split split_with_sizes hsplit vsplit dsplit unbind narrow select index_select
    gather take_along_dim diagonal masked_select unfold topk"""
_CONSTANTS = """empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty new_zeros new_ones
    new_full new_tensor bernoulli"""
_POOLS = """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool1d lp_pool2d lp_pool3d
    interpolate upsample"""
_CONVS = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"
_PRODUCTS = "linear bilinear matmul mm bmm mv addmm addmv baddbmm einsum tensordot"
_MIXES = "fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn"

_NODES: tuple[tuple[str, str, bool | str], ...] = (  # names, role, site
    ("batch_norm instance_norm layer_norm group_norm rms_norm", "norm", True),
    ("softmax log_softmax", "softmax", True),
    ("scaled_dot_product_attention multi_head_attention_forward", "attention", True),
    (_CONVS, "linear", "leaf"),
    (_PRODUCTS, "linear", "leaf"),
    (_POOLS, "pool", False),
    (_MIXES, "mix", False),
    ("embedding embedding_bag", "embedding", False),
)
_CALLED = {"mm": "matmul", "scaled_dot_product_attention": "attention"}
_PLAIN: tuple[tuple[str, str], ...] = (
    (_VIEWS, "view"),
    (_PARTS, "part"),
    (_CONSTANTS, "constant"),
    ("add", "add"),
    ("sub subtract rsub", "sub"),
    ("lerp", "lerp"),
    ("addcmul", "addcmul"),
    ("mul multiply", "mul"),
    ("div divide truediv true_divide", "div"),
    ("neg negative", "neg"),
    ("dropout feature_dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d", "dropout"),
    ("cat concat concatenate hstack vstack dstack column_stack", "cat"),
    ("stack", "stack"),
    ("mean sum", "reduce"),
    ("index_add scatter_add scatter_reduce index_reduce", "scatter"),
    ("setitem copy index_put masked_scatter index_copy", "assign"),
)


def _operations() -> dict[Callable[..., Any], Operation]:
    table: dict[Callable[..., Any], Operation] = {}
    for names, kind in _PLAIN:
        for function, name in _all_of(names):
            table[function] = Operation(kind, name)
    for names, role, site in _NODES:
        for function, name in _all_of(names):
            table[function] = Operation("node", _CALLED.get(name, name), role, site)
    for function, name in FUNCTIONS.items():
        table[function] = Operation("node", name, "activation", True)
    return table


OPERATIONS = _operations()
SITE_FUNCTIONS = {f: o for f, o in OPERATIONS.items() if o.site}
_PROPERTIES = {"T", "mT", "H", "mH", "data", "real", "imag"}  # of tensors that are tensors again
_OTHER = Operation("other", "")
NO_TENSOR = Operation("none", "")
EMBEDDING = Operation("node", "embedding", "embedding")

SUBTRACTS_MEAN = {
    "batch_norm": "channel", "instance_norm": "channel", "layer_norm": "layer", "group_norm": "group",
}  # fmt: skip


def operation_of(function: Any) -> Operation:
    """What is known of a torch function.

    >>> operation_of(torch.tanh)
    Operation(kind='node', name='tanh', role='activation', site=True)
    >>> operation_of(Tensor.view).kind, operation_of(torch.cumsum).kind
    ('view', 'other')
    """
    found = OPERATIONS.get(function)
    if found is not None:
        return found
    name = getattr(function, "__name__", "")
    if name == "__get__":  # reading an attribute of a tensor
        attribute = getattr(function.__self__, "__name__", "")
        return Operation("view", attribute) if attribute in _PROPERTIES else NO_TENSOR
    return _OTHER


def reversed_order(function: Any) -> bool:
    """Whether function(a, b) computes b - a or b / a. `1 - x` arrives as Tensor.__rsub__(x, 1)."""
    return getattr(function, "__name__", "") in ("__rsub__", "rsub", "__rtruediv__", "__rdiv__")


class Call:
    """The arguments of one call by name or place."""

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.args, self.kwargs = args, kwargs

    def get(self, place: int, name: str, default: Any = None) -> Any:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)
