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
    """1 / sqrt(n) of the mean and sqrt(2 / (n - 1)) of the variance's logarithm, for n independent normal values."""
    model = nn.Sequential(nn.BatchNorm1d(2000), nn.Linear(2000, 2))
    report = audit(model, torch.randn(64, 2000))
    assert report.norms[0].values == 64
    assert report.norms[0].mean_noise == pytest.approx(1 / 8, rel=0.05)
    assert report.norms[0].var_noise == pytest.approx((2 / 63) ** 0.5, rel=0.05)


def test_noise_is_how_far_statistics_of_other_batches_differ_where_positions_resemble_one_another() -> None:
    """1 / sqrt(N H W) would say 0.016, for 64 images whose 64 pixels are alike but for a little."""
    made = torch.Generator().manual_seed(1)

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 8, 1, 1, generator=made) + 0.3 * torch.randn(count, 8, 8, 8, generator=made)

    report = audit(nn.Sequential(nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(512, 2)), images(64))
    many = torch.stack([images(64) for _ in range(200)])  # (batches, N, C, H, W)
    of_mean = (many.mean((1, 3, 4)).std(0) / many.var((1, 3, 4)).mean(0).sqrt()).mean()
    of_variance = many.var((1, 3, 4)).log().std(0).mean()
    assert report.norms[0].mean_noise == pytest.approx(float(of_mean), rel=0.2)
    assert report.norms[0].var_noise == pytest.approx(float(of_variance), rel=0.2)


def test_dependence_is_how_far_an_output_moves_among_other_examples() -> None:
    """Beside copies of itself it moved by several hundred percent: nothing varies among copies."""
    model, x = network(), torch.randn(64, 3, 6, 6)
    report = audit(model, x)
    with torch.no_grad():
        outputs = [model.train()(torch.cat([x[:4], torch.randn(60, 3, 6, 6)]))[:4] for _ in range(20)]
    moved = torch.stack(outputs).std(0).square().mean().sqrt() / outputs[0].square().mean().sqrt()
    assert report.coupling == pytest.approx(float(moved), rel=0.5)


def test_dependence_is_seen_in_training_and_not_in_evaluation_and_the_model_stays() -> None:
    model = network()
    state, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    report = audit(model, torch.randn(8, 3, 6, 6), batches=(4, 16))
    assert report.coupling > 1e-3
    assert report.coupling_eval < 1e-6
    assert report.batch_norms == 2
    assert [n.fold for n in report.norms] == ["absorbed", "absorbed"]
    assert [s.size for s in report.sizes] == [4, 16]
    as_it_is, fixed, preserved = report.saved_bytes
    assert fixed == pytest.approx(as_it_is, rel=0.02)
    assert preserved < 0.9 * as_it_is  # what a layer absorbed keeps nothing
    assert min(report.seconds) > 0 < report.clipping_seconds
    assert [s.estimated for s in report.sizes] == [False, True]  # of 8 examples
    assert report.sizes[1].mean_noise == pytest.approx(sorted(n.mean_noise for n in report.norms)[0] / 2**0.5)
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
