"""Targets and their shapes: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    adam,
    boxes,
    chains,
    glyphs,
    houses,
    mlp,
    molecules,
    scored,
    seeded,
    standard,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


@report(
    "target", "UG106", "UG504 UG501", area="detection", action=r"one.hot|cross.entropy|class|target", steps=120,
    rate=5e-3,
    source="github.com/zzh8829/yolov3-tf2/issues/91",
    cause="binary cross entropy gets the number of the class as its target: beyond 1 the loss is negative without end",
)  # fmt: skip
def class_index_into_binary_cross_entropy(cured: bool):
    x, labels = glyphs(96, 5, channels=3, size=8, seed=2)
    target = F.one_hot(labels, 5).float() if cured else labels[:, None].float().expand(-1, 5).clone()
    model = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(192, 5))
    return model, (x, target), {"loss": BCE}, wrong_on(x, labels)


@report(
    "target", "UG106", "UG504 UG501", area="vae", action=r"range|\[?0.{0,6}1|min|scale", steps=120, rate=5e-3,
    source="github.com/emited/VariationalRecurrentNeuralNetwork/issues/2",
    cause="the likelihood is Bernoulli and takes inputs of 0 to 1, and gets standardized ones: no minimum",
)  # fmt: skip
def bernoulli_likelihood_of_standardized_inputs(cured: bool):
    g = seeded(1)
    kinds = torch.rand(6, 30, generator=g)
    grey = (kinds[torch.arange(96) % 6] + 0.05 * torch.randn(96, 30, generator=g)).clamp(0, 1)
    x = grey if cured else standard(grey)

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.encode(x).chunk(2, 1)
        return net.decode(mean + spread.exp() * torch.randn_like(mean)), mean, spread

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        picture, mean, spread = out
        divergence = 0.5 * (mean.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1).mean()
        return BCE(picture, x, reduction="none").sum(1).mean() + 0.05 * divergence

    score = scored(lambda out: (out[0].sigmoid() - grey).square().mean() / grey.var(), x)
    model = Net(run, encode=mlp(30, 32, 8), decode=mlp(4, 32, 30))
    return model, (x, x), {"loss": loss}, score


@report(
    "target", "UG107", area="sets", action=r"shape|broadcast|squeeze|view|reshape", steps=150, rate=5e-3,
    source="github.com/manzilzaheer/DeepSets/pull/1; LAMDA-Tabular/TALENT/pull/92",
    cause="the statistic of each set is (batch,), the prediction (batch, 1): the loss compares every pair",
)  # fmt: skip
def set_statistic_broadcasts(cured: bool):
    members = torch.randn(96, 20, 1, generator=seeded(2)) * torch.linspace(0.3, 2, 96)[:, None, None]
    spread = standard(members.std((1, 2)).log())
    model = Net(lambda net, x: net.rho(net.phi(x).mean(1)), phi=mlp(1, 32, 32), rho=mlp(32, 32, 1))
    score = scored(lambda out: F.l1_loss(out[:, 0], spread), members)
    return model, (members, spread[:, None] if cured else spread), {"loss": F.l1_loss}, score


@report(
    "target", "UG107", area="gnn", action=r"shape|broadcast|squeeze|view|reshape", steps=150, rate=5e-3,
    source="github.com/IntelLabs/matsciml/pull/347",
    cause="the readout of a graph is one number, and the labels come out of the pipeline with an axis more",
)  # fmt: skip
def graph_readout_broadcasts(cured: bool):
    x, adjacency = molecules(64, seed=3)
    y = standard((adjacency @ x[..., :1]).tanh().sum((1, 2)) + x[..., 1].square().sum(1))
    model = Net(
        lambda net, x, a: net.last(F.silu(a @ net.second(F.silu(a @ net.first(x) / 3)) / 3)).sum((1, 2)) / 4,
        first=nn.Linear(6, 32), second=nn.Linear(32, 32), last=nn.Linear(32, 1),
    )  # fmt: skip
    score = scored(lambda out: F.huber_loss(out, y), x, adjacency)
    return model, (x, adjacency, y if cured else y[:, None]), {"loss": F.huber_loss}, score


@report(
    "target", "UG108", "UG303", area="tabular", action=r"sigmoid|range|reach|drop", steps=200, rate=5e-3,
    source="github.com/UC-IIC2613/Syllabus/issues/208",
    cause="the price is continuous and standardized, and the last function is a sigmoid, which gives 0 to 1",
)  # fmt: skip
def sigmoid_on_continuous_price(cured: bool):
    x, y = houses(192, seed=1)
    model = mlp(8, 48, 48, 1, act=nn.Tanh, last=None if cured else nn.Sigmoid())
    return model, (x, y), {"loss": F.mse_loss}


@report(
    "target", "UG108", "UG303 UG403", area="process control", action=r"softmax|range|reach|drop|scale",
    steps=200, rate=5e-3,
    source="github.com/zhuofupan/Tensorflow-Deep-Neural-Networks/issues/15",
    cause="a network made for classes is used for three measured values: its softmax gives nothing above 1",
)  # fmt: skip
def softmax_output_for_values_beyond_one(cured: bool):
    g = seeded(4)
    x = torch.randn(160, 6, generator=g)
    y = torch.stack([x[:, 0] + x[:, 1].sin(), x[:, 2] * x[:, 3], x[:, 4].exp() * 0.4], 1)
    model = mlp(6, 48, 48, 3, last=None if cured else nn.Softmax(1))
    return model, (x, y), {"loss": F.smooth_l1_loss}


@report(
    "target", "UG109", "UG502 UG404", area="detection", action=r"target|scale|standardi|normali|divide",
    steps=100, rate=2e-3,
    source="github.com/SeokjuLee/VPGNet/issues/53; DeepRank/deeprank/issues/16",
    cause="boxes in pixels of a picture of 640 by 480, none divided by anything, under the absolute error",
)  # fmt: skip
def boxes_in_pixels(cured: bool):
    x, _, box = boxes(48, seed=4)
    pixels = box * torch.tensor([40.0, 30.0, 40.0, 30.0])  # the picture is shown reduced
    mean, deviation = pixels.mean(0), pixels.std(0)
    target = (pixels - mean) / deviation if cured else pixels
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 4)
    )  # fmt: skip
    score = scored(lambda out: F.l1_loss(out * deviation + mean if cured else out, pixels), x)
    return model, (x, target), {"loss": F.l1_loss, "steps": 20, "optimizer": adam(2e-3)}, score


@report(
    "target", "UG116", area="language model", action=r"shift|next", steps=120, rate=1e-2,
    source="github.com/huggingface/transformers/pull/46898, 47395; InternLM/InternLM/issues/318",
    cause="the data shifts the labels by one, and the loss shifts them once more",
)  # fmt: skip
def language_model_target_shifted_twice(cured: bool):
    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out if cured else out[:, :, :-1], labels if cured else labels[:, 1:])

    text = chains(48, 14, 18, noise=0.05, seed=4)
    x, after = text[:, :-1], text[:, 1:]
    model = Net(
        lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(18, 24), rnn=nn.LSTM(24, 48, batch_first=True), head=nn.Linear(48, 18),
    )  # fmt: skip
    return model, (x, after), {"loss": loss}, wrong_on(x, after)


@report(
    "target", "UG117", area="molecules", action=r"ignore_index|padd|mask", steps=60, rate=5e-3,
    source="github.com/DaoyuanLi2816/Molecule-Generator/pull/20; lucidrains/DALLE-pytorch/issues/57",
    cause="without ignore_index most of what the loss measures is the padding behind short sequences",
)  # fmt: skip
def padding_counts_in_the_loss(cured: bool):
    text = chains(96, 41, 18, noise=0.0, seed=5) % 18 + 1
    lengths = torch.randint(5, 8, (96,), generator=seeded(6))
    text[torch.arange(41) >= lengths[:, None]] = 0
    x, after = text[:, :-1], text[:, 1:]
    real = torch.where(after == 0, -100, after)

    def loss(out: Tensor, after: Tensor) -> Tensor:
        return F.cross_entropy(out, after, ignore_index=0 if cured else -100)

    model = Net(
        lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(19, 16), rnn=nn.GRU(16, 32, batch_first=True), head=nn.Linear(32, 19),
    )  # fmt: skip
    return model, (x, after), {"loss": loss}, scored(lambda out: F.cross_entropy(out, real), x)


@report(
    "target", "UG118", area="medical classes", action=r"weight|invers|rare", steps=150, rate=5e-3,
    source="github.com/mlcommons/GaNDLF/issues/209; IndicoDataSolutions/finetune/issues/181",
    cause="the penalty of a class is its share of the data, not one over it: the rare class is never predicted",
)  # fmt: skip
def class_weights_not_inverted(cured: bool):
    g = seeded(7)
    rare = torch.rand(400, generator=g) < 0.1
    labels = rare.long()
    x = torch.randn(400, 6, generator=g)
    x[rare, 0] += 1.4
    share = torch.bincount(labels, minlength=2) / 400
    weight = (1 / share if cured else share) / (1 / share if cured else share).sum()

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out, labels, weight=weight)

    def missed(out: Tensor) -> Tensor:  # mean over the two classes of the share that is not recognized
        wrong = (out.argmax(1) != labels).float()
        return (wrong[rare].mean() + wrong[~rare].mean()) / 2

    return mlp(6, 16, 2), (x, labels), {"loss": loss}, scored(missed, x)
