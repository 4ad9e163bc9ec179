"""Signal propagation: found in any residual network, measured as the papers do, beside what theory says."""

from __future__ import annotations

import copy
import io
from itertools import pairwise

import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain.report.spp import spp_curve


class PreActivation(nn.Module):
    """BN-ReLU-conv, He weights; the paper's example of a growing mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x):
        return x + self.conv(torch.relu(self.norm(x)))


class Scaled(nn.Module):
    """x + alpha f(x) with standardized weights, in-place everywhere, a skip gain, and dropout that must not count."""

    def __init__(self, width: int, beta: float, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width))
        self.skip_gain = nn.Parameter(torch.tensor(gain))
        self.drop = nn.Dropout(0.5)
        self.beta = beta

    def forward(self, x):
        rows = self.weight - self.weight.mean(1, keepdim=True)
        rows = rows / rows.norm(dim=1, keepdim=True)
        out = nn.functional.linear(torch.relu(x / self.beta) * 1.7128586, rows)
        out = self.drop(out).mul_(self.skip_gain).mul_(0.2)
        return out.add_(x)


class Twice(nn.Module):
    """Two sums in one module, as in a transformer; channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        x = x + self.a(self.norm(x))
        return (x + self.b(self.norm(x)),)


class Pairs(nn.Sequential):
    def forward(self, x):
        for block in self:
            (x,) = block(x)
        return x


def test_a_preactivation_network_grows_as_predicted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(PreActivation(256) for _ in range(4)))
    record = ug.spp(model, torch.randn(64, 256, 3, 3))
    curve = spp_curve(record)
    assert [p.name for p in curve.points] == ["stem", "0", "1", "2", "3"]
    share = 0.6817  # 1 - 1/pi: what a rectifier leaves of the second moment as variance
    for k, p in enumerate(curve.points):
        assert p.channel_var == pytest.approx(1 + share * k, rel=0.06)
        assert p.sq_channel_mean == pytest.approx((1 - share) * k, rel=0.25, abs=0.01)  # of 256 channels
        assert abs(p.deviation) < 0.04 or p.name == "stem"
    assert curve.points[1].branch_var == pytest.approx(share, rel=0.06)


def test_a_normalizer_free_network_grows_by_alpha_squared_and_the_branch_is_measured_before_it() -> None:
    model = nn.Sequential(*(Scaled(512, (1 + 0.04 * k) ** 0.5) for k in range(4)))
    curve = spp_curve(ug.spp(model, torch.randn(256, 512)))
    for k, p in enumerate(curve.points):
        assert p.channel_var == pytest.approx(1 + 0.04 * k, rel=0.06)
        if k:
            assert p.branch_var == pytest.approx(1, rel=0.1)
            assert p.predicted["branch_var"] == pytest.approx(1, rel=0.06)
            assert abs(p.deviation) < 0.05


def test_gains_that_start_at_zero_can_be_opened_and_are_zero_again() -> None:
    model = nn.Sequential(*(Scaled(64, 1.0, gain=0.0) for _ in range(2)))
    x = torch.randn(32, 64)
    closed, opened = (spp_curve(ug.spp(model, x, open_gains=flag)) for flag in (False, True))
    assert closed.points[2].channel_var == closed.points[0].channel_var
    assert opened.points[2].channel_var > 1.03 * closed.points[0].channel_var
    assert model[0].skip_gain.item() == 0
    block = PreActivation(8)
    nn.init.zeros_(block.norm.weight)
    assert spp_curve(ug.spp(nn.Sequential(block), torch.randn(8, 8, 4, 4))).silent_branches == 1


def test_every_sum_of_a_block_is_a_point_with_the_right_channels() -> None:
    record = ug.spp(Pairs(Twice(6), Twice(6)), torch.randn(4, 9, 6))
    assert [p.name for p in spp_curve(record).points] == ["stem", "0:add", "0", "1:add", "1"]
    assert {s.channel_axis for s in record.sites("activation") if s.name != "stem"} == {2}


