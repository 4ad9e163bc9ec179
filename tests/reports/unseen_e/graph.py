"""Axes, masks and the graph: fourth collection, half E."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, chains, glyphs, mixture, mlp, scored, seeded, standard
from torch import Tensor, nn


@report(
    "graph", area="capsules", action=r"softmax|axis|dim|routing", steps=80, rate=5e-3,
    no_rule="the softmax of dynamic routing goes over the capsules below and not over those above",
    says=r"routing|softmax.*axis",
    source="github.com/motokimura/capsnet_pytorch/pull/1",
    cause="softmax without a dim took axis 1: every capsule above gets one vote in all, and those below share none",
)  # fmt: skip
def routing_shared_among_the_lower_capsules(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        low = F.normalize(net.low(x).unflatten(1, (48, 4)), dim=2)
        votes = torch.einsum("bik,ijkd->bijd", low, net.votes)
        prior = votes.new_zeros(votes.shape[:3])
        high = votes[:, 0]
        for _ in range(3):
            high = (prior.softmax(2 if cured else 1)[..., None] * votes).sum(1)
            size = high.norm(dim=2, keepdim=True)
            high = high * size / (1 + size.square())
            prior = prior + (votes * high[:, None]).sum(3)
        return high.norm(dim=2)

    def margin(length: Tensor, labels: Tensor) -> Tensor:
        own = F.one_hot(labels, 6).float()
        return (own * F.relu(0.9 - length) ** 2 + 0.5 * (1 - own) * F.relu(length - 0.1) ** 2).sum(1).mean()

    x, labels = glyphs(96, 6, 10, seed=1)
    model = Net(
        run, low=nn.Sequential(nn.Flatten(), nn.Linear(100, 192)),
        votes=nn.Parameter(0.15 * torch.randn(48, 6, 4, 6, generator=seeded(2))),
    )  # fmt: skip
    return model, (x, labels), {"loss": margin}, scored(lambda out: margin(out, labels), x)


class Block(nn.Module):
    """Two convolutions, and the way around them that was lost when the code was tidied up."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.cured = cured

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        x = self.b(F.silu(self.a(F.silu(x))))
        return kept + x if self.cured else x


@report(
    "graph", area="energy-based model", action=r"residual|skip|shortcut|input of the block", steps=80, rate=2e-3,
    may="UG301 UG401 UG307 UG305 UG404 UG502 UG102 UG605 UG510 UG110",
    no_rule="blocks keep their input for a residual sum and do not add it", says=r"residual|skip|shortcut",
    source="github.com/yilundu/improved_contrastive_divergence/issues/7",
    cause="x_orig = x is kept at the head of the block and used nowhere: there is no way around the block",
)  # fmt: skip
def block_input_kept_and_never_added(cured: bool):
    x, labels = glyphs(64, 6, 8, seed=3)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), *(Block(8, cured) for _ in range(6)), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 6),
    )  # fmt: skip
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "graph", "UG603", "UG107 UG807", area="matting", action=r"keepdim|axis|dim|example|batch", steps=80, rate=3e-3,
    source="github.com/MarcoForte/FBA_Matting/issues/7",
    cause="sums over colours without keepdim are (batch, height, width): alpha becomes (batch, batch, height, width)",
)  # fmt: skip
def sums_over_colours_without_their_axis(cured: bool):
    def run(net: Net, picture: Tensor) -> Tensor:
        alpha, front, back = net.body(picture).split([1, 3, 3], 1)
        along = ((picture - back) * (front - back)).sum(1, keepdim=cured)
        alpha = (0.1 * alpha + along) / ((front - back).square().sum(1, keepdim=cured) + 0.1)
        return torch.cat([alpha, front, back], 1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.l1_loss(out[:, :7], y)

    g = seeded(4)
    alpha = (glyphs(16, 4, 12, noise=0.0, seed=5)[0] > 0.5).float()
    front, back = (torch.randn(16, 3, 1, 1, generator=g).expand(-1, -1, 12, 12) for _ in range(2))
    picture = alpha * front + (1 - alpha) * back
    layers = [nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()]
    model = Net(run, body=nn.Sequential(*layers, nn.Conv2d(16, 7, 1)))
    score = scored(lambda out: F.mse_loss(out[:, :1], alpha), picture)
    return model, (picture, torch.cat([alpha, front, back], 1)), {"loss": loss}, score


@report(
    "graph", "UG802", area="game playing", action=r"mask|future|-inf", steps=80, rate=5e-3,
    source="github.com/vladfi1/slippi-ai/pull/24",
    cause="scores are multiplied by the causal mask before the softmax: later steps get a score of zero, not of -inf",
)  # fmt: skip
def causal_mask_multiplied_onto_the_scores(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text) + net.place[: text.shape[1]]
        q, k, v = net.qkv(x).chunk(3, 2)
        scores = q @ k.transpose(1, 2) / 32**0.5
        seen = torch.ones_like(scores[0]).tril()
        weights = (scores.masked_fill(seen == 0, -torch.inf) if cured else scores * seen).softmax(2)
        return net.head(torch.cat([x, weights @ v], 2))

    text, later = chains(384, 7, 12, seed=6), chains(256, 7, 12, seed=7)
    model = Net(
        run, embed=nn.Embedding(12, 32), qkv=nn.Linear(32, 96), head=mlp(64, 64, 12),
        place=nn.Parameter(0.3 * torch.randn(6, 32, generator=seeded(8))),
    )  # fmt: skip

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1), y.flatten())

    @torch.no_grad()
    def next_word(model: nn.Module) -> float:
        losses = [F.cross_entropy(model(later[:, :n])[:, -1], later[:, n]) for n in range(2, 6)]
        return float(torch.stack(losses).mean())

    return model, (text[:, :-1], text[:, 1:]), {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}, next_word


