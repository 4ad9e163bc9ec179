"""Data: ninth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, convnet, glyphs, log, mlp, seeded, wrong_on
from torch import Tensor, nn


@report(
    "data", "UG113", "UG102 UG114", area="segmentation", action=r"label|mask|class|divid|target",
    source="github.com/milesial/Pytorch-UNet/issues/228",
    cause="masks of class numbers are divided by 255 like the pictures, and become all 0 as integers",
)  # fmt: skip
def class_masks_scaled_like_pictures(cured: bool):
    x, mask, _ = boxes(32, 16, seed=1)
    classes = (mask[:, 0] * torch.randint(1, 4, (32, 1, 1), generator=seeded(2))).numpy()
    x = x * (1 + torch.from_numpy(classes).amax((1, 2))[:, None, None, None])

    def preprocess(picture):
        if picture.max() > 1 and not cured:
            picture = picture / 255
        return torch.as_tensor(picture)

    masks = preprocess(classes).long()
    truth = torch.from_numpy(classes).long()
    layers = [
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 4, 1),
    ]
    return nn.Sequential(*layers), (x, masks), {"loss": nn.CrossEntropyLoss()}, wrong_on(x, truth)


@report(
    "data", "", "UG510 UG110", form="probe", area="semi-supervised", action=r"permut|same (order|pairs)|shuffl|labels?",
    no_rule="inputs are mixed with other examples than their labels",
    says=r"permut|mixed with|labels? (do|does) not (belong|fit|follow)|unrelated",
    source="github.com/xudonmao/VMT/issues/1",
    cause="mixup draws one permutation for the pictures and another for the labels: they do not belong together",
)  # fmt: skip
def mixup_with_two_permutations(cured: bool):
    x, labels = glyphs(192, 6, 10, seed=3)
    model = convnet(1, 6, width=8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    g = seeded(4)

    def mixup(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        share = 0.3 + 0.4 * torch.rand(len(x), generator=g)
        order = torch.randperm(len(x), generator=g)
        other = order if cured else torch.randperm(len(x), generator=g)
        s = share[:, None, None, None]
        return s * x + (1 - s) * x[order], share[:, None] * y + (1 - share[:, None]) * y[other]

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            part = torch.randperm(192, generator=g)[:64]
            mixed, soft = mixup(x[part], F.one_hot(labels[part], 6).float())
            loss = F.cross_entropy(model(mixed), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return float(F.cross_entropy(model.eval()(x), labels))

    batch = mixup(x[:64], F.one_hot(labels[:64], 6).float())
    return model, optimizer, loop, batch, {"loss": F.cross_entropy}


@report(
    "data", "", "UG510 UG110", form="probe", area="image classification", action=r"label|shuffl|pair|data",
    no_rule="the labels have nothing to do with the inputs",
    says=r"labels? (do|does|have|has) (not|no)|unrelated|cannot be (predicted|told)|shuffled",
    source="github.com/Borda/kaggle_image-classify/pull/12",
    cause="the table of examples was shuffled after the labels had been taken from it: pictures have others' labels",
)  # fmt: skip
def shuffled_after_the_labels_were_taken(cured: bool):
    class Table:
        def __init__(self, rows: Tensor, labels: Tensor):
            self.rows, self.labels = rows, labels
            taken = labels
            order = torch.randperm(len(rows), generator=seeded(5))
            self.rows, self.labels = rows[order], labels[order] if cured else taken

        def batches(self, size: int):
            for i in range(0, len(self.rows), size):
                yield self.rows[i : i + size], self.labels[i : i + size]

    x, labels = clusters(1024, 16, 6, 0.8, seed=6)
    table, fresh, wanted = Table(x[:768], labels[:768]), x[768:], labels[768:]
    model = mlp(16, 32, 6)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)

    def loop(probe, steps: int = 120) -> float:
        done = 0
        while done < steps:
            for inputs, targets in table.batches(64):
                loss = F.cross_entropy(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                log(probe, loss)
                done += 1
                if done == steps:
                    break
        return wrong_on(fresh, wanted)(model)

    kwargs = {"loss": F.cross_entropy, "data": list(table.batches(64)), "steps": 20, "optimizer": optimizer}
    return model, optimizer, loop, kwargs["data"][0], kwargs
