"""Copies, pickles and averages of a model that a Probe or AGC watches are those of a model that nobody watches."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unitgain import Probe
from unitgain._base import keep_out_of_copies
from unitgain.optim import AGC


class Own(nn.Module):
    """Says itself what its pickles are made from."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.count = nn.Linear(6, 6), 0

    def forward(self, x):
        return self.fc(x)

    def __getstate__(self):
        return {**self.__dict__, "count": self.count + 1}


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Sequential(nn.ReLU(), nn.Linear(8, 6)), Own())


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def averaged(model: nn.Module) -> nn.Module:
    found = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    found.update_parameters(model)
    return found.module


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "old pickle": lambda m: pickle.loads(pickle.dumps(m, protocol=0)),
    "save": saved,
    "average": averaged,
}


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(4, 6)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def assert_unwatched(model: nn.Module) -> None:
    for module in model.modules():
        assert "__reduce_ex__" not in vars(module)
        assert not [k for k, v in vars(module).items() if "hooks" in k and v]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("watch", ["Probe", "Probe without an optimizer", "AGC", "both"])
def test_a_copy_carries_no_hooks_and_does_not_report(how: str, watch: str) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probes = (
        [Probe(model, None if "without" in watch else optimizer, every=2, strict=True)]
        if watch != "AGC"
        else []
    )
    clipping = [AGC(optimizer, model)] if watch in ("AGC", "both") else []
    for probe in probes:
        probe.start()
    for _ in range(3):  # before anything has run; when steps are not sampled; when they are
        theirs = COPIES[how](model)
        assert_unwatched(theirs)
        assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in model.named_parameters()]
        if how != "average":
            assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), model.parameters()))
        theirs(torch.randn(3, 6)).sum().backward()
        step(model, optimizer)
    for one in (*probes, *clipping):
        one.stop() if isinstance(one, Probe) else one.remove()
    assert_unwatched(model)
    for probe in probes:
        assert all(probe.record.value("activation", "0", "count", s) == 4 * 8 for s in probe.record.steps())
        assert not [s.name for s in probe.record.sites() if "#" in s.name]


def test_hooks_of_the_users_go_along_as_ever() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model[0].register_forward_hook(_double)
    with Probe(model, optimizer, every=1):
        theirs = copy.deepcopy(model)
    assert list(theirs[0]._forward_hooks.values()) == [_double]
    assert theirs[3].count == model[3].count + 1


def _double(module, args, output):
    return output * 2


def test_two_probes_and_clipping_leave_in_any_order() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first, second = Probe(model, optimizer, every=1).start(), Probe(model, optimizer, every=3).start()
    agc = AGC(optimizer, model)
    first.stop()
    assert_unwatched(copy.deepcopy(model))
    agc.remove()
    assert_unwatched(copy.deepcopy(model))
    step(model, optimizer)
    second.stop()
    assert_unwatched(model)


def test_a_copy_does_not_keep_the_probe_alive() -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = Probe(model, optimizer, every=1).start()
    step(model, optimizer)
    theirs = copy.deepcopy(model)
    probe.stop()
    there = weakref.ref(probe)
    del probe, model, optimizer
    gc.collect()
    assert there() is None
    assert theirs(torch.randn(4, 6)).shape == (4, 6)


def test_the_time_to_keep_hooks_out_of_copies_does_not_grow_with_modules_times_hooks() -> None:
    """Every module noted every hook: of a model with a thousand modules, three million notes at each sampled step."""
    modules = [nn.Identity() for _ in range(50)]
    handles = [m.register_forward_hook(lambda *_: None) for m in modules for _ in range(50)]
    undo = keep_out_of_copies(modules, handles)
    noted = {id(numbers) for m in modules for numbers in vars(m)["__reduce_ex__"].kept_out}
    assert len(noted) == 1, "one set for all modules"
    assert not copy.deepcopy(modules[7])._forward_hooks
    undo()
    assert len(copy.deepcopy(modules[7])._forward_hooks) == 50


def test_hooks_of_two_that_keep_theirs_out_come_back_one_after_the_other() -> None:
    module = nn.Identity()
    first, second = (module.register_forward_hook(lambda *_: None) for _ in range(2))
    undo_first, undo_second = (keep_out_of_copies([module], [handle]) for handle in (first, second))
    undo_first()
    assert list(copy.deepcopy(module)._forward_hooks) == [first.id]
    undo_first()  # twice is fine
    undo_second()
    assert "__reduce_ex__" not in vars(module)
    assert len(copy.deepcopy(module)._forward_hooks) == 2
