"""Cases of heads that pool a sequence (UG807), and of waves that hardly turn (UG811)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, chain, healthy, labels, sequences, sick, values, vectors
from torch import Tensor, nn


def pooling(run: object, **parts: nn.Module) -> Arguments:
    x = sequences(24, 12, 6)
    model = Net(run, first=nn.Linear(6, 32), score=nn.Linear(32, 4), head=nn.Linear(32, 3), **parts)  # type: ignore[arg-type]
    return model, (x, labels(x, 3)), {"loss": CE}


def pooled(net: Net, x: Tensor, axis: int) -> Tensor:
    h = torch.tanh(net.first(x))
    weights = net.score(h).softmax(axis)
    return net.head((weights[..., None] * h.unflatten(2, (4, 8))).sum(1).flatten(1))


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG807", "pool")
def heads_that_compete_for_each_step() -> Arguments:
    return pooling(lambda net, x: pooled(net, x, 2))


@sick("UG807", "pool")
def heads_at_the_last_axis() -> Arguments:
    return pooling(lambda net, x: pooled(net, x, -1))


@sick("UG807", "pool")
def heads_moved_before_the_steps() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        weights = F.softmax(net.score(h).transpose(1, 2), dim=1)  # (N, heads, T)
        cut = h.view(len(x), -1, 4, 8).transpose(1, 2)  # (N, heads, T, 8)
        return net.head((weights.unsqueeze(-1) * cut).sum(2).flatten(1))

    return pooling(run)


@sick("UG807", "pool")
def heads_in_an_einsum() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        cut = h.reshape(len(x), -1, 4, 8)
        return net.head(torch.einsum("nth,nthd->nhd", net.score(h).softmax(-1), cut).flatten(1))

    return pooling(run)


@sick("UG807", "pool")
def scaled_and_masked_heads() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        scores = (net.score(h) / 8**0.5).masked_fill(x[..., :1] > 2, -1e4)
        return net.head((h.unflatten(-1, (4, 8)) * scores.softmax(2).unsqueeze(3)).sum(dim=1).flatten(1))

    return pooling(run)


@sick("UG807", "pool")
def values_of_a_further_layer() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        cut = net.value(h).view(len(x), -1, 4, 8)
        return net.head((net.score(h).softmax(2)[..., None] * cut).sum(1).reshape(len(x), -1))

    return pooling(run, value=nn.Linear(32, 32))


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG807", "pool")
def heads_whose_steps_compete() -> Arguments:
    return pooling(lambda net, x: pooled(net, x, 1))


@healthy("UG807", "pool")
def clusters_of_all_features() -> Arguments:
    """Soft assignment to clusters, as in NetVLAD: what is weighed is not cut."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        assigned = net.score(h).softmax(2)  # (N, T, clusters)
        away = h[:, :, None] - net.centres
        return net.out((assigned[..., None] * away).sum(1).flatten(1))

    model, batch, further = pooling(
        run, centres=nn.Parameter(0.1 * torch.randn(4, 32)), out=nn.Linear(128, 3)
    )
    del model.head
    return model, batch, further


@healthy("UG807", "pool")
def experts_of_each_step() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        made = net.experts(h).unflatten(2, (4, 32))
        return net.head((net.score(h).softmax(2)[..., None] * made).sum(2).mean(1))

    return pooling(run, experts=nn.Linear(32, 128))


@healthy("UG807", "pool")
def experts_summed_and_then_steps() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        made = net.experts(h).unflatten(2, (4, 32))
        return net.head((net.score(h).softmax(2)[..., None] * made).sum((1, 2)) / x.shape[1])

    return pooling(run, experts=nn.Linear(32, 128))


@healthy("UG807", "pool")
def gates_of_a_sigmoid() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        return net.head((net.score(h).sigmoid()[..., None] * h.unflatten(2, (4, 8))).mean(1).flatten(1))

    return pooling(run)


@healthy("UG807", "pool")
def assignment_of_steps_to_slots() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x)
        assigned = net.score(h).softmax(2)
        return net.out((assigned.transpose(1, 2) @ h / assigned.sum(1)[..., None]).flatten(1))

    model, batch, further = pooling(run, out=nn.Linear(128, 3))
    del model.head
    return model, batch, further


# ---- waves -----------------------------------------------------------------------------------------------------


def timed(run: object, time: Tensor, width: int = 16) -> Arguments:
    x = vectors(len(time))
    model = Net(run, time=nn.Linear(width, 12), body=chain(24, 32, 1))  # type: ignore[arg-type]
    return model, (x, time, values(x * time.reshape(-1, 1))), {"loss": MSE}


def waves(time: Tensor, channels: int = 8, longest: float = 10000.0) -> Tensor:
    speed = torch.exp(-math.log(longest) * torch.arange(channels) / channels)
    angle = time.reshape(-1, 1) * speed
    return torch.cat([angle.sin(), angle.cos()], 1)


def joined(net: Net, x: Tensor, wave: Tensor) -> Tensor:
    return net.body(torch.cat([x, F.silu(net.time(wave))], 1))


@sick("UG811", "slow")
def fractions_in_waves_for_a_thousand_steps() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(t)), torch.rand(64))


@sick("UG811", "slow")
def fractions_in_a_column() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(t)), torch.rand(64, 1))


@sick("UG811", "slow")
def steps_divided_by_their_number() -> Arguments:
    steps = torch.randint(0, 1000, (64,))
    return timed(lambda net, x, t: joined(net, x, waves(t.float() / 1000)), steps)


@sick("UG811", "slow")
def interleaved_waves_of_fractions() -> Arguments:
    def run(net: Net, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] / 10000 ** (torch.arange(0, 16, 2) / 16)
        return joined(net, x, torch.stack([angle.sin(), angle.cos()], 2).flatten(1))

    return timed(run, torch.linspace(0, 1, 64))


@sick("UG811", "slow")
def logarithms_of_noise_between_zero_and_one() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(t, 16)), torch.rand(64) ** 2, 32)


@sick("UG811", "slow")
def periods_up_to_a_thousand() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(t, 8, 1000.0)), torch.rand(64))


@healthy("UG811", "slow")
def steps_up_to_a_thousand() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(t)), torch.randint(0, 1000, (64,)))


@healthy("UG811", "slow")
def fractions_times_a_thousand() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, waves(1000 * t)), torch.rand(64))


@healthy("UG811", "slow")
def frequencies_that_rise_by_two() -> Arguments:
    def run(net: Net, x: Tensor, t: Tensor) -> Tensor:
        angle = t[:, None] * math.pi * 2.0 ** torch.arange(8)
        return joined(net, x, torch.cat([angle.sin(), angle.cos()], 1))

    return timed(run, torch.rand(64))


@healthy("UG811", "slow")
def random_frequencies_of_fractions() -> Arguments:
    chosen = 16 * torch.randn(8)

    def run(net: Net, x: Tensor, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t[:, None] * chosen
        return joined(net, x, torch.cat([angle.sin(), angle.cos()], 1))

    return timed(run, torch.rand(64))


@healthy("UG811", "slow")
def places_of_a_short_sequence() -> Arguments:
    x = sequences(24, 10, 16)

    def run(net: Net, x: Tensor) -> Tensor:
        return net.head((net.first(x) + waves(torch.arange(10.0))).relu().mean(1))

    return Net(run, first=nn.Linear(16, 16), head=nn.Linear(16, 3)), (x, labels(x, 3)), {"loss": CE}


@healthy("UG811", "slow")
def times_as_they_are() -> Arguments:
    return timed(lambda net, x, t: joined(net, x, t[:, None] ** torch.arange(1, 17)), torch.rand(64))
