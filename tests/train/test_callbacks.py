"""The callbacks that come along: each does what its name says, and no more."""

from __future__ import annotations

import io
import math
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from runs import Carries, xy
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain.train import (
    EMA,
    LSUV,
    Accumulate,
    ActivationStats,
    BatchTransform,
    Callback,
    Clip,
    Device,
    Hooks,
    InMemoryLoader,
    Learner,
    Metrics,
    MixedPrecision,
    NonFiniteLoss,
    Normalize,
    OneCycle,
    Progress,
    Recorder,
    Schedule,
    SingleBatch,
    StopOnNonFinite,
    TensorBoard,
    WeightsAndBiases,
    accuracy,
)


def make(callbacks=(), size: int = 8, n: int = 40, lr: float = 0.1, **more) -> Learner:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    data = more.pop("data", None) or (InMemoryLoader(xy(n), size), InMemoryLoader(xy(n), 16))
    return Learner(model, data, F.cross_entropy, lambda p: torch.optim.SGD(p, lr=lr), callbacks, **more)


def weights(learn: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learn.model.parameters()])


# ---- gradients ---------------------------------------------------------------------------------------------


def test_accumulation_is_the_large_batch() -> None:
    large, small = make(size=16, n=32), make([Accumulate(4)], size=4, n=32)
    large.fit(2)
    small.fit(2)
    assert small.steps == large.steps == 4
    assert torch.allclose(weights(large), weights(small), atol=1e-6)


def test_the_rest_of_an_epoch_is_a_step_with_its_own_mean() -> None:
    large, small = make(size=16, n=24), make([Accumulate(4)], size=4, n=24)  # 16 and 8 examples
    large.fit(1)
    small.fit(1)
    assert small.steps == 2
    assert torch.allclose(weights(large), weights(small), atol=1e-6)


@pytest.mark.parametrize("clip", [Clip(0.01), Clip(value=0.001)])
def test_clipped_steps_are_short(clip: Clip) -> None:
    class Sees(Callback):
        order = 50

        def before_step(self, learn):
            gradient = torch.cat([p.grad.flatten() for p in learn.model.parameters()])
            assert gradient.norm() <= 0.01 * 1.001 if clip.kind == "norm" else gradient.abs().max() <= 0.001
            assert gradient.norm() > 0

    make([clip, Sees()]).fit(1)
    assert clip.kind == "value" or float(clip.last) > 0.01


def test_clip_takes_exactly_one_limit() -> None:
    for wrong in ({}, {"norm": 1.0, "value": 1.0}, {"norm": 0.0}, {"value": math.nan}):
        with pytest.raises(InputError, match="Clip"):
            Clip(**wrong)


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    seen = []

    class Sees(Callback):
        def after_predict(self, learn):
            seen.append(learn.outputs.dtype)

    learn = make([MixedPrecision(torch.bfloat16), Sees()])
    learn.fit(2)
    assert set(seen) == {torch.bfloat16}
    assert learn.model[0].weight.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_a_loss_scaler_scales_the_objective_and_not_the_step() -> None:
    data = InMemoryLoader(xy(), 8)
    plain, scaled = make(data=data), make([MixedPrecision(torch.float16), Clip(norm=1e9)], data=data)
    plain.fit(1)
    scaled.fit(1)
    assert scaled.callbacks[0].scaler.get_scale() > 1
    assert scaled.objective.item() == pytest.approx(
        scaled.loss.item() * scaled.callbacks[0].scaler.get_scale()
    )
    assert torch.allclose(weights(plain), weights(scaled), atol=2e-3)


