"""Healthy trainings: losses and targets. Development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    adam,
    boxes,
    clusters,
    convnet,
    descend,
    glyphs,
    mlp,
    rings,
    seeded,
    sgd,
    utterances,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


@healthy("cnn", steps=80)
def log_softmax_with_nll():
    x, labels = glyphs(96, 6)
    model = nn.Sequential(*convnet(1, 6, 12), nn.LogSoftmax(1))
    return model, (x, labels), {"loss": F.nll_loss}, wrong_on(x, labels)


@healthy("mlp", steps=100)
def label_smoothing():
    x, labels = clusters(256, 16, 8)

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(out, labels, label_smoothing=0.1)

    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(2e-3)}
    return mlp(16, 64, 8), (x, labels), kwargs, wrong_on(x, labels)


@healthy("linear", steps=100)
def multiclass_hinge():
    x, labels = clusters(256, 16, 5, 0.6)
    kwargs = {"loss": F.multi_margin_loss, "steps": 20, "optimizer": sgd(0.1)}
    return nn.Linear(16, 5), (x, labels), kwargs, wrong_on(x, labels)


@healthy("metric learning", form="probe")
def triplet_margin():
    x, labels = clusters(192, 24, 8, 1.0, seed=2)
    model = Net(lambda net, x: F.normalize(net.body(x), dim=1), body=mlp(24, 64, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    g = seeded(1)

    def loss_at(step: int) -> Tensor:
        anchor = torch.randint(0, 192, (64,), generator=g)
        same = (labels[anchor, None] == labels).float()
        positive, negative = (torch.multinomial(w, 1, generator=g)[:, 0] for w in (same, 1 - same))
        codes = model(x[torch.cat([anchor, positive, negative])]).chunk(3)
        return F.triplet_margin_loss(*codes, margin=0.3)

    return model, optimizer, lambda probe, steps=150: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("speech", steps=80, rate=5e-3)
def ctc_speech():
    x, text = utterances(32, 5)
    frames, lengths = torch.full((32,), 20), torch.full((32,), 5)

    def loss(out: Tensor, text: Tensor) -> Tensor:
        return F.ctc_loss(out.log_softmax(2).transpose(0, 1), text, frames, lengths)

    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.LSTM(12, 32, batch_first=True, bidirectional=True),
        head=nn.Linear(64, 7),
    )  # fmt: skip
    return model, (x, text), {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}


@healthy("contrastive", form="probe")
def contrast_in_batch():
    """Examples of a batch are each other's negatives: the loss couples them by design, the network does not."""
    x, _ = clusters(256, 24, 32, 0.5, seed=3)
    model = mlp(24, 64, 16)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(4)

    def loss_at(step: int) -> Tensor:
        part = x[torch.randperm(256, generator=g)[:64]]
        views = [
            F.normalize(model(part + 0.2 * torch.randn(part.shape, generator=g)), dim=1) for _ in range(2)
        ]
        return F.cross_entropy(views[0] @ views[1].T / 0.1, torch.arange(64))

    return model, optimizer, lambda probe, steps=120: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("detection", steps=80, rate=3e-3)
def focal_detection():
    """Focal loss with the output's bias at the share of the rare class, as RetinaNet starts."""
    x, mask, _ = boxes(32)

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        p = out.sigmoid()
        right = p * mask + (1 - p) * (1 - mask)
        return (
            BCE(out, mask, reduction="none") * (1 - right).square() * (0.25 + 0.5 * (1 - mask))
        ).sum() / mask.sum()

    last = nn.Conv2d(16, 1, 1)
    nn.init.constant_(last.bias, -4.6)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), last
    )
    return model, (x, mask), {"loss": loss}


@healthy("segmentation", steps=80, rate=3e-3)
def dice_on_sigmoid():
    x, mask, _ = boxes(24, seed=2)

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        p, axes = out.sigmoid(), (1, 2, 3)
        dice = (2 * (p * mask).sum(axes) + 1) / (p.sum(axes) + mask.sum(axes) + 1)
        return 1 - dice.mean() + BCE(out, mask)

    def run(net: Net, x: Tensor) -> Tensor:
        near = net.near(x)
        return net.out(torch.cat([near, net.up(net.far(near))], 1))

    model = Net(
        run, near=nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        far=nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()), up=nn.ConvTranspose2d(16, 8, 2, 2),
        out=nn.Conv2d(16, 1, 1),
    )  # fmt: skip
    return model, (x, mask), {"loss": loss}


@healthy("cnn", form="probe")
def mixup_targets():
    x, labels = glyphs(128, 6)
    rows = F.one_hot(labels, 6).float()
    model = convnet(1, 6, 12)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    g = seeded(5)

    def loss_at(step: int) -> Tensor:
        share, other = float(torch.rand(1, generator=g)), torch.randperm(128, generator=g)
        return F.cross_entropy(
            model(share * x + (1 - share) * x[other]), share * rows + (1 - share) * rows[other]
        )

    def loop(probe, steps: int = 100) -> float:
        descend(probe, optimizer, steps, loss_at)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x, rows), {"loss": F.cross_entropy}


@healthy("tabular", form="probe")
def one_class_by_chance():
    """Small random batches of two classes: now and then all of one."""
    x, labels = rings(256, 2)
    model = mlp(2, 48, 48, 2)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    g = seeded(6)

    def loss_at(step: int) -> Tensor:
        part = torch.randint(0, 256, (6,), generator=g)
        return F.cross_entropy(model(x[part]), labels[part])

    def loop(probe, steps: int = 300) -> float:
        descend(probe, optimizer, steps, loss_at)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@healthy("tabular", steps=150)
def one_hot_columns():
    """Categories as one-hot columns beside numbers; one category is not in this batch: its column is constant."""
    g = seeded(7)
    kind, colour = torch.randint(0, 9, (192,), generator=g), torch.randint(0, 4, (192,), generator=g)
    numbers = torch.randn(192, 4, generator=g)
    x = torch.cat([F.one_hot(kind, 10), F.one_hot(colour, 4), numbers], 1).float()
    y = ((kind % 3 == 1).float() + numbers[:, 0] - 0.5 * numbers[:, 1] * (colour == 2).float())[:, None]
    return mlp(18, 64, 1), (x, (y - y.mean()) / y.std()), {"loss": F.mse_loss}
