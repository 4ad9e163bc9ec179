"""The Probe's life: steps are numbered right, failing never reaches training, and what cannot be right is refused."""

from __future__ import annotations

import copy
import math
import sqlite3
import weakref
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from unitgain import InputError, Probe, Record, RecordError
from unitgain.rules._view import View
from unitgain.stats import take_examples


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 1) -> None:
    for _ in range(steps):
        model(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# ---- failing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["write", "measure"])
def test_hooks_are_gone_before_the_warning_and_a_second_error_is_swallowed(monkeypatch, failing: str) -> None:
    """The warning may be turned into an error by the user's filters: by then nothing of the Probe may be left."""
    model = mlp()
    optimizer = sgd(model)
    if failing == "measure":
        monkeypatch.setattr("unitgain.stats.take_examples", lambda *a, **k: 1 / 0)
    with Probe(model, optimizer, every=1) as probe:
        if failing == "write":
            probe._writer.write = lambda *a: 1 / 0  # type: ignore[method-assign,assignment]
        probe._writer.drain = lambda: 1 / 0  # type: ignore[method-assign,assignment]
        with pytest.warns(UserWarning, match="stopped measuring at step 0: ZeroDivisionError") as caught:
            train(model, optimizer, 2)
        assert len(caught) == 1
        assert hooks_of(model) == 0
        assert not optimizer._optimizer_step_post_hooks
        del probe._writer.drain


def make_full(record: Record) -> None:
    record._connection.execute("PRAGMA max_page_count = 1")


def make_read_only(record: Record) -> None:
    record._connection.execute("PRAGMA query_only = 1")


def make_locked(record: Record) -> None:
    record.commit()
    record._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(record.path)
    other.execute("BEGIN IMMEDIATE")
    weakref.finalize(record, other.close)  # kept alive until then: it holds the lock


FAILURES = [
    (make_full, "database or disk is full"),
    (make_read_only, "attempt to write a readonly database"),
    (make_locked, "database is locked"),
]


def log_much(record: Record) -> None:
    """More than fits into the pages that are there."""
    record.add_metrics((step, "loss", 1.0) for step in range(2000))


@pytest.mark.parametrize(("fail", "words"), FAILURES)
@pytest.mark.parametrize("first", ["step", "log", "flush", "go_to", "record", "stop"])
def test_a_record_that_cannot_be_written_never_raises_in_the_loop(
    fail, words: str, first: str, tmp_path
) -> None:
    """A full disk, a folder made read-only, another process in the same file: named as such, once, and not a defect."""
    model = mlp()
    optimizer = sgd(model)
    calls = {
        "log": lambda: probe.log(**{f"loss{i}": 1.0 for i in range(2000)}),
        "flush": lambda: probe.flush(),
        "go_to": lambda: probe.go_to(7),
        "record": lambda: probe.record,
        "stop": lambda: probe.stop(),
    }
    probe = Probe(model, optimizer, to=tmp_path / "run.sqlite", every=1).start()
    probe._writer._written_at = math.inf  # a step waits until something asks for it
    train(model, optimizer)
    fail(probe._record)
    if first == "step":
        probe._writer._written_at = -math.inf
    with pytest.warns(UserWarning, match=rf"run\.sqlite: cannot be written: {words}") as caught:
        calls.get(first, lambda: train(model, optimizer))()
    assert len(caught) == 1
    assert "defect" not in str(caught[0].message)
    assert hooks_of(model) == 0
    train(model, optimizer)
    for call in calls.values():
        call()


@pytest.mark.parametrize(("fail", "words"), FAILURES)
def test_an_error_of_sqlite_names_the_record(fail, words: str, tmp_path: Path) -> None:
    record = Record(tmp_path / "run.sqlite")
    probe = Probe(mlp(), strict=True, to=record, every=1)
    fail(record)
    with pytest.raises(RecordError, match=rf"run\.sqlite: cannot be written: {words}"):
        log_much(record)
    with pytest.raises(RecordError, match="cannot be written"):
        probe.log(**{f"loss{i}": 1.0 for i in range(2000)})


def test_what_is_not_one_number_is_left_out_of_the_log_with_one_warning() -> None:
    model = mlp()
    optimizer = sgd(model)
    with Probe(model, optimizer, every=1) as probe:
        train(model, optimizer)
        with pytest.warns(
            UserWarning, match=r"log\(norm=\.\.\.\): a tensor of shape \(2,\) is not one number"
        ):
            probe.log(loss=1.0, norm=torch.ones(2))
        probe.log(norm=torch.ones(2), accuracy=0.5)
    assert probe.record.metric_names() == ["accuracy", "loss", "lr"]
    with (
        pytest.raises(InputError, match="not one number"),
        Probe(model, optimizer, strict=True, every=1) as probe,
    ):
        probe.log(loss=None)


class Fragile(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.fail = nn.Linear(6, 6), False

    def forward(self, x):
        x = torch.tanh(self.fc(x))
        if self.fail:
            raise KeyboardInterrupt
        return x * 2


def test_a_pass_that_was_interrupted_leaves_no_stale_flow_for_the_next_one() -> None:
    """KeyboardInterrupt skips even the hooks that are always called; the mode stayed on for everything after."""
    model = Fragile()
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        model.fail = True
        with pytest.raises(KeyboardInterrupt):
            model(torch.randn(4, 6))
        model.fail = False
        train(model, optimizer, 2)
        assert torch._C._len_torch_function_stack() == 0
    assert probe.record.steps() == [0, 1]
    for step in (0, 1):
        assert {"fc", ":tanh", "output"} == set(probe.record.values("activation", step))


# ---- steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [True, False], ids=["after optimizer.step", "before"])
@pytest.mark.parametrize("every", [1, 2])
def test_a_loss_logged_after_the_optimizers_step_belongs_to_that_step(after: bool, every: int) -> None:
    model = mlp()
    optimizer = sgd(model)
    with Probe(model, optimizer, every=every, strict=True) as probe:
        for i in range(4):
            model(torch.randn(4, 6)).sum().backward()
            if not after:
                probe.log(loss=i)
            optimizer.step()
            with torch.no_grad():  # validation
                model(torch.randn(4, 6))
            if after:
                probe.log(loss=i)
    steps, losses = probe.record.metric("loss")
    assert steps.tolist() == [0, 1, 2, 3]
    assert losses.tolist() == [0, 1, 2, 3]
    assert probe.record.steps() == list(range(0, 4, every))


def test_a_loss_logged_without_an_optimizer_belongs_to_the_pass_that_gave_it() -> None:
    model = mlp()
    with Probe(model, strict=True, every=1) as probe:
        for i in range(3):
            model(torch.randn(4, 6)).sum().backward()
            probe.log(loss=i)
    assert probe.record.metric("loss")[0].tolist() == probe.record.steps() == [0, 1, 2]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_without_an_optimizer_steps_that_are_not_sampled_are_counted_too(every: int) -> None:
    """With every=2 the count stood still at the first step that was not sampled."""
    model = mlp()
    with Probe(model, every=every, strict=True) as probe:
        for _ in range(7):
            model(torch.randn(4, 6)).sum().backward()
    assert probe.record.steps() == list(range(0, 7, every))


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_grad_scaler_skipped_leaves_no_update(fused: bool) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for sick in (False, True, False):
            x = torch.randn(4, 6)
            if sick:
                x[0, 0] = math.inf
            scaler.scale(model(x).square().mean()).backward()
            before = copy.deepcopy(model.state_dict())
            scaler.step(optimizer)
            moved = any(not torch.equal(p, before[n]) for n, p in model.state_dict().items())
            assert moved is not sick
            scaler.update()
            optimizer.zero_grad()
    record = probe.record
    measured = {step for step in record.steps() if record.values("update", step)}
    # of a fused optimizer the step is called, and counted, though it does nothing
    assert measured == ({0, 2} if fused else {0, 1})
    for step in measured:
        assert record.value("update", "0.weight", "absmax", step) > 0
        assert record.value("gradient", "0", "nonfinite", step) == 0
        assert record.value("parameter_gradient", "0.weight", "nonfinite", step) == 0
        assert record.value("activation", "0", "count", step) == 32


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale_first", [False, True])
def test_gradients_and_updates_under_a_grad_scaler_are_those_without(
    fused: bool, unscale_first: bool
) -> None:
    torch.manual_seed(0)
    x, first, records = torch.randn(4, 6), mlp(), []
    for scale in (None, 1024.0):
        model = copy.deepcopy(first)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        with Probe(model, optimizer, strict=True, every=1) as probe:
            scaler.scale(model(x).square().mean()).backward()
            if unscale_first:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        records.append(probe.record)
    plain, scaled = records
    for kind in ("parameter", "parameter_gradient", "update"):
        for name, want in plain.values(kind).items():
            assert scaled.value(kind, name, "rms") == pytest.approx(want["rms"], rel=1e-5), (kind, name)
    # backward was called on the scaled loss, and that is whose gradient the activations have
    want = plain.value("gradient", "0", "rms") * 1024
    assert scaled.value("gradient", "0", "rms") == pytest.approx(want, rel=1e-5)


def test_accumulation_is_not_taken_for_a_skipped_step() -> None:
    model = mlp()
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for _ in range(3):
            model(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
    assert probe.record.value("activation", "0", "count") == 3 * 32


# ---- arguments ---------------------------------------------------------------------------------------------


def test_an_optimizer_of_another_model_is_warned_of() -> None:
    """After the model was made anew every update was missing, without a word. UG701 says it of the record."""
    optimizer = sgd(mlp())
    with pytest.warns(
        UserWarning, match=r"SGD holds none of the 4 parameters of the Sequential.*model\.parameters"
    ):
        Probe(mlp(), optimizer, every=1)


def test_an_optimizer_of_some_parameters_or_a_model_without_any_is_fine() -> None:
    model = mlp()
    Probe(model, torch.optim.SGD(model[2].parameters(), 0.1), every=1)
    Probe(nn.ReLU(), sgd(model), every=1)


def test_a_rerun_with_the_same_file_names_the_way_out(tmp_path: Path) -> None:
    path, model = tmp_path / "run.sqlite", mlp()
    optimizer = sgd(model)
    for overwrite in (False, True):
        with Probe(model, optimizer, to=path, overwrite=overwrite, every=1) as probe:
            train(model, optimizer, 2 if overwrite else 3)
        probe.record.close()
    assert Record.load(path).steps() == [0, 1]
    with pytest.raises(InputError, match="overwrite=True"):
        Probe(model, optimizer, to=path, every=1)


def test_attach_refuses_a_module_sites_name_and_never_stops_training_by_an_error_inside(monkeypatch) -> None:
    model = mlp()
    optimizer = sgd(model)
    with Probe(model, optimizer, every=1) as probe:
        train(model, optimizer)
        with pytest.raises(InputError, match=r"attach\(name='0'\)"):
            probe.attach(torch.randn(3, 2), "0")
        monkeypatch.setattr("unitgain.stats.take_examples", lambda *a, **k: 1 / 0)
        x = torch.randn(3, 2)
        with pytest.warns(UserWarning, match="ZeroDivisionError"):
            returned = probe.attach(x, "mine")
        assert returned is x
    assert hooks_of(model) == 0


# ---- what is measured --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 4, 5), (4, 1, 5), (1, 1, 5, 5), (2, 3)])
@pytest.mark.parametrize("limit", [8, 10_000])
def test_examples_that_wait_for_the_steps_end_are_no_views_of_the_models_tensors(shape, limit: int) -> None:
    """With one example or one channel a transpose is contiguous already, and `contiguous()` copied nothing."""
    x = torch.randn(shape)
    some, _, _ = take_examples(x, 1, 0, limit, 0)
    before = some.clone()
    x.add_(1)
    assert torch.equal(some, before)


def test_an_operation_in_place_between_modules_does_not_change_what_was_measured() -> None:
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            y = self.conv(x)
            self.kept = y.detach().clone()
            return y.add_(100.0).sum((1, 2, 3))

    model = InPlace()
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        model(torch.randn(1, 1, 5, 5)).sum().backward()
        optimizer.step()
    assert probe.record.value("activation", "conv", "mean") == pytest.approx(
        model.kept.mean().item(), abs=1e-5
    )


def test_zeros_are_counted_when_there_is_no_histogram_to_count_them_in() -> None:
    model = mlp()
    optimizer = sgd(model)
    with Probe(model, optimizer, histograms=False, strict=True, every=1) as probe:
        out = model[:2](torch.randn(4, 6))
        out.sum().backward()
        with pytest.warns(UserWarning, match="forward of Sequential itself was not called"):
            optimizer.step()
    assert probe.record.value("activation", "1", "zero") == pytest.approx((out == 0).float().mean().item())
    assert probe.record.histograms("activation") == []


def test_cosines_come_at_the_first_sampled_step_of_every_site_and_a_view_keeps_the_last_one_known() -> None:
    model = nn.Sequential(*[nn.Linear(6, 6) for _ in range(10)])
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        train(model, optimizer, 5)
    record = probe.record
    sites = [s.name for s in record.sites("activation")]
    assert all(math.isfinite(record.value("activation", name, "cosine", 0)) for name in sites)
    last = record.values("activation", 4)
    lacking = [name for name in sites if "cosine" not in last[name]]
    assert lacking, "a limit measures cosines now and then only"
    seen = {m.name: m for m in View(record).activations}
    for name in lacking:
        _, values = record.series("activation", name, "cosine")
        known = [v for v in values if math.isfinite(v)]
        assert seen[name]["cosine"] == known[-1]


def test_tensors_in_dataclass_outputs_are_measured() -> None:
    @dataclass
    class Output:
        logits: torch.Tensor
        note: str
        hidden: torch.Tensor | None = None

    class Head(nn.Module):
        def forward(self, x):
            return Output(x * 2, "fine", x * 3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.head = nn.Linear(6, 2), Head()

        def forward(self, x):
            return self.head(self.fc(x))

    model = Net()
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for _ in range(2):
            out = model(torch.randn(4, 6))
            (out.logits + out.hidden).sum().backward()
            optimizer.step()
    for step in (0, 1):
        assert {"fc", "head", "head[hidden]"} == set(probe.record.values("activation", step))
        assert {"fc", "head", "head[hidden]"} == set(probe.record.values("gradient", step))
    assert probe.record.site("activation", "head").attributes["output"] is True


@pytest.mark.parametrize("twice", [False, True], ids=["one call in each part", "two calls in each part"])
def test_recomputed_calls_of_one_module_get_their_own_gradients(twice: bool) -> None:
    """Reentrant checkpointing recomputes the last part first: counted upwards, the first call got the last gradient."""

    class Net(nn.Module):
        def __init__(self, on: bool):
            super().__init__()
            self.first, self.fc, self.on = nn.Linear(6, 6), nn.Linear(6, 6), on

        def part(self, x):
            x = torch.tanh(self.fc(x)) * 3
            return self.fc(x) * 2 if twice else x

        def forward(self, x):
            x = self.fc(self.first(x))  # one call outside of any part
            for _ in range(3):
                x = checkpoint(self.part, x, use_reentrant=True) if self.on else self.part(x)
            return x

    torch.manual_seed(0)
    model, x, found = Net(False), torch.randn(4, 6), []
    state = model.state_dict()
    for on in (False, True):
        model = Net(on)
        model.load_state_dict(state)
        optimizer = sgd(model)
        with Probe(model, optimizer, strict=True, every=1) as probe:
            model(x).square().sum().backward()
            optimizer.step()
        found.append(
            {name: v["rms"] for name, v in probe.record.values("gradient").items() if ":" not in name}
        )
    plain, recomputed = found
    calls = [name for name in plain if name.startswith("fc")]
    assert len(calls) == (7 if twice else 4)
    assert len({round(plain[name], 6) for name in calls}) == len(calls)
    for name in calls:
        assert recomputed[name] == pytest.approx(plain[name], rel=1e-4), name
