"""torch.export as a second witness: it agrees where the trace is right, and what they do not agree on stays."""

from __future__ import annotations

import pytest
import torch
from normfree_networks import NETWORKS, conv
from torch import Tensor, nn

from unitgain._batch import Batch
from unitgain.normfree import convert
from unitgain.normfree.witness import doubts

ROWS = ["our own BatchNorm", "dense", "split kernels", "shared norm", "tokens", "a norm of another function",
        "auxiliary head", "functional", "registered twice", "the layer's output is used elsewhere"]  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_the_two_agree_on_networks_that_the_trace_reads_rightly(name: str) -> None:
    row = NETWORKS[name]
    model = row.make()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    found, notes = doubts(model, Batch((torch.randn(row.shape),)))
    assert found == {}
    assert notes == ["torch.export was asked too: it agrees on every norm"]
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


class Two(nn.Module):
    """What runs is not what is exported: a norm behind another layer, used elsewhere too, or run twice."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.a, self.b, self.norm = conv(3, 4), conv(3, 4), nn.BatchNorm2d(4)
        self.last, self.last_norm = conv(4, 4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        exported = torch.compiler.is_compiling()
        y = self.b(x) if exported and self.how == "layer" else self.a(x)
        z = self.norm(y)
        if exported and self.how == "elsewhere":
            z = z + y
        if exported and self.how == "twice":
            z = self.norm(z)
        return self.last_norm(self.last(z.relu()))


SAID = {
    "layer": "the trace of the pass sees a before it, torch.export conv2d of b",
    "elsewhere": "torch.export that what it is given is used elsewhere too",
    "twice": "the trace of the pass sees it run 1 times, torch.export 2 times",
}


@pytest.mark.parametrize("mode", ["train", "preserve", "fold"])
@pytest.mark.parametrize("how", SAID)
def test_a_norm_on_which_they_do_not_agree_stays_and_is_named(how: str, mode: str) -> None:
    x = torch.randn(4, 3, 6, 6)
    assert convert(Two(how), x, mode).refused == []
    report = convert(Two(how), x, mode, second_witness=True)
    (refused,) = report.refused
    assert refused.path == "norm"
    assert SAID[how] in refused.why
    assert isinstance(report.model.get_submodule("norm"), nn.BatchNorm2d)
    assert not isinstance(report.model.get_submodule("last_norm"), nn.BatchNorm2d)


def test_where_export_cannot_follow_the_trace_alone_decides_and_that_is_said(capfd) -> None:
    row = NETWORKS["control flow that depends on data"]
    report = convert(row.make(), torch.randn(row.shape), "preserve", second_witness=True)
    assert not report.refused
    assert any("torch.export cannot follow the model" in note for note in report.notes)
    assert capfd.readouterr().err == ""  # it was pages of graphs
