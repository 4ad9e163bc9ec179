"""UG401 to UG405, UG501 to UG503, UG601."""

from __future__ import annotations

import math

import pytest
from build import Net, plain


@pytest.mark.parametrize(
    ("back", "codes"),
    [
        (0.1, ["UG401"]),
        (0.45, ["UG401"]),
        (0.6, []),
        (1.0, []),
        (1.7, []),
        (2.2, ["UG402"]),
        (9.0, ["UG402"]),
    ],
)
def test_steady_change_of_the_gradient(back: float, codes: list[str]) -> None:
    assert plain(depth=8, back=back).codes() == codes


def test_vanishing_gradient_of_vanishing_activations_is_one_finding() -> None:
    (finding,) = plain(depth=8, gain=0.3, back=0.3).diagnose().findings
    assert finding.code == "UG301"
    assert finding.consequences[0].startswith("UG401")


def test_vanishing_gradient_of_saturated_layers_is_one_finding() -> None:
    net = Net()
    for i in range(6):
        net.linear(f"fc{i}", std=9.0, gradient=0.05 ** (5 - i)).act(f"tanh{i}", "tanh", saturated=0.8)
    assert net.linear("head", output=True).codes() == ["UG303"]


def test_one_layer_with_a_few_dead_units_does_not_explain_a_vanishing_gradient() -> None:
    net = Net()
    for i in range(8):
        net.linear(f"fc{i}", gradient=0.1 ** (7 - i)).act(f"relu{i}", dead=6 if i == 3 else 0)
    assert net.linear("head", output=True).codes() == ["UG401", "UG304"]


def test_network_that_fades_both_ways_is_one_finding() -> None:
    net = Net()
    for i in range(12):
        spread = max(0.3**i, 1e-6)
        net.linear(f"fc{i}", gradient=0.3 ** (11 - i), spread=spread).act(f"relu{i}", spread=spread)
    (finding,) = net.linear("head", spread=1e-6, output=True).classifier(spread=1e-6).diagnose().findings
    assert finding.code == "UG401"
    assert finding.consequences[0].startswith("UG102")


def test_shrinking_feature_maps_are_no_vanishing_gradient() -> None:
    """The rms of the gradient grows 64-fold from the first to the last map here, its norm does not."""
    net = Net()
    for i in range(8):
        side = 2 ** (8 - i)
        net.linear(f"conv{i}", shape=(8 * 2**i, side, side), gradient=1.0)
    assert net.linear("head", output=True).codes() == []


def test_no_gradient_at_all_is_said_and_not_called_healthy_gradient() -> None:
    net = Net().linear("fc", gradient=None, weight={"gradient": None})
    diagnosis = net.diagnose()
    assert set(diagnosis.abstained) >= {"UG401", "UG402", "UG403", "UG405"}
    assert "no gradient was measured" in diagnosis.verdict


def test_module_that_never_ran() -> None:
    net = plain()
    net.parameter("spare.weight", gradient=None)
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.severity, finding.evidence["reason"]) == ("UG403", "warning", "unused")


def test_detached_part() -> None:
    net = (
        Net()
        .input()
        .linear("fc1", gradient=None, weight={"gradient": None})
        .linear("fc2", output=True)
        .classifier()
    )
    (finding,) = net.diagnose().findings
    assert finding.evidence["reason"] == "detached"
    assert finding.evidence["parameters"] == ["fc1.weight", "fc1.bias"]


def test_dead_layer_explains_the_missing_gradients() -> None:
    net = Net().input().linear("fc1", gradient=0.0, weight={"gradient": 0.0})
    net.act("relu1", gradient=0.0).linear("fc2", gradient=0.0, mean=-9.0, weight={"gradient": 0.0})
    net.act("relu2", dead=32, rms=0.0, spread=0.0, gradient=1.0).linear("head", spread=0.0, output=True)
    (finding,) = net.classifier(spread=0.0).diagnose().findings
    assert (finding.code, finding.site) == ("UG304", "relu2")
    assert [line[:5] for line in finding.consequences] == ["UG102", "UG403"]


