"""Models that do nothing out of the way."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .case import CLASSES, FEATURES, Body, Case, case, images, tokens


@case
def multilayer_perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))


@case
def residual_network_with_dropout() -> nn.Module:
    return Body()


@case
def convolutions_with_in_place_activations() -> Case:
    layers = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5, inplace=True), nn.ReLU(inplace=True))
    return Case(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)), images()
    )


@case
def in_evaluation_mode() -> nn.Module:
    return Body().eval()


@case
def frozen_trunk() -> nn.Module:
    model = Body()
    model.fc.requires_grad_(False)
    model.norm.eval().requires_grad_(False)
    return model


@case
def weights_that_need_a_remedy() -> nn.Module:
    model = nn.Sequential(
        *(m for _ in range(4) for m in (nn.Linear(FEATURES, FEATURES), nn.Tanh())), nn.Linear(6, 3)
    )
    for p in model.parameters():
        nn.init.normal_(p, std=5.0)
    return model


@case
def units_that_are_copies() -> nn.Module:
    model = nn.Sequential(
        nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, CLASSES)
    )
    for p in model.parameters():
        nn.init.constant_(p, 0.3)
    return model


@case
def zero_head() -> nn.Module:
    model = Body()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return model


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(10, FEATURES)
        self.lstm, self.head = nn.LSTM(FEATURES, 4, 2, batch_first=True, dropout=0.1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.token(x))[0][:, -1])


@case
def recurrent_network() -> Case:
    return Case(Recurrent(), tokens())


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(10, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.token.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.token(x)))[:, -1, :CLASSES]


@case
def transformer_with_tied_weights() -> Case:
    return Case(Transformer(), tokens())


class OwnLoss(Body):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:  # type: ignore[override]
        logits = super().forward(x)
        return {"logits": logits, "loss": None if labels is None else F.cross_entropy(logits, labels)}


@case
def mapping_with_its_own_loss() -> Case:
    x, y = Case(nn.Identity()).batch
    return Case(OwnLoss(), {"x": x, "labels": y}, None)


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(FEATURES, FEATURES) * 0.4 for _ in range(2)])
        self.scales = nn.ParameterDict(
            {"gain": nn.Parameter(torch.ones(())), "none": nn.Parameter(torch.ones(0))}
        )
        self.heads = nn.ModuleDict({"main": nn.Linear(FEATURES, CLASSES)})

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = x + torch.tanh(x @ weight) * self.scales["gain"]
        return self.heads["main"](x)


@case
def lists_and_dictionaries_of_parameters() -> nn.Module:
    return Containers()


@case
def channels_last_images() -> Case:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES))
    return Case(model.to(memory_format=torch.channels_last), images())  # type: ignore[call-overload]


@case
def double_precision_regression() -> Case:
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.Softplus(), nn.Linear(8, 1)).double()
    x = torch.randn(8, FEATURES, dtype=torch.float64)
    return Case(model, (x, x.sum(1, keepdim=True)), "mse")


@case
def several_inputs_in_nested_lists() -> Case:
    class Two(Body):
        def forward(self, pair: Any, scale: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(pair[0] * scale + pair[1])

    x, y = Case(nn.Identity()).batch
    return Case(Two(), (([x, x.clone()], torch.ones(8, 1)), y))
