"""What a person gets wrong around a Probe or AGC is said, by name and with the way out."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import unitgain as ug


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(3, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize(
    "use",
    [
        lambda model, optimizer: ug.Probe(optimizer, model),
        lambda model, optimizer: ug.watch(optimizer, model),
        lambda model, optimizer: ug.check(torch.utils.data.DataLoader([1]), model),
        lambda model, optimizer: ug.fix((torch.randn(3, 4), torch.zeros(3)), model),
    ],
    ids=["Probe", "watch", "check", "fix"],
)
def test_arguments_in_the_wrong_order_are_told_apart(use) -> None:
    with pytest.raises(ug.InputError, match="the model comes first"):
        use(*made())


def test_a_class_in_the_place_of_a_model_or_a_loss_is_named() -> None:
    with pytest.raises(ug.InputError, match=r"got the class Linear; make a model of it: Linear\(\.\.\.\)"):
        ug.Probe(nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(ug.InputError, match=r"make a loss of it: CrossEntropyLoss\(\)"):
        ug.check(made()[0], (torch.randn(3, 4), torch.zeros(3).long()), loss=nn.CrossEntropyLoss)


def test_a_model_with_lazy_parameters_is_to_see_a_batch_first() -> None:
    """torch's own error spoke of a method of its tensors."""
    with pytest.raises(ug.InputError, match="lazy parameters without a shape yet"):
        ug.Probe(nn.LazyLinear(2))


def test_an_iterator_is_no_batch_that_can_be_looked_at_twice() -> None:
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(6, 4), torch.zeros(6).long())
    )
    with pytest.raises(ug.InputError, match="give the DataLoader itself"):
        ug.check(made()[0], iter(loader))


@pytest.mark.parametrize("look", [lambda p: p.record, lambda p: p.latest(), lambda p: p.log(loss=1.0)])
def test_a_probe_that_was_never_started_says_so_once_something_was_trained(look) -> None:
    model, optimizer = made()
    probe = ug.Probe(model, optimizer)
    look(probe)
    step(model, optimizer)
    with pytest.warns(UserWarning, match="never started.*probe.start()"):
        look(probe)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look(probe)


def test_a_number_without_a_name_is_left_out_and_measuring_goes_on() -> None:
    model, optimizer = made()
    with ug.Probe(model, optimizer, every=1) as probe:
        with pytest.warns(UserWarning, match="give the number a name"):
            probe.log(torch.ones(()))
        step(model, optimizer)
    assert probe.record.steps() == [0]


def test_a_folder_is_told_from_a_file_and_a_missing_one_from_a_full_disk(tmp_path) -> None:
    with pytest.raises(ug.InputError, match="that is a folder; give the path of a file in it"):
        ug.Probe(made()[0], to=tmp_path)
    with pytest.raises(ug.InputError, match="nowhere does not exist; make it first"):
        ug.Probe(made()[0], to=tmp_path / "nowhere" / "run.sqlite")


def test_agc_says_that_it_is_there_twice_or_holds_nothing_of_the_model() -> None:
    model, optimizer = made()
    with ug.optim.AGC(optimizer, model), pytest.warns(UserWarning, match="has an AGC already"):
        ug.optim.AGC(optimizer, model).remove()
    with pytest.warns(UserWarning, match="holds none of the model's 2 parameters"):
        ug.optim.AGC(optimizer, nn.Linear(4, 2)).remove()


def test_a_run_that_is_interrupted_without_stop_has_every_finished_step_in_its_file(tmp_path) -> None:
    script = """
import torch, unitgain as ug
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
probe = ug.Probe(model, optimizer, every=1, to="run.sqlite").start()
for _ in range(3):
    model(torch.randn(3, 4)).square().mean().backward()
    optimizer.step()
raise KeyboardInterrupt
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, timeout=120)
    assert ug.Record.load(tmp_path / "run.sqlite").steps() == [0, 1, 2]


@pytest.mark.parametrize(
    "begin", ["ug.Probe(model, optimizer, every=1).start()", "ug.watch(model, optimizer, every=1)"]
)
def test_what_a_dead_cell_left_measuring_is_replaced_and_in_a_file_it_is_not(begin: str) -> None:
    model, optimizer = made()
    run = {"ug": ug, "model": model, "optimizer": optimizer}
    exec(compile(f"left = {begin}", "/tmp/ipykernel_1/2.py", "exec"), run)
    step(model, optimizer)  # and here the cell died
    hooks = len(model._forward_hooks)
    with pytest.warns(UserWarning, match="left running by an earlier cell"):
        exec(compile(f"new = {begin}", "/tmp/ipykernel_1/3.py", "exec"), run)
    assert len(model._forward_hooks) == hooks
    with ug.Probe(model, optimizer, every=1):  # of code in a file: both are meant
        step(model, optimizer)
    run["new"].stop()
    exec(compile(f"with {begin.removesuffix('.start()')}: pass", "/tmp/ipykernel_1/4.py", "exec"), run)
    assert not [*model._forward_hooks, *optimizer._optimizer_step_post_hooks]
