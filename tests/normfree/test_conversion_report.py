"""What a conversion reports: the short training, the variances, and the page."""

from __future__ import annotations

import json
import re

import pytest
import torch
from normfree_networks import conv
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from unitgain import InputError
from unitgain.normfree import audit, clipping_for, convert, fold, rehearsing
from unitgain.optim import AGC
from unitgain.report import conversion_page

HOSTILE = "</script><b onload=alert(1)>"


def network(name: str = "norm") -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("conv", conv(3, 8))
    net.add_module(name, nn.BatchNorm2d(8))
    for key, module in {
        "act": nn.ReLU(inplace=True),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
    }.items():
        net.add_module(key, module)
    net.add_module("drop", nn.Dropout(0.1))
    net.add_module("fc", nn.Linear(8, 2))
    return net


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(64) % 2
    return torch.randn(64, 3, 6, 6, generator=generator) * (1 + y[:, None, None, None]), y


@pytest.mark.parametrize("mode", ["train", "preserve"])
def test_the_short_training_leaves_nothing_behind(mode: str, batch) -> None:
    """Weights, optimizer and random numbers are those of a conversion without it."""
    found = []
    for steps in (0, 4):
        net = network()
        report = convert(net, batch, mode, steps=steps)
        found.append((net.state_dict(), torch.rand(3)))
        assert (report.training is None) == (steps == 0)
        assert all(p.grad is None for p in net.parameters())
    (plain, drawn), (trained, drawn_after) = found
    assert plain.keys() == trained.keys()
    assert all(torch.equal(v, trained[k]) for k, v in plain.items())
    assert torch.equal(drawn, drawn_after)


def test_each_arm_begins_with_its_own_loss_on_the_same_examples(batch) -> None:
    net = network()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    half = batch[0][::2], batch[1][::2]

    def loss() -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(net.train()(half[0]), half[1]))

    state = {k: v.clone() for k, v in net.state_dict().items()}
    before = loss()
    net.load_state_dict(state)
    training = convert(net, batch, "train", steps=4).training
    assert training is not None
    assert training.on == "half of the batch"
    assert training["original"].losses[0] == pytest.approx(before, rel=1e-5)
    assert training["converted"].losses[0] == pytest.approx(loss(), rel=1e-5)
    firsts = {arm.name: arm.losses[0] for arm in training.arms}
    assert len(set(firsts.values())) == 3
    assert [arm.agc for arm in training.arms] == [False, True, True]
    assert [r for r, _ in training["original"].tried] == pytest.approx([0.02, 0.1, 0.5])
    assert [r for r, _ in training["converted"].tried] == pytest.approx(
        [0.05, 0.2, 0.8]
    )  # half of 1, 4, 16 times
    assert training.clipping == 0.04  # twice 0.02, for 32 examples a step


@pytest.mark.parametrize("mode", ["train", "preserve"])
def test_what_is_advised_is_what_the_short_training_clips_with(mode: str, batch, monkeypatch) -> None:
    """One rule: on small batches of a loader the factor 0.02 hid what the conversion can do."""
    asked = []

    def noted(optimizer, model, **options):
        asked.append(options["clipping"])
        return AGC(optimizer, model, **options)

    monkeypatch.setattr(rehearsing, "AGC", noted)
    few = batch[0][:4], batch[1][:4]
    report = convert(network(), few, mode, steps=4, data=[few] * 4)
    assert report.training is not None
    assert {*asked} == {clipping_for(4)} == {report.training.clipping} == {0.02 * 32**0.5}
    assert "0.11 at the 4 of this batch" in str(report)
    assert "(0.11)" in report.training.conditions
    assert clipping_for(128) == clipping_for(4096) == 0.02
    with pytest.raises(InputError, match="clipping_for: examples is 0"):
        clipping_for(0)


def test_an_optimizer_of_ones_own_is_used_for_every_arm(batch) -> None:
    made = []

    def make(parameters):
        made.append([*parameters])
        return torch.optim.AdamW(made[-1], lr=1e-2)

    training = convert(network(), batch, steps=4, optimizer=make, data=[batch] * 3).training
    assert training is not None
    assert training.optimizer == "AdamW"
    assert training.on == "fresh batches"
    assert len({len(parameters) for parameters in made}) > 1  # each arm has its own parameters


