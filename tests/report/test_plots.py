"""Plots: every function draws every kind of record it can, and says what is missing otherwise."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import InputError, check, plots
from unitgain.record import Facts, Record
from unitgain.report import draw_all
from unitgain.report.plots._events import events_of


def rendered(figure):
    """Draws the figure; with matplotlib's own complaints about fonts left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        file = io.BytesIO()
        figure.savefig(file, dpi=40)
    assert file.tell() > 1000
    return figure


@pytest.fixture(scope="module")
def records(make, large):
    return {
        "mlp": make.tanh_mlp(3, steps=4),
        "large": large,
        "training": make.training(12),
        "hostile": make.hostile(),
    }


OVER_TIME = ("stats_over_time", "color_dim", "dead_chart", "blocks")
NOT_OF_ONE_RECORD = {
    "activation",
    "batch_jitter",
    "before_after",
    "landscape",
    "runs",
    "whatif",
}  # tests/report/test_plots_compared.py and tests/_check/test_landscape.py have these


@pytest.mark.parametrize(
    "name",
    sorted(
        set(plots.__all__)
        - {"saturation_map", "theory_over_depth", "spp", "agc", "training"}
        - NOT_OF_ONE_RECORD
    ),
)
@pytest.mark.parametrize("record", ["mlp", "large", "training", "hostile"])
def test_every_plot_draws_with_a_title_and_labelled_axes(name, record, records):
    draw = getattr(plots, name)
    if name in OVER_TIME and record in ("large", "hostile"):
        with pytest.raises(InputError, match="needs two sampled steps"):
            draw(records[record])
        return
    figure = rendered(draw(records[record]))
    assert figure.get_suptitle()
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
    assert shown
    assert any(axes.get_xlabel() or any(t.get_text() for t in axes.get_xticklabels()) for axes in shown)
    assert any(axes.get_ylabel() for axes in shown)


def test_training_shows_loss_and_rate_over_steps():
    record = Record()
    record.add_metrics((step, name, value) for step in range(30) for name, value in
                       (("loss", 3.0 / (1 + step)), ("lr", 0.1), ("val_loss", 1.0)))  # fmt: skip
    figure = rendered(plots.training(record))
    assert figure.get_suptitle()
    assert any(axes.get_ylabel() == "loss" for axes in figure.axes)


def test_losses_of_passes_lie_within_the_axis():
    """With label smoothing the test loss is far below every training loss."""
    record = Record()
    record.add_metrics((step, "loss", 2.0 - step / 30) for step in range(30))
    record.add_metrics([(29, "test_loss", 0.4), (29, "train_loss", 2.5), (29, "valid_loss", float("nan"))])
    axes = plots.training(record).axes[0]
    low, high = axes.get_ylim()
    assert low < 0.4 < 2.5 < high
    assert [t.get_text() for t in axes.get_legend().get_texts()][-2:] == ["test_loss", "train_loss"]


def test_curves_that_end_in_nan_say_so(make):
    build = make.Builder(steps=20, mode="train")
    build.layer("fc", "Linear", 1.0, 1e-3, weight=0.1)
    for site in build.record.sites():
        build.record.add_scalars(20, {site.id: {"nonfinite": 1.0}})
        if site.kind == "activation":
            build.record.add_histograms([(20, site.id, "signed", 0.0, 1.0, np.zeros(131, dtype=int))])
    for draw in (plots.stats_over_time, plots.update_ratio, plots.dead_chart):
        for axes in rendered(draw(build.record)).axes:
            assert [t.xy[0] for t in axes.texts if t.get_text() == "not finite"] == [20], draw
    assert np.isnan(plots.dead_chart(build.record).axes[0].lines[0].get_ydata()[-1])
    _, gradients, fractions = rendered(plots.stats_over_depth(build.record, step=20)).axes
    assert [t.get_text() for t in gradients.texts] == ["not finite"]
    assert [line.get_label() for line in fractions.lines] == ["not finite"]


def test_a_rate_recorded_now_and_then_holds_until_the_next_one():
    record = Record()
    record.add_metrics((step, "loss", 1.0) for step in range(2000))
    record.add_metrics([(0, "lr", 0.1), (1000, "lr", 0.01)])
    (line,) = next(a for a in plots.training(record).axes if a.get_ylabel() == "learning rate").get_lines()
    assert line.get_drawstyle() == "steps-post"
    assert list(line.get_xdata()) == [0, 1000, 1999]
    assert list(line.get_ydata()) == [0.1, 0.01, 0.01]