def test_output_function_that_is_dead_by_a_huge_bias_is_one_finding() -> None:
    """The examples become one by rounding, one layer before the function at which the gradient ends."""
    net = Net(examples=8).input().linear("fc", gradient=0.0, spread=1e-7, weight={"gradient": 0.0})
    net.act("relu", rms=0.0, spread=0.0, output=True).classifier(spread=0.0, site="relu")
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.site) == ("UG102", "fc")
    assert [line[:5] for line in finding.consequences] == ["UG403"]


def test_small_tensors_without_gradient_are_no_error_however_many() -> None:
    net = Net().linear("fc").linear("head", output=True)
    net.parameter("large.weight", shape=(512, 512))
    for i in range(9):
        net.parameter(f"spare{i}", shape=(4,), role="gain", gradient=None)
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.severity) == ("UG403", "warning")
    assert "less than 1%" in finding.message


def test_reverse_direction_read_at_the_last_position_is_explained() -> None:
    net = Net().layer("r", "recurrent", module="LSTM", absmax=0.5)
    net.parameter("r.weight_hh_l0_reverse", site="r", gradient=0.0)
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.evidence["reason"] == "reverse"
    assert "both directions" in finding.remedy


def test_exploding_gradient_names_the_ratio_of_the_norms_it_shows() -> None:
    """In a residual network layers alternate inside a block: a fit over them disagreed with its own ends."""
    net = Net()
    for i in range(8):
        gradient = 3.0 ** (8 - i)
        net.linear(f"blocks.{i}.a", gradient=0.2 * gradient)
        net.layer(f"blocks.{i}.b", "linear", gradient=gradient, attributes={"block": "branch"})
        net.layer(f"blocks.{i}", "block", gradient=gradient)
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.code == "UG402"
    evidence = finding.evidence
    assert evidence["change"] == pytest.approx(evidence["first_norm"] / evidence["last_norm"])
    assert evidence["change"] == pytest.approx(evidence["per_block"] ** (evidence["blocks"] - 1))
    assert "add residual" not in finding.remedy


def test_parameter_with_nan_gradient_is_not_without_gradient() -> None:
    net = plain()
    net.linear("fc", gradient=math.nan, weight={"gradient": math.nan})
    assert net.codes() == ["UG405"]


@pytest.mark.parametrize("trap", [
    {"trainable": False, "gradient": None},
    {"gradient": 0.0, "role": "bias", "name": "fc0.extra"},
])  # fmt: skip
def test_parameters_that_need_no_gradient(trap: dict) -> None:
    net = plain()
    net.parameter(trap.pop("name", "frozen.weight"), **trap)
    assert net.codes() == []


def test_parameters_unblocked_after_one_step_are_fine() -> None:
    net = (
        plain()
        .linear("branch.conv", weight={"gradient": 0.0})
        .fact(unblocked=["branch.conv.weight", "branch.conv.bias"])
    )
    assert net.codes() == []


def test_everything_without_gradient_is_an_error() -> None:
    net = Net()
    for i in range(3):
        net.linear(f"fc{i}", gradient=0.0, weight={"gradient": 0.0})
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.severity) == ("UG403", "error")


def test_gradient_that_breaks_on_the_way_back() -> None:
    net = Net().input().linear("fc1", gradient=math.nan, weight={"gradient": math.nan})
    net.layer("norm", "other", gradient=math.nan).linear("head", output=True).classifier()
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.site) == ("UG405", "norm")


def test_one_overflow_of_loss_scaling_in_training_is_no_alarm() -> None:
    def net(values: list[float]) -> Net:
        net = Net(mode="training", steps=4).linear("fc").linear("head", output=True)
        net.put("parameter_gradient", "late.weight", [{"nonfinite": v} for v in values], position=9)
        return net

    assert net([0, 1, 0, 1]).codes() == []
    assert net([0, 0, 1, 1]).codes() == ["UG405"]


def trained(*ratios: float, optimizer: str = "SGD", lr: float = 0.1, steps: int = 5, **more) -> Net:
    net = Net(steps=steps)
    for i, ratio in enumerate(ratios):
        net.linear(f"fc{i}", weight={"ratio": ratio, **more})
    return net.linear("head", output=True).fact(optimizer={"name": optimizer, "lr": [lr]})


