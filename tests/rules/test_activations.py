"""UG301 to UG306: each fires on its defect at several strengths, and is silent on what only looks like it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from build import Net, plain
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("gain", "codes"),
    [(0.1, ["UG301"]), (0.6, ["UG301"]), (0.8, []), (1.0, []), (1.3, []), (1.6, ["UG302"]), (9, ["UG302"])],
)
def test_steady_change_of_scale(gain: float, codes: list[str]) -> None:
    assert plain(depth=8, gain=gain).codes() == codes


def test_severity_grows_with_the_change_and_the_message_names_both_ends() -> None:
    assert [plain(depth=8, gain=g).diagnose().findings[0].severity for g in (0.6, 0.2)] == [
        "warning",
        "error",
    ]
    finding = plain(depth=8, gain=0.5).diagnose().findings[0]
    assert "128-fold" in finding.message
    assert "fc0" in finding.message
    assert "fc7" in finding.message
    assert "by 2 " in finding.remedy


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-6, 1e6), gain=st.sampled_from([0.3, 1.0, 2.5]))
def test_trend_does_not_depend_on_the_overall_scale(scale: float, gain: float) -> None:
    def net(factor: float) -> Net:
        net = Net().input()
        for i in range(6):
            net.linear(f"fc{i}", rms=factor * gain**i)
        return net.linear("head", output=True)

    assert net(scale).codes(select=["UG301", "UG302"]) == net(1.0).codes(select=["UG301", "UG302"])


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(list(range(6))))
def test_order_in_which_sites_were_added_does_not_matter(order: list[int]) -> None:
    net = Net()
    for i in order:
        net.position = i
        net.linear(f"fc{i}", rms=0.4**i, inputs=[])
    (finding,) = net.diagnose(select=["UG301"]).findings
    assert finding.evidence["first_site"] == "fc0"


def test_alternating_scales_of_transformer_blocks_are_no_trend() -> None:
    net = Net()
    for i in range(12):
        for j, rms in enumerate((0.55, 0.04, 0.6, 0.07)):
            net.linear(f"block{i}.{j}", rms=rms * math.sqrt(1 + i))
    assert net.codes(select=["UG3"]) == []


def test_embeddings_of_deviation_002_before_a_layernorm_are_no_explosion() -> None:
    net = Net().layer("wte", "embedding", rms=0.02).layer("drop", "dropout", rms=0.02).norm("ln", "layer")
    for i in range(6):
        net.linear(f"fc{i}", rms=0.5)
    assert net.codes() == []


def test_zero_initialized_branch_ends_and_small_heads_do_not_make_a_trend() -> None:
    net = Net()
    for i in range(8):
        net.linear(f"b{i}.conv1").linear(f"b{i}.conv2", rms=0.0, absmax=0.0)
    assert net.linear("head", rms=1e-4, output=True).codes(select=["UG3"]) == []


def test_squeeze_and_excite_gates_of_pooled_noise_do_not_make_a_trend() -> None:
    net = Net()
    for i in range(10):
        net.linear(f"b{i}.conv", shape=(32, 8, 8))
        net.linear(f"b{i}.reduce", shape=(8, 1, 1), rms=0.001 * 3**i).linear(
            f"b{i}.expand", shape=(32, 1, 1), rms=0.001 * 3**i
        )
    net.linear("last", shape=(32, 8, 8))
    assert net.codes(select=["UG3"]) == []


def test_gentle_drift_through_a_very_deep_network_is_fine_until_it_is_far() -> None:
    assert plain(depth=60, gain=0.94, back=1.07).codes() == []
    drifting = plain(depth=160, gain=0.94).diagnose()
    assert [(f.code, f.severity) for f in drifting.findings] == [("UG301", "warning")]


def test_average_pooling_of_noise_is_no_vanishing_signal() -> None:
    """What normalizer-free networks with pooled shortcuts show on random images, and not on real ones."""
    net, rms = Net(), 1.0
    for i in range(6):
        net.linear(f"conv{i}", rms=rms)
        rms *= 0.5
        net.layer(f"pool{i}", "pool", rms=rms)
    assert net.linear("head", output=True).codes() == []


def test_units_held_down_by_a_common_bias_are_dead_but_random_biases_are_chance() -> None:
    def net(bias_std: float) -> Net:
        net = Net().linear("fc0").act("relu0").linear("fc1", rms=1.0).act("relu1", dead=10)
        site = net.record.site("parameter", "fc1.bias")
        assert site is not None
        net.record.add_scalars(0, {site.id: {"std": bias_std, "max": 3.0, "absmax": 3.0}})
        return net.linear("head", output=True)

    assert net(bias_std=0.01).codes() == ["UG304"]
    assert net(bias_std=0.95).codes() == []


def test_three_layers_in_steady_growth_or_fall_are_not_called_healthy() -> None:
    assert plain(depth=3, gain=0.1).codes() == ["UG301"]
    assert plain(depth=3, gain=10).codes() == ["UG302"]
    assert plain(depth=3, gain=2.5).codes() == []


def test_growth_by_half_from_layer_to_layer_is_named_before_it_is_tenfold() -> None:
    assert plain(depth=5, gain=1.6).codes() == ["UG302"]
    assert plain(depth=5, gain=1.3).codes() == []


def test_one_jump_among_three_layers_is_no_trend() -> None:
    net = Net().linear("fc0", rms=1.0).linear("fc1", rms=1.1).linear("fc2", rms=40.0)
    assert net.linear("head", output=True).codes() == []


def test_scale_that_could_not_be_judged_is_said_in_the_verdict() -> None:
    diagnosis = plain(depth=2, gain=0.01).diagnose()
    assert "scale over depth not judged: fewer than three comparable layers" in diagnosis.verdict
    assert "scale over depth" not in plain(depth=2, gain=0.01).diagnose(ignore=["UG3"]).verdict


def test_default_initialization_of_a_few_layers_is_for_information_only() -> None:
    def net(depth: int, std: float) -> Net:
        net = Net()
        for i in range(depth):
            net.linear(f"fc{i}", rms=0.4**i, weight={"std": std})
        return net.linear("head", output=True)

    default = 1 / math.sqrt(3 * 32)
    assert net(3, default).codes() == []
    assert net(5, default / 2).codes() == ["UG301"]
    assert net(5, default).codes() == ["ug301"]
    assert net(7, default).codes() == ["UG301"]  # 240-fold: deep enough to matter


def residual(blocks: int = 6, skip: float = 1.0, branch: float = 0.0, depth: int = 1) -> Net:
    """A stream of rms 1 that each block multiplies by skip, adding branch times what enters."""
    net, rms = Net(), 1.0
    for i in range(blocks):
        for j in range(depth):
            net.linear(f"blocks.{i}.fc{j}", rms=branch * rms or 0.1)
        net.layer(f"blocks.{i}.end", "linear", rms=branch * rms or 0.1, attributes={"block": "branch"})
        rms *= math.hypot(skip, branch)
        net.layer(f"blocks.{i}", "block", rms=rms)
    return net


def test_residual_stream_that_multiplies_is_named_with_what_multiplies_it() -> None:
    (finding,) = residual(skip=3.0).linear("head", output=True).diagnose(select=["UG302"]).findings
    assert (finding.code, finding.site) == ("UG302", "blocks.0")
    assert "243-fold over 6 blocks (times 3 per block)" in finding.message
    assert "skip path itself multiplies the stream by about 3" in finding.cause
    (finding,) = residual(branch=2.0).linear("head", output=True).diagnose(select=["UG302"]).findings
    assert "about 2 times the stream" in finding.cause
    assert "branch's output by about 0.204" in finding.remedy  # 1 / (2 sqrt(6))


def test_residual_stream_that_grows_like_the_root_of_depth_is_fine() -> None:
    net = Net()
    for i in range(40):
        net.layer(f"blocks.{i}.end", "linear", attributes={"block": "branch"})
        net.layer(f"blocks.{i}", "block", rms=math.sqrt(i + 2))
    assert net.linear("head", output=True).codes() == []


def test_no_factor_for_each_layer_is_prescribed_in_a_residual_network() -> None:
    net = Net()
    for i in range(8):
        net.linear(f"a{i}", rms=2.0**i).layer(f"b{i}", "linear", rms=2.0**i, attributes={"block": "branch"})
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.code == "UG302"
    assert "gain of one" not in finding.remedy
    assert "1/sqrt(8)" in finding.remedy


def test_units_that_die_in_a_growing_stream_are_a_consequence() -> None:
    net = residual(branch=3.0).linear("fc").act("relu", dead=20).linear("head", output=True)
    (finding,) = net.diagnose().findings
    assert finding.code == "UG607"
    assert {line[:5] for line in finding.consequences} == {"UG302", "UG304"}


def test_cause_is_as_severe_as_the_worst_that_it_explains() -> None:
    net = plain(depth=3, gain=8.0).classifier(10, loss=500.0, rms=300.0)
    net.record.add_scalars(0, {net.record.site("activation", "head").id: {"rms": 300.0}})
    (finding,) = net.diagnose().findings
    assert (finding.code, finding.severity) == ("UG302", "error")
    assert plain(depth=3, gain=8.0).diagnose().findings[0].severity == "warning"


@pytest.mark.parametrize(("function", "advice"), [
    ("exp", "overflows"), ("__rdiv__", "denominator"), ("div_", "denominator"), ("log", "argument of log"),
    ("sqrt", "negative"), ("softmax", "minus infinity"), ("frobnicate", "arguments of frobnicate"),
])  # fmt: skip
def test_function_that_makes_nan_gets_its_own_advice(function: str, advice: str) -> None:
    net = Net().linear("a").linear("b", nonfinite=1.0, output=True).classifier(loss=math.nan)
    net.record.set_meta("breaks", [{"function": function, "module": "block", "position": 1}])
    finding = net.diagnose().findings[0]
    assert advice in finding.remedy
    assert not any(v.endswith(",") for v in finding.evidence.values() if isinstance(v, str))
    assert ", makes NaN" in finding.cause
    assert "called in block" in finding.cause


def test_softmax_over_nothing_but_minus_infinity_is_blamed_on_the_mask() -> None:
    net = Net().linear("q").layer("softmax", "softmax", nonfinite=1.0).linear("head", output=True)
    finding = net.classifier(loss=math.nan).diagnose().findings[0]
    assert "mask" in finding.cause
    assert "mask" in finding.remedy


def test_chance_in_the_message_is_that_of_the_layer_it_names() -> None:
    net = Net().linear("fc0").act("relu0", cosine=0.97).linear("fc1", cosine=0.97).act("relu1", dead=24)
    net.linear("fc2", cosine=0.1).act("relu2", cosine=0.1).linear("fc3").act("relu3", dead=30)
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.site == "relu3"  # the worst, not the first
    assert "which chance does not explain" in finding.message


@pytest.mark.parametrize(
    ("fraction", "severity"), [(0.1, None), (0.149, None), (0.24, "info"), (0.3, "warning"), (0.7, "error")]
)
def test_saturated_tanh(fraction: float, severity: str | None) -> None:
    net = (
        Net()
        .input()
        .linear("fc", std=9.0)
        .act("tanh", "tanh", saturated=fraction)
        .linear("head", output=True)
    )
    assert [f.severity for f in net.diagnose().findings] == ([severity] if severity else [])


def test_saturated_layers_are_one_finding_with_the_factor_to_apply() -> None:
    net = Net().input()
    for i in range(4):
        net.linear(f"fc{i}", std=8.0).act(f"tanh{i}", "tanh", saturated=0.3 + i / 10)
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.site == "tanh0"
    assert finding.severity == "error"
    assert list(finding.evidence["sites"]) == ["tanh0", "tanh1", "tanh2", "tanh3"]
    assert "fc0.weight by 0.125" in finding.remedy


def test_outputs_gates_and_softmax_may_saturate() -> None:
    net = Net().linear("fc").act("gate", "sigmoid", saturated=0.9).linear("fc2", inputs=["fc"])
    net.layer("softmax", "softmax", saturated=0.9, attributes={"bounds": [0, 1]})
    net.linear("fc3").act("out", "tanh", saturated=0.9, output=True)
    assert net.codes() == []


def test_sigmoid_that_feeds_a_layer_is_no_gate() -> None:
    net = Net().linear("fc").act("sigmoid", "sigmoid", saturated=0.9).linear("head", output=True)
    assert net.codes() == ["UG303"]


@pytest.mark.parametrize(
    ("dead", "severity"), [(0, None), (3, None), (8, "warning"), (20, "error"), (32, "error")]
)
def test_dead_units(dead: int, severity: str | None) -> None:
    net = Net().input().linear("fc1").act("relu1").linear("fc2", mean=-6.0).act("relu2", dead=dead)
    findings = net.linear("head", output=True).diagnose().findings
    assert [(f.code, f.severity, f.site) for f in findings] == (
        [("UG304", severity, "relu2")] if severity else []
    )


@pytest.mark.parametrize("examples", [1, 4])
def test_one_example_or_four_cannot_tell_dead_from_sparse(examples: int) -> None:
    diagnosis = Net(examples=examples).linear("fc").act("relu", dead=31).linear("head").diagnose()
    assert diagnosis.findings == ()
    assert "too few examples" in diagnosis.abstained["UG304"]


def test_small_batch_of_feature_maps_is_enough_where_a_batch_of_vectors_is_not() -> None:
    def net(shape: tuple[int, ...]) -> Net:
        return Net(examples=8).linear("conv", shape=shape).act("relu", shape=shape, dead=20).linear("head")

    assert net((32, 14, 14)).codes() == ["UG304"]
    assert net((32,)).codes() == []


def test_half_zero_relu_is_not_dead() -> None:
    assert plain().codes() == []


def test_units_off_because_all_examples_look_alike_are_not_dead() -> None:
    alike = Net().linear("fc0").act("relu0", cosine=0.97).linear("fc1", cosine=0.97).act("relu1", dead=9)
    assert alike.linear("head").codes() == []
    apart = Net().linear("fc0").act("relu0", cosine=0.3).linear("fc1", cosine=0.97).act("relu1", dead=9)
    assert apart.linear("head").codes() == ["UG304"]


def test_chance_of_being_off_agrees_with_simulation() -> None:
    from unitgain.rules._view import View
    from unitgain.rules.ug304_dead_units import off_by_chance

    generator = np.random.default_rng(0)
    for cosine in (0.0, 0.5, 0.9):
        net = Net(examples=8).linear("fc0").act("relu0", cosine=cosine).linear("fc1").act("relu1")
        view = View(net.record)
        expected = off_by_chance(view, view.activations[-1], steps=1)
        common, own = generator.normal(size=(20000, 1)), generator.normal(size=(20000, 8))
        simulated = np.mean(np.all(math.sqrt(cosine) * common + math.sqrt(1 - cosine) * own < 0, axis=1))
        assert abs(expected - simulated) < 0.015


def test_zero_initialized_branch_makes_no_dead_units() -> None:
    assert Net().linear("conv", absmax=0.0, rms=0.0).act("relu", dead=32).linear("head").codes() == []


def test_first_site_with_nan_is_named_and_explains_loss_and_gradient() -> None:
    net = Net().input().linear("fc1").act("relu1").linear("fc2", nonfinite=1.0, weight={"gradient": math.nan})
    net.act("relu2", nonfinite=1.0).linear("head", nonfinite=1.0, output=True, gradient=math.nan)
    (finding,) = net.classifier(loss=math.nan).diagnose().findings
    assert (finding.code, finding.site) == ("UG306", "fc2")
    assert [line[:5] for line in finding.consequences] == ["UG104", "UG405"]


def test_weights_with_nan_are_named() -> None:
    net = Net().input().linear("fc", nonfinite=1.0, weight={"nonfinite": 0.1}).classifier(loss=math.nan)
    assert "fc.weight" in net.diagnose().findings[0].cause


def test_masked_scores_of_minus_infinity_are_no_alarm() -> None:
    net = Net().linear("q").layer("mask", "other", nonfinite=0.4).layer("softmax", "softmax").linear("head")
    assert net.classifier().codes() == ["ug306"]


def test_overflow_after_growth_is_a_consequence_of_the_growth() -> None:
    net = Net()
    for i in range(6):
        net.linear(f"fc{i}", rms=1e5**i)
    net.linear("fc6", nonfinite=1.0).linear("head", nonfinite=1.0, output=True).classifier(loss=math.nan)
    (finding,) = net.diagnose().findings
    assert finding.code == "UG302"
    assert {line[:5] for line in finding.consequences} == {"UG306", "UG104"}


def test_units_of_a_layer_fed_with_nan_are_not_called_dead() -> None:
    net = Net().input().linear("fc", nonfinite=1.0, weight={"nonfinite": 0.1})
    net.act("relu", nonfinite=1.0, dead=32).linear("head", nonfinite=1.0, output=True).classifier(
        loss=math.nan
    )
    assert net.codes() == ["UG306"]


def test_head_with_the_same_gain_as_the_exploding_layers_is_no_second_finding() -> None:
    net = plain(depth=8, gain=4.0)
    net.record.add_scalars(0, {net.record.site("activation", "head").id: {"rms": 4.0**8, "absmax": 4.0**9}})
    (finding,) = net.classifier(10, loss=1e5, rms=4.0**8).diagnose().findings
    assert finding.code == "UG302"
    assert finding.consequences[0].startswith("UG101")
