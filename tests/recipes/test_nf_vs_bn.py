"""nf-vs-bn: that the two networks are the same but for what is compared, and that the protocol is what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain.nn import ScaledStdConv2d
from unitgain.recipes import nf_vs_bn
from unitgain.recipes._runs import RunFolder
from unitgain.recipes._settings import as_json
from unitgain.recipes._small_resnet import SmallResNet
from unitgain.recipes.nf_vs_bn import NfVsBnConfig

SHORT = replace(nf_vs_bn.RECIPE.presets["short"], examples=(512, 128, 40))


@pytest.fixture(autouse=True)
def images(monkeypatch) -> None:
    """Two classes that a pixel's brightness tells apart, in place of the data set."""
    x, y = torch.randn(600, 1, 28, 28), torch.randint(2, (600,))
    x[:, :, 8:20, 8:20] += 2.0 * y.view(-1, 1, 1, 1)
    monkeypatch.setattr(nf_vs_bn, "read_data", lambda config: ((x, y), (x[:200], y[:200])))


def convolutions(model: nn.Module) -> list[tuple]:
    return [
        (name, m.weight.shape, m.stride, m.padding)
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
    ]


def test_the_three_networks_have_the_same_convolutions() -> None:
    nets = {v: SmallResNet(v, (8, 16), (2, 1)) for v in ("batchnorm", "normfree", "bare")}
    found = {v: convolutions(net) for v, net in nets.items()}
    assert found["batchnorm"] == found["normfree"] == found["bare"]
    norms = {v: sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for v, net in nets.items()}
    assert norms == {"batchnorm": 7, "normfree": 0, "bare": 0}  # two per block and the last
    assert all(isinstance(m, ScaledStdConv2d) for m in nets["normfree"].modules() if isinstance(m, nn.Conv2d))


@torch.no_grad()
def test_the_normalizer_free_network_keeps_its_variance_without_norms() -> None:
    """1 + k alpha^2 within a stage; a strided shortcut starts it anew. Padding takes a share on small maps."""
    torch.manual_seed(3)
    model, x = SmallResNet("normfree", (32, 64), (3, 2)), torch.randn(64, 1, 28, 28)
    h, variances = model.stem(x), []
    for block in model.blocks:
        h = block(h)
        variances.append(float(h.var((0, 2, 3)).mean()))
    expected = [1 + 0.04 * k for k in (1, 2, 3, 1, 2)]
    assert variances == pytest.approx(expected, rel=0.15)


def test_an_example_does_not_depend_on_its_batch_without_batchnorm() -> None:
    x = torch.randn(6, 1, 28, 28)
    for variant, same in (("normfree", True), ("batchnorm", False)):
        model = SmallResNet(variant, (8,), (1,)).train()
        nn.init.normal_(model.fc.weight)
        assert torch.allclose(model(x)[:3], model(x[:3]), atol=1e-5) is same


def test_both_see_the_same_number_of_examples_in_the_same_order_and_learn() -> None:
    seen: dict[str, list] = {"batchnorm": [], "normfree": []}
    train_set, test_set = nf_vs_bn.read_data(SHORT)
    for net, rows in seen.items():
        learn = nf_vs_bn.make_learner(SHORT, net, 32, 0.1, 1, train_set)
        learn.callbacks += [nf_vs_bn._StopAfter(25), Rows(rows)]
        learn.fit(2)
    assert len(seen["batchnorm"]) == 25  # more than one epoch of 18 steps
    assert seen["batchnorm"] == seen["normfree"]
    for net in nf_vs_bn.NETS:
        model, score = nf_vs_bn.fit(SHORT, net, 32, 1600, 0.4, 0, train_set, test_set)
        assert score.accuracy > 85
        running = [b for n, b in model.named_buffers() if n.endswith("running_mean")]
        assert score.exact_accuracy == score.accuracy or running


class Rows(nf_vs_bn.Callback):
    def __init__(self, rows: list):
        self.rows = rows

    def after_batch(self, learn) -> None:
        self.rows.append(learn.target.tolist())


def test_the_cycle_ends_where_training_ends() -> None:
    train_set, _ = nf_vs_bn.read_data(SHORT)
    learn = nf_vs_bn.make_learner(SHORT, "batchnorm", 32, 0.5, 0, train_set)
    rates: list[float] = []
    learn.callbacks += [nf_vs_bn._StopAfter(25), Rates(rates)]
    learn.fit(2, callbacks=[nf_vs_bn._Cycle(0.5, 25)])
    assert max(rates) == pytest.approx(0.5, rel=0.02)
    assert rates[-1] < 1e-4
    assert len(rates) == 25


class Rates(nf_vs_bn.Callback):
    def __init__(self, rates: list):
        self.rates = rates

    def before_step(self, learn) -> None:
        self.rates.append(learn.optimizer.param_groups[0]["lr"])


def test_a_resumed_run_keeps_what_was_finished(tmp_path) -> None:
    run = RunFolder(tmp_path / "run", "nf-vs-bn", as_json(SHORT), resume=False)
    assert run.saved() == "no checkpoint yet"
    first = nf_vs_bn.train(SHORT, run, say=str)
    told: list[str] = []
    again = nf_vs_bn.train(
        SHORT, RunFolder(run.path, "nf-vs-bn", as_json(SHORT), True), resume=True, say=told.append
    )
    assert told == []
    assert again.metrics == first.metrics
    assert {"batchnorm_256", "normfree_4", "batchnorm_32_exact", "normfree_256_spread"} <= set(first.metrics)


@pytest.mark.parametrize(
    "wrong",
    [
        {"examples": (1, 2)},
        {"seeds": ()},
        {"batch_sizes": (256, 32, 1)},
        {"examples": (100, 100, 100)},
        {"clipping": (-1.0, 0.1, 0.3)},
        {"clipping": (0.1,)},
        {"batchnorm_lr": (0.0, 0.1, 0.1)},
    ],
)
def test_settings_that_do_not_fit_together_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        replace(NfVsBnConfig(), **wrong)
