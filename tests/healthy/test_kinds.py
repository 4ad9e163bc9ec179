"""Kinds of false alarms that public networks showed: each on other networks, beside sick ones that look like it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architecture import digits, kinds, numbers, photos
from torch import Tensor, nn

import unitgain as ug
from unitgain.report import Report


class Net(nn.Module):
    """Parts by name and a function that runs them."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def alarms(report: Report, code: str = "UG") -> set[str]:
    return {f.code for f in report.findings if f.severity != "info" and f.code.startswith(code)}


def said(report: Report) -> set[str]:
    return {f.code for f in report.findings}


def labels(count: int = 128, classes: int = 5) -> Tensor:
    return torch.arange(count) % classes


# ---- UG201 -------------------------------------------------------------------------------------------------------


def divided(net: Net, x: Tensor) -> Tensor:
    return net.layers((x / 255 - 0.45) / 0.25)


def instance_normalized(net: Net, x: Tensor) -> Tensor:
    x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1e-5)
    return net.layers(x)


def raw(net: Net, x: Tensor) -> Tensor:
    return net.layers(x)


def halved(net: Net, x: Tensor) -> Tensor:
    return net.layers(x / 2)


@pytest.mark.parametrize(("run", "expected"), [
    (divided, set()), (instance_normalized, set()), (raw, {"UG201"}), (halved, {"UG201"}),
])  # fmt: skip
def test_what_a_model_normalizes_itself_is_normalized(run: Callable[..., Tensor], expected: set[str]) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5))
    x = (128 + 64 * photos(64, 3, 16)).clamp(0, 255)
    assert alarms(ug.check(Net(run, layers=layers), (x, labels(64))), "UG2") == expected


def test_what_another_network_made_cannot_be_normalized() -> None:
    generator = nn.Sequential(nn.Linear(8, 64), nn.Tanh())
    with torch.no_grad():
        generator[0].weight.mul_(0.05)
        generator[0].bias.zero_()
    z = torch.randn(128, 8)
    net = mlp(64, 32, 1)

    def step(net: nn.Module, z: Tensor) -> Tensor:
        return F.softplus(-net(generator(z))).mean()

    assert "UG201" not in alarms(ug.check(net, z, step=step))
    assert "UG201" in alarms(
        ug.check(net, (generator(z).detach(), torch.rand(128, 1).round()), "bce_with_logits")
    )


@pytest.mark.parametrize("make", [
    lambda: torch.poisson(torch.rand(128, 50) ** 4 * 2),
    lambda: (torch.rand(128, 50) < 0.02).float() / 7,
    lambda: digits(128, 12).flatten(1),
    lambda: (0.5 + 0.25 * torch.randn(128, 50)).clamp(0, 1),
], ids=["counts", "bags of words", "strokes", "pixels"])  # fmt: skip
def test_inputs_that_train_well_as_they_are_get_no_alarm(make: Callable[[], Tensor]) -> None:
    x = make()
    assert alarms(ug.check(mlp(x.shape[1], 32, 5), (x, labels())), "UG201") == set()


# ---- UG202 -------------------------------------------------------------------------------------------------------


def attention(net: Net, x: Tensor, allowed: Tensor) -> Tensor:
    q, k, v = net.qkv(x).chunk(3, -1)
    return net.out((torch.softmax(q @ k.transpose(1, 2) / 4 + allowed, -1) @ v).mean(1))


def features(net: Net, x: Tensor, more: Tensor) -> Tensor:
    return net.out((net.qkv(x)[..., :16] + more.transpose(1, 2)).mean(1))


@pytest.mark.parametrize(("run", "hole", "expected"), [
    (attention, -math.inf, set()), (attention, math.nan, {"UG202"}), (attention, math.inf, {"UG202"}),
    (features, -math.inf, {"UG202"}),
])  # fmt: skip
def test_minus_infinity_that_a_softmax_turns_into_zero_is_a_mask(
    run: Callable[..., Tensor], hole: float, expected: set[str]
) -> None:
    x, allowed = torch.randn(32, 10, 16), torch.zeros(32, 1, 10)
    allowed[torch.arange(10) >= 3 + torch.randint(8, (32, 1, 1))] = hole
    model = Net(run, qkv=nn.Linear(16, 48), out=nn.Linear(16, 4))
    assert alarms(ug.check(model, ((x, allowed), labels(32, 4))), "UG2") == expected
    allowed[:, :, 7:] = hole  # columns of nothing else
    assert bool(alarms(ug.check(model, ((x, allowed), labels(32, 4))), "UG2")) == bool(expected)


