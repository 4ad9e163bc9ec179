"""How the rates of nf-vs-bn are searched, and its steps timed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import nf_vs_bn as experiment
from unitgain.recipes import nf_vs_bn
from unitgain.recipes.nf_vs_bn import NfVsBnConfig

RATES: dict = {"batchnorm_lr": (0.1,), "normfree_lr": (0.1,), "clipping": (0.02,)}
SHORT = nf_vs_bn.RECIPE.presets["short"]


@pytest.fixture(autouse=True)
def images(monkeypatch) -> None:
    """Two classes that a pixel's brightness tells apart, in place of the data set."""
    x, y = torch.randn(600, 1, 28, 28), torch.randint(2, (600,))
    x[:, :, 8:20, 8:20] += 2.0 * y.view(-1, 1, 1, 1)
    monkeypatch.setattr(nf_vs_bn, "read_data", lambda config: ((x, y), (x[:200], y[:200])))


def test_step_times_tell_what_norms_cost() -> None:
    config = replace(NfVsBnConfig(), channels=(8, 16), depths=(1, 1))
    times = experiment.step_times(config, 32, nf_vs_bn.read_data(config)[0], 0.2)
    assert set(times) == {"batchnorm", "bare", "normfree", "unclipped"}
    assert all(value > 0 for value in times.values())


def test_tuning_never_sees_a_test_image(monkeypatch) -> None:
    """Test images are replaced by NaN: their accuracy would be chance for a network that saw them."""
    (x, y), _ = nf_vs_bn.read_data(SHORT)
    monkeypatch.setattr(nf_vs_bn, "read_data", lambda c: ((x, y), (torch.full_like(x, float("nan")), y)))
    monkeypatch.setattr(experiment, "_HELD_OUT", 200)
    known: dict[str, float] = {}
    config = replace(SHORT, batch_sizes=(32,), examples=(640,), **RATES)
    best = experiment.tune(config, {32: 640}, known, lambda: None, say=str)
    assert set(best) == {"batchnorm 32", "normfree 32", "clipping 32"}
    assert max(known.values()) > 85
    assert experiment.tune(config, {}, known, lambda: None, say=str) == best  # nothing is trained twice


def test_tuning_goes_on_where_the_best_rate_is_at_an_end(monkeypatch) -> None:
    tried, clippings = [], []

    def fake(config, net, batch_size, examples, lr, *rest):
        (tried if config.clipping == (0.04,) else clippings).append((lr, *config.clipping))
        away = abs(lr - (3.3 if net == "batchnorm" else 0.1)) + abs(config.clipping[0] - 0.6)
        return None, nf_vs_bn.Score(0, -away, 0)

    monkeypatch.setattr(nf_vs_bn, "fit", fake)
    monkeypatch.setattr(experiment, "_HELD_OUT", 200)
    config = replace(SHORT, batch_sizes=(256,), examples=(512,), **RATES)
    assert experiment.tune(config, {256: 512}, {}, lambda: None, say=str) == {
        "batchnorm 256": 3.2,
        "normfree 256": 0.1,
        "clipping 256": 0.64,
    }
    assert sorted(lr for lr, _ in tried) == [0.05, 0.1, 0.2, 0.2, 0.4, 0.4, 0.8, 0.8, 1.6, 3.2, 6.4]
    assert sorted(clippings) == [(0.1, 0.01), (0.1, 0.16), (0.1, 0.64), (0.1, 2.56)]
