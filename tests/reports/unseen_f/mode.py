"""Training and evaluation mode: fourth collection, half F."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, log, mlp, scored
from torch import Tensor, nn


@report(
    "mode", form="probe", area="multimodal", action=r"eval\(\)|evaluation mode|validat", few=20,
    no_rule="validation runs in training mode: dropout is on, and BatchNorm learns from the validation set",
    says=r"validat|evaluation mode|eval\(\)", may="UG703 UG706 UG604",
    source="github.com/pliang279/MultiBench/issues/26",
    cause="model.train() stands in the loop of the validation: what it reports is the network with dropout",
)  # fmt: skip
def validation_in_training_mode(cured: bool):
    x, labels = clusters(256, 16, 6, 0.7, seed=1)
    layers = [nn.Linear(16, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 48), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(48, 6))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    @torch.no_grad()
    def validated() -> float:
        model.eval()
        if not cured:
            model.train()
        loss = F.cross_entropy(model(x[192:]), labels[192:])
        model.train()
        return loss.item()

    def loop(probe, steps: int = 120) -> float:
        measured = 0.0
        for step in range(steps):
            loss = F.cross_entropy(model(x[:192]), labels[:192])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
            if step % 10 == 9:
                measured = validated()
        return measured

    return model, optimizer, loop, None, {}


@report(
    "mode", "UG706", area="mlp", action=r"dropout|training=", steps=120, rate=3e-3,
    source="github.com/csxeba/brainforge/issues/1; explosion/thinc/pull/355; lyatdawn/Unet-Tensorflow/issues/4",
    cause="dropout drops whether the network trains or not: predictions are drawn anew every time",
)  # fmt: skip
def dropout_function_without_its_flag(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        x = F.relu(net.first(x))
        x = F.dropout(x, 0.5, training=net.training) if cured else F.dropout(x, 0.5)
        return net.rest(x)

    x, labels = clusters(192, 16, 6, 0.7, seed=2)
    model = Net(run, first=nn.Linear(16, 48), rest=mlp(48, 48, 6))
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)