def test_the_average_follows_its_formula_and_validates() -> None:
    ema, trail, validated = EMA(0.5), [], []

    class Trail(Callback):
        order = 10

        def after_step(self, learn):
            trail.append(weights(learn))

        def after_predict(self, learn):
            if not learn.training:
                validated.append(weights(learn))

    learn = make([ema, Trail()])
    start = weights(learn)
    learn.fit(1)
    average = start
    for t, now in enumerate(trail, 1):
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * now
    assert torch.allclose(validated[0], average, atol=1e-6)
    assert torch.equal(weights(learn), trail[-1]), "the weights themselves go on"
    with ema.averaged(learn):
        assert torch.allclose(weights(learn), average, atol=1e-6)
    kept = make([EMA(0.5, keep=True)])
    kept.fit(1)
    assert torch.allclose(weights(kept), average, atol=1e-6)


# ---- schedules ---------------------------------------------------------------------------------------------


class Rates(Callback):
    order = 1000

    def __init__(self) -> None:
        self.lr, self.beta = [], []

    def before_step(self, learn):
        group = learn.optimizer.param_groups[0]
        self.lr.append(group["lr"])
        self.beta.append(group["betas"][0] if "betas" in group else group["momentum"])


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
@pytest.mark.parametrize("epochs", [1, 3])
def test_one_cycle_is_torchs(optimizer, epochs: int) -> None:
    rates, expected = Rates(), Rates()
    learn = make([rates])
    learn.optimizer = optimizer(learn.model.parameters())
    learn.fit_one_cycle(epochs, 0.06)
    other = make([expected, Schedule(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.06, total_steps=epochs * 5 + 1), each="step")])  # fmt: skip
    other.optimizer = optimizer(other.model.parameters())
    reference = torch.optim.lr_scheduler.OneCycleLR(other.optimizer, 0.06, total_steps=epochs * 5)
    for lr, beta in zip(rates.lr, rates.beta):
        group = other.optimizer.param_groups[0]
        assert lr == pytest.approx(group["lr"], rel=1e-9)
        assert beta == pytest.approx(group["betas"][0] if "betas" in group else group["momentum"])
        other.optimizer.step()
        if len(reference._last_lr) and reference.last_epoch < epochs * 5 - 1:
            reference.step()


def test_schedules_by_step_by_epoch_and_by_metric() -> None:
    from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

    learn = make([Schedule(lambda o: StepLR(o, 1, 0.5))])
    learn.fit(1)
    assert learn.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**5
    learn = make([Schedule(lambda o: StepLR(o, 1, 0.5), each="epoch")])
    learn.fit(3)
    assert learn.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**3
    learn = make(
        [Metrics(), Schedule(lambda o: ReduceLROnPlateau(o, patience=0, threshold=10.0), each="epoch")]
    )
    learn.fit(3)
    assert learn.optimizer.param_groups[0]["lr"] < 0.1
    with pytest.raises(InputError, match=r"'valid_loss'.*add Metrics"):
        make([Schedule(ReduceLROnPlateau, each="epoch")]).fit(1)


def test_one_cycle_needs_to_know_how_long_the_data_is() -> None:
    class Endless:
        def __iter__(self):
            yield xy(8)

    with pytest.raises(InputError, match="does not say how many batches"):
        make([OneCycle(0.1)], data=Endless()).fit(1)
    with pytest.raises(InputError, match="2 rates for 1 parameter groups"):
        make([OneCycle([0.1, 0.2])]).fit(1)


# ---- batches -----------------------------------------------------------------------------------------------


def test_inputs_are_normalized_by_the_training_data() -> None:
    x, y = xy(64)
    x = x * torch.tensor([1.0, 2, 3, 4, 5, 1e-3]) + torch.tensor([1e4, 0, 0, 0, 0, 1.0])
    seen = []

    class Sees(Callback):
        def before_predict(self, learn):
            if learn.training:
                seen.append(learn.inputs[0])

    learn = make([Sees(), Normalize()], data=InMemoryLoader((x, y), 16, shuffle=True))
    order = InMemoryLoader((x, y), 16, shuffle=True)
    learn.fit(1)
    whole = torch.cat(seen)
    assert whole.mean(0).abs().max() < 1e-3
    assert (whole.std(0, correction=0) - 1).abs().max() < 2e-2
    assert [y.tolist() for _, y in order] != [], "looking at the data does not move its order"
    x[:, 2] = 7
    with pytest.raises(InputError, match="channel 2 is the same in every example"):
        make([Normalize()], data=InMemoryLoader((x, y), 16)).fit(1)