def test_what_a_short_training_cannot_be_made_of_is_refused_and_the_model_stays(batch) -> None:
    net = network()
    kinds = [type(m) for m in net.modules()]
    adam = torch.optim.Adam(net.parameters())
    for options, part in (
        ({"steps": 2}, "at least 4 steps"),
        ({"steps": 8, "optimizer": adam}, "expected a function from parameters"),
        ({"steps": 8, "mode": "fold"}, "not meant to be trained"),
        ({"steps": 8, "loss": "cross_entropie"}, "cross_entropie"),
    ):
        with pytest.raises(InputError, match=re.escape(part)):
            convert(net, batch, **options)
    with pytest.raises(InputError):
        convert(net, batch[0], steps=8)  # no targets
    assert [type(m) for m in net.modules()] == kinds


def test_a_network_that_cannot_be_trained_without_its_norm_is_named(batch) -> None:
    class Needs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nothing_instead = isinstance(self.net.norm, nn.Identity) and not is_parametrized(self.net.conv)
            if torch.is_grad_enabled() and nothing_instead:
                raise RuntimeError("where is my norm?")
            return self.net(x)

    report = convert(Needs(), batch, "preserve", steps=4)
    training = report.training
    assert training is not None
    assert "where is my norm?" in training["stripped"].error
    assert any("the stripped network cannot be trained" in line for line in training.summary())


@pytest.mark.parametrize("mode", ["train", "preserve", "fold"])
def test_variances_are_given_of_data_and_of_noise_before_and_after(mode: str, batch) -> None:
    """Before, a layer that took in its norm stands for the norm's output; it was the layer's own, off by 10 or more."""
    net = network()
    with torch.no_grad():
        net.conv.weight.mul_(20)  # what the norm makes good
    for _ in range(80):
        net.train()(batch[0])
    (block,) = convert(net, batch, mode).blocks
    assert block.name == "conv"
    assert block.noise_after is not None
    if mode == "train":
        assert block.after == pytest.approx(1, rel=0.01)
    else:
        assert block.before == pytest.approx(1, rel=0.01)
        assert block.after == pytest.approx(1, rel=0.1)
        assert block.noise_before == pytest.approx(1, rel=0.01)


def test_the_page_holds_what_the_report_says_and_no_name_becomes_an_element(batch) -> None:
    report = convert(network(HOSTILE), batch, "preserve", steps=4)
    text = report.to_html()
    assert text == conversion_page(json.loads(report.to_json()))  # a saved report is enough
    assert "<b onload" not in text
    assert "&lt;/script&gt;&lt;b onload=alert(1)&gt;" in text
    assert text.count("<script") == text.count("</script>") == 3
    assert "default-src 'none'" in text
    assert "https:" not in text
    charts = json.loads(re.findall(r'application/json">(.*?)</script>', text, re.DOTALL)[0])
    assert [line["name"] for line in charts[0]["lines"]] == ["original", "stripped", "converted"]
    assert all(len(line["ys"]) == 1 for line in charts[0]["lines"])  # held out, every fourth step


def test_pages_of_what_has_nothing_to_say() -> None:
    assert "Not tried" in convert(nn.Sequential(nn.Linear(4, 4)), torch.randn(4, 4)).to_html()
    assert "A folded network is not trained" in fold(nn.Sequential(nn.Linear(4, 4))).to_html()
    assert "no BatchNorm runs" in str(audit(nn.Sequential(nn.Linear(4, 4)), torch.randn(4, 4)))
    assert "No measured" not in audit(network(), torch.randn(2, 3, 6, 6), batches=(2,)).to_html()


def test_saving_by_suffix(tmp_path, batch) -> None:
    report = convert(network(), batch[0], "fold")
    for name in ("r.html", "r.json", "r.txt"):
        report.save(tmp_path / name)
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == report.verdict
    with pytest.raises(InputError, match="must end in"):
        report.save(tmp_path / "r.pdf")
