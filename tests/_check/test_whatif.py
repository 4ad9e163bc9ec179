"""whatif: settings compared on one draw and the same batches, everything put back, and a page of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unitgain as ug
from unitgain import InputError
from unitgain._check.knobs import read_values, shuffle_weights
from unitgain.report import WhatIf


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.norm, self.drop, self.head = nn.BatchNorm2d(16), nn.Dropout(0.1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = torch.relu_(self.norm(self.conv2(x)))
        return self.head(self.drop(x.mean((2, 3))))


def perceptron(depth: int = 4) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(8, 32), nn.Tanh()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(32, 3))


def examples(count: int = 256) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 8)
    return x, x[:, :3].argmax(1)


def loader(size: int = 32) -> DataLoader:
    return DataLoader(TensorDataset(*examples()), batch_size=size, shuffle=True)


@pytest.fixture(scope="module")
def gains() -> WhatIf:
    torch.manual_seed(0)
    return ug.whatif(
        perceptron(), loader(), vary={"gain": [0.2, "5/3", 8]}, optimizer="sgd", steps=40, seeds=2
    )


# ---- no trace ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vary",
    [
        {"activation": ["as-is", "tanh", "none"]},
        {"norm": ["none", "batch", "layer", "scaled-ws"]},
        {"lr": [0.01, 1e6]},
        {"optimizer": ["sgd", "adam"], "batch": [8, 24]},
        {"gain": ["auto"], "fan_in": ["on", "off"]},
    ],
    ids=lambda vary: "-".join(vary),
)
def test_everything_is_put_back_bit_for_bit(vary: dict) -> None:
    model = Convolutions()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = DataLoader(
        TensorDataset(torch.randn(96, 1, 12, 12), torch.randint(0, 4, (96,))), batch_size=16, shuffle=True
    )
    state = {name: value.clone() for name, value in model.state_dict().items()}
    names, attributes = [n for n, _ in model.named_modules()], set(vars(model))
    random = torch.get_rng_state()
    given = None if "optimizer" in vary else optimizer
    ug.whatif(model, data, vary=vary, optimizer=given, steps=6, seeds=2)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert [n for n, _ in model.named_modules()] == names
    assert set(vars(model)) == attributes
    assert torch.equal(torch.get_rng_state(), random)
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_raises_in_one_setting_is_put_back_and_the_setting_named() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.fc(x) + self.fc.weight.mean()))

    model = Reads()
    with pytest.raises(InputError, match=r"norm=batch: .*AttributeError"):
        ug.whatif(model, examples(), vary={"norm": ["batch"]}, steps=2, seeds=1)
    assert isinstance(model.fc, nn.Linear)


# ---- what is compared ----------------------------------------------------------------------------------------


def test_settings_begin_with_the_same_weights_and_see_the_same_batches() -> None:
    result = ug.whatif(perceptron(), loader(), vary={"lr": [1e-9, 2e-9]}, optimizer="sgd", steps=8, seeds=2)
    first, second = result.settings
    assert first.before == second.before
    for one, other in zip(first.losses, second.losses):
        assert one == pytest.approx(other, rel=1e-4)
    assert first.losses[0] != first.losses[1]


def test_the_value_as_is_changes_nothing() -> None:
    model, data = perceptron(), loader()
    result = ug.whatif(model, data, vary={"gain": ["as-is", "auto"]}, steps=2, seeds=1)
    with torch.no_grad():
        x, y = next(iter(DataLoader(data.dataset, batch_size=256)))
    as_is = result.settings[0]
    assert as_is.changes == ()
    assert as_is.before[0] == pytest.approx(float(F.cross_entropy(model(x), y)), rel=0.3)


def test_the_picture_of_the_lecture_small_gains_fade_large_ones_saturate(gains: WhatIf) -> None:
    small, right, large = gains.settings
    assert {"UG301", "UG401"} & {f.code for f in small.findings if f.severity != "info"}
    assert max(float(row["saturated"]) for row in large.layers()) > 0.5
    assert any(f.code == "UG303" for f in large.findings)
    stds = [float(row["std"]) for row in right.layers()]
    assert min(stds) > 0.5 * max(stds)
    assert gains.best.name == "gain=5/3"


def test_a_rate_at_which_the_loss_explodes_is_said_and_never_best() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    result = ug.whatif(model, loader(), vary={"lr": [0.01, 1e30]}, optimizer="sgd", steps=12, seeds=1)
    assert result.settings[1].stopped is not None
    assert math.isinf(result.settings[1].loss)
    assert result.best is result.settings[0]
    assert "With lr=1e+30 the loss became NaN or infinite" in result.summary
    json.loads(result.to_json())


def test_a_rate_that_is_given_holds_for_every_optimizer_that_is_tried() -> None:
    result = ug.whatif(perceptron(), loader(), vary={"optimizer": ["sgd", "adam"]}, lr=1e-9, steps=3, seeds=1)
    for setting in result.settings:
        assert setting.after == pytest.approx(setting.before, rel=1e-4)


def test_differences_within_the_noise_are_not_called_better(gains: WhatIf) -> None:
    same = ug.whatif(perceptron(), loader(), vary={"lr": [1e-3, 1.0000001e-3]}, steps=6, seeds=3)
    assert len(same.as_good()) == 1
    assert "cannot be told from it" in same.summary


def test_batches_of_another_size_are_made_of_those_that_come() -> None:
    seen: list[int] = []

    class Counts(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled():
                seen.append(len(x))
            return super().forward(x)

    model = Counts(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    ug.whatif(model, loader(32), vary={"batch": [20, 48]}, steps=3, seeds=1)
    assert {20, 48} <= set(seen)
    with pytest.raises(InputError, match="batch needs fresh batches"):
        ug.whatif(model, examples(), vary={"batch": [20]})


def test_one_batch_is_divided_so_that_what_is_memorized_does_not_count() -> None:
    result = ug.whatif(perceptron(), examples(64), vary={"lr": [0.001]}, steps=4, seeds=1)
    assert result.judged_on == "the half of the batch that is held out"
    assert "batches of 32" in result.conditions


def test_batch_norm_is_judged_by_the_batch_and_not_by_running_averages_of_a_short_training() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=1e-4), nn.ReLU(), nn.Linear(32, 3))
    result = ug.whatif(model, loader(), vary={"optimizer": ["sgd"]}, steps=60, seeds=1)
    assert result.settings[0].after[0] < 0.8 * result.settings[0].before[0]


def test_further_seeds_draw_from_the_same_distribution_and_keep_zeros() -> None:
    model = perceptron()
    with torch.no_grad():
        model[0].weight[:4] = 0
    before = {name: value.clone() for name, value in model.named_parameters()}
    shuffle_weights(model, 1)
    for name, value in model.named_parameters():
        assert torch.equal(value.flatten().sort().values, before[name].flatten().sort().values)
    assert torch.equal(model[0].weight == 0, before["0.weight"] == 0)
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_a_trained_network_is_not_shuffled() -> None:
    model, (x, y) = perceptron(1), examples()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    result = ug.whatif(model, (x, y), vary={"lr": [1e-4]}, steps=2, seeds=2)
    assert not any("shuffled" in words for words in result.conditions)
    assert result.settings[0].before[0] == result.settings[0].before[1]


# ---- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({}, "vary"),
        ({"gian": [1]}, "did you mean 'gain'"),
        ({"gain": []}, "no value of gain"),
        ({"gain": ["much"]}, "a number above 0"),
        ({"gain": [1, 1]}, "given twice"),
        ({"norm": ["batchnorm"]}, "did you mean 'batch'"),
        ({"fan_in": ["maybe"]}, "on or off"),
        ({"batch": [2.5]}, "whole number"),
        ({"lr": [True]}, "a number above 0"),
        ({"lr": [10.0**-i for i in range(40)]}, "40 settings"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_that_cannot_be_is_refused_before_anything_runs(vary: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ug.whatif(perceptron(), examples(), vary=vary)


def test_a_batch_without_targets_has_no_loss_to_train_on() -> None:
    with pytest.raises(InputError, match="no loss"):
        ug.whatif(perceptron(), torch.randn(16, 8), vary={"lr": [0.1]})


def test_values_are_shown_as_they_were_given() -> None:
    assert [v.shown for v in read_values("gain", ["5/3", 0.5, None, "auto"])] == [
        "5/3",
        "0.5",
        "as-is",
        "auto",
    ]


# ---- what is shown -------------------------------------------------------------------------------------------


def test_the_page_is_whole_small_and_without_scripts(gains: WhatIf, tmp_path: Path) -> None:
    gains.of_command("unitgain whatif <b>").save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 600_000
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[^\"]*", "", page).replace('http-equiv="', "")
    assert page.count("<img") == 5 * len(gains.settings)
    assert "unitgain whatif &lt;b&gt;" in page
    assert all(f.code in page for setting in gains.settings for f in setting.findings)


def test_the_table_has_a_column_for_each_setting_at_any_width(gains: WhatIf) -> None:
    for width in (60, 80, 200):
        text = gains.to_text(width)
        assert all(setting.name in text for setting in gains.settings)
        assert max(map(len, text.splitlines())) <= width


def test_everything_is_there_as_plain_data(gains: WhatIf) -> None:
    body = json.loads(gains.to_json())
    assert [s["values"] for s in body["settings"]] == [{"gain": "0.2"}, {"gain": "5/3"}, {"gain": "8"}]
    first = body["settings"][0]
    assert len(first["losses"]) == 2
    assert len(first["losses"][0]) == 40
    assert [row["site"] for row in first["layers"]] == ["1", "3", "5", "7"]
    assert "0.weight" in first["update_ratios"]
    assert "gain=5/3" in gains.to_markdown()
    assert "gain=5/3" in gains._repr_html_()


def test_one_figure_has_all_pictures(gains: WhatIf) -> None:
    figure = ug.plots.whatif(gains)
    assert len(figure.axes) == 5 * 3
    with pytest.raises(InputError, match=r"ug\.whatif"):
        ug.plots.whatif(gains.settings[0].training)  # type: ignore[arg-type]


def test_a_network_whose_activations_were_taken_out_is_shown_at_the_same_places() -> None:
    result = ug.whatif(perceptron(), loader(), vary={"activation": ["as-is", "none"]}, steps=4, seeds=1)
    sites = [[row["site"] for row in setting.layers()] for setting in result.settings]
    assert sites[0] == sites[1] == ["1", "3", "5", "7"]
    assert any(f.code == "UG803" for f in result.settings[1].findings)


def test_several_optimizers_train_each_setting_at_rates_of_one_proportion() -> None:
    torch.manual_seed(0)
    model = perceptron(4)

    def make(parameters) -> list[torch.optim.Optimizer]:
        first, *others = parameters
        return [torch.optim.SGD([first], lr=0.1), torch.optim.Adam(others, lr=0.01)]

    found = ug.whatif(model, examples(64), vary={"lr": [0.1, 0.2]}, optimizer=make, steps=10)
    assert all(setting.stopped is None for setting in found.settings)
    assert "SGD and Adam" in found.to_json()
