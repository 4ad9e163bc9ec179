"""Data: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, convnet, glyphs, log, mlp, seeded, sentences, sgd, wrong_on
from torch import Tensor, nn


@report(
    "data", "UG113", "UG504 UG501 UG503", form="probe", area="faces", action=r"shuffl|one class",
    source="github.com/happynear/NormFace/issues/4",
    cause="the data is not shuffled: each batch shows one person, and all features are drawn in one direction",
)  # fmt: skip
def faces_sorted_by_person(cured: bool):
    x, labels = glyphs(160, 8, noise=0.8, seed=1)
    order = torch.randperm(160, generator=seeded(0)) if cured else labels.argsort()
    faces, persons = x[order], labels[order]
    model = Net(
        lambda net, x: 16 * F.normalize(net.body(x), dim=1) @ F.normalize(net.persons, dim=1).T,
        body=nn.Sequential(*list(convnet(1, 24, 12, norm=False))[:-1], nn.Linear(24, 24)),
        persons=nn.Parameter(torch.randn(8, 24)),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loop(probe, steps: int = 160) -> float:
        for step in range(steps):
            part = slice(step * 20 % 160, step * 20 % 160 + 20)
            loss = F.cross_entropy(model(faces[part]), persons[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (faces[:20], persons[:20]), {"loss": F.cross_entropy}


@report(
    "data", "UG113", "UG504 UG501 UG503", area="image classes", action=r"shuffl|one class", steps=240,
    source="github.com/zalandoresearch/fashion-mnist/pull/5",
    cause="the files are sorted by label, and who does not shuffle trains on one class after the other",
)  # fmt: skip
def pictures_sorted_by_label(cured: bool):
    x, labels = glyphs(240, 6, noise=0.5, seed=3)
    order = torch.randperm(240, generator=seeded(0)) if cured else labels.argsort()
    batches = [(x[part], labels[part]) for part in order.split(20)]
    model = nn.Sequential(nn.Flatten(), mlp(144, 64, 64, 6))
    kwargs = {"loss": F.cross_entropy, "steps": 36, "optimizer": sgd(0.05), "data": batches}
    return model, batches[0], kwargs, wrong_on(x, labels)


@report(
    "data", "UG203 UG202", "UG104 UG306 UG405", area="weather",
    action=r"constant|standard|divi|deviation|field", steps=60,
    source="github.com/mllam/neural-lam/issues/136; mllam/neural-lam/pull/189",
    cause="a field that is constant (no rain) is standardized by its deviation of zero: all NaN, and "
    "so is everything after",
)  # fmt: skip
def constant_field_standardized(cured: bool):
    weather = torch.randn(24, 4, 10, 10, generator=seeded(5)).cumsum(2).cumsum(3)
    weather[:, 2] = 0.0  # no rain
    mean, deviation = (of((0, 2, 3), keepdim=True) for of in (weather.mean, weather.std))
    x = (
        torch.where(deviation > 0, (weather - mean) / deviation, 0.0)
        if cured
        else (weather - mean) / deviation
    )
    after = x[:, :2].roll(1, 3)
    layers = [
        nn.Conv2d(4, 24, 3, padding=1, padding_mode="circular"),
        nn.GELU(),
        nn.Conv2d(24, 2, 3, padding=1),
    ]
    return nn.Sequential(*layers), (x, after), {"loss": F.mse_loss}


@report(
    "data", "UG201", "UG101 UG302 UG402 UG501 UG104 UG504 UG304 UG306 UG503 UG405 UG605 UG102 UG403", area="cnn",
    action=r"normali|255|scale|standard|divide|mean", steps=60,
    source="github.com/kratzert/finetune_alexnet_with_tensorflow/issues/79",
    cause="pictures of 0 to 255 less their mean, not divided: bad results, and NaN at rates above 0.001",
)  # fmt: skip
def raw_bytes_into_alexnet(cured: bool):
    x, labels = glyphs(96, 6, channels=3, noise=0.2)
    x = (x - x.mean((0, 2, 3), keepdim=True)) * (1 if cured else 60)
    layers: list[nn.Module] = []
    for fan_in, fan_out, stride in ((3, 16, 2), (16, 32, 1), (32, 32, 2)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, stride, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 6))
    return (
        model,
        (x, labels),
        {"loss": F.cross_entropy, "steps": 20, "optimizer": sgd(0.05)},
        wrong_on(x, labels),
    )


@report(
    "data", "UG805", area="transformer", action=r"pad|left|last|length", steps=100, rate=5e-3,
    source="github.com/huggingface/transformers/pull/46782; huggingface/sentence-transformers/issues/3208",
    cause="the head reads the position that the number of words gives, which is the last word only "
    "if padding is on the right",
)  # fmt: skip
def tokens_padded_on_the_left(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        states = net.rnn(net.embed(text))[0]
        place = torch.arange(text.shape[1])
        last = (place * (text != 0)).argmax(1) if cured else (text != 0).sum(1) - 1
        return net.head(states[torch.arange(len(text)), last])

    text, lengths, labels = sentences(192, 16, 20, 3, shortest=5)
    left = torch.stack([row.roll(16 - int(n)) for row, n in zip(text, lengths, strict=True)])
    model = Net(
        run, embed=nn.Embedding(20, 16, padding_idx=0), rnn=nn.GRU(16, 32, batch_first=True), head=nn.Linear(32, 3)
    )  # fmt: skip
    return model, (left, labels), {"loss": F.cross_entropy}, wrong_on(left, labels)
