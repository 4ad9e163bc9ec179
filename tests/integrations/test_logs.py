"""Reading what other programs logged: files as these programs write them."""

from __future__ import annotations

import json
import math
import pickle

import pytest

import unitgain as ug
from unitgain.cli import main
from unitgain.integrations import is_log, read_log


def falling(step: int) -> float:
    return 2.3 * 0.99**step + 0.02 * ((step * 7919) % 13 - 6)


def diverging(step: int) -> float:
    return falling(step) if step < 120 else falling(120) * 1.1 ** (step - 120)


def write_csv(path, losses, header="step,train_loss,val_loss") -> None:
    rows = [header, *(f"{s},{v}," for s, v in enumerate(losses))]
    path.write_text("\n".join(rows) + "\n")


def test_a_diverged_run_is_found_in_a_csv_and_a_good_one_is_not(tmp_path) -> None:
    write_csv(tmp_path / "bad.csv", [diverging(s) for s in range(200)])
    write_csv(tmp_path / "good.csv", [falling(s) for s in range(200)])
    assert [f.code for f in ug.diagnose(read_log(tmp_path / "bad.csv")).findings] == ["UG504"]
    assert ug.diagnose(read_log(tmp_path / "good.csv")).findings == ()


def test_rows_of_lightning_s_logger_with_empty_cells_and_without_a_step(tmp_path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train_loss_step,valid_loss\n0,0,2.5,\n0,1,2.0,\n0,,,2.2\n1,2,nan,\n")
    record = read_log(path)
    steps, losses = record.metric("loss")
    assert steps.tolist() == [0, 1, 2]
    assert losses.tolist()[:2] == [2.5, 2.0]
    assert math.isnan(losses[2])
    assert record.metric("valid_loss")[0].tolist() == [1]


def test_ug505_is_judged_where_the_number_of_classes_is_given(tmp_path) -> None:
    write_csv(tmp_path / "log.csv", [25.0 if s < 2 else 2.9 - 0.001 * s for s in range(400)])
    assert [f.code for f in ug.diagnose(read_log(tmp_path / "log.csv", classes=10)).findings] == ["UG505"]


def test_trainer_state_counts_the_steps_made_before(tmp_path) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": [{"step": 10, "loss": 2.0}, {"step": 20, "eval_loss": 1.0}]}))
    record = read_log(path)
    assert record.metric("loss")[0].tolist() == [9]
    assert record.metric("eval_loss")[0].tolist() == [19]


def test_jsonl_is_read_row_by_row(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"iteration": 3, "loss": 1.5}\n\n{"iteration": 4, "loss": NaN, "note": "x"}\n')
    steps, losses = read_log(path).metric("loss")
    assert steps.tolist() == [3, 4]
    assert losses[0] == 1.5
    assert math.isnan(losses[1])


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_files_are_read(tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(200):
            writer.add_scalar("Loss/train", diverging(step), step)
    record = read_log(tmp_path)
    assert len(record.metric("loss")[0]) == 200  # every one, where TensorBoard's page would show a sample
    assert [f.code for f in ug.diagnose(record).findings] == ["UG504"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("log.csv", "step,accuracy\n0,0.5\n", "no series is called like a training loss.*there are accuracy"),
        ("log.csv", "", "it holds no numbers"),
        ("log.csv", "loss\nmuch\n", "it holds no numbers"),
        ("log.txt", "loss 3", "not a log that can be read"),
        ("log.jsonl", "{]\n", "not JSON"),
        ("log.jsonl", "[1]\n", "line 1 is no object"),
        ("trainer_state.json", "{}", "not a trainer_state.json"),
        ("run.wandb", "hello, this is text", "not a file of wandb"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, name, text, says) -> None:
    if name == "run.wandb":
        pytest.importorskip("wandb")
    (tmp_path / name).write_text(text)
    with pytest.raises(ug.InputError, match=says):
        read_log(tmp_path / name)


def test_nothing_is_unpickled(tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return print, ("boom",)

    for name in ("log.csv", "log.jsonl", "trainer_state.json"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ug.InputError):
            read_log(tmp_path / name)


def test_the_command_line_checks_a_log(tmp_path, capsys) -> None:
    path = tmp_path / "log.csv"
    write_csv(path, [diverging(s) for s in range(200)])
    assert is_log(str(path))
    assert main(["check", str(path)]) == 1
    assert "UG504" in capsys.readouterr().out
    assert main(["check", str(path), "--shape", "2,2"]) == 2
    path.write_text(path.read_text().replace("loss", "objective"))
    capsys.readouterr()
    assert main(["check", str(path)]) == 2
    assert "on the command line --loss); there are " in capsys.readouterr().err
    assert main(["check", str(path), "--loss", "train_objective"]) == 1
    assert "UG504" in capsys.readouterr().out
    assert not is_log(str(tmp_path))
