"""Axes, masks and the graph: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, glyphs, mlp, scored, seeded, sentences, standard, wrong_on
from torch import Tensor, nn


@report(
    "graph", "UG805", area="multiple instances", action=r"mask|padding|-inf", steps=200, rate=5e-3,
    source="github.com/georg-wolflein/good-features/pull/1",
    cause="scores of padding are multiplied by zero before the softmax, which gives a score of zero a full weight",
)  # fmt: skip
def scores_multiplied_by_mask(cured: bool):
    def run(net: Net, bag: Tensor, mask: Tensor) -> Tensor:
        values = net.encode(bag)
        scores = net.score(values)[..., 0]
        scores = scores.masked_fill(mask == 0, -torch.inf) if cured else scores * mask
        return net.head((scores.softmax(1)[..., None] * values).sum(1))

    g = seeded(0)
    lengths = torch.randint(2, 25, (128,), generator=g)
    mask = (torch.arange(24) < lengths[:, None]).float()
    bag = torch.randn(128, 24, 6, generator=g) * mask[..., None]
    y = standard((torch.sin(2 * bag[..., :1]) * mask[..., None]).sum(1) / lengths[:, None])
    model = Net(run, encode=mlp(6, 32, 16, last=nn.ReLU()), score=mlp(16, 8, 1), head=nn.Linear(16, 1))
    return model, (bag, mask, y), {"loss": F.mse_loss}


@report(
    "graph", "UG805", area="transformer", action=r"mask|padding", steps=120, rate=3e-3,
    source="github.com/hyunwoongko/transformer/pull/40",
    cause="the mask of padding has its axis at the queries, not the keys: rows of padding are masked, columns are not",
)  # fmt: skip
def padding_mask_on_queries(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        real = text != 0
        x = net.embed(text)
        q, k, v = (part.unflatten(2, (2, 12)).transpose(1, 2) for part in net.qkv(x).chunk(3, 2))
        mask = real[:, None, None] if cured else real[:, None, :, None]
        weights = (q @ k.transpose(2, 3) / 12**0.5).masked_fill(~mask, -1e4).softmax(3)
        x = x + net.out((weights @ v).transpose(1, 2).flatten(2))
        return net.head((x * real[..., None]).sum(1) / real.sum(1, keepdim=True))

    text, _, labels = sentences(128, 12, 16, 3, shortest=4)
    wider = F.pad(text, (0, 28))
    model = Net(
        run, embed=nn.Embedding(16, 24), qkv=nn.Linear(24, 72), out=nn.Linear(24, 24), head=nn.Linear(24, 3)
    )

    def of_padding(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(text) - model(wider)).abs().mean())

    return model, (text, labels), {"loss": F.cross_entropy}, of_padding


@report(
    "graph", area="contrastive reinforcement learning", action=r"normali|norm|axis|dim", steps=100, rate=3e-3,
    may="UG110 UG114 UG502 UG401 UG307 UG603",
    no_rule="the norm of a cosine is taken over the whole batch, not of each example",
    says=r"norm\w* (over|of|across|along)|whole batch|axis",
    source="github.com/MichalBortkiewicz/JaxGCRL/pull/64",
    cause="norm(x) without an axis is one number for the whole batch: similarities are so small that the softmax over "
    "them is even",
)  # fmt: skip
def cosine_over_the_whole_batch(cured: bool):
    def unit(x: Tensor) -> Tensor:
        return x / (x.norm(dim=1, keepdim=True) if cured else x.norm())

    def run(net: Net, state: Tensor, goal: Tensor) -> Tensor:
        return unit(net.state(state)) @ unit(net.goal(goal)).T / 0.1

    g = seeded(1)
    meaning = torch.randn(96, 6, generator=g)
    state = meaning @ torch.randn(6, 16, generator=g) + 0.3 * torch.randn(96, 16, generator=g)
    goal = meaning @ torch.randn(6, 12, generator=g) + 0.3 * torch.randn(96, 12, generator=g)
    which = torch.arange(96)
    model = Net(run, state=mlp(16, 48, 12), goal=mlp(12, 48, 12))
    score = scored(lambda out: F.cross_entropy(out, which), state, goal)
    return model, (state, goal, which), {"loss": F.cross_entropy}, score


@report(
    "graph", area="diffusion", action=r"softmax|axis|axes|dim", steps=50, rate=5e-3,
    no_rule="the softmax of attention runs over the queries, not over the keys", says=r"softmax",
    source="github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146; "
    "nerminnuraydogan/vision-transformer/issues/1",
    cause="of scores (batch, query, key), softmax(1) shares each key among the queries",
)  # fmt: skip
def attention_softmax_over_queries(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        scores = torch.einsum("bid,bjd->bij", net.query(x), net.key(x))
        weights = scores.softmax(2 if cured else 1)
        return net.head(torch.einsum("bij,bjd->bid", weights, net.value(x))).transpose(1, 2)

    g = seeded(2)
    kind = torch.rand(96, 6, generator=g).argsort(1)
    wanted, colour = torch.randint(0, 6, (96, 6), generator=g), torch.randint(0, 4, (96, 6), generator=g)
    x = torch.cat([F.one_hot(kind, 6), F.one_hot(wanted, 6), F.one_hot(colour, 4)], 2).float() * 2 - 0.4
    labels = (colour[:, None] * (wanted[:, :, None] == kind[:, None])).sum(2)
    model = Net(
        run, query=nn.Linear(16, 16), key=nn.Linear(16, 16), value=nn.Linear(16, 16), head=nn.Linear(16, 4)
    )
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "graph", "UG403", area="action recognition", action=r"not used|unused|reach|forward|overwrit|gradient", steps=120,
    source="github.com/MCG-NJU/TDN/issues/6",
    cause="the second stream is computed from the first one's features: what it had computed itself is not used",
)  # fmt: skip
def second_view_overwritten(cured: bool):
    def run(net: Net, pair: Tensor) -> Tensor:
        forward, backward = net.ahead(pair[:, :1]), net.back(pair[:, 1:])
        forward, backward = net.late(forward), net.late(backward if cured else forward)
        return net.head(torch.cat([forward, backward], 1).flatten(1))

    first, _ = glyphs(96, 6, 10, seed=3)
    second, labels = glyphs(96, 6, 10, seed=4)
    early = [nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU()) for _ in range(2)]
    model = Net(
        run, ahead=early[0], back=early[1], late=nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        head=nn.Linear(144, 6),
    )  # fmt: skip
    pair = torch.cat([first, second], 1)
    return (
        model,
        (pair, labels),
        {"loss": F.cross_entropy},
        scored(lambda out: F.cross_entropy(out, labels), pair),
    )


@report(
    "graph", "UG603 UG806", area="reinforcement learning", action=r"transpose|swap|permute|reshape|axis", steps=150,
    rate=5e-3,
    source="github.com/Stable-Baselines-Team/stable-baselines3-contrib/issues/111",
    cause="states are kept as (example, layer, width) and reshaped to (layer, example, width), not transposed",
)  # fmt: skip
def recurrent_state_reshaped(cured: bool):
    def run(net: Net, seen: Tensor, state: Tensor) -> Tensor:
        start = state.transpose(0, 1) if cured else state.reshape(2, len(state), 12)
        return net.head(net.rnn(seen, start.contiguous())[0][:, -1])

    def played(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        g = seeded(seed)
        seen, state = torch.randn(256, 3, 4, generator=g), torch.randn(256, 2, 12, generator=g)
        return seen, state, (state[:, 1, :6].sum(1) + seen[:, -1].sum(1) > 0).long()

    seen, state, labels = played(5)
    later = played(6)
    model = Net(run, rnn=nn.GRU(4, 12, 2, batch_first=True), head=nn.Linear(12, 2))
    return model, (seen, state, labels), {"loss": F.cross_entropy}, wrong_on(later[:2], later[2])