# ---- UG304 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("widths", [(10, 10), (20,), (64, 64), (8, 8, 8)])
def test_units_that_die_by_chance_on_few_columns_are_no_alarm(columns: int, widths: tuple[int, ...]) -> None:
    found = 0
    for seed in range(10):
        torch.manual_seed(seed)
        x = (torch.rand(200, columns) * 2 - 1) * 1.73
        found += "UG304" in alarms(ug.check(mlp(columns, *widths, 1), (x, numbers(x))))
    assert found == 0


@pytest.mark.parametrize("columns", [1, 2, 20])
def test_units_that_a_bias_holds_down_are_dead_however_narrow_the_input(columns: int) -> None:
    x = torch.randn(200, columns)
    net = mlp(columns, 32, 32, 1)
    with torch.no_grad():
        net[0].bias[:20] = -9.0
    assert "UG304" in alarms(ug.check(net, (x, numbers(x))))


def test_units_of_a_graph_network_whose_features_are_small_beside_its_biases_are_no_alarm() -> None:
    near = (torch.rand(150, 150) < 0.05).float() + torch.eye(150)
    near = near / near.sum(1, keepdim=True)
    x = (torch.rand(150, 100) < 0.05).float() / 5
    parts = {"one": nn.Linear(100, 16), "two": nn.Linear(16, 5)}
    model = Net(lambda net, x, a: net.two(a @ F.relu(a @ net.one(x))), **parts)
    assert alarms(ug.check(model, ((x, near), labels(150)))) == set()


def test_pooled_sets_whose_means_are_alike_have_no_dead_units() -> None:
    model = Net(lambda net, x: net.b(F.relu(net.a(x)).mean(1)), a=mlp(4, 64, 64), b=mlp(64, 64, 1))
    x = torch.randn(64, 10, 4)
    assert alarms(ug.check(model, (x, numbers(x)))) == set()
    with torch.no_grad():
        model.b[0].bias[:40] = -9.0
    assert "UG304" in alarms(ug.check(model, (x, numbers(x))))


# ---- UG404, UG307, UG102, UG101 ----------------------------------------------------------------------------------


def test_a_first_layer_of_two_coordinates_is_no_peer_of_wide_ones() -> None:
    class Wave(nn.Module):
        def __init__(self, a: int, b: int, bound: float):
            super().__init__()
            self.linear = nn.Linear(a, b)
            nn.init.uniform_(self.linear.weight, -bound, bound)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(30 * self.linear(x))

    waves = [Wave(2, 96, 1 / 2), *(Wave(96, 96, math.sqrt(6 / 96) / 30) for _ in range(4))]
    model = nn.Sequential(*waves, nn.Linear(96, 1))
    x = torch.rand(400, 2) * 2 - 1
    assert alarms(ug.check(model, (x, numbers(x)))) == set()


def test_one_number_for_each_example_has_no_direction_to_collapse() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.GRUCell(1, 24), nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            h, found = torch.zeros(len(x), 24), []
            for part in x.split(1, 1):
                h = self.cell(part, h)
                found.append(self.out(h))
            return torch.cat(found, 1)

    x = torch.sin(torch.rand(32, 1) * 6 + torch.arange(13)[None] / 3)
    assert alarms(ug.check(Unrolled(), (x[:, :-1], x[:, 1:]))) == set()


def test_a_product_whose_one_factor_begins_at_zero_is_no_constant_output() -> None:
    model = Net(
        lambda net, a, b: (net.u(a) * net.v(b)).sum(1), u=nn.Embedding(50, 16), v=nn.Embedding(50, 16)
    )
    nn.init.zeros_(model.v.weight)
    pair = torch.randint(50, (64,)), torch.randint(50, (64,))
    assert alarms(ug.check(model, (pair, torch.randint(2, (64,)).float()), "bce_with_logits")) == set()
    nn.init.zeros_(model.u.weight)  # now neither learns
    assert alarms(ug.check(model, (pair, torch.randint(2, (64,)).float()), "bce_with_logits"))


def test_counts_as_targets_are_no_distribution_that_costs_ln_c() -> None:
    x = torch.poisson(torch.rand(64, 40))
    model = nn.Sequential(nn.Linear(40, 40), nn.LogSoftmax(1))
    report = ug.check(model, (x, x), lambda out, y: -(out * y).sum(1).mean())
    assert "UG101" not in said(report)


