"""Plots of several records and of an activation function: what is shown, marked and refused."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain.record import Facts, LossFacts, Record, TargetFacts


def texts(figure) -> str:
    found = [t.get_text() for axes in figure.axes for t in axes.texts]
    found += [
        t.get_text()
        for axes in figure.axes
        for legend in [axes.get_legend()]
        if legend
        for t in legend.get_texts()
    ]
    return " ".join([*found, *(axes.get_title(loc="left") for axes in figure.axes)])


def rendered(figure):
    figure.canvas.draw()
    return figure


def losses(*values: float, classes: int | None = None) -> Record:
    record = Record()
    for step, value in enumerate(values):
        record.log(step, loss=value)
    if classes is not None:
        target = TargetFacts("class_index", classes, 32)
        record.set_facts(Facts(loss=LossFacts("cross_entropy", "cross_entropy", values[0]), target=target))
    return record


@pytest.fixture(scope="module")
def trained() -> Record:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
    x = torch.randn(64, 8)
    return ug.check(model, (x, x[:, :3].argmax(1)), steps=6).record


def test_the_hockey_stick_stays_in_the_picture_and_ln_c_is_marked() -> None:
    record = losses(27.0, *[3.4 - i / 600 for i in range(300)], classes=27)
    axes = rendered(ug.plots.training(record)).axes[0]
    assert axes.get_ylim()[1] >= 27
    assert "ln 27 = 3.30" in texts(axes.figure)
    cropped = rendered(ug.plots.training(record, crop=True)).axes[0]
    assert cropped.get_ylim()[1] < 27
    assert ug.plots.training(record, log=True).axes[0].get_yscale() == "log"
    assert ug.plots.training(record, log=False).axes[0].get_yscale() == "linear"


def test_runs_are_named_and_share_the_axes() -> None:
    figure = rendered(ug.plots.runs({"slow": losses(3.0, 2.9, 2.8), "fast": losses(3.0, 2.0, 1.0)}))
    assert "slow" in texts(figure)
    assert "fast" in texts(figure)
    assert ug.plots.runs([losses(1e4, 1.0), losses(3.0, 2.0)]).axes[0].get_yscale() == "log"


def test_before_and_after_shows_both(trained: Record) -> None:
    figure = rendered(ug.plots.before_after(trained, trained, names=("sick", "cured")))
    assert "sick" in texts(figure)
    assert len(figure.axes) == 4


def test_blocks_have_a_panel_each() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(8, 8), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.act(self.fc(x))

    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
    report = ug.check(model, (torch.randn(16, 8), torch.randint(0, 3, (16,))), steps=3)
    figure = rendered(ug.plots.blocks(report))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert len(titles) >= 2
    assert {"0", "1"} <= set(titles)


@pytest.mark.parametrize(
    "function", ["tanh", "relu", "gelu", torch.sigmoid, nn.Hardtanh(), ug.nn.GeneralReLU(0.1, 0.4)]
)
def test_an_activation_function_is_drawn_with_its_numbers(function) -> None:
    figure = rendered(ug.plots.activation(function))
    said = figure.get_supxlabel()
    assert "mean" in said
    assert "std" in said
    if function == "tanh":
        assert "gain 1.5925" in said
    shaded = [patch for patch in figure.axes[0].patches if patch.get_width() > 0]
    assert bool(shaded) == (function in ("tanh", "relu", "gelu") or isinstance(function, nn.Hardtanh))


def test_the_derivative_that_is_drawn_is_the_functions_own() -> None:
    name, y, slope = ug.theory.evaluate(torch.tanh, np.array([0.0, 1.0]))
    assert name == "tanh"
    assert y == pytest.approx(np.tanh([0.0, 1.0]))
    assert slope == pytest.approx(1 - np.tanh([0.0, 1.0]) ** 2)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda r: ug.plots.runs([r]), "two or more"),
        (lambda r: ug.plots.runs({"a": r, "b": 3}), "b is a int"),
        (lambda r: ug.plots.runs([r, r], "losss"), "did you mean 'loss'"),
        (lambda r: ug.plots.before_after(r, r, statistic="stdd"), "did you mean 'std'"),
        (lambda r: ug.plots.before_after(losses(1.0), losses(1.0)), "no histograms|neither record"),
        (lambda r: ug.plots.blocks(r, "stdd"), "did you mean 'std'"),
        (lambda r: ug.plots.blocks(losses(1.0, 2.0)), "two sampled steps"),
        (lambda r: ug.plots.activation("tahn"), "unknown"),
        (lambda r: ug.plots.activation(nn.Softmax(0)), "elementwise"),
        (lambda r: ug.plots.activation("tanh", reach=0), "reach"),
    ],
)
def test_what_cannot_be_drawn_is_named(trained: Record, draw, words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw(trained)
    assert mpl.rcParams["figure.max_open_warning"] > 0
