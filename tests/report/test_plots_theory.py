"""Prediction against measurement: drawn from a real record, whose numbers agree with theory."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError, plots


@pytest.fixture(scope="module")
def tanh_record():
    torch.manual_seed(3)
    width, depth, gain = 512, 8, 5 / 3
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        nn.init.normal_(linear.weight, std=gain / width**0.5)
        layers += [linear, nn.Tanh()]
    return ug.check(nn.Sequential(*layers), torch.randn(64, width)).record


NAMES = [str(i) for i in range(1, 16, 2)]


def test_what_a_check_measures_is_what_theory_predicts(tanh_record) -> None:
    predicted = ug.theory.predict_stack("tanh", 8, sigma_w=5 / 3)
    for name, p in zip(NAMES, predicted, strict=True):
        assert tanh_record.value("activation", name, "std") == pytest.approx(p.std, rel=0.03)
        assert tanh_record.value("activation", name, "cosine") == pytest.approx(p.cosine, abs=0.03)


def test_both_lines_are_drawn_beside_each_other(tanh_record) -> None:
    predicted = ug.theory.predict_stack("tanh", 8, sigma_w=5 / 3)
    std = [p.std for p in predicted]
    std[2] = math.nan
    figure = plots.theory_over_depth(tanh_record, std, [p.cosine for p in predicted], sites=NAMES)
    assert figure.get_suptitle()
    above, below = figure.axes
    theory, measured = (line.get_ydata() for line in above.get_lines()[:2])
    np.testing.assert_allclose(theory, std)
    np.testing.assert_allclose(measured, [tanh_record.value("activation", n, "std") for n in NAMES])
    assert below.get_ylabel() == "cosine"
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    assert file.tell() > 1000
    assert len(plots.theory_over_depth(tanh_record, std, sites=NAMES).axes) == 1


def test_numbers_that_do_not_fit_the_sites_are_named(tanh_record) -> None:
    with pytest.raises(InputError, match=r"std has shape \(3,\) for 16 sites"):
        plots.theory_over_depth(tanh_record, [1.0, 1.0, 1.0])
