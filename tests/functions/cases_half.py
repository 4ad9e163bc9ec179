"""Cases of UG306: functions that overflow in half precision, and nothing else is infinite."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import CE, Arguments, Net, healthy, labels, sick, vectors
from torch import Tensor, nn


def halved(
    run: Callable[[Net, Tensor], Tensor], kind: torch.dtype = torch.float16, size: float = 400.0
) -> Arguments:
    """Features of a layer times `size`, what `run` makes of them, and a head."""
    x = vectors()
    model = Net(
        lambda net, x: net.head(run(net, net.body(x) * size)), body=nn.Linear(12, 32), head=nn.Linear(32, 4)
    )
    return model.to(kind), (x.to(kind), labels(x)), {"loss": lambda out, y: CE(out.float(), y)}


def by_hand(net: Net, h: Tensor) -> Tensor:
    return h / (h.pow(2).mean(1, keepdim=True).sqrt() + 1e-3)


@sick("UG306", "half")
def norm_by_hand() -> Arguments:
    return halved(by_hand)


@sick("UG306", "half")
def variance_of_large_features() -> Arguments:
    return halved(lambda net, h: (h - h.mean(1, keepdim=True)) / h.var(1, keepdim=True).sqrt())


@sick("UG306", "half")
def length_of_large_features() -> Arguments:
    return halved(lambda net, h: h / (h * h).sum(1, keepdim=True).sqrt())


@sick("UG306", "half")
def product_of_two_lengths() -> Arguments:
    def run(net: Net, h: Tensor) -> Tensor:
        one, two = h.norm(dim=1, keepdim=True), h.flip(1).norm(dim=1, keepdim=True)
        return (h * (h / 400).sum(1, keepdim=True)) / (one * two)

    return halved(run)


@sick("UG306", "half")
def sum_over_the_features() -> Arguments:
    return halved(lambda net, h: h / (20 * h).abs().cumsum(1)[:, -1:])


@sick("UG306", "half")
def distances_of_large_features() -> Arguments:
    def run(net: Net, h: Tensor) -> Tensor:
        far = (h[:, None] - h.detach()[None, :32]).square().sum(2)
        return 1 / (1 + far)

    return halved(run)


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG306", "half")
def norm_in_single_precision() -> Arguments:
    return halved(lambda net, h: by_hand(net, h.float()).half())


@healthy("UG306", "half")
def norm_by_hand_in_bfloat16() -> Arguments:
    return halved(by_hand, torch.bfloat16)


@healthy("UG306", "half")
def norm_by_hand_of_usual_features() -> Arguments:
    return halved(by_hand, size=2.0)


@healthy("UG306", "half")
def torchs_norm_of_large_features() -> Arguments:
    return halved(lambda net, h: F.layer_norm(h, (32,)))


@healthy("UG306", "half")
def masks_added_twice() -> Arguments:
    def run(net: Net, h: Tensor) -> Tensor:
        lowest = torch.finfo(h.dtype).min
        mask = torch.zeros(64, 32, dtype=h.dtype).masked_fill(torch.arange(32) > 20, lowest)
        return (h / 400 + mask + mask).softmax(1)

    return halved(run)


@healthy("UG306", "half")
def gate_by_hand() -> Arguments:
    return halved(lambda net, h: h / 400 / (1 + (-h / 10).detach().exp()))
