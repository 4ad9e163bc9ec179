"""What is decayed: nothing that scales or shifts, everything that multiplies many inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain.optim import Adam, param_groups


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(1, 4, 3)
        self.conv.gain = nn.Parameter(torch.ones(4, 1, 1, 1))
        self.depthwise = nn.Conv2d(4, 4, 1, groups=4)  # a weight of shape (4, 1, 1, 1)
        self.norm = nn.LayerNorm([4, 4])  # a gain of shape (4, 4)
        self.skip_gain = nn.Parameter(torch.zeros(()))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.head = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))
        self.last = nn.Linear(4, 1)
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)


def names(groups, decayed: bool) -> set[str]:
    return {n for g in groups if (g["weight_decay"] > 0) is decayed for n in g["param_names"]}


def test_gains_of_any_shape_biases_and_skip_gains_are_not_decayed() -> None:
    groups = param_groups(Part(), 1e-2)
    assert names(groups, True) == {
        "table.weight", "conv.weight", "depthwise.weight", "head.parametrizations.weight.original", "last.weight",
    }  # fmt: skip
    assert names(groups, False) == {
        "conv.gain", "conv.bias", "depthwise.bias", "norm.weight", "norm.bias", "skip_gain", "cls_token", "head.bias",
        "last.bias",
    }  # fmt: skip


def test_patterns_and_embeddings_are_spared_on_request_and_options_kept() -> None:
    groups = param_groups(Part(), 1e-2, embeddings=False, no_decay=["conv.*"], lr=0.5)
    assert not names(groups, True) & {"table.weight", "conv.weight"}
    assert all(g["lr"] == 0.5 for g in groups)
    optimizer = Adam(groups, lr=0.1)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.5]


def test_every_trainable_parameter_is_in_exactly_one_group_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    groups = param_groups(model)
    assert sum(len(g["params"]) for g in groups) == 3
    assert len(param_groups(nn.Linear(2, 2, bias=False))) == 1


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="'gamma' matches no parameter"):
        param_groups(Part(), no_decay="gamma")
    with pytest.raises(InputError, match="weight_decay=-1"):
        param_groups(Part(), -1)


@pytest.mark.reference
def test_no_gain_of_timms_nfnet_is_decayed(torchvision_operators) -> None:
    import timm

    model = timm.create_model("dm_nfnet_f0")
    undecayed = names(param_groups(model, 2e-5), False)
    gains = {n for n, _ in model.named_parameters() if "gain" in n}
    assert len(gains) == 57 + 12
    assert gains <= undecayed
    assert all("gain" in n or n.endswith("bias") for n in undecayed)
