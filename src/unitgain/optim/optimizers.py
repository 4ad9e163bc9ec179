"""SGD, Momentum, RMSProp and Adam, each written as its formula, in a course's conventions instead of torch's.

w is a parameter, g its gradient, lr the learning rate, wd the weight decay. All four decay the weights directly
(w <- w - lr wd w) before the update, like AdamW: the gradient's averages never see the decay. Formulas after
fast.ai's course "From Deep Learning Foundations to Stable Diffusion"; Adam is that of Kingma and Ba (2014) but for the
place of eps, decoupled decay is Loshchilov and Hutter's (2017). Each docstring says what torch does differently, so
that a learning rate can be converted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._base import InputError
from .base import Optimizer, subtract


class SGD(Optimizer):
    """w <- w - lr wd w - lr g;    with momentum m: a <- m a + g from a = 0, and a in the place of g

    torch.optim.SGD adds wd w to the gradient. Without momentum that is the same number; with it, it is not.
    `Momentum` averages the gradients instead of adding them up.

    lr            learning rate, a number or a tensor of one
    weight_decay  wd
    momentum      m, in 0 <= m < 1, as torch.optim.SGD's, so that torch's OneCycleLR and CyclicLR can set it
    foreach       all tensors at once (True), one by one (False), or whichever is faster (None)
    maximize      True: the objective is to grow, w <- w - lr wd w + lr g

    >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> optimizer = SGD([w], lr=0.1, weight_decay=0.5)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.data
    tensor([0.8500, 1.8000])
    """

    state_keys = ("sum",)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**defaults, "foreach": foreach, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._check_number(group, "momentum", _is_share, "in 0 <= m < 1")

    def _move(
        self, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        if group["momentum"] != 0:
            total = _state(states, "sum", grads)
            torch._foreach_mul_(total, group["momentum"])
            torch._foreach_add_(total, grads)
            grads = total
        subtract(params, group["lr"], grads)


class Momentum(Optimizer):
    """a <- m a + (1 - m) g, from a = 0;    w <- w - lr wd w - lr a

    a is an average of the gradients, so the step keeps its size when m changes. torch.optim.SGD(momentum=m) sums
    them instead (a <- m a + g): its steps are 1 / (1 - m) as long, so lr here is torch's divided by (1 - m); torch's
    dampening=m gives the average too, but starts it at the first gradient.

    momentum      m, in 0 <= m < 1
    Others as for SGD.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Momentum([w], lr=1.0, momentum=0.75)
    >>> w.sum().backward()
    >>> for _ in range(2): optimizer.step()
    >>> w.item()  # steps of 0.25 and 0.4375 on the way to 1
    0.3125
    """

    state_keys = ("average",)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "foreach": foreach, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._check_number(group, "momentum", _is_share, "in 0 <= m < 1")

    def _move(
        self, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        average = _state(states, "average", grads)
        torch._foreach_lerp_(average, grads, 1 - group["momentum"])
        subtract(params, group["lr"], average)


class RMSProp(Optimizer):
    """s <- b s + (1 - b) g^2, from s = the first g^2;    w <- w - lr wd w - lr g / (sqrt(s) + eps)

    torch.optim.RMSprop starts s at 0: its first step is 1 / sqrt(1 - b) times as long (10 times for b = 0.99), and
    the steps after it shrink towards this one's. It calls b alpha, and takes eps = 1e-8, also outside the root.

    square_momentum  b, in 0 <= b < 1
    eps              above 0; where gradients are far below it, steps shrink with them
    Others as for SGD.

    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> optimizer = RMSProp([w], lr=0.25, eps=1e-12)
    >>> (w * torch.tensor([1.0, 1000.0])).sum().backward()
    >>> optimizer.step()
    >>> w.tolist()  # the first step is lr, at any scale of the gradient
    [0.75, 0.75]
    """

    state_keys = ("square",)

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        square_momentum: float = 0.99,
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        defaults = {"lr": lr, "square_momentum": square_momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "foreach": foreach, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        self._check_number(group, "square_momentum", _is_share, "in 0 <= b < 1")
        self._check_number(group, "eps", lambda v: v > 0, "above 0")

    def _move(
        self, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        for g, state in zip(grads, states):
            if "square" not in state:
                state["square"] = g.square()
        square = _state(states, "square", grads)
        _average_squares(square, grads, group["square_momentum"])
        size = torch._foreach_sqrt(square)
        torch._foreach_add_(size, group["eps"])
        subtract(params, group["lr"], torch._foreach_div(grads, size))


class Adam(Optimizer):
    """a <- b1 a + (1 - b1) g;    s <- b2 s + (1 - b2) g^2;    both from 0
    w <- w - lr wd w - lr a' / sqrt(s' + eps),    a' = a / (1 - b1^t), s' = s / (1 - b2^t) at step t = 1, 2, ...

    torch.optim.Adam and AdamW have eps outside the root, sqrt(s') + eps, and b2 = 0.999. Inside it acts like the root
    of itself outside: 1e-5 damps gradients below about 3e-3, while torch's 1e-8 damps only gradients below 1e-8. Weight
    decay is AdamW's (torch.optim.Adam adds it to the gradient).

    betas  (b1, b2), each in 0 <= b < 1
    eps    above 0
    Others as for SGD.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Adam([w], lr=0.25, eps=1e-12)
    >>> (w * 1000).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 6)
    0.75
    """

    state_keys = ("average", "square", "step")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "foreach": foreach, "maximize": maximize})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(map(_is_share, betas)):
            raise InputError(f"Adam(betas={betas!r}): expected a pair of numbers in 0 <= b < 1")
        self._check_number(group, "eps", lambda v: v > 0, "above 0")

    def _move(
        self, params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]
    ) -> None:
        b1, b2 = group["betas"]
        average, square = _state(states, "average", grads), _state(states, "square", grads)
        for state in states:
            state["step"] = state.get("step", 0) + 1
        torch._foreach_lerp_(average, grads, 1 - b1)
        _average_squares(square, grads, b2)
        size = torch._foreach_div(square, [1 - b2 ** state["step"] for state in states])
        torch._foreach_add_(size, group["eps"])
        torch._foreach_sqrt_(size)
        torch._foreach_mul_(size, [1 - b1 ** state["step"] for state in states])
        subtract(params, group["lr"], torch._foreach_div(average, size))


def _state(states: list[dict[str, Any]], key: str, grads: list[Tensor]) -> list[Tensor]:
    """One tensor of each parameter's state, zeros where it is new."""
    for state, g in zip(states, grads):
        if key not in state:
            state[key] = torch.zeros_like(g)
    return [state[key] for state in states]


def _average_squares(square: list[Tensor], grads: list[Tensor], share: float) -> None:
    torch._foreach_mul_(square, share)
    torch._foreach_addcmul_(square, grads, grads, 1 - share)


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
