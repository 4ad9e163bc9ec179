"""Training and evaluation mode: tenth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, log, seeded
from torch import Tensor, nn


class BatchNormConv1d(nn.Module):
    """A convolution, an activation, and BatchNorm with parameters as another library names them."""

    def __init__(self, channels: int, out: int, momentum: float):
        super().__init__()
        self.conv1d = nn.Conv1d(channels, out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm1d(out, momentum=momentum, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv1d(x)))


@report(
    "mode", "UG602 UG703", "UG604", form="probe", area="speech synthesis", action=r"momentum|0\.1|0\.01|running",
    source="github.com/r9y9/tacotron_pytorch/issues/19",
    cause="BatchNorm's momentum is 0.99, which means the opposite here: running statistics are those of the last batch",
)  # fmt: skip
def momentum_of_another_library(cured: bool):
    x, labels = clusters(384, 24, 6, 1.3, seed=1)
    x = (x + 2 * x.cos()).view(384, 8, 3)
    norm = 0.1 if cured else 0.99
    layers = [BatchNormConv1d(8, 24, norm), BatchNormConv1d(24, 24, norm), nn.Flatten(), nn.Linear(72, 6)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(3)

    def loop(probe, steps: int = 500) -> float:
        ends = []
        model.train()
        for i in range(steps):
            part = torch.randint(0, 384, (4,), generator=g)
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if i >= steps - 8:  # which batch comes last is chance: the score is over some ends
                with torch.no_grad():
                    ends.append(float(F.cross_entropy(model.eval()(x), labels)))
                model.train()
        return sum(ends) / len(ends)

    return model, optimizer, loop, (x[:4], labels[:4]), {"loss": F.cross_entropy}


@report(
    "mode", "UG708", form="probe", area="digits", action=r"eval",
    source="github.com/udacity/deep-learning-v2-pytorch/issues/3",
    cause="validation runs without model.eval(): dropout is drawn, and the figures are worse than the model",
)  # fmt: skip
def validation_with_dropout(cured: bool):
    x, labels = clusters(512, 24, 8, 0.9, seed=4)
    train, held = (x[:384], labels[:384]), (x[384:], labels[384:])
    drop = nn.Dropout(0.5)
    model = nn.Sequential(
        nn.Linear(24, 64), nn.ReLU(), drop, nn.Linear(64, 64), nn.ReLU(), drop, nn.Linear(64, 8)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    g = seeded(5)

    def validate() -> float:
        with torch.no_grad():
            if cured:
                model.eval()
            found = float(F.cross_entropy(model(held[0]), held[1]))
            model.train()
        return found

    def loop(probe, steps: int = 200) -> float:
        reported = 0.0
        for i in range(steps):
            part = torch.randint(0, 384, (32,), generator=g)
            loss = F.cross_entropy(model(train[0][part]), train[1][part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if i % 20 == 19 or i == steps - 1:
                reported = validate()
        with torch.no_grad():
            return abs(reported - float(F.cross_entropy(model.eval()(held[0]), held[1])))

    return model, optimizer, loop, (train[0][:32], train[1][:32]), {"loss": F.cross_entropy}
