"""Axes, masks and the graph: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, chains, glyphs, molecules, scored, seeded
from torch import Tensor, nn


class Plain(nn.Module):
    """Two convolutions with GroupNorm; the way around them may have been left out."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU()]
        self.branch = nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width))
        self.cured = cured

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        return out + x if self.cured else out


@report(
    "graph", area="image translation", action=r"residual|skip|shortcut|around|add", steps=40, rate=3e-3, few=4,
    may="UG301 UG302 UG401 UG402 UG305 UG307 UG404 UG110 UG114 UG803",
    no_rule="a residual block returns its branch alone: its input is not added", says=r"residual|skip|shortcut",
    source="github.com/znxlwm/UGATIT-pytorch/issues/32; delira-dev/delira/issues/91",
    cause="the block returns out where it was to be out + x: the network is deep and has no ways around",
)  # fmt: skip
def way_around_left_out(cured: bool):
    x, labels = glyphs(64, 6, 8, seed=21)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), *(Plain(8, cured) for _ in range(9)), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 6),
    )  # fmt: skip
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "graph", "UG403", area="sequences", action=r"revers|backward|direction|first|last", steps=80, rate=3e-3,
    source="github.com/yunjey/pytorch-tutorial/issues/149; aymericdamien/TensorFlow-Examples/issues/201",
    cause="the last step's output of a bidirectional LSTM is taken: its backward direction has seen one word there",
)  # fmt: skip
def backward_direction_read_at_its_start(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        out = net.rnn(net.embed(text))[0]
        ahead, back = out.chunk(2, 2)
        return net.head(torch.cat([ahead[:, -1], back[:, 0 if cured else -1]], 1))

    g = seeded(23)
    text = torch.randint(0, 20, (128, 16), generator=g)
    labels = text[:, 0] % 4
    rnn = nn.LSTM(12, 12, batch_first=True, bidirectional=True)
    model = Net(run, embed=nn.Embedding(20, 12), rnn=rnn, head=nn.Linear(24, 4))
    score = scored(lambda out: F.cross_entropy(out, labels), text)
    return model, (text, labels), {"loss": F.cross_entropy}, score


@report(
    "graph", "UG303", "UG307 UG401 UG403 UG404", area="vision transformer", action=r"scal|sqrt|softmax|attention",
    steps=120, rate=3e-3,
    source="github.com/FrancescoSaverioZuppichini/ViT/issues/2; PAIR-code/tiny-transformers/issues/71",
    cause="scores are divided by the root of the width after the softmax, not before: it is nearly one-hot",
)  # fmt: skip
def scores_scaled_after_the_softmax(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        scores = net.query(x) @ net.key(x).transpose(1, 2)
        weights = (scores / 8).softmax(2) if cured else scores.softmax(2) / 8
        return net.head((weights @ net.value(x)).mean(1))

    g = seeded(26)
    x = torch.randn(128, 12, 64, generator=g)
    labels = (x[..., 0] > 0).sum(1).clamp(4, 8) - 4
    layers = {name: nn.Linear(64, 64) for name in ("query", "key", "value")}
    for name in ("query", "key"):
        nn.init.xavier_uniform_(layers[name].weight, 1.2)
    model = Net(run, **layers, head=nn.Linear(64, 5))
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "graph", "UG603", area="graph attention", action=r"index|example|batch|mix|axis|reshape", steps=120, rate=5e-3,
    source="github.com/phlippe/uvadlc_notebooks/issues/5",
    cause="nodes of a flattened batch are found by example * batch size, not example * nodes: edges join other graphs",
)  # fmt: skip
def nodes_found_by_batch_size(cured: bool):
    def run(net: Net, atoms: Tensor, bonds: Tensor) -> Tensor:
        count, nodes = atoms.shape[:2]
        features = net.project(atoms)
        flat, edges = features.flatten(0, 1), bonds.nonzero()
        step = nodes if cured else min(count, nodes)  # an index too large would raise
        row, column = edges[:, 0] * step + edges[:, 1], edges[:, 0] * step + edges[:, 2]
        scores = F.leaky_relu(net.score(torch.cat([flat[row], flat[column]], 1)), 0.2)[:, 0]
        logits = torch.full_like(bonds, -1e9)
        logits[edges[:, 0], edges[:, 1], edges[:, 2]] = scores
        return net.head(torch.relu(logits.softmax(2) @ features)).transpose(1, 2)

    def seen(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        atoms, bonds = molecules(12, 14, 6, seed=seed)
        keys = torch.where(bonds > 0, atoms[:, None, :, 0], -9.0)
        return atoms, bonds, (atoms.gather(1, keys.argmax(2)[..., None].expand(-1, -1, 6))[..., 1] > 0).long()

    atoms, bonds, labels = seen(29)
    model = Net(run, project=nn.Linear(6, 24), score=nn.Linear(48, 1), head=nn.Linear(24, 2))
    score = scored(lambda out: F.cross_entropy(out, labels), atoms, bonds)
    return model, (atoms, bonds, labels), {"loss": F.cross_entropy}, score


@report(
    "graph", "UG802 UG807", area="language model", action=r"softmax|axis|mask|future|later|dim", steps=80, rate=3e-3,
    source="github.com/karpathy/minGPT/issues/132; karpathy/ng-video-lecture/issues/42",
    cause="the softmax of causal attention is over the queries: what a token takes depends on tokens that come later",
)  # fmt: skip
def causal_softmax_over_queries(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text) + net.places.weight
        q, k, v = net.qkv(x).chunk(3, 2)
        later = torch.ones(15, 15, dtype=torch.bool).triu(1)
        weights = (q @ k.transpose(1, 2) / 24**0.5).masked_fill(later, -torch.inf).softmax(2 if cured else 1)
        return net.head(x + net.out(weights @ v)).transpose(1, 2)

    text = chains(64, 16, 20, seed=30)
    x, y = text[:, :-1], text[:, 1:]
    model = Net(
        run, embed=nn.Embedding(20, 24), places=nn.Embedding(15, 24), qkv=nn.Linear(24, 72), out=nn.Linear(24, 24),
        head=nn.Linear(24, 20),
    )  # fmt: skip
    other = torch.cat([x[:, :-1], (x[:, -1:] + 7) % 20], 1)

    def of_the_future(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(x) - model(other))[..., :-1].abs().mean())

    return model, (x, y), {"loss": F.cross_entropy}, of_the_future
