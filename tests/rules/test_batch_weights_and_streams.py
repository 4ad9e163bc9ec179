"""UG305, UG307, UG404, UG406 and UG602 to UG607 over synthetic records: each fires on its defect and is silent on
what only looks like it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from build import Net, plain

from unitgain.record import Record
from unitgain.rules import CATALOGUE
from unitgain.rules.ug605_wrong_gain import PLAIN


def stream(
    variances: list[float], shape: tuple[int, ...] = (32, 8, 8), norm: str | None = None, **more: list[Any]
) -> Net:
    """Residual blocks with these variances at their ends; more: statistics per block."""
    net = Net().input()
    for i, variance in enumerate(variances):
        rms = math.sqrt(variance)
        net.linear(f"b{i}.conv", shape=shape, inputs=[net.last] if net.last else [])
        net.record.site("activation", f"b{i}.conv").attributes["block"] = "branch"  # type: ignore[index,union-attr]
        row = {name: values[i] for name, values in more.items()}
        net.layer(f"b{i}", "block", shape=shape, rms=rms, std=rms, **row)
    if norm:
        net.norm("norm", norm, shape=shape)
    return net.linear("head", output=True)


# ---- UG607 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variances", "severity"),
    [
        ([2.0**i for i in range(6)], "warning"),
        ([8.0**i for i in range(8)], "error"),
        ([1.0 + i for i in range(24)], None),
        ([1.0] * 12, None),
        ([0.01, 1.0, 2.0, 3.0, 4.0, 5.0], None),
        ([1.4**i for i in range(6)], None),
    ],
    ids=["doubling", "eightfold", "adding up", "flat", "small embedding", "little in all"],
)
def test_streams_that_multiply_and_streams_that_add_up(variances: list[float], severity: str | None) -> None:
    found = stream(variances).diagnose(select=["UG607"]).findings
    assert [(f.code, f.severity) for f in found] == ([("UG607", severity)] if severity else [])


def test_stages_that_begin_anew_do_not_multiply() -> None:
    net = Net().input()
    for stage in range(4):
        for i in range(2):
            net.linear(f"s{stage}.{i}.conv", shape=(8 * 2**stage, 4, 4))
            net.record.site("activation", f"s{stage}.{i}.conv").attributes["block"] = "branch"  # type: ignore[index,union-attr]
            net.layer(f"s{stage}.{i}", "block", shape=(8 * 2**stage, 4, 4), rms=math.sqrt(1 + i))
    assert net.linear("head", output=True).codes(select=["UG607"]) == []


def test_growing_stream_is_one_finding_and_names_the_blocks() -> None:
    net = Net().input()
    for i in range(8):
        rms = 2.0**i
        net.linear(f"b{i}.conv", rms=rms, std=rms)
        net.record.site("activation", f"b{i}.conv").attributes["block"] = "branch"  # type: ignore[index,union-attr]
        net.layer(f"b{i}", "block", rms=rms, std=rms)
    (finding,) = net.linear("head", output=True).diagnose().findings
    assert finding.code == "UG607"
    assert any(line.startswith("UG302") for line in finding.consequences)


# ---- UG305 -----------------------------------------------------------------------------------------------------


def shifted(shift: list[float], **more: Any) -> list[str]:
    net = stream([1.0] * len(shift), sq_channel_mean=shift, channel_var=[1.0] * len(shift), **more)
    return net.codes(select=["UG305"])


def test_mean_that_the_blocks_build_up_is_a_warning_and_is_moot_before_a_norm() -> None:
    assert shifted([0.5, 1.2, 2.0, 3.0, 4.0]) == ["UG305"]
    assert shifted([0.5, 1.2, 2.0, 3.0, 4.0], norm="channel") == ["ug305"]
    assert shifted([0.5, 1.2, 2.0, 3.0, 4.0], norm="layer") == ["ug305"]
    assert shifted([0.5, 3.0, 6.0, 9.0, 12.0], norm="layer") == ["UG305"]


@pytest.mark.parametrize(
    "shift", [[0.3, 0.6, 1.0, 0.9, 0.8], [5.5, 3.0, 0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 3.0], [0.9] * 4]
)
def test_one_stage_behind_max_pooling_or_a_class_token_is_no_mean_shift(shift: list[float]) -> None:
    assert shifted(shift) == []


def test_mean_that_was_there_before_the_blocks_is_for_information() -> None:
    assert shifted([3.0, 3.0, 3.1, 3.2]) == ["ug305"]


# ---- UG307 -----------------------------------------------------------------------------------------------------


def alike(cosines: list[float], **options: Any) -> Net:
    net = Net(**options).input(shape=(20,))
    for i, cosine in enumerate(cosines):
        net.linear(f"fc{i}", cosine=cosine).act(f"act{i}", "tanh", cosine=cosine)
    return net


@pytest.mark.parametrize(
    ("cosines", "codes"),
    [
        ([0.2, 0.6, 0.95, 0.9995, 0.99999], ["UG307"]),
        ([0.2, 0.6, 0.9, 0.97, 0.993], ["ug307"]),
        ([0.2, 0.5, 0.7, 0.9, 0.98], []),
        ([0.2, 0.9999, 0.9999, 0.5], []),
    ],
    ids=["collapse", "near", "slow growth", "recovers"],
)
def test_examples_that_become_alike(cosines: list[float], codes: list[str]) -> None:
    assert alike(cosines).linear("head", output=True).codes(select=["UG307"]) == codes


def test_large_bias_is_named() -> None:
    net = alike([0.2, 0.3])
    net.linear("fc", cosine=0.9999, rms=10.0, weight={"rms": 9.8}).linear("fc2", cosine=0.9999)
    (finding,) = net.linear("head", output=True).diagnose(select=["UG307"]).findings
    assert finding.site == "fc"
    assert "fc.bias" in finding.cause


def test_alike_examples_before_a_norm_over_the_batch_and_alike_inputs_are_fine() -> None:
    net = alike([0.2, 0.95, 0.9999, 0.9999]).norm("bn").linear("head", output=True)
    assert net.codes(select=["UG307"]) == []
    net = Net().input(cosine=0.98)
    for i in range(4):
        net.linear(f"fc{i}", cosine=0.9999)
    assert net.linear("head", output=True).codes(select=["UG307"]) == []


def test_class_token_that_all_examples_share_is_no_collapse() -> None:
    net = stream([1.0] * 6, shape=(16, 32), cosine=[0.1] * 6)
    for i in range(2):
        net.layer(f"token{i}", "block", shape=(1, 32), cosine=1.0)
    assert net.linear("head", output=True).codes(select=["UG307"]) == []
    assert stream([1.0] * 4, cosine=[0.2, 0.3, 0.99999, 0.99999]).codes(select=["UG307"]) == ["UG307"]


# ---- UG404 and UG406 ---------------------------------------------------------------------------------------------


def with_ratios(ratios: dict[str, float]) -> Net:
    net = plain(depth=6)
    for name, ratio in ratios.items():
        site = net.record.site("parameter_gradient", name)
        assert site is not None
        net.record.add_scalars(0, {site.id: {"ratio": ratio, "absmax": 0.01, "nonfinite": 0.0}})
    return net


@pytest.mark.parametrize(
    ("away", "codes"), [(0.9, []), (1.3, ["ug404"]), (-1.3, ["ug404"]), (2.2, ["UG404"]), (-2.2, ["UG404"])]
)
def test_one_weight_whose_gradient_is_unlike_its_peers(away: float, codes: list[str]) -> None:
    ratios = {f"fc{i}.weight": -1.0 for i in range(6)} | {"fc2.weight": -1.0 + away}
    net = with_ratios(ratios)
    assert net.codes(select=["UG404"]) == codes
    if codes:
        assert net.diagnose(select=["UG404"]).findings[0].site == "fc2.weight"


def test_queries_and_gates_are_compared_with_their_own_kind() -> None:
    net = Net().input()
    for i in range(5):
        for name, ratio in (("q", -3.5), ("v", -1.0)):
            net.linear(f"layer.{i}.{name}", bias=False)
            site = net.record.site("parameter_gradient", f"layer.{i}.{name}.weight")
            assert site is not None
            net.record.add_scalars(0, {site.id: {"ratio": ratio, "absmax": 0.01}})
    assert net.linear("head", output=True).codes(select=["UG404"]) == []


def half_precision(underflow: float, dtype: str = "float16", kind: str = "gradient") -> list[str]:
    net = plain(depth=4).classifier(10, loss=2.3)
    for i in range(4):
        net.put(kind, f"half{i}", {"underflow": underflow, "rms": 1.0}, shape=(8, 8), dtype=dtype)
    return net.codes(select=["UG406"])


@pytest.mark.parametrize(("underflow", "codes"), [(0.0, []), (0.19, []), (0.3, ["UG406"]), (0.9, ["UG406"])])
@pytest.mark.parametrize(("dtype", "kind"), [("float16", "gradient"), ("float32", "parameter_gradient")])
def test_gradients_below_the_smallest_normal_number(
    underflow: float, codes: list[str], dtype: str, kind: str
) -> None:
    assert half_precision(underflow, dtype, kind) == codes


def test_tiny_probabilities_of_a_confident_softmax_in_float32_are_harmless() -> None:
    assert half_precision(0.9, "float32", "gradient") == []


# ---- UG602 to UG604 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "shape", "codes"),
    [
        (4, (32,), ["UG602"]),
        (8, (32,), ["ug602"]),
        (16, (32,), []),
        (2, (32, 7, 7), []),
        (2, (32, 1, 1), ["UG602"]),
    ],
)
def test_values_that_a_batch_norm_sees(examples: int, shape: tuple[int, ...], codes: list[str]) -> None:
    net = Net(examples=examples).linear("fc", shape=shape).norm("bn", shape=shape, module="BatchNorm2d")
    assert net.linear("head", output=True).codes(select=["UG602"]) == codes


def test_other_norms_need_no_batch() -> None:
    net = Net(examples=2).linear("fc").norm("norm", "channel", module="InstanceNorm1d")
    assert "no BatchNorm" in net.linear("head").diagnose().abstained["UG602"]


@pytest.mark.parametrize(
    ("momentum", "examples", "codes"),
    [(0.1, 16, []), (0.9, 16, ["UG602"]), (0.99, 64, ["UG602"]), (0.9, 1024, []), (None, 16, [])],
)
def test_momentum_in_the_other_libraries_meaning(
    momentum: float | None, examples: int, codes: list[str]
) -> None:
    net = Net(examples=examples).linear("fc").norm("bn", module="BatchNorm1d").linear("head", output=True)
    net.facts["batch_norms"] = [{"site": "bn", "momentum": momentum, "tracked": 0}]
    assert net.codes(select=["UG602"]) == codes


@pytest.mark.parametrize(
    ("gap", "factor", "tracked", "examples", "codes"),
    [
        (0.1, 1.1, 1000, 64, []),
        (2.0, 1.0, 1000, 64, ["UG604"]),
        (0.0, 5.0, 1000, 64, ["UG604"]),
        (2.0, 5.0, 0, 64, []),
        (2.0, 5.0, 10, 64, []),
        (1.2, 2.0, 1000, 4, []),
    ],
    ids=["fits", "mean", "variance", "fresh", "hardly trained", "noise of four examples"],
)
def test_running_statistics(gap: float, factor: float, tracked: int, examples: int, codes: list[str]) -> None:
    net = Net(examples=examples).linear("fc").norm("bn", module="BatchNorm1d").linear("head", output=True)
    row = {"mean_gap": gap, "log_variance": math.log(factor), "tracked": tracked, "momentum": 0.1}
    net.facts["batch_norms"] = [{"site": "bn", **row}]
    assert net.codes(select=["UG604"]) == codes


# ---- UG605 and UG606 ---------------------------------------------------------------------------------------------


def mlp(gains: list[float], function: str = "relu", norm: bool = False, scale: float | None = None) -> Net:
    """Layers with these gains, and the scale that follows from them."""
    net, rms = Net().input(shape=(32,)), 1.0
    for i, g in enumerate(gains):
        rms = rms * g if scale is None else scale
        net.linear(f"fc{i}", rms=rms, std=rms, weight={"rms": g / math.sqrt(32)})
        site = net.record.site("parameter", f"fc{i}.weight")
        assert site is not None
        site.attributes["fan_in"] = 32  # type: ignore[index]
        rms /= math.sqrt(2)
        net.act(f"act{i}", function, rms=rms)
    for m in range(len(gains)):
        site = net.record.site("activation", f"fc{m}")
        assert site is not None
        net.record._sites[site.id] = net.record._by_name["activation", site.name] = _as_module(site, "Linear")
    if norm:
        net.norm("ln", "layer")
    return net.linear("head", output=True)


def _as_module(site: Any, module: str) -> Any:
    from dataclasses import replace

    return replace(site, module=module)


@pytest.mark.parametrize(
    ("gains", "codes"),
    [
        ([1.0, 1.414, 1.414], []),
        ([1.414, 1.414, 1.414], []),
        ([0.577, 0.577], ["ug605"]),
        ([1.414, 1.414, 15.0], ["UG605"]),
        ([0.05, 1.414, 1.414], ["UG605"]),
        ([0.577], []),
    ],
    ids=["lecun first", "kaiming", "torch's default", "one large", "one small", "default, one layer"],
)
def test_gain_of_weights_before_relu(gains: list[float], codes: list[str]) -> None:
    assert mlp(gains).codes(select=["UG605"]) == codes


def test_gain_before_a_norm_or_with_the_right_output_is_no_matter() -> None:
    assert mlp([10.0, 10.0], norm="layer").codes(select=["UG605"]) == []
    assert mlp([0.01, 0.01], scale=1.0).codes(select=["UG605"]) == []


def test_gain_of_trained_weights_is_not_judged() -> None:
    net = mlp([10.0, 10.0])
    net.facts["batch_norms"] = [{"site": "bn", "tracked": 7}]
    assert "trained" in net.diagnose().abstained["UG605"]


def test_wrong_gain_everywhere_is_a_consequence_of_the_trend() -> None:
    (finding,) = mlp([0.4] * 10).diagnose(ignore=["UG306"]).findings
    assert finding.code == "UG301"
    assert any(line.startswith("UG605") for line in finding.consequences)


def test_standardized_weights_have_no_scale_of_their_own() -> None:
    assert not any("Std" in name for name in PLAIN)


def test_copies_in_the_output_layer_are_fine_and_few_copies_are_no_loss() -> None:
    net = plain()
    net.facts["same_units"] = {
        "head.weight": {"units": 32, "copies": 31, "learn_alike": 31},
        "fc1.weight": {"units": 32, "copies": 2, "learn_alike": 2},
    }
    assert net.codes(select=["UG606"]) == []
    net.facts["same_units"]["fc2.weight"] = {"units": 32, "copies": 31, "learn_alike": 31}
    (finding,) = net.diagnose(select=["UG606"]).findings
    assert (finding.severity, finding.site) == ("error", "fc2.weight")


# ---- all of them -------------------------------------------------------------------------------------------------

CODES = ["UG305", "UG307", "UG404", "UG406", "UG602", "UG603", "UG604", "UG605", "UG606", "UG607"]


@pytest.mark.parametrize("code", CODES)
def test_record_that_holds_nothing_of_use_is_abstained_from(code: str) -> None:
    from unitgain.rules import diagnose

    diagnosis = diagnose(Record(), select=[code])
    assert diagnosis.findings == ()
    assert code in diagnosis.abstained


@pytest.mark.parametrize("code", CODES)
def test_every_threshold_says_why_and_every_page_has_its_parts(code: str) -> None:
    entry = CATALOGUE[code]
    assert all(len(t.why) > 5 for t in entry.thresholds.values())
    assert entry.silent
    assert entry.source