def test_nothing_of_the_model_is_changed_even_when_it_raises() -> None:
    model = nn.Sequential(PreActivation(4), nn.BatchNorm2d(4), nn.Dropout())
    model[0].norm.eval()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    x = torch.randn(2, 4, 3, 3)
    torch.set_rng_state(state)
    ug.spp(model, x)
    with pytest.raises(
        InputError, match=r"the model raised RuntimeError in forward on inputs of shape \(2, 5, 3, 3\)"
    ):
        ug.spp(model, torch.zeros(2, 5, 3, 3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in (model, model[0], model[0].norm, model[2])] == [True, True, False, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_networks_without_layers_and_records_without_blocks_are_told() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(InputError, match="no layer with weights"):
        ug.spp(nn.ReLU(), torch.randn(2, 4))
    with pytest.raises(InputError, match="no residual block"):
        ug.plots.spp(ug.check(model, torch.randn(2, 4)).record)
    with pytest.raises(InputError, match=r"expected an nn\.Module"):
        ug.spp(3, torch.randn(2, 4))


def test_sums_of_unrelated_tensors_and_of_a_tensor_with_its_function_are_no_blocks() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, y):
            both = self.a(x) + self.b(y)  # two inputs: nothing in common
            return both + both**3  # no weights on either path: part of a gelu, say

    record = ug.spp(Sums(), (torch.randn(2, 4), torch.randn(2, 4), torch.zeros(2)))
    assert [site.name for site in record.sites("activation")] == ["a", "b"]


def test_a_network_without_residual_sums_is_measured_behind_each_layer(tmp_path) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.Tanh(), nn.Flatten(), nn.Linear(4096, 10),
    )  # fmt: skip
    seen: dict[str, float] = {}
    for name in ("1", "4", "7", "9"):
        model.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: seen.update(
                {name: float(out.movedim(1, 0).flatten(1).var(1, correction=0).mean())}
            )
        )
    x = torch.randn(32, 3, 16, 16)
    record = ug.spp(model, x)
    model.eval()
    model[6].train()
    with torch.no_grad():
        model(x)
    curve = spp_curve(record)
    assert [(p.name, p.transition) for p in curve.points] == [
        ("0", False),
        ("2", True),
        ("5", False),
        ("9", True),
    ]
    for point, end in zip(curve.points, ("1", "4", "7", "9")):
        assert abs(point.channel_var / seen[end] - 1) < 1e-3
    assert len(ug.plots.spp(record).axes) == 2  # there are no branches to show


def test_the_plot_needs_the_saved_record_only_and_overlays(tmp_path) -> None:
    records = []
    for number, block in enumerate((PreActivation, PreActivation)):
        path = tmp_path / f"{number}.sqlite"
        ug.spp(
            nn.Sequential(*(block(64) for _ in range(2 + number))), torch.randn(16, 64, 8, 8), to=path
        ).close()
        records.append(ug.Record.load(path))
    one = ug.plots.spp(records[0])
    assert [len(axes.get_lines()) for axes in one.axes] == [2, 2, 2]  # predicted, measured
    both = ug.plots.spp(records, labels=["two", "three"])
    texts = [t.get_text() for t in both.axes[0].get_legend().get_texts()]
    assert texts == ["two", "three", "predicted"]
    file = io.BytesIO()
    both.savefig(file, dpi=40)
    assert file.tell() > 1000
    with pytest.raises(InputError, match="1 labels for 2 records"):
        ug.plots.spp(records, labels=["one"])


def test_a_probes_record_of_a_residual_network_can_be_drawn() -> None:
    model = nn.Sequential(*(PreActivation(8) for _ in range(3)))
    record = ug.check(model, torch.randn(4, 8, 5, 5)).record
    assert [p.number for p in spp_curve(record).points] == [1, 2, 3]