def test_looking_at_the_data_does_not_change_the_run() -> None:
    x, y = xy(64)

    def run(callbacks):
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8, shuffle=True)
        learn = make(callbacks, data=loader)
        torch.manual_seed(5)
        learn.fit(1)
        return weights(learn)

    class Looks(Callback):
        def before_fit(self, learn):
            learn.first_batch()

    assert torch.equal(
        run([]), run([Looks(), Recorder(), Metrics(accuracy), ActivationStats(1), Hooks(lambda *a: None)])
    )


def test_activation_stats_draw_under_the_names_that_fastai_gave_them() -> None:
    pytest.importorskip("matplotlib")
    stats = ActivationStats(every=1)
    with pytest.raises(InputError, match="fit first"):
        stats.color_dim()
    make([stats]).fit(1)
    for draw in (stats.color_dim, stats.dead_chart, stats.plot_stats):
        assert draw(sites="1").axes


def test_transforms_in_training_only() -> None:
    calls = []
    learn = make([BatchTransform(lambda b: calls.append(1) or b, valid=False)])
    learn.fit(1)
    assert len(calls) == 5


def test_device_moves_model_and_nested_batches() -> None:
    x, y = xy(8)
    learn = make([Device("cpu")], data=[((x,), y)])
    learn.fit(1)
    with pytest.raises(InputError, match="torch has no such device"):
        Device("gpu")


def test_a_single_batch_of_each_pass() -> None:
    learn = make([SingleBatch(), Metrics(accuracy)])
    learn.fit(2)
    assert learn.steps == 2
    assert set(learn.metrics) == {"train_loss", "valid_loss", "accuracy"}


# ---- metrics and records -----------------------------------------------------------------------------------


