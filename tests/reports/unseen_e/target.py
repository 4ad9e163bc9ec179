"""Targets and their shapes: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, chains, clusters, mlp, scored, series, wrong_on
from torch import Tensor, nn


@report(
    "target", area="distillation", action=r"teacher|class|label|order", steps=150, rate=3e-3, boundary=True,
    no_rule="the teacher's classes are numbered differently from the student's", says=r"teacher|order of the classes",
    source="github.com/neuralmagic/sparseml/pull/1401",
    cause="teacher and student map labels to numbers by themselves: the student is taught another class than its label",
)  # fmt: skip
def teacher_numbers_its_classes_differently(cured: bool):
    x, labels = clusters(192, 16, 6, 0.8, seed=1)
    order = torch.arange(6) if cured else torch.tensor([3, 0, 5, 1, 2, 4])
    teacher = (4.0 * F.one_hot(order[labels], 6).float()).softmax(1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return 0.8 * F.cross_entropy(out, y[:, 1:]) + 0.2 * F.cross_entropy(out, y[:, 0].long())

    y = torch.cat([labels[:, None].float(), teacher], 1)
    return mlp(16, 48, 6), (x, y), {"loss": loss}, wrong_on(x, labels)


@report(
    "target", "UG109", "UG302 UG402 UG404 UG502 UG504 UG110 UG114", area="sensors",
    action=r"target|standard|normali|scale", steps=150, source="github.com/equinor/gordo/issues/430",
    cause="the pipeline scales what goes into the autoencoder, and not the copy that it has to give back",
)  # fmt: skip
def sensor_values_left_as_they_are(cured: bool):
    x = series(96, 10, 2, seed=2).flatten(1)
    y = x if cured else 100 * x
    score = scored(lambda out: F.mse_loss(out, y) / y.var(), x)
    return mlp(20, 48, 12, 48, 20), (x, y), {"loss": F.mse_loss}, score


@report(
    "target", "UG116", "UG802", area="latent transformer", action=r"shift|next|token|target", steps=100, rate=5e-3,
    source="github.com/Project-MONAI/GenerativeModels/issues/314",
    cause="the token at a place is asked for at that place, where it has just been read: nothing has to be predicted",
)  # fmt: skip
def asked_for_the_token_it_has_read(cured: bool):
    text, later = chains(48, 12, 14, seed=3), chains(48, 12, 14, seed=4)
    model = Net(
        lambda net, text: net.head(net.rnn(net.embed(text))[0]).transpose(1, 2),
        embed=nn.Embedding(14, 24), rnn=nn.GRU(24, 48, batch_first=True), head=nn.Linear(48, 14),
    )  # fmt: skip
    x, y = (text[:, :-1], text[:, 1:]) if cured else (text, text)
    score = scored(lambda out: F.cross_entropy(out[:, :, :-1], later[:, 1:]), later)
    return model, (x, y), {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(5e-3)}, score