def test_unlucky_labels_of_sixteen_examples_do_not_make_small_logits_confident() -> None:
    model, x = nn.Linear(10, 10), torch.randn(16, 10)
    draws = (torch.randint(10, (16,)) for _ in range(10_000))
    unlucky = next(y for y in draws if 2.8 < F.cross_entropy(model(x), y) < 2.95)
    assert "UG101" not in said(ug.check(model, (x, unlucky)))
    with torch.no_grad():
        model.weight.mul_(10)
    assert "UG101" in alarms(ug.check(model, (x, unlucky)))


# ---- updates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "lr"), [
    (torch.optim.Adadelta, 1.0), (torch.optim.Adam, 1e-2), (torch.optim.SGD, 0.1), (torch.optim.Adam, 5e-3),
])  # fmt: skip
@pytest.mark.parametrize("widths", [(8, 1), (8, 16, 1), (8, 32, 16, 1)])
def test_large_updates_under_which_the_loss_falls_are_for_information(
    optimizer: Any, lr: float, widths: tuple[int, ...]
) -> None:
    x = torch.randn(128, 8)
    report = ug.check(mlp(*widths), (x, numbers(x)), steps=20, optimizer=lambda p: optimizer(p, lr))
    assert alarms(report, "UG5") == set(), report


@pytest.mark.parametrize(
    ("optimizer", "lr"), [(torch.optim.SGD, 3.0), (torch.optim.Adam, 0.5), (torch.optim.SGD, 30.0)]
)
def test_large_updates_under_which_the_loss_jumps_are_an_alarm(optimizer: Any, lr: float) -> None:
    x = torch.randn(128, 8)
    report = ug.check(mlp(8, 32, 32, 1), (x, numbers(x)), steps=20, optimizer=lambda p: optimizer(p, lr))
    assert alarms(report, "UG5")


def test_updates_that_became_small_because_the_loss_converged_are_no_alarm() -> None:
    x = torch.randn(16, 40)
    report = ug.check(
        nn.Linear(40, 1), (x, numbers(x)), steps=60, optimizer=lambda p: torch.optim.SGD(p, 0.1, momentum=0.8)
    )
    assert "UG502" not in alarms(report)
    slow = ug.check(nn.Linear(40, 1), (x, numbers(x)), steps=20, optimizer=lambda p: torch.optim.SGD(p, 1e-6))
    assert "UG502" in alarms(slow)


def test_a_temperature_of_one_number_is_no_weight_among_others() -> None:
    model = Net(lambda net, x: net.layers(x) * net.scale.exp(), layers=mlp(12, 32, 32, 32, 32, 32, 4),
                scale=nn.Parameter(torch.full((1, 1, 1), 0.001)))  # fmt: skip
    x = torch.randn(64, 12)
    run = Net(lambda net, x: net.inner(x[None])[0], inner=model)
    report = ug.check(run, (x, labels(64, 4)), steps=12, optimizer=lambda p: torch.optim.SGD(p, 0.05))
    assert "UG503" not in alarms(report)


class Gated(nn.Module):
    """Squeeze and excite: features times what two layers make of their means; quiet: how far the layers are off."""

    def __init__(self, quiet: float) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.down, self.up = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        nn.init.normal_(self.up.weight, std=0.1 * quiet)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm(self.conv(x))
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return x * gate