@pytest.mark.reference
def test_timms_resnet50_gives_the_saw_tooth(torchvision_operators) -> None:
    import timm

    model = timm.create_model("resnet50", zero_init_last=False)
    curve = spp_curve(ug.spp(model, torch.randn(4, 3, 160, 160)))
    assert [p.name for p in curve.points if p.transition] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    by_name = {p.name: (p.sq_channel_mean, p.channel_var) for p in curve.points}
    expected = {
        "layer1.0": (0.32, 0.68), "layer1.1": (0.68, 1.00), "layer1.2": (1.07, 1.35), "layer2.0": (0.32, 0.68),
        "layer2.3": (1.50, 1.70), "layer3.5": (2.39, 2.43), "layer4.0": (0.32, 0.69), "layer4.2": (1.08, 1.38),
    }  # fmt: skip
    for name, pair in expected.items():
        assert by_name[name] == pytest.approx(pair, abs=0.05)
    assert max(abs(p.deviation) for p in curve.points[1:]) < 0.05


@pytest.mark.reference
def test_blocks_of_other_libraries_are_found(torchvision_operators) -> None:
    import timm
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

    nf = timm.create_model("nf_resnet26")
    curve = spp_curve(ug.spp(nf, torch.randn(2, 3, 64, 64), open_gains=True))
    assert len(curve.points) == 9
    assert max(abs(p.deviation) for p in curve.points[1:] if p.predicted) < 0.1  # was 1,418% off
    tokens = torch.randint(0, 11, (2, 5))
    small = {"n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 16}
    gpt = GPT2LMHeadModel(GPT2Config(**small, bos_token_id=0, eos_token_id=0))
    assert len(spp_curve(ug.spp(gpt, {"input_ids": tokens})).points) == 5
    bert = BertModel(
        BertConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=11
        )
    )
    names = [p.name for p in spp_curve(ug.spp(bert, {"input_ids": tokens})).points]
    assert names == ["stem", "encoder.layer.0.attention.output", "encoder.layer.0.output"]
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    assert len(spp_curve(ug.spp(nn.Sequential(layer), torch.randn(2, 5, 8))).points) == 3


class _Inverted(nn.Module):
    """MobileNetV2's block: linear at its end; a skip path only where nothing changes."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.BatchNorm2d(2 * channels), nn.ReLU6(),
            nn.Conv2d(2 * channels, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip = channels == out

    def forward(self, x):
        return x + self.layers(x) if self.skip else self.layers(x)


def _off(record) -> dict[str, float]:
    measured = dict(zip(record.frame("activation")["site"], record.frame("activation")["channel_var"]))
    predicted = record.meta["spp"]["predicted"]
    return {name: values["channel_var"] / measured[name] - 1 for name, values in predicted.items()}


def test_a_stream_starts_anew_where_a_block_has_no_skip_path() -> None:
    """EfficientNet's predictions were 57% off: they went on counting where blocks without a sum start new streams."""
    torch.manual_seed(0)
    widths = [64, 64, 64, 96, 96, 96, 128, 128]
    model = nn.Sequential(*(_Inverted(a, b) for a, b in pairwise(widths)))
    off = _off(ug.spp(model, torch.randn(16, 64, 6, 6)))
    assert len(off) == 2 * 5
    assert max(map(abs, off.values())) < 0.1


def test_plain_weight_standardization_before_a_group_norm_is_predicted_as_it_is() -> None:
    """Its rows have the norm sqrt(N), which is for the norm behind it: a variance of 1 was predicted, and was N."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.conv = nn.GroupNorm(4, 16), ug.nn.StdConv2d(16, 16, 3, padding=1)

        def forward(self, x):
            return x + self.conv(torch.relu(self.norm(x)))

    record = ug.spp(nn.Sequential(Block(), Block()), torch.randn(16, 16, 12, 12))
    off = _off(record)
    assert len(off) >= 3
    assert max(map(abs, off.values())) < 0.1


class _Pooled(nn.Module):
    """A transition as in a normalizer-free network: the shortcut is pooled, which nothing makes good."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool, self.skip = nn.AvgPool2d(2), ug.nn.ScaledStdConv2d(width, width, 1, gamma=1.0)
        self.branch = ug.nn.ScaledStdConv2d(width, width, 3, 2, 1, gamma=1.7128586)
        self.last = ug.nn.ScaledStdConv2d(width, width, 1, gamma=1.7128586)

    def forward(self, x):
        return self.skip(self.pool(x)) + 0.2 * self.last(torch.relu(self.branch(torch.relu(x))))


