"""watch and the loggers: real ones where they are installed."""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain.integrations import read_log
from unitgain.integrations.judging import Judge
from unitgain.record import Record
from unitgain.rules import Diagnosis, Finding


def collected():
    rows: list[tuple[int, dict[str, float]]] = []
    return rows, lambda values, step: rows.append((step, values))


def test_training_is_bit_for_bit_the_same_with_and_without(small, same_weights) -> None:
    _, to = collected()
    watched = small.plain(lambda m, o: ug.watch(m, o, every=3, to=to))
    assert same_weights(watched, small.plain())


def test_a_handful_of_numbers_by_default_and_one_a_layer_only_when_asked(small) -> None:
    rows, to = collected()
    small.plain(lambda m, o: ug.watch(m, o, every=10, to=to))
    assert [step for step, _ in rows][:3] == [0, 10, 20]
    assert set(rows[1][1]) == {
        "ug/update_ratio_median", "ug/update_ratio_min", "ug/update_ratio_max", "ug/grad_norm_all",
        "ug/act_std_min", "ug/act_std_max", "ug/dead_units", "ug/nonfinite_sites",
    }  # fmt: skip
    each, to = collected()
    small.plain(lambda m, o: ug.watch(m, o, every=10, to=to, layers="each"))
    assert {"ug/update_ratio/0.weight", "ug/grad_norm/4.bias", "ug/act_std/3"} <= set(each[1][1])
    assert "ug/update_ratio/0.bias" not in each[1][1]


def test_the_norm_of_all_gradients_is_that_of_clip_grad_norm(small) -> None:
    rows, to = collected()
    norms = []

    def watched(model, optimizer):
        optimizer.register_step_pre_hook(
            lambda *_: norms.append(float(nn.utils.get_total_norm([p.grad for p in model.parameters()])))
        )
        return ug.watch(model, optimizer, every=10, to=to)

    small.plain(watched)
    logged = [values["ug/grad_norm_all"] for _, values in rows if "ug/grad_norm_all" in values]
    assert logged == pytest.approx(norms[::10], rel=1e-5)


def test_an_error_is_told_when_it_appears_and_again_when_it_is_gone(small, capsys) -> None:
    rows, to = collected()
    model = small.model()
    optimizer = small.optimizer(model)
    with ug.watch(model, optimizer, every=1, to=to) as watching:
        for x, y in small.batches()[:4]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x * math.inf), y).backward()
            optimizer.step()
        told = capsys.readouterr().err
        assert "error UG202" in told
        assert told.count("UG202") == 1
        assert "UG202" in {f.code for f in watching.findings}
    assert [(s, v) for s, v in rows if "ug/finding/UG202" in v] == [(0, {"ug/finding/UG202": 3.0})]


class _Scripted:
    """Judges with diagnoses written down beforehand."""

    def __init__(self, monkeypatch, *severities: str | None):
        found = [
            Diagnosis(
                () if s is None else (Finding("UG501", "updates-too-large", s, None, "m"),), "v", "sick"
            )
            for s in severities
        ]
        self.judge = Judge(Record())
        monkeypatch.setattr("unitgain.integrations.judging.diagnose", lambda *_, **__: found.pop(0))

    def news(self, samples: int, last: bool = False) -> tuple[list[str], tuple[str, ...]]:
        news = self.judge.look(samples, last=last)
        return [f.severity for f in news.findings], news.gone


def test_a_warning_of_the_first_steps_that_goes_away_is_never_told(monkeypatch) -> None:
    judge = _Scripted(monkeypatch, "warning", "warning", None, "warning", "warning", "error", None)
    assert judge.news(1) == ([], ())
    assert judge.news(2) == ([], ())
    assert judge.news(12) == ([], ())
    assert judge.news(13) == ([], ())  # once is not enough
    assert judge.news(14) == (["warning"], ())
    assert judge.news(15) == (["error"], ())
    assert judge.news(16) == ([], ("UG501",))


def test_a_warning_that_stands_at_the_end_of_a_short_run_is_told(monkeypatch) -> None:
    judge = _Scripted(monkeypatch, "warning", "warning", "warning")
    assert judge.news(1) == ([], ())
    assert judge.news(2, last=True) == (["warning"], ())
    assert judge.news(3, last=True) == ([], ())


