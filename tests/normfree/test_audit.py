"""audit: its numbers against what is known of them."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from normfree_networks import NETWORKS, conv
from torch import nn

from unitgain import InputError
from unitgain.normfree import audit


def network() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))  # fmt: skip


def test_the_noise_of_the_mean_is_that_of_independent_values() -> None:
    """1 / sqrt(n) for n independent values; what is measured is the absolute value: times sqrt(2 / pi)."""
    model = nn.Sequential(nn.BatchNorm1d(2000), nn.Linear(2000, 2))
    report = audit(model, torch.randn(64, 2000))
    assert report.norms[0].values == 64
    assert report.norms[0].mean_noise == pytest.approx(0.798 / 8, rel=0.1)


def test_dependence_is_seen_in_training_and_not_in_evaluation_and_the_model_stays() -> None:
    model = network()
    state, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    report = audit(model, torch.randn(8, 3, 6, 6), batches=(4, 16))
    assert report.coupling > 1e-3
    assert report.coupling_eval < 1e-6
    assert report.batch_norms == 2
    assert [n.fold for n in report.norms] == ["absorbed", "absorbed"]
    assert [s.size for s in report.sizes] == [4, 16]
    assert report.saved_bytes[0] > 0 < report.seconds[1]
    assert list(model.modules()) == modules
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    json.loads(report.to_json())
    assert "batch normalization runs 2 times" in str(report)


def test_a_batch_of_two_has_values_and_one_value_has_no_variance() -> None:
    """It was reported as zero values with a noise of NaN."""
    report = audit(network(), torch.randn(2, 3, 6, 6))
    images, features = report.norms
    assert images.values == 2 * 6 * 6
    assert images.mean_noise > 0 < images.var_noise
    assert features.values == 2
    assert features.mean_noise > 0
    assert math.isnan(features.var_noise)
    assert "nan" not in str(report)


def test_a_network_without_batch_norm_is_said_to_have_none() -> None:
    report = audit(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), torch.randn(4, 4))
    assert report.batch_norms == 0
    assert "no BatchNorm runs; 1 other norms" in str(report)


def test_what_cannot_be_folded_is_named_with_the_reason() -> None:
    row = NETWORKS["batch statistics in evaluation too"]
    report = audit(row.make(), torch.randn(row.shape))
    assert report.norms[0].fold == "refused"
    assert "no running statistics" in report.norms[0].why


def test_sizes_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="batch sizes of at least 2"):
        audit(network(), torch.randn(8, 3, 6, 6), batches=(1,))