def test_the_step_that_costs_variance_is_named_first_with_the_factor_that_mends_it() -> None:
    record = ug.spp(nn.Sequential(_Pooled(64), _Pooled(64)), torch.randn(16, 64, 16, 16))
    why = record.meta["spp"]["why"]
    assert {w["node"] for w in why[:1]} == {"1.pool"}  # the first pool is given the data
    assert why[0]["what"] == "2x2 average pool"
    assert why[0]["ratio"] == pytest.approx(0.25, rel=0.1)
    assert why[0]["factor"] == pytest.approx(2, rel=0.05)
    assert "1.pool (2x2 average pool) divides the variance by" in spp_curve(record).why[0]


def test_the_branchs_share_of_the_stream_is_told() -> None:
    record = ug.spp(nn.Sequential(*(Scaled(256, 1.0) for _ in range(2))), torch.randn(256, 256))
    assert spp_curve(record).points[1].branch_to_stream == pytest.approx(0.04, rel=0.1)


def test_gradients_grow_backwards_as_predicted_and_have_a_panel() -> None:
    model = nn.Sequential(*(Scaled(256, (1 + 0.04 * k) ** 0.5) for k in range(4)))
    before = copy.deepcopy(model.state_dict())
    record = ug.spp(model, torch.randn(256, 256), backward=True)
    points = spp_curve(record).points
    for p in points[1:-1]:
        assert p.predicted["gradient"] == pytest.approx(p.gradient, rel=0.06)
    assert points[1].gradient > 1.05 * points[-1].gradient
    assert points[-1].gradient == pytest.approx(1, rel=0.05)
    assert len(ug.plots.spp(record).axes) == 4
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_layer_scale_next_to_zero_can_be_opened() -> None:
    """ConvNeXt's starts at 1e-6, not at 0, and stayed closed."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.gamma = nn.Linear(64, 64), nn.Parameter(torch.full((64,), 1e-6))

        def forward(self, x):
            return x + self.gamma * self.fc(x)

    model = nn.Sequential(Layer(), Layer())
    closed, opened = (
        spp_curve(ug.spp(model, torch.randn(64, 64), open_gains=flag)) for flag in (False, True)
    )
    assert closed.points[2].channel_var == pytest.approx(closed.points[0].channel_var, rel=1e-4)
    assert opened.points[2].channel_var > 1.3 * opened.points[0].channel_var


@pytest.mark.parametrize(
    ("variances", "scale"),
    [
        ([1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2], "linear"),
        ([1.0, 10.0, 1e2, 1e3, 1e4, 1e6, 1e8], "log"),  # it was linear again above 1,000: a flat line
        ([1.0, 1.2, 1.4, 1e-9, 1.6, 1.8, 2.0], "linear"),  # one block apart
    ],
)
def test_the_axis_is_logarithmic_where_blocks_differ_however_far(variances, scale) -> None:
    record = ug.Record()
    for position, var in enumerate([1e-6, *variances]):  # a small stem made it logarithmic
        place = "block" if position else "stem"
        site = record.add_site(
            "activation", f"b{position}", position=position, module=place, shape=(4, 8), channel_axis=1,
            attributes={"block": place, "role": "block"},
        )  # fmt: skip
        record.add_scalars(0, {site.id: {"channel_var": var, "sq_channel_mean": 0.0}})
    record.commit()
    assert ug.plots.spp(record).axes[1].get_yscale() == scale


def test_a_flag_that_is_no_flag_is_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match="backward: expected True or False, got 1"):
        ug.spp(nn.Linear(2, 2), torch.randn(2, 2), backward=1)  # type: ignore[arg-type]
