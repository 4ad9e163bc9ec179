"""UG101 to UG104 and UG201, UG202."""

from __future__ import annotations

import math

import pytest
from build import Net
from hypothesis import given, settings
from hypothesis import strategies as st


def net(**options) -> Net:
    return Net(**options).input().linear("fc1").act("relu").linear("head", output=True)


@pytest.mark.parametrize(
    ("factor", "severity"),
    [(0.3, None), (1.0, None), (1.19, None), (1.25, "warning"), (2.1, "error"), (8.5, "error")],
)
@pytest.mark.parametrize("classes", [10, 27, 1000])
def test_loss_above_chance(factor: float, severity: str | None, classes: int) -> None:
    findings = net().classifier(classes, loss=factor * math.log(classes), rms=1.0).diagnose().findings
    assert [(f.code, f.severity) for f in findings] == ([("UG101", severity)] if severity else [])


def test_message_says_what_was_expected_and_the_remedy_names_the_layer() -> None:
    finding = net().classifier(27, loss=27.8817, rms=14.3).diagnose().findings[0]
    assert "loss 27.88 at initialization, expected ln(27) = 3.30" in finding.message
    assert finding.site == "head"
    assert "head.weight" in finding.remedy


def test_large_logits_of_a_large_input_are_blamed_on_what_is_before_the_head() -> None:
    upstream = (
        Net().linear("fc", rms=500.0).linear("head", output=True).classifier(10, loss=9000.0, rms=5000.0)
    )
    (finding,) = upstream.diagnose().findings
    assert "too large already: its rms is 500" in finding.cause
    assert finding.remedy.startswith("First bring what goes into head")
    own = net().classifier(10, loss=30.0, rms=20.0).diagnose().findings[0]
    assert "multiplies what goes in (rms 1) by 20" in own.cause
    assert own.remedy.startswith("Multiply the weights")


def test_unlucky_or_one_sided_labels_are_no_finding() -> None:
    """Four targets, or a thousand of which nearly all are of the class that the random weights happen not to prefer."""
    for examples in (4, 1024):
        unlucky = net(examples=examples).classifier(2, loss=1.0, rms=0.6)
        assert unlucky.fact(output={"even_loss": 0.78}).codes() == []
        confident = net(examples=examples).classifier(2, loss=1.3, rms=1.6)
        assert confident.fact(output={"even_loss": 1.4}).codes() == ["UG101"]


def test_an_even_guess_costs_what_the_users_loss_says() -> None:
    summed = net().classifier(10, loss=23.5, rms=0.3).fact(output={"even_loss": 2.35})
    assert summed.fact(comparison={"asked": {"of_zeros": 23.03}}).codes() == []


def test_first_makemore_network_has_two_causes_and_two_findings() -> None:
    """W1 too large saturates the hidden layer, W2 makes the logits too large: neither explains the other."""
    makemore = Net(examples=32).layer("C", "embedding").linear("fc1", std=5.5, rms=5.5)
    makemore.act("tanh", "tanh", saturated=0.7).linear("fc2", rms=14.0, output=True)
    assert makemore.classifier(27, loss=27.88, rms=14.0).codes() == ["UG101", "UG303"]


@pytest.mark.parametrize("kind", ["mse", "other"])
def test_regression_is_not_judged_by_ln_c(kind: str) -> None:
    regression = (
        net().classifier(10, loss=50.0).fact(loss={"kind": kind}, target={"kind": "float", "classes": None})
    )
    assert regression.codes() == []
    assert "UG101" in regression.diagnose().abstained


def test_zero_head_gives_ln_c_and_constant_logits_and_that_is_fine() -> None:
    zero = Net().input().linear("fc1", gradient=0.0, weight={"gradient": 0.0}).act("relu", gradient=0.0)
    zero.linear("head", rms=0.0, absmax=0.0, spread=0.0, output=True, weight={"absmax": 0.0})
    zero.classifier(10, spread=0.0, rms=0.0, zero_head=True).fact(unblocked=["fc1.weight", "fc1.bias"])
    assert zero.codes() == []
    assert zero.diagnose().status == "healthy"


def test_constant_output_names_where_the_examples_became_one() -> None:
    constant = Net().input().layer("position", "embedding", spread=0.0, inputs=[]).linear("fc1").act("relu1")
    constant.linear("fc2", spread=0.0).act("relu2", spread=0.0).linear("head", spread=0.0, output=True)
    (finding,) = constant.classifier(spread=0.0).diagnose().findings
    assert (finding.code, finding.site) == ("UG102", "fc2")
    assert finding.evidence["last_distinct_site"] == "relu1"


def test_same_example_repeated_is_the_batchs_fault() -> None:
    diagnosis = (
        Net().input(spread=0.0).linear("head", spread=0.0, output=True).classifier(spread=0.0).diagnose()
    )
    assert diagnosis.findings == ()
    assert "all examples of the batch are the same" in diagnosis.abstained["UG102"]