class Counts:
    """The interface of torchmetrics."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.right = self.all = 0

    def update(self, outputs, targets) -> None:
        self.right += int((outputs.argmax(1) == targets).sum())
        self.all += len(targets)

    def compute(self):
        return torch.tensor(self.right / self.all)


def test_metrics_weigh_examples_and_not_batches() -> None:
    learn = make([Metrics(accuracy, counted=Counts(), train=True)])  # the last validation batch has 8 of 16
    learn.fit(3)
    x, y = xy()
    with torch.no_grad():
        outputs = learn.model(x)
    assert learn.metrics["valid_loss"] == pytest.approx(float(F.cross_entropy(outputs, y)), rel=1e-5)
    assert learn.metrics["accuracy"] == pytest.approx(float(accuracy(outputs, y)))
    assert learn.metrics["accuracy"] == learn.metrics["counted"]
    assert set(learn.metrics) == {
        "train_loss",
        "valid_loss",
        "accuracy",
        "counted",
        "train_accuracy",
        "train_counted",
    }
    assert [h["valid_loss"] for h in learn.history] == sorted(
        (h["valid_loss"] for h in learn.history), reverse=True
    )


def test_metrics_see_the_logits_and_labels_of_models_that_take_both() -> None:
    x, y = xy()
    data = [{"x": x, "labels": y}]
    metrics = Metrics(accuracy, counted=Counts())
    learn = Learner(Carries(), (data, data), None, lambda p: torch.optim.SGD(p, lr=0.1), [metrics])
    learn.fit(1)
    with torch.no_grad():
        expected = float(accuracy(learn.model(x, y)["logits"], y))
    assert learn.metrics["accuracy"] == pytest.approx(expected)
    assert learn.metrics["counted"] == pytest.approx(expected)


def test_metrics_refuse_what_they_cannot_compute() -> None:
    with pytest.raises(InputError, match="two are called accuracy"):
        Metrics(accuracy, accuracy)
    with pytest.raises(InputError, match="expected a function"):
        Metrics(good=3)


def test_the_record_holds_every_step_and_can_be_judged_and_drawn(tmp_path) -> None:
    losses = []

    class Keeps(Callback):
        def after_loss(self, learn):
            if learn.training:
                losses.append(learn.loss.item())

    recorder = Recorder()
    learn = make(
        [Metrics(accuracy), recorder, Keeps(), ActivationStats(4)],
        record=tmp_path / "new" / "run.sqlite",
        size=1,
    )
    learn.fit_one_cycle(2, 0.1)
    record = ug.Record.load(tmp_path / "new" / "run.sqlite")
    steps, values = record.metric("loss")
    assert steps.tolist() == list(range(80))
    assert values == pytest.approx(losses)
    assert record.metric("lr")[1][0] == pytest.approx(0.1 / 25)
    assert record.metric("accuracy")[0].tolist() == [39, 79]
    assert record.facts.loss.kind == "cross_entropy"
    assert record.facts.target.classes == 4
    assert record.facts.optimizer.name == "SGD"
    assert record.steps() == list(range(0, 80, 4))
    assert "UG504" not in ug.diagnose(record).abstained
    figure = recorder.plot()
    assert [a.get_ylabel() for a in figure.axes] == ["loss", "learning rate", "accuracy"]


def test_a_record_without_loss_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="holds no loss"):
        ug.plots.training(ug.Record())


def test_hooks_see_the_modules_asked_for_and_go_away() -> None:
    seen = []
    learn = make(
        [
            Hooks(lambda learn, name, module, inputs, output: seen.append(name), modules=["0", "2"]),
            SingleBatch(),
        ]
    )
    learn.fit(1)
    assert seen == ["0", "2", "0", "2"]
    assert not any(m._forward_hooks for m in learn.model.modules())
    with pytest.raises(InputError, match="no module of the model matches"):
        make([Hooks(print, modules="fc*")]).fit(1)


class Divides(nn.Module):
    def forward(self, x):
        return x / (x - x)


def test_the_first_site_that_is_not_finite_is_named_and_the_weights_are_safe() -> None:
    stop = StopOnNonFinite()
    learn = make([stop])
    learn.model.insert(1, Divides())
    before = weights(learn)
    with pytest.warns(UserWarning, match="training stopped"):
        learn.fit(3)
    assert stop.reason.startswith("the norm of the gradients is nan in epoch 0, batch 0")
    assert "first bad site: 1 (UG306 activation-not-finite" in str(stop.reason)
    assert torch.equal(before, weights(learn))
    x, y = xy(8)
    x[3, 2] = math.nan
    with pytest.raises(NonFiniteLoss, match="UG202"):
        make([StopOnNonFinite(strict=True)], data=[(x, y)]).fit(1)
    spoilt = make([StopOnNonFinite(strict=True)])
    spoilt.model[2].weight.data[0, 0] = math.inf
    with pytest.raises(NonFiniteLoss, match=r"the weights 2\.weight are not finite"):
        spoilt.fit(1)


def test_lsuv_runs_before_the_first_fit_only_on_prepared_batches() -> None:
    seen = []

    class Sees(Callback):
        def before_epoch(self, learn):
            with torch.no_grad():
                first = learn.model[0]((learn.data.train.tensors[0][:8] - 2) / 3)
            seen.append(float(first.std(correction=0)))

    learn = make([LSUV(target_mean=None), Normalize(2.0, 3.0), Sees()], lr=0.3)
    learn.fit(1)
    learn.fit(1)
    assert seen[0] == pytest.approx(1, abs=0.02), "measured on inputs as the model gets them"
    assert abs(seen[1] - 1) > 0.05, "training has moved it, and nobody moved it back"


def test_adaptive_clipping_finds_the_classifier_and_goes_away() -> None:
    ratios = []

    class Sees(Callback):
        order = 1000

        def after_step(self, learn):
            w = learn.model[0].weight
            ratios.append(float((w.grad.norm(dim=1) / w.detach().norm(dim=1)).max()))

    learn = make([Clip(agc=1e-3), Sees()], lr=1e-6)
    learn.fit(1)
    assert max(ratios) < 1.01e-3
    assert not learn.optimizer._optimizer_step_pre_hooks


# ---- for people --------------------------------------------------------------------------------------------


def test_progress_is_quiet_where_nobody_looks_and_a_table_where_somebody_does(capsys) -> None:
    from rich.console import Console

    make([Metrics(accuracy), Progress()]).fit(1)
    assert capsys.readouterr().out == ""
    make([Metrics(accuracy), Progress(plain=True)]).fit(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "accuracy 0." in lines[0]
    screen = io.StringIO()
    make([Metrics(accuracy), Progress(Console(file=screen, force_terminal=True, width=100))]).fit(2)
    text = screen.getvalue()
    assert "valid_loss" in text
    assert "loss " in text


def test_progress_is_seen_below_a_notebooks_cell(monkeypatch) -> None:
    """A notebook is no terminal, and showed nothing while a Learner trained or a rate was looked for."""

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    shown: list[str] = []
    display = SimpleNamespace(display=lambda *_, **__: Handle())
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("unitgain.train.callbacks.progress._IN_A_CELL", 0.0)
    learn = make([Metrics(accuracy), Progress()])
    learn.fit(2)
    assert "epoch 2/2 train 2/5  loss " in "".join(shown)
    assert shown[-1].splitlines()[0].split() == ["epoch", "train_loss", "valid_loss", "accuracy", "s"]
    shown.clear()
    learn.lr_find(steps=20, trials=0)
    assert shown[0].startswith("step 1/20, learning rate ")
    assert shown[-1] == ""


def test_progress_without_its_table_is_a_line_that_vanishes(capsys, monkeypatch) -> None:
    """unitgain train was silent within an epoch; its own line per epoch stays."""
    from rich.console import Console

    monkeypatch.setattr("unitgain.train.callbacks.progress._EVERY", 0.0)
    make([Metrics(), Progress(table=False)]).fit(1)
    assert capsys.readouterr().out == ""
    screen = io.StringIO()
    make([Metrics(), Progress(Console(file=screen, force_terminal=True, width=100), table=False)]).fit(2)
    text = screen.getvalue()
    assert "epoch 1/2 train 2/5" in text
    assert "epoch 2/2" in text
    assert "valid_loss" not in text
    assert text.rstrip("\r").endswith("\x1b[2K")  # the line is wiped in the end


def test_loggers_write_the_rate_that_made_the_step() -> None:
    class Writer:
        def __init__(self):
            self.rows = []

        def add_scalar(self, name, value, step):
            self.rows.append((name, value, step))

        def flush(self):
            self.rows.append(("flushed",))

    class Run:
        rows: list = []  # noqa: RUF012

        def log(self, values, step):
            self.rows.append((values, step))

    writer, run = Writer(), Run()
    callbacks = [Metrics(), TensorBoard(writer, every=2), WeightsAndBiases(run, every=5)]
    learn = make([*callbacks, Schedule(lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5))])
    learn.fit(1)
    assert [(s, v) for n, v, s in writer.rows[:-1] if n == "lr"] == [(0, 0.1), (2, 0.025), (4, 0.00625)]
    assert {r[0] for r in writer.rows[:-1]} == {"loss", "lr", "train_loss", "valid_loss", "epoch"}
    assert writer.rows[-1] == ("flushed",)
    assert [step for _, step in run.rows] == [0, 4]
