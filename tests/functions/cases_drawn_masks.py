"""Cases of UG703: masks that are drawn by hand, and what they do to means."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, chain, healthy, labels, sequences, sick, values, vectors
from torch import Tensor, nn


class Drop(nn.Module):
    """training, evaluation: what is done in either mode."""

    def __init__(
        self, training: Callable[[Tensor], Tensor], evaluation: Callable[[Tensor], Tensor] = lambda x: x
    ):
        super().__init__()
        self.in_training, self.in_evaluation = training, evaluation

    def forward(self, x: Tensor) -> Tensor:
        return self.in_training(x) if self.training else self.in_evaluation(x)


def classifier(drop: nn.Module) -> Arguments:
    x = vectors()
    return nn.Sequential(nn.Linear(12, 48), nn.ReLU(), drop, nn.Linear(48, 4)), (x, labels(x)), {"loss": CE}


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG703", "masks")
def bernoulli_mask_that_is_not_scaled() -> Arguments:
    return classifier(Drop(lambda x: x * torch.bernoulli(torch.full_like(x, 0.5))))


@sick("UG703", "masks")
def divided_by_the_share_that_is_dropped() -> Arguments:
    return classifier(Drop(lambda x: x * (torch.rand(x.shape) > 0.2) / 0.2))


@sick("UG703", "masks")
def scaled_twice() -> Arguments:
    return classifier(Drop(lambda x: x * (torch.empty_like(x).bernoulli_(0.5) / 0.5) / 0.5))


@sick("UG703", "masks")
def filled_with_zeros_and_not_scaled() -> Arguments:
    return classifier(Drop(lambda x: x.masked_fill(torch.rand_like(x) < 0.4, 0.0)))


@sick("UG703", "masks")
def one_mask_for_all_steps_in_the_middle_of_forward() -> Arguments:
    x = sequences()

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        if net.training:
            h = h * torch.rand(h.shape[0], 1, h.shape[2]).ge(0.6).float()
        return net.head(torch.relu(h).mean(1))

    return Net(run, first=nn.Linear(6, 32), head=nn.Linear(32, 4)), (x, labels(x)), {"loss": CE}


@sick("UG703", "masks")
def multiplied_by_the_share_in_training() -> Arguments:
    return classifier(Drop(lambda x: x * (torch.rand_like(x) < 0.5).float() * 0.5))


@sick("UG703", "masks")
def multiplied_where_it_was_to_be_divided() -> Arguments:
    x = vectors(256)

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        kept = (torch.rand(len(x), 1) < 0.7).float()
        branch = net.branch(h)
        return net.head(h + (branch * kept * 0.7 if net.training else branch))

    model = Net(run, first=nn.Linear(12, 32), branch=chain(32, 32, 32), head=nn.Linear(32, 1))
    return model, (x, values(x)), {"loss": MSE}


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG703", "masks")
def bernoulli_mask_divided_by_the_share_that_is_kept() -> Arguments:
    return classifier(Drop(lambda x: x * torch.bernoulli(torch.full_like(x, 0.8)) / 0.8))


@healthy("UG703", "masks")
def mask_that_is_scaled_itself() -> Arguments:
    return classifier(Drop(lambda x: x * x.new_empty(1, x.shape[1]).bernoulli_(0.7).div_(0.7)))


@healthy("UG703", "masks")
def scaled_in_evaluation_instead() -> Arguments:
    return classifier(Drop(lambda x: x * (torch.rand_like(x) < 0.5), lambda x: 0.5 * x))


@healthy("UG703", "masks")
def inputs_masked_for_a_denoiser() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> Tensor:
        return net.body(x * (torch.rand_like(x) > 0.5) if net.training else x)

    return Net(run, body=chain(12, 32, 12)), (x, x.clone()), {"loss": MSE}


@healthy("UG703", "masks")
def a_gate_that_is_learnt() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> Tensor:
        h = torch.relu(net.first(x))
        p = net.gate(x).sigmoid()
        hard = torch.bernoulli(p.detach()) if net.training else (p > 0.5).float()
        return net.head(h * (hard + p - p.detach()))

    return (
        Net(run, first=nn.Linear(12, 32), gate=nn.Linear(12, 32), head=nn.Linear(32, 4)),
        (x, labels(x)),
        {},
    )


@healthy("UG703", "masks")
def paths_that_are_dropped_and_scaled() -> Arguments:
    x = vectors(256)

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        branch = net.branch(h)
        if net.training:
            branch = branch.div(0.8) * torch.floor(0.8 + torch.rand(len(x), 1))
        return net.head(h + branch)

    model = Net(run, first=nn.Linear(12, 32), branch=chain(32, 32, 32), head=nn.Linear(32, 1))
    return model, (x, values(x)), {"loss": MSE}


@healthy("UG703", "masks")
def torchs_dropout_of_ones() -> Arguments:
    return classifier(Drop(lambda x: x * F.dropout(torch.ones(1, x.shape[1]).expand_as(x), 0.3)))