def test_double_softmax() -> None:
    softmax = net().layer("softmax", "softmax", attributes={"output": True})
    softmax.classifier(10, loss=2.31, min=0.01, max=0.4, row_sum_error=1e-6)
    (finding,) = softmax.diagnose().findings
    assert (finding.code, finding.site) == ("UG103", "softmax")
    assert finding.remedy == "Drop module softmax (softmax) and return its input."
    assert "1.46" in finding.message


def test_log_softmax_before_cross_entropy_changes_nothing() -> None:
    log_softmax = net().layer("log_softmax", "softmax", attributes={"output": True})
    assert log_softmax.classifier(10, min=-9.0, max=-0.1, exp_row_sum_error=1e-6).codes() == []


def test_loss_that_is_not_finite_although_everything_else_is() -> None:
    for loss in (math.nan, math.inf):
        assert net().classifier(10, loss=loss).codes() == ["UG104"]


@pytest.mark.parametrize(("stats", "severity"), [
    ({"mean": 0.45, "std": 0.28, "min": 0.0, "max": 1.0}, "info"),  # trains almost as well, by experiment
    ({"mean": 120.0, "std": 70.0, "min": 0.0, "max": 255.0}, "warning"),
    ({"mean": 0.0, "std": 5.0}, "warning"),
    ({"mean": 0.0, "std": 0.05}, "warning"),
    ({"mean": 3.0, "std": 1.0}, "warning"),
    ({"mean": 0.01, "std": 0.06, "min": 0.0, "max": 1.0, "zero": 0.95}, "info"),  # bags of words, adjacency matrices
    ({"mean": 3.0, "std": 6.0, "min": 0.0, "max": 90.0, "zero": 0.8}, "warning"),
])  # fmt: skip
def test_input_that_is_not_normalized(stats: dict[str, float], severity: str) -> None:
    images = Net().input(**stats).linear("fc").linear("head", output=True)
    (finding,) = images.diagnose().findings
    assert finding.code == "UG201"
    assert finding.severity == severity


def test_prescription_is_per_channel() -> None:
    images = Net().input(
        mean=0.45, std=0.28, min=0, max=1, channel_mean=[0.48, 0.45, 0.4], channel_std=[0.2, 0.21, 0.2]
    )
    assert "[0.48, 0.45, 0.4]" in images.linear("fc").diagnose().findings[0].remedy


@pytest.mark.parametrize("traps", [
    {"integer": True, "mean": 500.0, "std": 200.0, "min": 0},
    {"mean": 0.1, "std": 0.3, "rms": math.sqrt(0.1), "min": 0.0, "max": 1.0},
    {"name": "input[attention_mask]", "mean": -1e4, "std": 1e4},
    {"name": "input[inputs_embeds]", "mean": 0.0, "std": 0.02},
    {"name": "input[timestep]", "shape": (), "mean": 500.0, "std": 300.0},
    {"name": "input[labels]", "mean": 500.0, "std": 300.0},
    {"name": "input[targets.0.boxes]", "mean": 50.0, "std": 30.0},
    {"shape": (4,), "count": 16, "mean": 0.4, "std": 0.8},
    {"mean": 0.24, "std": 0.55},
])  # fmt: skip
def test_inputs_that_need_no_normalization(traps: dict) -> None:
    assert Net().input(**traps).linear("fc").codes() == []


def test_input_that_goes_into_a_norm_needs_none_itself() -> None:
    assert Net().input(mean=100.0, std=30.0, min=0).norm("bn").linear("fc").codes() == []


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 512), st.floats(-1, 1), st.floats(-0.9, 0.9))
def test_small_batch_of_normalized_images_is_silent(examples: int, bright: float, contrast: float) -> None:
    """A normalized data set's own small batches stray by about 0.5/sqrt(n) in mean and deviation."""
    mean, std = bright / math.sqrt(examples), 1 + 0.5 * contrast / math.sqrt(examples)
    assert Net(examples=examples).input(mean=mean, std=std).linear("fc").codes() == []


def test_large_input_explains_what_it_does_to_the_first_layer_and_the_loss() -> None:
    pixels = Net().input(mean=130.0, std=70.0, min=0, max=255).linear("fc1", std=60.0, rms=60.0)
    pixels.act("tanh", "tanh", saturated=0.8).linear("head", rms=40.0, output=True)
    (finding,) = pixels.classifier(10, loss=40.0, rms=40.0).diagnose().findings
    assert finding.code == "UG201"
    assert [line[:5] for line in finding.consequences] == ["UG101", "UG303"]


def test_nan_in_the_input_explains_everything_after_it() -> None:
    broken = (
        Net()
        .input(nonfinite=0.01, bad_examples=[3])
        .linear("fc", nonfinite=0.02, weight={"gradient": math.nan})
    )
    broken.linear("head", nonfinite=0.02, output=True, gradient=math.nan).classifier(loss=math.nan)
    (finding,) = broken.diagnose().findings
    assert finding.code == "UG202"
    assert "examples 3" in finding.message
    assert {line[:5] for line in finding.consequences} == {"UG306", "UG104", "UG405"}


def test_mask_of_minus_infinity_is_no_broken_input() -> None:
    assert Net().input().input("input[attn_mask]", nonfinite=0.5).linear("fc").codes() == []