def test_judging_a_long_run_takes_a_hundredth_of_its_time_at_most(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("unitgain.integrations.judging.time.monotonic", lambda: now[0])
    judge = Judge(Record())

    def slow(*_, **__):
        now[0] += 1.0
        return Diagnosis((), "v", "healthy")

    monkeypatch.setattr("unitgain.integrations.judging.diagnose", slow)
    looked = 0
    for samples in range(1, 2001):
        now[0] += 0.1
        if judge.due(samples):
            judge.look(samples)
            looked += 1
    assert 11 <= looked <= 14  # 1, 2, 4, ..., 1024, and what a hundredth of 200 seconds allows


def test_a_logger_that_fails_does_not_end_training(small, same_weights) -> None:
    def broken(values, step):
        raise OSError("no space left on device")

    with pytest.warns(UserWarning, match="logs no more here: Function raised OSError: no space left"):
        watched = small.plain(lambda m, o: ug.watch(m, o, every=5, to=broken))
    assert same_weights(watched, small.plain())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"to": 3}, "int takes no numbers"),
        ({"to": "comet"}, "by name there are wandb, mlflow, trackio"),
        ({"to": "run.sqlite"}, "the path of a record goes to record='run.sqlite'"),
        ({"to": "tensorboard"}, "give a SummaryWriter"),
        ({"to": "mlfow"}, "did you mean 'mlflow'"),
        ({"to": torch.nn.Linear}, "got the class Linear"),
        ({"evry": 3}, "did you mean 'every'"),
        ({"layers": "all"}, "expected one of 'histogram', 'each', 'none'"),
        ({"select": ["UG999"]}, "UG999"),
        ({"every": 0}, "a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_refused_before_training(small, arguments, says) -> None:
    model = small.model()
    with pytest.raises(ug.InputError, match=says):
        ug.watch(model, small.optimizer(model), **arguments)


def test_what_is_watched_can_be_unwatched_and_watched_again(small) -> None:
    model = small.model()
    optimizer = small.optimizer(model)
    for _ in range(2):
        watching = ug.watch(model, optimizer, every=1)
        model(small.x).sum().backward()
        optimizer.step()
        watching.close()
        watching.close()
        assert watching.record.steps() == [0]
        assert not optimizer._optimizer_step_post_hooks
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# ---- the real loggers --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_gets_numbers_histograms_and_alerts_and_keeps_the_caller_s_steps(
    small, tmp_path, monkeypatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="test", dir=str(tmp_path))
    alerts = []
    monkeypatch.setattr(run, "alert", lambda **what: alerts.append(what))
    model = small.model()
    optimizer = small.optimizer(model)
    with ug.watch(model, optimizer, every=10, to=run) as watching:
        for number, (x, y) in enumerate(small.batches()):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x * (math.nan if number > 15 else 1)), y)
            loss.backward()
            optimizer.step()
            watching.log(loss=loss)
            run.log({"loss": float(loss)})
    run.finish()
    wandb.teardown()  # which writes the file
    assert alerts
    assert alerts[0]["title"].startswith("unitgain: error UG")
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    record = read_log(folder)
    steps, losses = record.metric("loss")
    assert steps.tolist() == list(range(24))  # the caller's own steps, none swallowed
    assert math.isnan(losses[-1])
    assert record.metric("ug/update_ratio_median")[0].tolist()[:2] == [0, 10]
    assert record.metric("ug/step")[1].tolist()[:3] == [0, 10, 20]
    assert "UG104" in {f.code for f in ug.diagnose(record).findings}


@pytest.mark.filterwarnings("ignore")
def test_wandb_rows_are_not_lost_where_nobody_else_logs(small, tmp_path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(project="test", dir=str(tmp_path))
    small.plain(lambda m, o: ug.watch(m, o, every=10, to="wandb"))
    run.finish()
    wandb.teardown()  # which writes the file
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert read_log(folder, loss="ug/step").metric("ug/step")[1].tolist()[:3] == [0, 10, 20]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_gets_numbers_histograms_and_a_table(small, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        small.plain(lambda m, o: ug.watch(m, o, every=10, to=writer))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Scalars("ug/grad_norm_all")] == [0, 10, 20]
    assert "ug/update_ratio_layers" in events.Tags()["histograms"]
    assert "ug/layers/text_summary" in events.Tags()["tensors"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_numbers_and_a_table(small, tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run, warnings.catch_warnings():
        small.plain(lambda m, o: ug.watch(m, o, every=10, to=mlflow, layers="each"))
    client = mlflow.MlflowClient()
    assert [m.step for m in client.get_metric_history(run.info.run_id, "ug/grad_norm_all")] == [0, 10, 20]
    assert client.get_metric_history(run.info.run_id, "ug/grad_norm/0.weight")
    assert [a.path for a in client.list_artifacts(run.info.run_id, "unitgain")] == ["unitgain/layers.csv"]


def test_an_old_trackio_without_histograms_and_alerts_gets_the_numbers(small) -> None:
    module = type(torch)("trackio")
    rows: list[tuple[int, dict[str, float]]] = []
    module.log = lambda values, step: rows.append((step, values))  # type: ignore[attr-defined]
    small.plain(lambda m, o: ug.watch(m, o, every=10, to=module))
    assert [step for step, values in rows if "ug/grad_norm_all" in values] == [0, 10, 20]


TRACKIO = """
import sys, types
import torch
import torch.nn.functional as F
import unitgain as ug
import trackio

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
run = trackio.init(project="tried", name="one", embed=False, auto_log_gpu=False, auto_log_cpu=False)
to = {"name": "trackio", "module": trackio, "run": run}[sys.argv[1]]
with ug.watch(model, optimizer, every=10, to=to):
    for step in range(24):
        x = torch.randn(16, 6) * (float("nan") if step > 15 else 1)
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(16) % 3).backward()
        optimizer.step()
trackio.finish()

from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("tried", "one")
print("steps", [row["step"] for row in rows if "ug/nonfinite_sites" in row])
print("histograms", [row["step"] for row in rows if "ug/update_ratio_layers" in row])
print("tables", sum("ug/layers" in row for row in rows))
print("alerts", [(a["level"], a["title"].split(" at ")[0]) for a in SQLiteStorage.get_alerts("tried")])
"""


@pytest.mark.parametrize("way", ["name", "module", "run"])
def test_trackio_s_own_client_gets_numbers_histograms_alerts_and_a_table(way: str, tmp_path) -> None:
    pytest.importorskip("trackio")
    environment = {
        **os.environ, "TRACKIO_DIR": str(tmp_path / "kept"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(ug.__file__).parents[1]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRACKIO, way],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "unitgain logs no more" not in done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line[:1] in "shta" and " " in line)
    assert told["steps"] == "[0, 10, 20]"
    assert told["histograms"].startswith("[0, 10")
    assert told["tables"] == "1"
    assert "('error', 'unitgain: error UG" in told["alerts"]
    assert "('warn', 'unitgain: error" not in told["alerts"]