@pytest.mark.parametrize(("sick", "expected"), [(False, set()), (True, {"UG503"})])
def test_gates_that_move_less_than_what_they_gate_are_for_information(sick: bool, expected: set[str]) -> None:
    stem, blocks = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(*(Gated(0.02) for _ in range(4)))
    if sick:  # a convolution whose weights are huge behind a norm
        with torch.no_grad():
            blocks[1].conv.weight.mul_(30.0)
    model = nn.Sequential(stem, blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    x = photos(32, 3, 12)
    report = ug.check(model, (x, labels(32, 4)), steps=6, optimizer=lambda p: torch.optim.SGD(p, 0.05))
    assert "UG503" in said(report)
    assert alarms(report, "UG503") == expected


def test_the_loss_of_q_learning_grows_with_its_returns_and_one_that_diverges_does_not() -> None:
    def values(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            target = 1 + 0.99 * net(batch[1]).amax(1)
        return F.mse_loss(net(batch[0]).amax(1), target)

    states = torch.randn(64, 4)
    net = mlp(4, 64, 64, 2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    with ug.Probe(net, optimizer, every=5) as probe:
        for _ in range(300):
            loss = values(net, (states, states + 0.1 * torch.randn_like(states)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss.item())
    assert "UG504" not in {f.code for f in ug.diagnose(probe.record).findings if f.severity != "info"}
    x = torch.randn(64, 4)
    report = ug.check(
        mlp(4, 64, 1), (x, 3 * numbers(x)), step=lambda net, b: F.smooth_l1_loss(net(b[0]), b[1]), steps=20,
        optimizer=lambda p: torch.optim.SGD(p, 9.0),
    )  # fmt: skip
    assert alarms(report, "UG50")


# ---- what was missed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [nn.Sigmoid, nn.Tanh])
def test_an_output_that_saturates_under_squared_error_is_named(last: type[nn.Module]) -> None:
    x = torch.randn(128, 12)
    model = nn.Sequential(*mlp(12, 32, 3), last())
    y = torch.rand(128, 3).round()
    assert "UG303" not in said(ug.check(model, (x, y), nn.MSELoss()))
    with torch.no_grad():
        model[2].weight.mul_(60)
    assert "UG303" in alarms(ug.check(model, (x, y), nn.MSELoss()))
    if last is nn.Sigmoid:  # its gradient is p - y, saturated or not
        assert "UG303" not in said(ug.check(model, (x, y), nn.BCELoss()))


def strided(gain: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((1, 8), (8, 16), (16, 32), (32, 64), (64, 10)):
        layers += [nn.Conv2d(a, b, 5 if a == 1 else 3, 2, 2 if a == 1 else 1), nn.ReLU()]
    model = nn.Sequential(*layers[:-1], nn.Flatten())
    for m in model:
        if isinstance(m, nn.Conv2d) and gain == "kaiming":
            nn.init.kaiming_normal_(m.weight)
    return model


def test_strided_convolutions_of_default_weights_lose_their_scale() -> None:
    x = digits(128)
    x = (x - x.mean()) / x.std()
    found = sum("UG301" in alarms(ug.check(strided("default"), (x, kinds(x, 10)))) for _ in range(5))
    assert found >= 4
    assert "UG301" not in said(ug.check(strided("kaiming"), (x, kinds(x, 10))))


def test_layers_that_grow_by_two_thirds_each_are_named_in_a_regression_too() -> None:
    for gain, expected in ((1.66, True), (1.0, False)):
        model = mlp(64, *[64] * 6, 1)
        for m in model:
            if isinstance(m, nn.Linear) and m.out_features > 1:
                nn.init.normal_(m.weight, std=gain * math.sqrt(2 / 64))
                nn.init.zeros_(m.bias)
        x = torch.randn(256, 64)
        assert ("UG302" in alarms(ug.check(model, (x, numbers(x))))) == expected


# ---- other kinds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nll", "cross_entropy", "NLLLoss", "mse", "bce_with_logits"])
def test_a_loss_of_ones_own_is_not_taken_for_torchs_by_its_name(name: str) -> None:
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        mean, log_std = outputs.chunk(2, 1)
        return (0.5 * ((y - mean) / log_std.exp()) ** 2 + log_std).mean()

    loss.__name__ = name
    x = torch.randn(64, 6)
    report = ug.check(mlp(6, 16, 2), (x, numbers(x)), loss)
    assert report.record.facts.loss.kind == "other"
    assert report.ok


def test_torchs_own_losses_are_still_refused_for_targets_that_do_not_fit() -> None:
    x = torch.randn(64, 6)
    for loss in (F.nll_loss, nn.NLLLoss(), F.cross_entropy, "nll"):
        with pytest.raises(ug.InputError, match="class indices"):
            ug.check(mlp(6, 16, 3), (x, torch.randn(64, 1)), loss)


def test_small_weights_right_before_the_head_scale_the_logits_down_and_are_no_alarm() -> None:
    model = nn.Sequential(*mlp(20, 64, 64), nn.Tanh(), nn.Linear(64, 3))
    nn.init.normal_(model[2].weight, std=0.02)
    nn.init.zeros_(model[2].bias)
    assert alarms(ug.check(model, (torch.randn(128, 20), labels(128, 3)))) == set()


def test_a_trained_network_is_not_told_to_multiply_its_weights() -> None:
    x = torch.randint(0, 27, (256, 3))
    y = x.sum(1) % 27
    model = nn.Sequential(
        nn.Embedding(27, 10), nn.Flatten(), nn.Linear(30, 100), nn.Tanh(), nn.Linear(100, 27)
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    for _ in range(150):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    report = ug.check(model, (x, y))
    assert "ultiply" not in " ".join(f.remedy for f in report.findings)


def test_adam_does_not_mind_clipping_whatever_its_rate() -> None:
    """UG704 warned of PPO's usual clipping at 0.5 with Adam at 2.5e-4, whose steps are small for their rate alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    x = torch.randn(64, 8)
    report = ug.check(
        model, (x, x.sum(1, keepdim=True)), F.mse_loss, steps=20, clip=0.05,
        optimizer=lambda p: torch.optim.Adam(p, 1e-4),
    )  # fmt: skip
    assert "UG704" not in {f.code for f in report.findings}


def test_two_classes_are_no_alarm_where_the_logits_cost_a_fifth_of_a_nat() -> None:
    """UG101 warned of a convolutional network over words whose loss began at 0.89 where ln(2) is 0.69."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    x = torch.randn(256, 16)
    with torch.no_grad():
        model[2].weight.mul_(1.1 / model(x).std())
    report = ug.check(model, (x, (x[:, 0] > 0).long()), F.cross_entropy)
    assert 0.8 < report.record.metric("loss")[1][0] < 1.05
    assert report.diagnosis.ok, report


# ---- a loss that is linear in cosines, which have bounds ---------------------------------------------------------


def by_function(h: Tensor, w: Tensor) -> Tensor:
    return F.linear(F.normalize(h, dim=1), F.normalize(w, dim=1))


def by_hand(h: Tensor, w: Tensor) -> Tensor:
    unit = w / w.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return (h / (torch.linalg.vector_norm(h, dim=1, keepdim=True) + 1e-8)) @ unit.T


def by_sums(h: Tensor, w: Tensor) -> Tensor:
    return (F.normalize(h, dim=1)[:, None] * F.normalize(w, dim=1)).sum(-1)


def without_lengths(h: Tensor, w: Tensor) -> Tensor:
    return h @ w.T


@pytest.mark.parametrize(("scores", "expected"), [
    (by_function, set()), (by_hand, set()), (by_sums, set()), (without_lengths, {"UG119"}),
])  # fmt: skip
def test_a_loss_linear_in_cosines_has_a_minimum(
    scores: Callable[[Tensor, Tensor], Tensor], expected: set[str]
) -> None:
    net = Net(lambda net, x: scores(net.layers(x), net.table), layers=mlp(12, 32, 16),
              table=nn.Parameter(torch.randn(4, 16)))  # fmt: skip
    y = F.one_hot(labels(128, 4), 4).float()
    report = ug.check(net, (torch.randn(128, 12), y), lambda out, y: -(out * y).sum(1).mean())
    assert alarms(report, "UG1") == expected


# ---- NaN in targets, and in a later batch ------------------------------------------------------------------------


def learn_with(x: Tensor, y: Tensor, loss: Any = F.mse_loss, steps: int = 8) -> Report:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 64)
    sgd = {"data": loader, "steps": steps, "optimizer": lambda p: torch.optim.SGD(p, 1e-3)} if steps else {}
    return ug.check(mlp(8, 32, 1), (x[:64], y[:64]), loss, **sgd)


@pytest.mark.parametrize(("example", "in_targets", "value", "steps"), [
    (5, True, float("nan"), 0), (5, True, float("inf"), 8), (64 * 3 + 5, True, float("nan"), 8),
    (64 * 3 + 5, False, float("nan"), 8), (64 * 2 + 5, False, float("inf"), 8),
])  # fmt: skip
def test_what_is_not_finite_is_named_and_not_the_rate(
    example: int, in_targets: bool, value: float, steps: int
) -> None:
    x = torch.randn(640, 8)
    y = numbers(x)
    (y if in_targets else x)[example] = value
    (finding,) = [f for f in learn_with(x, y, steps=steps).findings if f.severity == "error"]
    assert finding.code == "UG202"
    assert (finding.evidence["batch"], finding.evidence["in_targets"]) == (
        0 if example < 64 else example // 64 + 1, in_targets
    )  # fmt: skip
    assert list(finding.evidence["bad_examples"]) == [5]


def test_targets_that_a_loss_leaves_out_may_be_nan() -> None:
    x = torch.randn(640, 8)
    y = numbers(x)
    y[::3] = float("nan")

    def known(out: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(out[~y.isnan()], y[~y.isnan()])

    assert "UG202" not in said(learn_with(x, y, known))