def test_saturation_map_is_white_where_saturated(make):
    record = make.tanh_mlp(3)
    figure = rendered(plots.saturation_map(record, "layers.1"))
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (32, 200)
    assert image.cmap(image.norm(1))[:3] == (1.0, 1.0, 1.0)
    assert "1 unit for every example" in figure.axes[0].get_title("left")
    assert len(rendered(plots.saturation_map(record)).axes) == 3


def test_update_ratio_has_its_line_at_a_thousandth(make):
    figure = plots.update_ratio(make.tanh_mlp(2, steps=3))
    assert any(np.all(np.asarray(line.get_ydata()) == -3) for line in figure.axes[0].lines)


def test_dead_chart_rises_when_layers_die(make):
    figure = plots.dead_chart(make.training(40))
    dying, alive = figure.axes[0].lines[0].get_ydata(), figure.axes[0].lines[4].get_ydata()
    assert float(dying[-1]) > 95 > 70 > float(alive[-1])


def test_few_layers_are_named_and_many_get_a_colour_bar_over_depth(make):
    few = plots.stats_over_time(make.training(3, depth=4))
    assert len(few.legends[0].get_texts()) == 8
    many = plots.stats_over_time(make.training(3, depth=8))
    assert not many.legends
    assert any(axes.get_label() == "<colorbar>" for axes in many.axes)


