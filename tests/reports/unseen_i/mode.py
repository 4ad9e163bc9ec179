"""Training and evaluation mode: ninth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import convnet, error_rate, glyphs, log, seeded, series
from torch import Tensor, nn


class Trainer:
    """Validates now and then in the middle of an epoch."""

    def __init__(self, model: nn.Module, restores: bool):
        self.model, self.restores = model, restores
        self.optim = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        self.best = 1.0

    def validate(self, x: Tensor, y: Tensor) -> None:
        self.model.eval()
        with torch.no_grad():
            self.best = min(self.best, error_rate(self.model(x), y))
        if self.restores:
            self.model.train()

    def train_epoch(self, probe, x: Tensor, y: Tensor, held: tuple[Tensor, Tensor], steps: int) -> None:
        self.model.train()
        g = seeded(2)
        for iteration in range(steps):
            if iteration % 40 == 5:
                self.validate(*held)
            part = torch.randint(0, len(x), (16,), generator=g)
            self.optim.zero_grad()
            loss = F.cross_entropy(self.model(x[part]), y[part])
            loss.backward()
            self.optim.step()
            log(probe, loss)


@report(
    "mode", "UG705", "UG604 UG703 UG501 UG504 UG302 UG104 UG306", form="probe", area="segmentation",
    action=r"train\(\)|training mode|train mode", source="github.com/wkentaro/pytorch-fcn/issues/57",
    cause="validation in the middle of an epoch leaves the model in eval mode; it trains on like that",
)  # fmt: skip
def goes_on_in_eval_mode_after_validating(cured: bool):
    x, labels = glyphs(160, 6, 12, noise=0.6, seed=1)
    x = 3 + 2 * x
    model = convnet(1, 6, width=8)
    trainer = Trainer(model, restores=cured)

    def loop(probe, steps: int = 160) -> float:
        trainer.train_epoch(probe, x[:96], labels[:96], (x[96:], labels[96:]), steps)
        with torch.no_grad():
            return float(F.cross_entropy(model.eval()(x[96:]), labels[96:]))

    return model, trainer.optim, loop, (x[:16], labels[:16]), {"loss": F.cross_entropy}


class Counter(nn.Module):
    """Counts peaks in a signal, with BatchNorm after each convolution."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(2, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(-1)).squeeze(-1)

    def predict(self, x: Tensor) -> Tensor:
        self.eval()
        with torch.no_grad():
            return self(x)


@report(
    "mode", "UG705", "UG604 UG703 UG301", form="probe", area="counting", action=r"train\(\)|training mode|train mode",
    source="github.com/ServiceNow/LCFCN/issues/20",
    cause="the loss first asks the model for a prediction, which sets eval mode: every step is made in that mode",
)  # fmt: skip
def loss_predicts_first(cured: bool):
    x = 0.3 * series(96, 24, 2, seed=3).transpose(1, 2)
    y = ((x[:, 0, 1:-1] > x[:, 0, :-2]) & (x[:, 0, 1:-1] > x[:, 0, 2:])).sum(1).float()
    y = (y - y.mean()) / y.std()
    model = Counter()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def compute_loss(x: Tensor, y: Tensor) -> Tensor:
        model.train()
        guess = model.predict(x)
        if cured:
            model.train()
        weight = 1 + (guess - y).abs().clamp(max=1)  # hard examples count more
        return (weight * (model(x) - y).square()).mean()

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = compute_loss(x, y)
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return float(F.mse_loss(model.train()(x), y))

    return model, optimizer, loop, None, {}