@report(
    "graph", "UG603 UG807", area="attention", action=r"softmax|axis|dim|batch|example", steps=100, rate=3e-3,
    source="github.com/xmu-xiaoma666/External-Attention-pytorch/issues/18",
    cause="weights (kernel, example, channel) pass a softmax over axis 1: examples share a channel, kernels do not",
)  # fmt: skip
def kernels_chosen_by_a_softmax_over_the_batch(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        views = torch.stack([net.small(x), net.large(x)])  # (kernel, example, channel, height, width)
        pooled = net.squeeze(views.sum(0).mean((2, 3)))
        weights = torch.stack([net.first(pooled), net.second(pooled)]).softmax(0 if cured else 1)
        return net.head(F.relu((weights[..., None, None] * views).sum(0)).flatten(1))

    x, labels = glyphs(96, 6, 10, seed=9)
    angle = math.pi * labels / 3
    y = torch.stack([angle.cos(), angle.sin()], 1)
    model = Net(
        run, small=nn.Conv2d(1, 12, 3, padding=1), large=nn.Conv2d(1, 12, 5, padding=2),
        squeeze=mlp(12, 8, last=nn.ReLU()), first=nn.Linear(8, 12), second=nn.Linear(8, 12), head=nn.Linear(1200, 2),
    )  # fmt: skip

    @torch.no_grad()
    def in_small_batches(model: nn.Module) -> float:
        return float(F.mse_loss(torch.cat([model(part) for part in x.split(8)]), y))

    return model, (x, y), {"loss": F.mse_loss}, in_small_batches


@report(
    "graph", "UG603", area="diffusion", action=r"batch|example|axis|index", steps=150, rate=3e-3,
    source="github.com/gmongaras/Diffusion_models_from_scratch/issues/10",
    cause="embeddings[::2] takes every other example and not every other feature: some get sines, and some cosines",
)  # fmt: skip
def time_encoding_by_place_in_the_batch(cured: bool):
    def run(net: Net, x: Tensor, time: Tensor) -> Tensor:
        speed = torch.exp(-math.log(1000) * torch.arange(16) / 16)
        angle = 30 * time[:, None] * speed
        code = angle.clone()
        if cured:
            code[:, ::2], code[:, 1::2] = angle[:, ::2].sin(), angle[:, 1::2].cos()
        else:
            code[::2], code[1::2] = angle[::2].sin(), angle[1::2].cos()
        return net.body(torch.cat([x, code], 1))

    def noisy(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        g = seeded(seed)
        clean, noise = mixture(256, seed), torch.randn(256, 2, generator=g)
        time = torch.rand(256, generator=g) ** 3
        return standard(clean * (1 - time[:, None]) + noise * time[:, None]), time, noise

    x, time, noise = noisy(10)
    model = Net(run, body=mlp(18, 64, 64, 2))
    later, after, wanted = (part.roll(1, 0) for part in (x, time, noise))
    score = scored(lambda out: F.mse_loss(out, wanted), later, after)
    return model, (x, time, noise), {"loss": F.mse_loss}, score
