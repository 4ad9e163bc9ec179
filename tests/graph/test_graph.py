"""The questions that are asked of a graph, and how it is shown."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from own_models import UNet, resnet
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.graph import layers, registered, trace


class OutOfOrder(nn.Module):
    """Registered last to first, with a functional slope, and a norm with two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.norm, self.second, self.first = (
            nn.Linear(8, 3),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.Linear(4, 8),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.leaky_relu_(self.first(x), 0.3), 0.1, self.training)
        return self.out(self.norm(self.second(x)).view(-1, 8))


def test_execution_order_not_registration_order() -> None:
    found = {w.name: (w.before.kind, w.after.kind) for w in trace(OutOfOrder(), torch.randn(5, 4)).weights()}
    assert found == {
        "first": ("data", "activation"),
        "second": ("activation", "norm"),
        "out": ("norm", "output"),
    }


def test_a_concatenation_of_activations_counts_as_one_if_they_are_the_same() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.cat([torch.relu(self.a(x)), F.dropout(torch.relu(self.b(x)), 0.1)], 1))

    assert trace(Joined(), torch.randn(3, 4)).before("out").label == "relu"
    unet = trace(UNet(), torch.randn(2, 3, 8, 8))
    assert unet.before("join1").label == "ConvTranspose2d and relu"
    assert [set(n.sources) for n in unet.concatenations()] == [{"up2", ":relu#2"}, {"up1", ":relu"}]


def test_an_activation_of_ones_own_is_found_by_trying() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(2 * x)

    graph = trace(nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 4)), torch.randn(3, 4))
    assert graph.before("2").kind == "activation"


def test_biases_that_a_norm_undoes() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8),
    )  # fmt: skip
    found = [(n.node.name, n.fed_by.label, n.absorbs) for n in trace(model, torch.randn(2, 3, 8, 8)).norms()]
    assert found == [("1", "Conv2d", "0.bias"), ("4", "Conv2d", None), ("7", "Linear", None)]
    model[1].eval()
    assert trace(model, torch.randn(2, 3, 8, 8)).norms()[0].absorbs == "0.bias", "as in training"


def test_the_head_is_the_last_weight_or_gain_whose_output_leaves_the_model() -> None:
    assert trace(resnet(), torch.randn(2, 3, 8, 8)).head().name == "6"
    normed = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    assert trace(normed, torch.randn(3, 4)).head().name == "1"


def test_a_path_holds_every_node_between_two_nodes() -> None:
    graph = trace(resnet(), torch.randn(2, 3, 8, 8))
    between = [n.name for n in graph.path("1:relu#2", "2:add")]
    assert between == ["2.conv1", "2.bn1", "2:relu", "2.conv2", "2.bn2", "2.shortcut.0", "2.shortcut.1"]
    assert graph.path("6", "0") == []


def test_theory_predicts_a_model_through_its_graph() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
    x = torch.randn(256, 512)
    predicted = ug.theory.predict(layers(trace(model, x)))
    for i, p in zip((0, 2, 4), predicted):
        assert model[: i + 1](x).std().item() == pytest.approx(p.pre_std, rel=0.05)
    with pytest.raises(InputError, match="more than a stack"):
        layers(trace(resnet(), torch.randn(2, 3, 8, 8)))


def test_registration_order_stands_in_without_a_batch() -> None:
    graph = registered(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2))))
    assert [(w.name, w.before.label, w.after.kind) for w in graph.weights()] == [
        ("0", "data", "activation"),
        ("1.1", "Tanh", "output"),
    ]


def test_a_person_sees_what_was_understood() -> None:
    text = str(trace(resnet(), torch.randn(2, 3, 8, 8)))
    assert text.splitlines()[0] == (
        "Sequential: 9 weights, 7 norms, 3 residual branches (1 transition, all post-activation)"
    )
    assert "residual: 0 + (conv1 to bn2)" in text
    assert "residual transition: (shortcut.0 to shortcut.1)(1:relu#2) + (conv1 to bn2)" in text
    assert "output: 6" in text
    assert (
        repr(trace(nn.Linear(2, 2), torch.randn(3, 2))) == "<Graph of Linear: 2 nodes, 0 residual branches>"
    )


def test_repeated_blocks_are_shown_once() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + 0.1 * self.fc(torch.relu(self.norm(x)))

    text = str(trace(nn.Sequential(nn.Linear(4, 8), *(Block() for _ in range(12))), torch.randn(3, 4)))
    assert "2 to 12: the same as 1" in text
    assert text.count("residual: ") == 1
    assert "0.1 * (norm to fc)" in text
    assert len(text.splitlines()) < 16
