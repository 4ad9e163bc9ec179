"""in_place(): what a run of the caller's own model measures that a copy could not, and how it ends."""

from __future__ import annotations

import mmap
import signal
import threading
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from compare import Photograph
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import unitgain as ug
from unitgain import InputError
from unitgain._run import NotPutBackError, Snapshot, in_place, run_of
from unitgain._run.walk import Place
from unitgain.record import GradientFacts
from zoo import CASES


def data(examples: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(examples, 6), torch.randint(0, 3, (examples,))


def codes(report: Any) -> set[str]:
    return {f.code for f in report.findings}


# ---- what went wrong with copies ----------------------------------------------------------------------------


class WithClosure(nn.Module):
    """minGPT's and makemore's way to write a block."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"up": nn.Linear(6, 8), "down": nn.Linear(8, 6)})
        m = self.parts
        self.mlp = lambda x: m["down"](F.gelu(m["up"](x)))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.mlp(x))


@pytest.mark.parametrize("steps", [0, 2])
def test_closure_over_layers_gets_no_false_missing_gradient_and_keeps_none(steps: int) -> None:
    model = WithClosure()
    report = ug.check(model, data(), steps=steps)
    assert "UG403" not in codes(report)
    assert report.record.facts.gradients == GradientFacts(6, 6)
    assert all(p.grad is None for p in model.parameters())


def test_penalty_over_the_parameters_reaches_the_model() -> None:
    model = nn.Sequential(nn.Linear(6, 3))

    def penalty(out: Tensor, y: Tensor) -> Tensor:
        return 0 * out.sum() + model[0].weight.square().sum() / 2

    record = ug.check(model, data(), penalty).record
    assert record.value("parameter_gradient", "0.weight", "rms") == pytest.approx(
        float(model[0].weight.detach().square().mean().sqrt()), rel=1e-5
    )


def test_generator_is_judged_and_its_discriminator_untouched() -> None:
    generator, critic = nn.Linear(6, 3), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    batch = data()
    before = Photograph(critic=critic)
    report = ug.check(generator, batch, lambda out, y: F.softplus(-critic(out)).mean(), steps=3)
    assert report.record.facts.gradients.reached == 2
    assert before.differences() == []


def test_hooks_of_a_given_optimizer_act_in_the_rehearsal() -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    plain = ug.check(model, data(), steps=1, optimizer=optimizer).record
    optimizer.register_step_pre_hook(lambda *_: [p.grad.mul_(0.0) for p in model.parameters()] and None)
    clipped = ug.check(model, data(), steps=1, optimizer=optimizer).record
    assert plain.value("update", "weight", "rms") > 0
    assert clipped.value("update", "weight", "rms") == 0


def test_partly_scripted_model_keeps_no_gradient() -> None:
    case = CASES["partly scripted"]()
    ug.check(case.model, case.batch, steps=1)
    assert all(p.grad is None for p in case.model.parameters())


def test_rehearsal_of_a_model_that_holds_a_lock() -> None:
    model = nn.Linear(6, 3)
    model.lock = threading.Lock()
    report = ug.check(model, data(), steps=2)
    assert report.record.steps() == [0, 1]


def test_probe_of_a_running_training_does_not_measure_a_check_in_its_midst() -> None:
    model, batch = nn.Linear(6, 3), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def train(checks: bool) -> ug.Record:
        torch.manual_seed(0)
        for p in model.parameters():
            nn.init.ones_(p)
        with ug.Probe(model, optimizer, every=1) as probe:
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(model(batch[0]), batch[1]).backward()
                if checks:
                    ug.check(model, batch, steps=2, optimizer=optimizer)
                optimizer.step()
        return probe.record

    plain, checked = train(False), train(True)
    assert checked.steps() == plain.steps() == [0, 1]
    for kind in ("activation", "gradient", "parameter", "parameter_gradient", "update"):
        assert checked.values(kind) == plain.values(kind)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_parts_get_their_gradients(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.fc, self.head = (
                nn.Linear(6, 6).requires_grad_(False),
                nn.Linear(6, 6),
                nn.Linear(6, 3),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.frozen(x).requires_grad_()
            return self.head(checkpoint(lambda v: v + torch.relu(self.fc(v)), x, use_reentrant=reentrant))

    report = ug.check(Checkpointed(), data(), steps=2)
    assert report.record.facts.gradients == GradientFacts(4, 4)


# ---- how a run ends ------------------------------------------------------------------------------------------


def test_graph_from_before_can_still_be_gone_through_backward() -> None:
    model, (x, y) = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), data()
    loss = F.cross_entropy(model(x), y)
    ug.check(model, (x, y), steps=2)
    loss.backward()
    first = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(first, model.parameters()))


class Fails:
    """Stands for an attribute that cannot be put back, or at which Ctrl-C is pressed meanwhile."""

    def __init__(self, interrupts: bool = False):
        self.interrupts = interrupts

    def put_back(self) -> None:
        if not self.interrupts:
            raise RuntimeError("no way back")
        signal.raise_signal(signal.SIGINT)


def change(model: nn.Module, fails: Fails, error: Exception | None = None) -> None:
    with in_place(model) as run:
        kept = run._snapshot._walk.kept
        kept.insert(0, (Place(None, "model.table"), fails))
        nn.init.zeros_(model.weight)
        model.calls = 1
        model.eval()
        if error is not None:
            raise error


def with_counter() -> tuple[nn.Module, Photograph]:
    model = nn.Linear(6, 3)
    model.calls = 0
    return model, Photograph(model=model)


def test_restoring_goes_on_after_an_error_which_is_raised_at_the_end() -> None:
    model, before = with_counter()
    with pytest.raises(NotPutBackError, match=r"model\.table: RuntimeError: no way back"):
        change(model, Fails())
    assert before.differences() == []


def test_error_in_restoring_does_not_hide_the_models_own() -> None:
    model, before = with_counter()
    error = KeyError("the model's own")
    with pytest.warns(RuntimeWarning, match="no way back"), pytest.raises(KeyError, match="the model's own"):
        change(model, Fails(), error)
    assert before.differences() == []
    assert "no way back" in getattr(error, "__notes__", ["no way back"])[0]  # python 3.10 has no notes


def test_control_c_while_putting_back_waits_until_that_is_done() -> None:
    model, before = with_counter()
    with pytest.raises(KeyboardInterrupt):
        change(model, Fails(interrupts=True))
    assert before.differences() == []
    assert run_of(model) is None


def test_lazy_parameters_are_refused_everywhere() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    for look in (ug.check, ug.spp, ug.fix):
        with pytest.raises(InputError, match="lazy parameters"):
            look(model, data())


def test_run_in_a_run_puts_its_own_beginning_back() -> None:
    model = nn.Linear(6, 3)
    weight = model.weight.detach().clone()
    with in_place(model):
        nn.init.ones_(model.weight)
        with in_place(model):
            nn.init.zeros_(model.weight)
        assert bool((model.weight == 1).all())
    assert torch.equal(model.weight, weight)


def test_rewinding_begins_anew_without_gradients_and_with_the_same_random_numbers() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.BatchNorm1d(6))
    model[0].weight.grad = torch.ones(6, 6)
    x = torch.randn(8, 6)
    with in_place(model) as run:
        outs = []
        for _ in range(2):
            assert model[0].weight.grad is None
            outs.append(model(x))
            run.backward(outs[-1].square().sum())
            run.rewind()
    assert torch.equal(*outs)
    assert bool((model[0].weight.grad == 1).all())


def test_what_is_accepted_stays_and_only_after_a_good_end() -> None:
    model, ones = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), torch.ones(2, 2)
    with in_place(model) as run:
        nn.init.ones_(model[0].weight)
        model(torch.randn(4, 2))
        run.accept([model[0].weight])
    assert torch.equal(model[0].weight, ones)
    assert int(model[1].num_batches_tracked) == 0


def test_lsuv_that_fails_half_way_leaves_the_weights() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.calls = nn.Linear(6, 6), nn.Linear(6, 3), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            x = self.a(x)
            if self.calls > 1:
                raise RuntimeError("exploded")
            return self.b(x)

    model, (x, _) = Fails(), data()
    before = Photograph(model=model)
    with pytest.raises(InputError, match="exploded"):
        ug.lsuv_(model, x)
    assert before.differences() == []


def test_memory_is_copied_once_however_many_tensors_look_at_it() -> None:
    flat = torch.zeros(1000)
    model = nn.Module()
    model.flat = flat
    model.a, model.b = nn.Parameter(flat[:600]), nn.Parameter(flat[400:])
    model.tied = model.a
    assert Snapshot(model).bytes == 4000


def test_slice_of_a_large_tensor_costs_its_own_size() -> None:
    assert Snapshot(torch.zeros(100_000)[10:20]).bytes == 40


def test_module_of_a_closure_costs_nothing_until_it_runs() -> None:
    other = nn.Linear(100, 100)
    model = nn.Linear(6, 3)
    model.later = lambda x: other(x)
    with in_place(model) as run:
        small = run.bytes
        other(torch.zeros(1, 100))
        assert run.bytes - small == 4 * (100 * 100 + 100)


def test_read_only_memory_that_was_not_changed_is_not_written_to(tmp_path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(64))
    model = nn.Linear(6, 3)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that writing to it would crash
            model.table = torch.frombuffer(memory, dtype=torch.float32)
        ug.check(model, data())
        assert bool((model.table == 0).all())
        del model.table


def test_a_model_that_ends_the_program_ends_no_program_in_silence() -> None:
    """check returned with exit code 0 and without a report."""

    class Exits(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise SystemExit(0)

    model = Exits(4, 4)
    before = model.weight.detach().clone()
    with pytest.raises(InputError, match=r"ended the program \(SystemExit\(0\)\)"):
        ug.check(model, torch.randn(8, 4))
    assert torch.equal(model.weight, before)
