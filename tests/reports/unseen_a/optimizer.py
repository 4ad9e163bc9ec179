"""Optimizers and training loops: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, glyphs, houses, log, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "optimizer", form="probe", area="rl", action=r"detach|no_grad", few=30,
    no_rule="the target of Q-learning is not detached: the loss trains the next state's value as well",
    says=r"detach|no_grad",
    source="github.com/philtabor/Deep-Q-Learning-Paper-To-Code/issues/9; datawhalechina/easy-rl/pull/117",
    cause="with one network for both and no detach, the squared difference is lowered from both sides: values are "
    "biased wherever the next state is left to chance",
)  # fmt: skip
def bootstrap_target_not_detached(cured: bool):
    g = seeded(0)
    states = torch.randn(12, 6, generator=g)
    step = torch.rand(12, 12, generator=g) ** 4
    step = step / step.sum(1, keepdim=True)
    reward = torch.randn(12, generator=g)
    truth = torch.linalg.solve(torch.eye(12) - 0.8 * step, reward)
    model = mlp(6, 32, 32, 1, act=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 500) -> float:
        for _ in range(steps):
            now = torch.randint(0, 12, (128,), generator=g)
            after = torch.multinomial(step[now], 1, generator=g)[:, 0]
            target = reward[now] + 0.8 * model(states[after])[:, 0]
            loss = F.mse_loss(model(states[now])[:, 0], target.detach() if cured else target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return float(F.mse_loss(model(states)[:, 0], truth))

    return model, optimizer, loop, None, {}


class Rounded(nn.Conv2d):
    """A convolution with weights rounded to sixteen steps, and gradients as if they were not."""

    def forward(self, input: Tensor) -> Tensor:
        step = self.weight.detach().abs().max() / 8
        rounded = self.weight + ((self.weight / step).round() * step - self.weight).detach()
        return self._conv_forward(input, rounded, self.bias)


@report(
    "optimizer", "UG701", "UG502 UG503 UG508", form="probe", area="quantization", action=r"optimizer",
    source="github.com/hustzxd/EfficientPyTorch/issues/1",
    cause="convolutions are replaced by quantized ones after the optimizer was made: it holds the old ones' weights",
)  # fmt: skip
def optimizer_before_quantized_layers(cured: bool):
    x, labels = glyphs(64, 6, noise=0.4, seed=1)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 12, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(108, 6)
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    model[0], model[2] = Rounded(1, 12, 3, 2, 1), Rounded(12, 12, 3, 2, 1)
    if cured:
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loop(probe, steps: int = 80) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.cross_entropy(model(x), labels)
            model.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG509 UG508 UG502 UG702", "UG403 UG701 UG110", form="probe", area="self-supervision",
    action=r"zero_grad|clear",
    source="github.com/lucidrains/byol-pytorch/issues/93",
    cause="gradients are set to zero between backward and step: the step has nothing to use",
)  # fmt: skip
def cleared_right_before_the_step(cured: bool):
    x, y = houses(128, 8, seed=2)
    model = mlp(8, 48, 1)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            loss = F.mse_loss(model(x), y)
            if cured:
                optimizer.zero_grad()
            loss.backward()
            if not cured:
                optimizer.zero_grad()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, (x, y), {"loss": F.mse_loss}


@report(
    "optimizer", "UG506", "UG504 UG501 UG303 UG503 UG402 UG304", form="probe", area="cnn", action=r"zero_grad",
    source="github.com/heartcored98/Standalone-DeepLearning/issues/11; pytorch/pytorch/issues/47175",
    cause="zero_grad is called once at the beginning of an epoch: steps use the sum of the epoch's gradients so far",
)  # fmt: skip
def cleared_once_per_epoch(cured: bool):
    x, labels = clusters(256, 12, 6, 1.0, seed=3)
    model = mlp(12, 48, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.2)

    def loop(probe, steps: int = 96) -> float:
        for step in range(steps):
            part = slice(16 * (step % 16), 16 * (step % 16) + 16)
            if cured or step % 16 == 0:
                optimizer.zero_grad()
            loss = F.cross_entropy(model(x[part]), labels[part])
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x[:64], labels[:64]), {"loss": F.cross_entropy}