def test_a_dollar_or_underscore_in_a_name_is_drawn_as_it_is(make):
    build = make.Builder(steps=2)
    for name in ("_private", "$x^2", "a$b$c"):
        build.layer(name, "Linear", 1.0, 1e-3)
    legend = rendered(plots.stats_over_time(build.record)).legends[0]
    assert [t.get_text().strip("\u200b").replace("\\", "") for t in legend.get_texts()] == [
        "_private",
        "$x^2",
        "a$b$c",
    ]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plots.stats_over_depth(Record()), "no activation sites; measure the model"),
        (lambda r: plots.stats_over_depth(r, step=7), "not a sampled step; sampled steps are 0"),
        (lambda r: plots.stats_over_depth(r, sites="nothing*"), "no activation site matches nothing"),
        (lambda r: plots.histograms(Record()), "has none of activation, gradient"),
        (lambda r: plots.update_ratio(Record()), r"no update sites; .*steps=10"),
        (lambda r: plots.gradient_ratio(Record()), "no parameter gradient sites"),
        (lambda r: plots.stats_over_time(r, "sd"), "'sd' is unknown; did you mean 'std'"),
        (
            lambda r: plots.stats_over_depth(r, sites=["head", "layer.1"]),
            "matches layer.1; did you mean 'layers.1'",
        ),
        (lambda r: plots.saturation_map(Record()), "keeps none"),
        (lambda r: plots.saturation_map(r, "head"), "no map of 'head'; there are maps of layers.1"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(draw, message, make):
    with pytest.raises(InputError, match=message):
        draw(make.tanh_mlp(1))


def test_drawing_libraries_load_only_when_they_are_used():
    code = (
        "import sys, unitgain.report.plots\n"
        "from unitgain.report import Report\n"
        "from unitgain.record import Record\n"
        "from unitgain.rules import Diagnosis\n"
        "report = Report(Record(), Diagnosis((), 'v', 'healthy', ''))\n"
        "str(report); report.to_json()\n"
        "print([m for m in ('matplotlib', 'plotly') if m in sys.modules])\n"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_the_lecture_shows_what_tanh_does_to_a_gain_that_is_too_large(make):
    """Magnitudes alone cannot show the spikes at -1 and 1, nor on which side of zero a layer lies."""
    random = np.random.default_rng(0)
    build = make.Builder(steps=2, mode="train", samples=5000)
    build.tensor("activation", "0", lambda step: random.normal(0.5, 3.0, 5000), module="Linear", shape=(50, 100),
                 attributes={"role": "linear"})  # fmt: skip
    build.tensor("activation", "1", lambda step: np.tanh(random.normal(0.5, 3.0, 5000)),
                 stats=lambda values, step: {"saturated": float((np.abs(values) > 0.97).mean())}, module="Tanh",
                 shape=(50, 100), attributes={"role": "activation", "function": "tanh", "inputs": ["0"]})  # fmt: skip
    (axes,) = rendered(plots.lecture(build.record)).axes
    measured, predicted = axes.lines[0], axes.lines[1]
    assert axes.get_xlim() == (-1, 1)
    y, theory = np.asarray(measured.get_ydata()), np.asarray(predicted.get_ydata())
    assert min(y[0], y[-1]) > 10 * np.median(y), "both tails"
    assert y[-1] > y[0], "the mean is above zero"
    assert np.abs(y[10:-10] - theory[10:-10]).max() < 0.2
    label = axes.get_legend().get_texts()[0].get_text()
    assert "saturated 5" in label
    assert "mean +0.2" in label or "mean +0.1" in label


def test_the_lecture_draws_what_was_measured_and_leaves_out_the_rest(make):
    panels = {"activations", "gradients of the loss with respect to them", "gradients of the weights"}
    titles = {a.get_title("left") for a in rendered(plots.lecture(make.tanh_mlp(3))).axes}
    assert titles <= panels
    assert "activations" in titles
    with pytest.raises(InputError, match="no histograms at step"):
        plots.lecture(Record())


def test_exact_zeros_of_a_relu_do_not_flatten_its_density(make):
    random = np.random.default_rng(0)
    build = make.Builder(samples=5000)
    build.tensor("activation", "relu", lambda step: np.maximum(random.normal(0, 1, 5000), 0), module="ReLU",
                 shape=(50, 100), attributes={"role": "activation", "function": "relu"})  # fmt: skip
    (axes,) = rendered(plots.lecture(build.record)).axes
    assert "exactly 0: 51%" in axes.get_legend().get_texts()[0].get_text()
    assert axes.get_ylim()[1] < 1.0
    ridge = rendered(plots.ridges(build.record)).axes[0]
    assert [t.get_text() for t in ridge.texts] == ["zero 51%"]


def test_the_peak_of_a_crash_is_inside_the_colourful_dimension(make):
    """The range was fixed by the first step: the head's panel went blind, and peaks were cut."""
    random = np.random.default_rng(0)
    build = make.Builder(steps=5, mode="train")
    build.tensor("activation", "fc", lambda step: random.normal(0, 100.0 if step == 3 else 1.0, 400), module="Linear",
                 shape=(4, 100), attributes={"role": "linear"})  # fmt: skip
    axes = rendered(plots.color_dim(build.record)).axes[0]
    low, high = axes.get_ylim()
    assert -low == high >= 256
    colours = axes.collections[0].get_array().reshape(-1, 5)
    assert (colours[:, 3] > 0).sum() > 30, "the crash fills its column"
    assert (colours[:, 2] > 0).sum() <= 4


def test_all_pictures_of_a_run_are_written(make, tmp_path):
    written = draw_all(make.tanh_mlp(3), tmp_path / "new")
    assert {"lecture.png", "ridges.png", "depth.png"} <= {p.name for p in written}
    assert all(p.stat().st_size > 1000 for p in written)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the folder cannot be made"):
        draw_all(make.tanh_mlp(3), tmp_path / "file" / "plots")


def test_plots_take_what_has_a_record_and_refuse_the_rest_by_name(make):
    class Report:
        record = make.tanh_mlp(3)

    need_more = ("spp", "agc", "training", "update_ratio", "theory_over_depth")
    drawn = [name for name in plots.__all__ if name not in need_more and name not in NOT_OF_ONE_RECORD]
    over_time = {"color_dim", "dead_chart", "stats_over_time", "blocks"}
    for name in drawn:
        draw = getattr(plots, name)
        if name not in over_time:
            assert rendered(draw(Report())).axes
        with pytest.raises(InputError, match=rf"^{name}: expected a Record or a Report, got str"):
            draw("run.sqlite")
    for name in ("lecture", "ridges", "histograms", "stats_over_depth", "gradient_ratio"):
        for step in ("last", 99):
            with pytest.raises(
                InputError, match=rf"^{name}\(step={step!r}\): not a sampled step; sampled steps are 0"
            ):
                getattr(plots, name)(Report.record, step=step)


def test_a_plot_over_time_says_when_and_where_a_training_diverged(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(fc1=nn.Linear(8, 16), relu1=nn.ReLU(), fc2=nn.Linear(16, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x = torch.randn(256, 8)
    y = x[:, :3].argmax(1)
    with ug.Probe(model, optimizer, every=1) as probe:
        for step in range(100):
            optimizer.param_groups[0]["lr"] = 100.0 if 50 <= step < 53 else 0.1
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss.item())
    (event,) = [event for event in events_of(probe.record) if event.what == "diverges"]
    assert 45 <= event.step <= 52
    assert event.layer in ("fc1", "relu1", "fc2")
    figure = ug.plots.color_dim(probe.record)
    texts = {
        axes.get_title(loc="left") or axes.get_title(): [t.get_text() for t in axes.texts]
        for axes in figure.axes
    }
    assert [name for name, said in texts.items() if event.text in said] == [event.layer]
    for plot in (ug.plots.stats_over_time, ug.plots.update_ratio):
        axes = plot(probe.record).axes[0]
        assert event.text in [t.get_text() for t in axes.texts]


def test_a_plot_over_time_of_a_healthy_training_has_no_events(make) -> None:
    assert events_of(make.tanh_mlp(growth=1.0, steps=5, mode="training")) == []
    assert events_of(make.tanh_mlp(steps=3)) == []


# ---- the atlas ---------------------------------------------------------------------------------------------------


def titles(figure) -> list[str]:
    return [axes.get_title(loc="left").partition(",")[0] for axes in figure.axes]


def test_an_atlas_of_a_training_has_every_panel_and_fits_a_page(records):
    figure = rendered(plots.atlas(records["training"]))
    assert {"loss", "update:data of the weights", "activations", "gradients of weights"} <= set(
        titles(figure)
    )
    assert round(figure.get_figwidth() * figure.dpi) == 1600


def test_an_atlas_of_a_check_without_steps_leaves_out_what_was_not_measured(make):
    figure = rendered(plots.atlas(make.tanh_mlp(3)))
    assert "loss" not in titles(figure)
    assert "activations over depth" in titles(figure)


def test_an_atlas_shows_the_findings_of_the_report_that_it_is_given(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    with torch.no_grad():
        model[0].weight.mul_(50)
    report = check(model, (torch.randn(64, 8), torch.arange(64) % 4))
    said = " ".join(t.get_text() for t in rendered(plots.atlas(report)).axes[0].texts)
    assert "UG303 saturated  1 · Tanh" in said
    assert report.verdict.split(":")[0] in said


def test_an_atlas_of_a_lost_training_shows_the_last_step_that_was_finite():
    record = Record()
    site = record.add_site("activation", "fc", shape=(4, 8))
    for step, nonfinite in ((0, 0.0), (10, 0.0), (20, 1.0)):
        record.add_scalars(step, {site.id: {"mean": 0.0, "std": 1.0, "rms": 1.0, "nonfinite": nonfinite}})
    record.set_facts(Facts(mode="training"))
    assert "activations over depth, step 10" in [a.get_title(loc="left") for a in plots.atlas(record).axes]


def test_a_training_lost_to_nan_is_drawn_at_its_last_step_before_and_marks_the_loss_of_a_guess() -> None:
    """The last step has nothing to draw, and what was reached in the explosion is no measure of what is near zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(64, 8), torch.arange(64) % 4
    with ug.Probe(model, optimizer, every=1) as probe:
        for step in range(14):
            optimizer.param_groups[0]["lr"] = 0.1 if step < 6 else 1e9
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    assert probe.record.values("activation", 13)["4"]["nonfinite"] == 1
    title = ug.plots.lecture(probe).get_suptitle()
    assert int(title.rpartition(" ")[2]) < 13
    said = [text.get_text() for text in ug.plots.training(probe).axes[0].texts]
    assert "a guess by the classes' frequencies: 1.39" in said
    shares = [line.get_ydata()[0] for line in ug.plots.dead_chart(probe).axes[0].lines[:2]]
    assert max(shares) < 90


@pytest.mark.parametrize(("losses", "shown"), [((2.2999, 2.2996), True), ((0.011, 0.010), False)])
def test_the_loss_of_a_guess_is_in_sight_or_not_drawn(make, losses, shown) -> None:
    """Its text stood far outside of the axes, and the atlas had no room left for its panels."""
    record = make.training(2)
    record.add_metrics([(step, "loss", loss) for step, loss in enumerate(losses)])
    facts = record.facts
    target, loss = replace(facts.target, classes=10), replace(facts.loss, kind="cross_entropy")
    record.set_facts(replace(facts, target=target, loss=loss))
    level = record.facts.loss_of_a_constant
    axes = plots.training(record).axes[0]
    low, high = axes.get_ylim()
    assert [text.get_text().startswith("ln") for text in axes.texts] == [True] * shown
    assert (low <= level <= high) == shown
