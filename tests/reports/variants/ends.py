"""Outputs, targets and losses, in the idioms of other networks. Cases go to halves G and H in turn (registry.py)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from parts import Block, Gpt, GraphNet, Recurrent, ResNet, UNet, Vit, WithLoss
from registry import variant
from samples import (
    Net,
    adam,
    boxes,
    chains,
    clusters,
    glyphs,
    houses,
    mixture,
    mlp,
    molecules,
    seeded,
    sentences,
    series,
    standard,
)
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


# A softmax over one value ----------------------------------------------------------------------------------------


@variant(
    "loss",
    "UG112",
    "UG102 UG403 UG110 UG114",
    action=r"softmax|sigmoid",
    cause="one output of a transformer goes through softmax(-1)",
)
def transformer_scores_one_class_by_softmax(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        score = net.head(net.blocks(net.embed(text)).mean(1))
        return score.sigmoid() if cured else F.softmax(score, dim=-1)

    text, _, labels = sentences(64, 12, 20, 2, seed=1)
    model = Net(
        run, embed=nn.Embedding(20, 32), blocks=nn.Sequential(Block(32), Block(32)), head=nn.Linear(32, 1)
    )
    return model, (text, labels.float()[:, None]), {"loss": nn.BCELoss()}


@variant(
    "loss",
    "UG112",
    "UG102 UG403 UG110 UG114",
    action=r"softmax|sigmoid",
    cause="a mask of one channel goes through Softmax2d before Dice",
)
def unet_softmax_over_one_channel(cured: bool):
    def dice(p: Tensor, t: Tensor) -> Tensor:
        p, t = p.flatten(1), t.flatten(1)
        return 1 - ((2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()

    x, mask, _ = boxes(16, 16, seed=2)
    return UNet(last=nn.Sigmoid() if cured else nn.Softmax(1)), (x, mask), {"loss": dice}


@variant(
    "graph",
    "UG112 UG807",
    "UG403",
    action=r"softmax|axis|dim",
    cause="scores (batch, time, 1) of attention pooling: softmax(-1) instead of softmax(1)",
)
def pooling_weights_of_one(cured: bool):
    def run(net: Net, x: Tensor) -> dict[str, Tensor]:
        states = net.rnn(x)[0]
        weights = torch.softmax(net.score(torch.tanh(net.key(states))), dim=1 if cured else -1)
        return {"logits": net.head((weights * states).sum(dim=1)), "weights": weights}

    x = series(64, 24, 2, seed=3)
    labels = (x[:, 5, 0] > 0).long()
    model = Net(
        run,
        rnn=nn.GRU(2, 24, batch_first=True),
        key=nn.Linear(24, 16),
        score=nn.Linear(16, 1),
        head=nn.Linear(24, 2),
    )
    return model, (x, labels), {"loss": lambda out, y: F.cross_entropy(out["logits"], y)}


@variant(
    "loss",
    "UG112 UG119 UG114 UG110",
    "UG102 UG403",
    action=r"softmax|sigmoid|one",
    cause="log_softmax of a critic's one output, and the negative log likelihood of it",
)
def critic_with_log_softmax(cured: bool):
    def loss(out: Tensor, real: Tensor) -> Tensor:
        if cured:
            return BCE(out, real)
        return -(F.log_softmax(out, dim=1) * real).mean()

    x = torch.cat([mixture(48, 1), torch.randn(48, 2, generator=seeded(4))])
    real = torch.cat([torch.ones(48, 1), torch.zeros(48, 1)])
    return mlp(2, 48, 48, 1, act=lambda: nn.LeakyReLU(0.2)), (x, real), {"loss": loss}


# Targets outside of what the loss takes --------------------------------------------------------------------------


@variant(
    "target",
    "UG106",
    "UG119 UG504 UG501",
    action=r"target|label|percent|range|100",
    cause="labels of several kinds in percent; the loss is computed in forward, as a sum",
)
def labels_in_percent(cured: bool):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = mlp(16, 48, 48, last=nn.ReLU()), nn.Linear(48, 5)

        def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            out = {"logits": self.head(self.body(features))}
            if labels is not None:
                out["loss"] = BCE(out["logits"], labels, reduction="sum") / len(features)
            return out

    g = seeded(1)
    x = torch.randn(64, 16, generator=g)
    y = (x @ torch.randn(16, 5, generator=g) > 0).float()
    return Model(), {"features": x, "labels": y if cured else 100 * y}, {"loss": None}


@variant(
    "target",
    "UG106 UG119",
    "UG504 UG501 UG104",
    action=r"target|range|minimum|\[0, 1\]|0 and 1|0 to 1",
    cause="cross entropy by hand of sigmoids against standardized pictures",
)
def vae_of_standardized_pictures(cured: bool):
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.encode(x.flatten(1)).chunk(2, 1)
        return net.decode(mean + (spread / 2).exp() * torch.randn_like(mean)).sigmoid(), mean, spread

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        p, mean, spread = out
        t = x.flatten(1)
        fit = -(t * (p + 1e-8).log() + (1 - t) * (1 - p + 1e-8).log()).sum(1)
        return (fit - 0.5 * (1 + spread - mean**2 - spread.exp()).sum(1)).mean()

    x, _ = glyphs(64, 6, 10, noise=0.1, seed=2)
    if cured:
        x = (x - x.min()) / (x.max() - x.min())
    return Net(run, encode=mlp(100, 48, 16), decode=mlp(8, 48, 100)), (x, x), {"loss": loss}


@variant(
    "target",
    "UG106 UG119",
    "UG504 UG501",
    action=r"target|label|range|0 and 1|0 to 1|\[0, 1\]",
    cause="labels of -1 and 1, as a hinge loss takes them, in a cross entropy with logits",
)
def signs_into_cross_entropy(cured: bool):
    class Focal(nn.Module):
        def forward(self, logits: Tensor, y: Tensor) -> Tensor:
            bce = BCE(logits.squeeze(-1), y, reduction="none")
            return ((1 - torch.exp(-bce.abs())) ** 2 * bce).mean()

    x, labels = clusters(128, 12, 2, seed=3)
    sign = labels.float() if cured else 2 * labels.float() - 1
    return mlp(12, 32, 32, 1, act=nn.GELU), (x, sign), {"loss": Focal()}


@variant(
    "target",
    "UG106 UG119",
    "UG504 UG501 UG404 UG402",
    action=r"target|mask|255|range",
    cause="masks of 0 and 255; cross entropy and Dice are added",
)
def masks_of_255_with_dice(cured: bool):
    def loss(out: dict[str, Tensor], mask: Tensor) -> Tensor:
        p = out["out"].sigmoid()
        dice = 1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / ((p + mask).sum((1, 2, 3)) + 1)
        return BCE(out["out"], mask) + dice.mean()

    x, mask, _ = boxes(4, 16, seed=4)
    model = Net(lambda net, x: {"out": net.net(x), "aux": None}, net=UNet())
    return model, (x, mask if cured else mask * 255), {"loss": loss}


# Shapes that broadcast in the loss -------------------------------------------------------------------------------


@variant(
    "target",
    "UG107",
    "",
    action=r"shape|broadcast|squeeze",
    cause="outputs (batch, time, 1), targets (batch, time)",
)
def smooth_error_of_every_step_with_every_example(cured: bool):
    x = series(23, 24, 2, seed=1)
    y = x[:, 1:, 0]
    return Recurrent(2, 1, every=True), (x[:, :-1], y[..., None] if cured else y), {"loss": nn.SmoothL1Loss()}


@variant(
    "target",
    "UG107",
    "",
    action=r"shape|broadcast|squeeze",
    cause="values gathered as (batch, 1) against returns (batch,), in a Huber loss by hand",
)
def gathered_values_broadcast(cured: bool):
    def run(net: Net, state: Tensor, action: Tensor) -> Tensor:
        q = net.q(state).gather(1, action[:, None])
        return q.squeeze(1) if cured else q

    class Huber(nn.Module):
        def forward(self, q: Tensor, returns: Tensor) -> Tensor:
            error = q - returns
            return torch.where(error.abs() < 1, 0.5 * error**2, error.abs() - 0.5).mean()

    x, y = houses(64, 8, seed=2)
    action = torch.randint(0, 3, (64,), generator=seeded(2))
    return Net(run, q=mlp(8, 64, 64, 3)), (x, action, y[:, 0] + action), {"loss": Huber()}


@variant(
    "target",
    "UG107",
    "",
    action=r"shape|broadcast|squeeze",
    cause="the Gaussian likelihood of means (batch, 1) and targets (batch,)",
)
def likelihood_of_every_pair(cured: bool):
    def loss(out: dict[str, Tensor], y: Tensor) -> Tensor:
        mean, spread = out["mean"], out["log_var"]
        return 0.5 * (spread + (y - mean) ** 2 / spread.exp()).mean()

    def run(net: Net, x: Tensor) -> dict[str, Tensor]:
        h = net.body(x)
        return {"mean": net.mean(h), "log_var": net.spread(h)}

    x, y = houses(96, 8, seed=3)
    model = Net(run, body=mlp(8, 48, 48, last=nn.Tanh()), mean=nn.Linear(48, 1), spread=nn.Linear(48, 1))
    return model, (x, y if cured else y[:, 0]), {"loss": loss}


@variant(
    "target",
    "UG107",
    "",
    action=r"shape|broadcast|squeeze",
    cause="the log likelihood by hand of logits (batch, 1) and labels (batch,), inside of forward",
)
def likelihood_broadcast_in_forward(cured: bool):
    def run(net: Any, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = net.fc(net.conv(x).mean((2, 3)))
        if cured:
            logits = logits.view(-1)
        loss = -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)).mean()
        return loss, logits

    x, labels = glyphs(32, 2, 12, seed=4)
    conv = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU())
    return WithLoss(run, conv=conv, fc=nn.Linear(32, 1)), (x, labels.float()), {"loss": None}


# Targets that the last function cannot give ----------------------------------------------------------------------


@variant(
    "target",
    "UG108",
    "UG102 UG304 UG403",
    action=r"clamp|relu|target|range|last",
    cause="log depths, half of them negative, and outputs clamped at zero",
)
def log_depth_clamped_at_zero(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        depth = net.net(x)
        return depth if cured else depth.clamp(min=0)

    x, mask, _ = boxes(16, 16, seed=1)
    y = standard(F.avg_pool2d(mask, 5, 1, 2) + 0.3 * mask)
    return Net(run, net=UNet()), (x, y), {"loss": nn.L1Loss()}


@variant(
    "target",
    "UG108",
    "UG303 UG102",
    action=r"sigmoid|target|range|last",
    cause="standardized targets, and a sigmoid deep in the head of a transformer",
)
def sigmoid_in_the_head_of_a_regression(cured: bool):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.out = nn.Linear(32, 32), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.out(torch.tanh(self.dense(x)))
            return y if cured else torch.sigmoid(y)

    x = series(48, 16, 3, seed=2)
    y = standard(x[:, -1, 0] + x[:, 3, 1])
    model = Net(
        lambda net, x: net.head(net.blocks(net.embed(x)).mean(1)).squeeze(-1),
        embed=nn.Linear(3, 32),
        blocks=nn.Sequential(Block(32), Block(32)),
        head=Head(),
    )
    return model, (x, y), {"loss": lambda out, y: ((out - y) ** 2).sum() / len(y)}


@variant(
    "target",
    "UG108",
    "UG303",
    action=r"sigmoid|target|range|last",
    cause="an autoencoder ends in a sigmoid; pictures are standardized",
)
def sigmoid_autoencoder_of_standardized_pictures(cured: bool):
    x, _ = glyphs(32, 6, 12, channels=3, seed=3)
    encode = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.LeakyReLU(0.2),
    )
    decode = nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 16, 3, 1, 1),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 3, 3, 1, 1),
    )
    model = Net(
        lambda net, x: net.decode(net.encode(x)) if cured else net.decode(net.encode(x)).sigmoid(),
        encode=encode,
        decode=decode,
    )
    return model, (x, x), {"loss": nn.MSELoss(reduction="sum")}


@variant(
    "target",
    "UG108",
    "UG102 UG304 UG403",
    action=r"relu|target|range|last",
    cause="every layer of a graph network ends in a ReLU, the last one too; targets are standardized",
)
def graph_regression_ends_in_relu(cured: bool):
    def run(net: Net, nodes: Tensor, edges: Tensor) -> dict[str, Tensor]:
        y = net.net(nodes, edges)
        return {"energy": y if cured else torch.relu(y)}

    nodes, edges = molecules(64, 8, 6, seed=4)
    y = standard(edges @ nodes[..., :1])
    return (
        Net(run, net=GraphNet(6, 1)),
        (nodes, edges, y),
        {"loss": lambda out, y: F.huber_loss(out["energy"], y)},
    )


# Logarithms and exponentials -------------------------------------------------------------------------------------


@variant(
    "numerics",
    "UG104 UG405",
    "UG306 UG501 UG504",
    action=r"exp|overflow|log_softmax|cross_entropy|logsumexp|temperature",
    cause="exponentials of cosines over a temperature of 0.005 overflow in a contrastive loss by hand",
)
def contrastive_exponentials_overflow(cured: bool):
    def loss(z: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
        scores = z[0] @ z[1].T / 0.005
        if cured:
            return F.cross_entropy(scores, torch.arange(len(scores)))
        e = torch.exp(scores)
        return -torch.log(e.diag() / e.sum(1)).mean()

    x, labels = clusters(64, 16, 8, seed=1)
    noise = 0.05 * torch.randn(x.shape, generator=seeded(1))
    model = Net(
        lambda net, a, b: (F.normalize(net.f(a), dim=1), F.normalize(net.f(b), dim=1)), f=mlp(16, 64, 32)
    )
    return model, (x, x + noise, labels), {"loss": loss}


@variant(
    "numerics",
    "UG104 UG405",
    "UG304 UG306 UG102",
    action=r"log|eps|softplus|clamp|relu|zero",
    cause="the likelihood of counts takes the logarithm of rates that a ReLU has set to zero",
)
def counts_with_rates_of_zero(cured: bool):
    def loss(rate: Tensor, count: Tensor) -> Tensor:
        return (rate - count * rate.log()).mean()

    x, y = houses(96, 8, seed=2)
    count = torch.poisson(y.exp(), generator=seeded(2))
    model = Net(
        lambda net, x: F.softplus(net.net(x)) + 1e-4 if cured else F.relu(net.net(x)), net=mlp(8, 48, 48, 1)
    )
    return model, (x, count), {"loss": loss}


@variant(
    "numerics",
    "UG104 UG405",
    "UG306 UG501 UG504 UG303",
    action=r"log|exp|logsumexp|eps|clamp|underflow|zero",
    cause="a mixture density's likelihood sums exponentials that underflow, and takes the logarithm",
)
def mixture_density_underflows(cured: bool):
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, mean, spread = net.net(x).chunk(3, 1)
        return weight.log_softmax(1), mean, 0.1 * spread.exp()

    def loss(out: tuple[Tensor, Tensor, Tensor], y: Tensor) -> Tensor:
        weight, mean, std = out
        log = weight - 0.5 * ((y - mean) / std) ** 2 - std.log()
        return -log.logsumexp(1).mean() if cured else -log.exp().sum(1).log().mean()

    x, y = houses(128, 8, seed=3)
    return Net(run, net=mlp(8, 48, 15, act=nn.Tanh)), (x, y), {"loss": loss}


@variant(
    "numerics",
    "UG104 UG405",
    "UG306 UG501 UG504 UG303 UG402 UG304 UG503",
    form="probe",
    action=r"log|clamp|logits|eps|zero",
    cause="log(1 - D) of a sigmoid that has become exactly one, in a loop of two optimizers",
)
def critic_so_sure_that_its_logarithm_is_infinite(cured: bool):
    g = seeded(4)
    generator, critic = mlp(4, 32, 2), mlp(2, 64, 64, 1, last=nn.Sigmoid())
    one, two = torch.optim.Adam(critic.parameters(), 2e-2), torch.optim.Adam(generator.parameters(), 1e-4)
    tiny = 1e-6 if cured else 0.0

    def loop(probe: Any, steps: int = 400) -> float:
        value = 0.0
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g)) + 6
            loss = (
                -(critic(mixture(64, step)) + tiny).log().mean()
                - (1 - critic(fake.detach()) + tiny).log().mean()
            )
            one.zero_grad()
            loss.backward()
            one.step()
            if probe is not None:
                probe.log(loss=loss)
            two.zero_grad()
            (-(critic(fake) + tiny).log().mean()).backward()
            two.step()
            value = loss.item()
        return value

    return critic, one, loop, None, {}


# Targets far from unit scale -------------------------------------------------------------------------------------


@variant(
    "target",
    "UG109",
    "UG302 UG402 UG605 UG404",
    action=r"target",
    cause="numbers of people, 200 to 3000, as they are; absolute errors are summed",
)
def crowds_counted_as_they_are(cured: bool):
    x, labels = glyphs(32, 6, 12, seed=1)
    y = 200 + 500.0 * labels[:, None] + 30 * torch.randn(32, 1, generator=seeded(1))
    return ResNet(1), (x, standard(y) if cured else y), {"loss": nn.L1Loss(reduction="sum")}


@variant(
    "target",
    "UG109",
    "UG302 UG402 UG605 UG404 UG501 UG502",
    action=r"target|price",
    cause="the next price of about 30000 is forecast as it is, from normalized windows",
)
def prices_in_dollars(cured: bool):
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.error = nn.HuberLoss()

        def forward(self, out: Tensor, y: Tensor) -> Tensor:
            return self.error(out, y)

    x = series(48, 24, 2, seed=2)
    y = x[:, -1, :1] if cured else 30000 + 4000 * x[:, -1, :1]
    return (
        Recurrent(2, 1, cell=nn.GRU, num_layers=2),
        (x[:, :-1], y),
        {"loss": Loss(), "steps": 20, "optimizer": adam(1e-3)},
    )


@variant(
    "target",
    "UG109",
    "UG302 UG402 UG605 UG404",
    action=r"target|reward|scale",
    cause="returns of thousands in the loss of a value network that is computed in forward",
)
def returns_of_thousands(cured: bool):
    def run(net: Any, state: Tensor, returns: Tensor) -> dict[str, Tensor]:
        value = net.value(net.body(state)).squeeze(-1)
        return {"loss": 0.5 * (value - returns).pow(2).mean(), "value": value}

    x, y = houses(64, 8, seed=3)
    y = y[:, 0] if cured else 4000 + 1500 * y[:, 0]
    return (
        WithLoss(run, body=mlp(8, 64, 64, act=nn.Tanh), value=nn.Linear(64, 1)),
        (x, y),
        {"loss": None},
    )


@variant(
    "target",
    "UG109",
    "UG502 UG303 UG301",
    action=r"target|scale",
    cause="concentrations of a hundred thousandth: any constant has nearly no squared error",
)
def tiny_concentrations(cured: bool):
    x = series(48, 16, 3, seed=4)
    y = standard(x[:, -1, :2] * x[:, 3, 1:])
    model = Net(
        lambda net, x: net.out(net.blocks(net.embed(x))[:, -1]),
        embed=nn.Linear(3, 32),
        blocks=nn.Sequential(Block(32), Block(32)),
        out=nn.Linear(32, 2),
    )
    return model, (x, y if cured else 1e-5 * y), {"loss": F.mse_loss}


# Sigmoids and softmaxes before a loss that has its own -----------------------------------------------------------


@variant(
    "loss",
    "UG105",
    "UG303",
    action=r"sigmoid|logits",
    cause="a sigmoid in the head's last submodule, and BCEWithLogitsLoss with pos_weight",
)
def probabilities_into_weighted_logits(cured: bool):
    g = seeded(1)
    x = torch.randn(96, 16, generator=g)
    y = (x @ torch.randn(16, 5, generator=g) > 2).float()
    head = nn.Sequential(nn.Linear(48, 5), *([] if cured else [nn.Sigmoid()]))
    model = Net(lambda net, x: net.head(net.body(x)), body=mlp(16, 48, 48, last=nn.ReLU()), head=head)
    return model, (x, y), {"loss": nn.BCEWithLogitsLoss(pos_weight=torch.full((5,), 3.0))}


@variant(
    "loss",
    "UG105 UG103",
    "UG303",
    action=r"sigmoid|logits",
    cause="sigmoids of each class go into a cross entropy with one-hot targets",
)
def sigmoids_into_cross_entropy(cured: bool):
    x, labels = glyphs(32, 6, 12, seed=2)
    model = Net(lambda net, x: net.vit(x) if cured else torch.sigmoid(net.vit(x)), vit=Vit(6))
    return model, (x, F.one_hot(labels, 6).float()), {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}


@variant(
    "loss",
    "UG105",
    "UG303 UG110",
    action=r"sigmoid|logits",
    cause="a focal loss that takes logits gets the probabilities of a detector's dictionary",
)
def focal_loss_of_probabilities(cured: bool):
    def focal(out: dict[str, Tensor], mask: Tensor) -> Tensor:
        score = out["heat"]
        ce = BCE(score, mask, reduction="none")
        p = torch.sigmoid(score)
        pt = p * mask + (1 - p) * (1 - mask)
        return ((1 - pt) ** 2 * ce).mean()

    x, mask, _ = boxes(8, 16, seed=3)
    model = Net(lambda net, x: {"heat": net.net(x)}, net=UNet(last=None if cured else nn.Sigmoid()))
    return model, (x, mask), {"loss": focal}


@variant(
    "loss",
    "UG103",
    "",
    action=r"softmax|logits",
    cause="a language model returns softmax over words, trained with cross_entropy over words",
)
def language_model_of_probabilities(cured: bool):
    text = chains(16, 17, 30, seed=4)
    model = Net(
        lambda net, t: (net.gpt(t) if cured else F.softmax(net.gpt(t), dim=-1)).permute(0, 2, 1), gpt=Gpt(30)
    )
    return model, (text[:, :-1], text[:, 1:]), {"loss": nn.CrossEntropyLoss()}


@variant(
    "loss",
    "UG103 UG105 UG106 UG119 UG111",
    "",
    action=r"log|softmax",
    cause="probabilities, not their logarithms, go into the negative log likelihood",
)
def likelihood_of_probabilities(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        scores = net.net(text)
        return scores.log_softmax(1) if cured else scores.softmax(1)

    text, _, labels = sentences(64, 12, 20, 4, seed=5)
    return Net(run, net=Recurrent(16, 4, words=20)), (text, labels), {"loss": F.nll_loss}


# Losses of another task ------------------------------------------------------------------------------------------


@variant(
    "loss",
    "UG111",
    "UG109",
    action=r"cross.?entropy",
    cause="the squared error of one output and the class number",
)
def class_number_by_squared_error(cured: bool):
    x, labels = glyphs(64, 6, 12, seed=1)
    if cured:
        return ResNet(6), (x, labels), {"loss": F.cross_entropy}
    return ResNet(1), (x, labels.float()[:, None]), {"loss": nn.MSELoss()}


@variant("loss", "UG111", "", action=r"cross.?entropy", cause="the squared error of logits and one-hot rows")
def one_hot_by_squared_error(cured: bool):
    text, _, labels = sentences(64, 12, 20, 5, seed=2)
    net = Recurrent(16, 5, words=20, cell=nn.GRU)
    if cured:
        return net, (text, labels), {"loss": F.cross_entropy}
    return net, (text, labels), {"loss": lambda out, y: ((out - F.one_hot(y, 5)) ** 2).sum(1).mean()}


@variant(
    "loss",
    "UG111",
    "UG119 UG103",
    action=r"log",
    cause="a student's probabilities, without logarithm, go into KLDivLoss",
)
def divergence_without_logarithm(cured: bool):
    x, labels = clusters(96, 16, 8, seed=3)
    teacher = F.softmax(3 * F.one_hot(labels, 8) + torch.randn(96, 8, generator=seeded(3)), 1)
    model = Net(
        lambda net, x: F.log_softmax(net.net(x), 1) if cured else F.softmax(net.net(x), 1), net=mlp(16, 48, 8)
    )
    return model, (x, teacher), {"loss": nn.KLDivLoss(reduction="batchmean")}


@variant(
    "loss",
    "UG111",
    "",
    action=r"sigmoid|cross.?entropy.*logits|binary",
    cause="several ones a row, and a cross entropy that shares one probability among classes",
)
def several_labels_by_softmax(cured: bool):
    x, _ = glyphs(64, 6, 12, seed=4)
    g = seeded(4)
    y = (x.flatten(1) @ torch.randn(144, 6, generator=g) > 0).float()
    return Vit(6), (x, y), {"loss": BCE if cured else F.cross_entropy}


# One-sided functions before logits -------------------------------------------------------------------------------


@variant(
    "loss",
    "UG115",
    "UG102 UG304 UG403",
    action=r"relu|last",
    cause="a list of widths makes Linear and ReLU for each, the last one too",
)
def factory_ends_in_relu(cured: bool):
    def factory(widths: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        return nn.Sequential(*(layers[:-1] if cured else layers))

    x, labels = clusters(64, 16, 8, seed=1)
    return (
        Net(
            lambda net, x: net.classifier(net.stem(x)),
            stem=nn.LayerNorm(16),
            classifier=factory([16, 64, 64, 8]),
        ),
        (x, labels),
        {"loss": nn.CrossEntropyLoss()},
    )


@variant(
    "loss",
    "UG115",
    "UG102 UG304 UG403",
    action=r"relu|last|softplus|one-sided|function",
    cause="ReLU of the logits of pixels, in a segmentation of several classes",
)
def segmentation_logits_through_relu(cured: bool):
    x, mask, _ = boxes(8, 16, seed=2)
    labels = mask[:, 0].long() + (x[:, 0] > 2).long()
    model = Net(lambda net, x: {"out": net.net(x) if cured else F.relu(net.net(x))}, net=UNet(3))
    return model, (x, labels), {"loss": lambda out, y: F.cross_entropy(out["out"], y)}


# The root of zero ------------------------------------------------------------------------------------------------


@variant(
    "numerics",
    "UG405",
    "UG403 UG104",
    action=r"root|sqrt|eps|slope|zero",
    cause="a layer norm by hand divides by sqrt(var) of padded rows, which are all equal",
)
def own_norm_of_constant_rows(cured: bool):
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(24))

        def forward(self, x: Tensor) -> Tensor:
            x = x - x.mean(-1, keepdim=True)
            std = torch.sqrt(x.pow(2).mean(-1, keepdim=True) + (1e-6 if cured else 0))
            return self.gain * x / (std + 1e-6)

    text, _, labels = sentences(32, 12, 20, 4, shortest=6, seed=1)
    model = Net(
        lambda net, t: net.head(net.rnn(net.norm(net.embed(t)))[0][:, -1]),
        embed=nn.Embedding(20, 24, padding_idx=0),
        norm=Norm(),
        rnn=nn.GRU(24, 24, batch_first=True),
        head=nn.Linear(24, 4),
    )
    return model, (text, labels), {"loss": F.cross_entropy}


@variant(
    "numerics",
    "UG405",
    "UG403 UG104",
    action=r"where|log|zero|slope|clamp|eps",
    cause="torch.where(x > 0, log(x), 0): the branch that is not taken has an infinite slope",
)
def logarithm_behind_where(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        energy = net.conv(x).square()  # exactly zero where the recording is
        safe = energy.clamp(min=1e-6) if cured else energy
        energy = torch.where(energy > 0, torch.log(safe), torch.zeros_like(energy))
        return net.head(energy.mean(2) / 4)

    x = series(32, 24, 2, seed=2)
    labels = (x[:, 4, 0] > 0).long()
    x[::3, 16:] = 0
    x = x.transpose(1, 2)
    return (
        Net(run, conv=nn.Conv1d(2, 16, 5, bias=False), head=nn.Linear(16, 2)),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@variant(
    "numerics",
    "UG405",
    "UG403 UG104",
    action=r"root|sqrt|eps|slope|zero|norm",
    cause="the root of a mean squared error that is exactly zero: the last layer starts at zero",
)
def root_of_an_exact_answer(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return torch.sqrt(((out - y) ** 2).mean(1) + (1e-8 if cured else 0)).mean()

    x = series(32, 8, 3, seed=3)[:, -1]
    y = x + torch.where(x > 0.5, 0.3, 0.0) * (torch.arange(32) % 2)[:, None]
    net = mlp(3, 32, 3)
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return Net(lambda net, x: x + net.net(x), net=net), (x, y), {"loss": loss}


@variant(
    "numerics",
    "UG405",
    "UG403 UG104",
    action=r"acos|slope|clamp|eps|1",
    cause="the angle acos of a cosine that is exactly one has an infinite slope",
)
def angle_of_a_cosine_of_one(cured: bool):
    def run(net: Net, a: Tensor, b: Tensor) -> Tensor:
        u, v = F.normalize(net.f(a), dim=1), F.normalize(net.f(b), dim=1)
        cosine = (u * v).sum(1).clamp(-1, 1)
        return torch.acos(cosine * (1 - 1e-4) if cured else cosine) / math.pi

    x, labels = clusters(32, 12, 6, seed=4)
    other = x.roll(1, 0).clone()
    other[::4] = x[::4]
    same = (labels == labels.roll(1)).float()
    same[::4] = 1
    return (
        Net(run, f=mlp(12, 32, 16)),
        (x, other, same),
        {"loss": lambda angle, same: ((angle - 0.5 * (1 - same)) ** 2).mean()},
    )


# Features that are not there -------------------------------------------------------------------------------------


@variant(
    "data",
    "UG203 UG202",
    "UG104 UG306 UG405",
    action=r"constant|nan|column|feature|standard|finite",
    cause="a column that never changes was divided by its standard deviation of zero",
)
def constant_column_standardized(cured: bool):
    x, y = houses(64, 8, seed=1)
    x[:, 3] = 4.0
    x = (x - x.mean(0)) / (x.std(0) + (1e-8 if cured else 0))
    return mlp(8, 32, 32, 1, act=nn.SiLU), (x, y), {"loss": F.smooth_l1_loss}


@variant(
    "data",
    "UG203",
    "UG102 UG307 UG201 UG110",
    action=r"constant|input|zero|same",
    cause="bytes divided by 255 as whole numbers: every picture is black",
)
def bytes_divided_as_whole_numbers(cured: bool):
    x, labels = glyphs(32, 6, 12, seed=2)
    raw = ((x - x.min()) / (x.max() - x.min()) * 254).to(torch.uint8)
    x = (raw.float() / 255 - 0.35) / 0.2 if cured else (raw // 255).float()
    return ResNet(6), (x, labels), {"loss": F.cross_entropy}
