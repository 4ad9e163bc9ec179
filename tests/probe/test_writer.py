"""Rows from sums: what a whole gradient's norm tells is used right, wherever the norm comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unitgain.probe.parameters import gradient_norms
from unitgain.probe.writer import StepWriter, _Row
from unitgain.record import Record


def columns(norm: float, count: int = 10_000) -> dict[str, np.ndarray]:
    """As on an accelerator: nobody has looked at the norm before the step is written."""
    record = Record()
    site = record.add_site("parameter_gradient", "weight")
    sample = torch.linspace(-1, 1, 1024)
    row = _Row(0, site, flat=sample, norm=(torch.tensor(norm, dtype=torch.float64), count))
    return StepWriter(record, 0, limited=True)._columns([row])


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_value_that_is_not_finite_outside_of_the_sample_is_seen_on_an_accelerator(norm: float) -> None:
    """Only NaN was looked for: a gradient with infinities, what float16 overflows to, passed for healthy."""
    found = columns(norm)
    assert found["nonfinite"][0] == pytest.approx(1e-4)
    assert found["std"][0] == pytest.approx(1 / math.sqrt(3), rel=1e-2), "the sample's"


def test_a_finite_norm_gives_the_scale_of_the_whole() -> None:
    found = columns(50.0)
    assert found["nonfinite"][0] == 0
    assert found["rms"][0] == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_large_gradients_norm_overflows_only_if_a_value_is_infinite(dtype: torch.dtype) -> None:
    """A norm in the gradient's own dtype is infinite for a float16 gradient of moderate values."""
    gradient = torch.full((64, 64), 6e4, dtype=dtype)
    (norm, count) = gradient_norms({"w": gradient})["w"]
    assert float(norm) == pytest.approx(64 * 6e4, rel=0.01)
    assert count == 4096
    gradient[3, 5] = math.inf
    assert float(gradient_norms({"w": gradient})["w"][0]) == math.inf


def test_the_norm_of_a_complex_gradient_counts_real_and_imaginary_parts() -> None:
    gradient = torch.full((10, 10), 3 + 4j)
    norm, count = gradient_norms({"w": gradient})["w"]
    assert (float(norm), count) == (pytest.approx(50.0), 200)
