"""Targets and their shapes: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    adam,
    boxes,
    chains,
    clusters,
    convnet,
    glyphs,
    mlp,
    molecules,
    rings,
    scored,
    seeded,
    series,
    sgd,
    utterances,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn


@report(
    "target", "UG106 UG111", area="continual learning", action=r"sum to one|normali|softmax|log", steps=200, rate=5e-3,
    source="github.com/ContinualAI/avalanche/issues/1018",
    cause="both distributions are cut to the old classes after the softmax: they no longer sum to one, the divergence "
    "is negative and pushes all probability away from the new classes",
)  # fmt: skip
def distillation_of_a_slice_of_classes(cured: bool):
    old = [0, 1, 2, 3]

    def loss(out: Tensor, target: Tensor) -> Tensor:
        teacher, labels = target[:, :6], target[:, 6].long()
        if cured:
            p, q = (out[:, old] / 2).log_softmax(1), (teacher[:, old] / 2).softmax(1)
        else:
            p, q = (out / 2).log_softmax(1)[:, old], (teacher / 2).softmax(1)[:, old]
        return F.cross_entropy(out, labels) + 3 * F.kl_div(p, q, reduction="batchmean")

    x, labels = clusters(192, 12, 2, 1.0, seed=5)
    labels = labels + 4  # only examples of the new classes
    teacher = x @ torch.randn(12, 6, generator=seeded(6)) * 0.5
    target = torch.cat([teacher, labels[:, None].float()], 1)
    score = scored(lambda out: F.cross_entropy(out, labels), x)
    return mlp(12, 48, 6), (x, target), {"loss": loss}, score


@report(
    "target", "UG107", area="forecasting", action=r"shape|broadcast|squeeze|view|reshape", steps=120, rate=5e-3,
    source="github.com/jsboige/CoursIA/pull/926",
    cause="for a horizon of one step the forecast is (batch, 1) and the target (batch,): every pair is compared",
)  # fmt: skip
def forecast_of_one_step_broadcasts(cured: bool):
    x = series(64, 17)
    y = x[:, 16, 0]
    model = Net(
        lambda net, x: net.head(net.mix(x.transpose(1, 2)).flatten(1)), mix=nn.Sequential(nn.Linear(16, 32), nn.GELU()),
        head=nn.Linear(64, 1),
    )  # fmt: skip
    score = scored(lambda out: F.mse_loss(out[:, 0], y), x[:, :16])
    return model, (x[:, :16], y[:, None] if cured else y), {"loss": F.mse_loss}, score


@report(
    "target", "UG108", "UG304", area="detection", action=r"relu|range|reach|drop", steps=80,
    source="github.com/tsinghua-rll/VoxelNet-tensorflow/issues/10",
    cause="every convolution of the head has a ReLU, also the last one: the offsets of a box are "
    "negative as often as not",
)  # fmt: skip
def relu_on_box_offsets(cured: bool):
    x, _, box = boxes(32)
    offsets = torch.cat([(box[:, :2] + box[:, 2:] / 2 - 8) / 4, (box[:, 2:] / 5).log() * 2], 1)
    head = [nn.Flatten(), nn.Linear(512, 4), *([] if cured else [nn.ReLU()])]
    model = nn.Sequential(*list(convnet(1, 4))[:-3], *head)
    return model, (x, offsets), {"loss": F.smooth_l1_loss}


@report(
    "target", "UG109", area="gnn", action=r"target|scale|standardi|normali", steps=200, rate=3e-3,
    source="github.com/metatensor/metatrain/pull/401; keras-team/keras/issues/7207",
    cause="the energies are in units in which they are ten-thousandths: what the network starts with is far off",
)  # fmt: skip
def energies_in_small_units(cured: bool):
    x, adjacency = molecules(96)
    truth = (adjacency @ x[..., :1]).tanh().sum((1, 2)) + x[..., 1].square().mean(1)
    y = ((truth - truth.mean()) / truth.std())[:, None]
    unit = 1.0 if cured else 2e-4

    def run(net: Net, x: Tensor, adjacency: Tensor) -> Tensor:
        return net.second(adjacency @ F.silu(net.first(adjacency @ x))).mean(1)

    model = Net(run, first=nn.Linear(6, 48), second=mlp(48, 48, 1, act=nn.SiLU))
    score = scored(lambda out: F.mse_loss(out / unit, y), x, adjacency)
    return model, (x, adjacency, y * unit), {"loss": F.mse_loss, "steps": 20, "optimizer": adam(3e-3)}, score


@report(
    "target", "UG111", area="attributes", action=r"binary|bce|sigmoid", steps=100,
    source="github.com/sungho-CoolG/FSCL/issues/2; hypnopump/rgn2-replica/pull/12",
    cause="several attributes hold of one picture, and their row of ones goes into the cross entropy of one class",
)  # fmt: skip
def attributes_into_cross_entropy(cured: bool):
    g = seeded(2)
    x = torch.randn(96, 3, 8, 8, generator=g)
    present = (torch.rand(96, 6, generator=g) < 0.25).float()
    signs = torch.randn(6, 3, 8, 8, generator=g)
    x = (x + torch.einsum("na,achw->nchw", present, signs)) / 2
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 6))
    loss = F.binary_cross_entropy_with_logits if cured else F.cross_entropy
    score = scored(lambda out: ((out > 0) != present.bool()).any(1).float().mean(), x)
    return model, (x, present), {"loss": loss}, score


@report(
    "target", "UG111", "UG403 UG401 UG502", area="cnn", action=r"cross.entropy", steps=60,
    source="github.com/FluxML/model-zoo/issues/8",
    cause="the squared error of softmax outputs and one-hot rows, where a classifier wants cross entropy",
)  # fmt: skip
def squared_error_on_softmax(cured: bool):
    x, labels = glyphs(96, 6)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6)
    )  # fmt: skip
    kwargs = {"steps": 20, "optimizer": sgd(0.02)}
    if cured:
        return model, (x, labels), {"loss": F.cross_entropy, **kwargs}, wrong_on(x, labels)
    return (
        model.append(nn.Softmax(1)),
        (x, F.one_hot(labels, 6).float()),
        {"loss": F.mse_loss, **kwargs},
        wrong_on(x, labels),
    )


@report(
    "target", "UG111", area="image classes", action=r"one.hot|label|class", steps=200, rate=5e-3,
    source="github.com/tensorflow/models/pull/1247",
    cause="labels 1 to 3 are made one-hot with three columns: the rows of class 3 are all zero",
)  # fmt: skip
def one_hot_of_labels_from_one(cured: bool):
    x, labels = rings(240, 3)
    labels = labels + 1
    rows = (labels[:, None] == torch.arange(3) + (1 if cured else 0)).float()
    first = 1 if cured else 0

    def loss(out: Tensor, rows: Tensor) -> Tensor:
        return -(rows * out.log_softmax(1)).sum(1).mean()

    score = scored(lambda out: (out.argmax(1) + first != labels).float().mean(), x)
    return mlp(2, 64, 64, 3), (x, rows), {"loss": loss}, score


@report(
    "target", "UG116", "UG802", area="language model", action=r"shift|next", steps=100, rate=1e-2,
    source="github.com/huggingface/transformers/issues/3711",
    cause="the loss compares each output with the word that went in: the model learns to copy",
)  # fmt: skip
def language_model_target_not_shifted(cured: bool):
    text = chains(48, 13, 20)
    x, after = text[:, :-1], text[:, 1:]
    model = Net(
        lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2),
        embed=nn.Embedding(20, 24), rnn=nn.GRU(24, 48, batch_first=True), head=nn.Linear(48, 20),
    )  # fmt: skip
    return model, (x, after if cured else x), {"loss": F.cross_entropy}, wrong_on(x, after)


@report(
    "target", "UG104", "UG405 UG306 UG504", area="speech", action=r"length|stride|pool|longer", steps=60, rate=5e-3,
    source="github.com/ypwhs/captcha_break/issues/29; meijieru/crnn.pytorch/issues/235",
    cause="the network leaves fewer frames than the text has symbols: no alignment exists, and the loss is infinite",
)  # fmt: skip
def ctc_targets_longer_than_input(cured: bool):
    x, text = utterances(24)
    stride = 2 if cured else 6

    def loss(out: Tensor, text: Tensor) -> Tensor:
        frames = torch.full((len(out),), out.shape[1])
        lengths = torch.full((len(text),), text.shape[1])
        return F.ctc_loss(out.log_softmax(2).transpose(0, 1), text, frames, lengths)

    model = Net(
        lambda net, x: net.head(F.relu(net.conv(x.transpose(1, 2))).transpose(1, 2)),
        conv=nn.Conv1d(12, 48, 7, stride, 3), head=nn.Linear(48, 7),
    )  # fmt: skip
    return model, (x, text), {"loss": loss}