@pytest.mark.parametrize(("ratio", "found"), [
    (-0.5, [("UG501", "error")]),
    (-1.5, [("UG501", "warning")]),
    (-2.1, []), (-3.0, []), (-3.9, []),
    (-4.5, [("UG502", "warning")]),
])  # fmt: skip
def test_size_of_the_updates(ratio: float, found: list) -> None:
    findings = trained(ratio, ratio, ratio - 0.3, ratio + 0.3).diagnose().findings
    assert [(f.code, f.severity) for f in findings] == found


def test_prescribed_learning_rate_gives_a_thousandth() -> None:
    assert "from 0.1 to about 0.00316" in trained(-1.5, -1.5, -1.5).diagnose().findings[0].remedy
    assert "from 0.1 to about 10" in trained(-5.0, -5.0, -5.0).diagnose().findings[0].remedy


def test_first_steps_of_adam_are_not_judged() -> None:
    diagnosis = trained(-1.5, -1.5, optimizer="AdamW", steps=5).diagnose()
    assert diagnosis.findings == ()
    assert "full-sized" in diagnosis.abstained["UG501"]
    assert trained(-1.0, -1.0, optimizer="AdamW", steps=12).codes() == ["UG501"]


def test_adam_on_a_repeated_batch_is_granted_the_steps_that_noise_would_shorten() -> None:
    assert trained(-1.5, -1.5, optimizer="Adam", steps=12).codes() == ["ug501"]  # said, for information
    assert trained(-2.5, -2.5, optimizer="Adam", steps=12).codes() == []
    assert trained(-1.5, -1.5, optimizer="SGD", steps=12).codes() == ["UG501"]


def test_warm_up_from_zero_abstains() -> None:
    diagnosis = trained(-math.inf, -math.inf, lr=0.0).diagnose()
    assert diagnosis.findings == ()
    assert diagnosis.abstained["UG502"] == "the learning rate is zero"


def test_weights_that_began_at_zero_have_no_say() -> None:
    assert trained(0.5, 0.5, 0.5, absmax=0.0).codes() == []


def test_uneven_updates() -> None:
    net = trained(-3.0, -3.1, -2.9, -3.0, -0.5)
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.site) == ("UG503", "fc4.weight")
    assert trained(-3.0, -3.1, -2.9, -3.0, -1.5).codes() == []


def test_uneven_updates_must_be_sustained() -> None:
    jump: list = [-3.0, -0.5, -3.0, -0.5, -3.0]
    assert trained(-3.0, -3.1, -2.9, -3.0, jump).codes() == []  # type: ignore[arg-type]


def test_a_step_of_whose_updates_nothing_is_known_is_left_out() -> None:
    """NumPy warned of a column of NaN: the ratios of a step at which everything overflowed."""
    series: list = [[-3.0, math.nan, -3.0, -3.0], [-3.1, math.nan, -3.1, -3.1], [-2.9, math.nan, -2.9, -2.9],
                    [-3.0, math.nan, -3.0, -3.0], [-0.5, math.nan, -0.5, -0.5]]  # fmt: skip
    (finding,) = trained(*series, steps=4).diagnose(select=["UG503"]).findings
    assert finding.site == "fc4.weight"


def test_scaled_down_head_and_embeddings_may_update_at_their_own_rate() -> None:
    net = trained(-3.0, -3.1, -2.9, -3.0)
    net.parameter("wte", role="embedding", ratio=-6.0).linear("last", output=True, weight={"ratio": -0.5})
    net.record.set_meta("facts", net.fact(output={"site": "last"}).facts)
    assert net.codes(select=["UG503"]) == []


@pytest.mark.parametrize(
    ("subtracts", "codes"), [("channel", ["ug601"]), ("group", []), ("layer", []), (None, [])]
)
def test_bias_before_a_norm(subtracts: str | None, codes: list[str]) -> None:
    assert Net().linear("conv").norm("norm", subtracts).linear("head", output=True).codes() == codes


def test_bias_that_also_goes_elsewhere_is_needed() -> None:
    net = Net().linear("conv").norm("bn").layer("skip", "other", inputs=["conv"]).linear("head", output=True)
    assert net.codes() == []
    assert Net().linear("conv", bias=False).norm("bn").linear("head", output=True).codes() == []
