"""Where a step begins and ends in loops other than the plain one: every number is that of a hand-written loop."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import Probe, Record


class Net(nn.Module):
    """Two layers, and ways to run them without its own forward."""

    def __init__(self, inputs: int = 6, outputs: int = 3) -> None:
        super().__init__()
        self.body, self.act, self.head = nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.body(x)))

    def training_step(self, batch: Tensor) -> Tensor:
        return loss_of(self.head(self.act(self.body(batch))))

    def training_loss(self, x: Tensor) -> Tensor:
        return loss_of(self(x))


def loss_of(out: Tensor) -> Tensor:
    return F.cross_entropy(out, torch.arange(len(out)) % out.shape[1])


class ByHand:
    """What each step of a loop should have left in the record: {kind: {name: std or rms}}, taken by plain code."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.steps = model, []
        self._before: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Notes the layers' outputs at the present weights."""
        with torch.no_grad():
            body = self.model.body(x)
            act = self.model.act(body)
            return {"body": body, "act": act, "head": self.model.head(act)}

    def weights(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.model.named_parameters()}

    def gradients(self) -> dict[str, Tensor]:
        return {n: p.grad.clone() for n, p in self.model.named_parameters()}

    def note(self, activations, before, gradients, after) -> None:
        std = lambda t: t.double().std(correction=0).item()  # noqa: E731
        self.steps.append({
            "activation": {n: std(t) for n, t in activations.items()},
            "parameter": {n: std(t) for n, t in before.items()},
            "parameter_gradient": {n: std(t) for n, t in gradients.items()},
            "update": {n: std(after[n] - before[n]) for n in before},
        })  # fmt: skip

    def assert_is(self, record: Record, every: int = 1) -> None:
        assert record.steps() == list(range(0, len(self.steps), every))
        for step in record.steps():
            for kind, wanted in self.steps[step].items():
                found = {n: row["std"] for n, row in record.values(kind, step).items()}
                assert set(found) == set(wanted), (step, kind)
                for name, value in wanted.items():
                    assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-9), (step, kind, name)


@contextmanager
def probed(model: nn.Module, optimizer: Any, every: int = 1, **options) -> Iterator[Probe]:
    with Probe(model, optimizer, every=every, strict=True, **options) as probe:
        yield probe


def batches(steps: int, size: int = 8, inputs: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, inputs, generator=generator) for _ in range(steps)]


# ---- one optimizer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("how", ["forward", "training_step", "training_loss", "closure", "eval between"])
def test_loops_that_call_the_model_in_their_own_way(how: str, every: int) -> None:
    """training_step gave 50 sites in the place of 5; a pass to evaluate that forgot no_grad was counted twice."""
    model = Net()
    optimizer, expected = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), ByHand(model)
    with probed(model, optimizer, every) as probe:
        for x in batches(6):
            before, activations = expected.weights(), expected.outputs(x)

            def closure(x=x) -> Tensor:
                optimizer.zero_grad()
                loss = {
                    "training_step": model.training_step,
                    "training_loss": model.training_loss,
                }.get(how, lambda x: loss_of(model(x)))(x)
                loss.backward()
                return loss

            if how == "eval between":
                model.eval()
                model(torch.randn(5, 6))  # a look, with gradients enabled
                model.train()
            if how in ("closure", "training_step"):
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
            expected.note(activations, before, expected.gradients(), expected.weights())
        model(torch.randn(5, 6))  # a last look is no step
    expected.assert_is(probe.record, every)


@pytest.mark.parametrize("how", ["forward", "training_step"])
def test_accumulation_merges_the_passes_of_a_step(how: str) -> None:
    model = Net()
    optimizer, expected = torch.optim.SGD(model.parameters(), 0.1), ByHand(model)
    with probed(model, optimizer) as probe:
        for _ in range(3):
            before, seen = expected.weights(), []
            optimizer.zero_grad()
            for x in batches(3):
                seen.append(expected.outputs(x))
                (model.training_step(x) if how == "training_step" else loss_of(model(x))).backward()
            optimizer.step()
            merged = {n: torch.cat([s[n] for s in seen]) for n in seen[0]}
            expected.note(merged, before, expected.gradients(), expected.weights())
    expected.assert_is(probe.record)


def test_views_of_one_example_are_merged() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probed(model, optimizer) as probe:
        a, b = model(torch.randn(4, 6)), model(torch.randn(4, 6))
        (a - b).square().mean().backward()
        optimizer.step()
    assert probe.record.value("activation", "body", "count") == 2 * 4 * 8
    assert probe.record.value("gradient", "body", "count") == 2 * 4 * 8


def test_lbfgs_is_measured_where_its_step_begins() -> None:
    """Its closure runs many times, at other weights; the update was NaN."""
    model = Net()
    optimizer, expected = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=5), ByHand(model)
    with probed(model, optimizer) as probe:
        for x in batches(3):
            before, activations, first = expected.weights(), expected.outputs(x), []

            def closure(x=x, first=first) -> Tensor:
                optimizer.zero_grad()
                loss = loss_of(model(x))
                loss.backward()
                first.append(expected.gradients())
                return loss

            optimizer.step(closure)
            assert len(first) > 1
            expected.note(activations, before, first[0], expected.weights())
    expected.assert_is(probe.record)
    assert all(math.isfinite(row["ratio"]) for row in probe.record.values("update", 2).values())


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization as its users have it: a second pass at weights that were moved uphill."""

    def __init__(self, params, base, **options) -> None:
        super().__init__(params, dict(options))
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.detach().clone()
                p.add_(0.05 * p.grad / p.grad.norm())
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.first_step(zero_grad=True)
        with torch.enable_grad():
            closure()
        self.second_step()


@pytest.mark.parametrize("how", ["two steps", "closure"])
def test_sam_is_measured_at_the_weights_of_its_first_pass_with_the_gradient_of_its_second(how: str) -> None:
    model = Net()
    optimizer, expected = SAM(model.parameters(), torch.optim.SGD, lr=0.1), ByHand(model)
    with probed(model, optimizer) as probe:
        for x in batches(3):
            before, activations, second = expected.weights(), expected.outputs(x), []

            def closure(x=x, second=second) -> None:
                loss_of(model(x)).backward()
                second.append(expected.gradients())

            optimizer.zero_grad()
            loss_of(model(x)).backward()
            if how == "closure":
                optimizer.step(closure)
            else:
                optimizer.first_step(zero_grad=True)
                closure()
                optimizer.second_step()
            expected.note(activations, before, second[0], expected.weights())
    expected.assert_is(probe.record)


class Lookahead(torch.optim.Optimizer):
    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner
        self.slow = {p: p.detach().clone() for g in inner.param_groups for p in g["params"]}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.inner.step()
        for p, slow in self.slow.items():
            slow.lerp_(p, 0.5)
            p.copy_(slow)


def test_of_an_optimizer_around_another_one_the_whole_step_is_the_update() -> None:
    model = Net()
    optimizer, expected = Lookahead(torch.optim.SGD(model.parameters(), 0.1)), ByHand(model)
    with probed(model, optimizer) as probe:
        for x in batches(3):
            before, activations = expected.weights(), expected.outputs(x)
            optimizer.zero_grad()
            loss_of(model(x)).backward()
            optimizer.step()
            expected.note(activations, before, expected.gradients(), expected.weights())
    expected.assert_is(probe.record)


def test_weights_that_are_moved_between_steps_are_no_reason_to_leave_a_pass_out() -> None:
    """Schedule-free optimizers evaluate at other weights than they train at."""
    model = Net()
    optimizer, expected = torch.optim.SGD(model.parameters(), 0.1), ByHand(model)
    with probed(model, optimizer) as probe:
        for x in batches(3):
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(1.5)
                model(x)
                for p in model.parameters():
                    p.div_(1.5)
            before, activations = expected.weights(), expected.outputs(x)
            optimizer.zero_grad()
            loss_of(model(x)).backward()
            optimizer.step()
            expected.note(activations, before, expected.gradients(), expected.weights())
    expected.assert_is(probe.record)


def test_a_step_that_raised_leaves_the_next_ones_right() -> None:
    model = Net()
    optimizer, expected = torch.optim.SGD(model.parameters(), 0.1), ByHand(model)

    def fails() -> Tensor:
        raise RuntimeError("out of memory")

    with probed(model, optimizer) as probe:
        for x in batches(3):
            with pytest.raises(RuntimeError, match="out of memory"):
                optimizer.step(fails)
            before, activations = expected.weights(), expected.outputs(x)
            optimizer.zero_grad()
            loss_of(model(x)).backward()
            optimizer.step()
            expected.note(activations, before, expected.gradients(), expected.weights())
    expected.assert_is(probe.record)


# ---- several optimizers ------------------------------------------------------------------------------------


def test_two_optimizers_of_one_model_make_one_step_together() -> None:
    model = Net()
    expected = ByHand(model)
    optimizers = [
        torch.optim.SGD(model.body.parameters(), 0.1),
        torch.optim.Adam(model.head.parameters(), 0.01),
    ]
    with probed(model, optimizers) as probe:
        for x in batches(4):
            before, activations = expected.weights(), expected.outputs(x)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss_of(model(x)).backward()
            for optimizer in optimizers:
                optimizer.step()
            expected.note(activations, before, expected.gradients(), expected.weights())
    expected.assert_is(probe.record)
    facts = probe.record.facts.optimizer
    assert facts.name == "SGD and Adam"
    assert [len(g.parameters) for g in facts.groups or ()] == [2, 2]


class Gan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = (
            nn.Linear(4, 6),
            nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)),
        )


@pytest.mark.filterwarnings("ignore:unitgain's Probe. the forward of Gan itself was not called")
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_a_gan_is_a_round_of_both_optimizers(critic_steps: int) -> None:
    """Each part's gradients and updates are those of its own first step of the round."""
    gan = Gan()
    critic, generator = (torch.optim.SGD(m.parameters(), 0.05) for m in (gan.critic, gan.generator))
    wanted = []
    with probed(gan, [critic, generator]) as probe:
        for _ in range(3):
            step: dict[str, tuple[float, float]] = {}
            for turn in range(critic_steps):
                critic.zero_grad()
                fake = gan.generator(torch.randn(5, 4)).detach()
                (gan.critic(fake).mean() - gan.critic(torch.randn(5, 6)).mean()).backward()
                before = {n: p.detach().clone() for n, p in gan.critic.named_parameters()}
                gradients = {n: p.grad.std(correction=0).item() for n, p in gan.critic.named_parameters()}
                critic.step()
                if not turn:
                    for n, p in gan.critic.named_parameters():
                        step[f"critic.{n}"] = gradients[n], (p.detach() - before[n]).std(correction=0).item()
            generator.zero_grad()
            (-gan.critic(gan.generator(torch.randn(5, 4))).mean()).backward()
            before = {n: p.detach().clone() for n, p in gan.generator.named_parameters()}
            gradients = {n: p.grad.std(correction=0).item() for n, p in gan.generator.named_parameters()}
            generator.step()
            for n, p in gan.generator.named_parameters():
                step[f"generator.{n}"] = gradients[n], (p.detach() - before[n]).std(correction=0).item()
            wanted.append(step)
    record = probe.record
    assert record.steps() == [0, 1, 2]
    for number, step in enumerate(wanted):
        for name, (gradient, update) in step.items():
            assert record.value("parameter_gradient", name, "std", number) == pytest.approx(
                gradient, rel=1e-3, abs=1e-9
            )
            assert record.value("update", name, "std", number) == pytest.approx(update, rel=1e-3, abs=1e-9)


def test_an_optimizer_that_makes_no_step_is_not_waited_for_and_named_once() -> None:
    model = Net()
    optimizers = [
        torch.optim.SGD(model.body.parameters(), 0.1),
        torch.optim.Adam(model.head.parameters(), 0.01),
    ]
    with probed(model, optimizers) as probe, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for x in batches(110):
            loss_of(model(x)).backward()
            optimizers[0].step()
            optimizers[0].zero_grad()
    assert [str(w.message)[:49] for w in caught] == ["unitgain's Probe: Adam made no step while SGD mad"]
    assert len(probe.record.steps()) == 10  # one waited for Adam; then each is a step


# ---- steps that the loop names -----------------------------------------------------------------------------


def test_a_step_is_what_the_loop_says() -> None:
    """Without any optimizer of torch's: updates are measured too."""
    model = Net()
    expected = ByHand(model)
    with probed(model, None, every=2) as probe:
        for x in batches(5):
            before, activations = expected.weights(), expected.outputs(x)
            with probe.step():
                loss_of(model(x)).backward()
                with torch.no_grad():
                    for p in model.parameters():
                        assert p.grad is not None
                        p -= 0.1 * p.grad
            expected.note(activations, before, expected.gradients(), expected.weights())
            model.zero_grad()
    expected.assert_is(probe.record, 2)


def test_a_step_that_the_loop_names_holds_several_of_an_optimizer() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probed(model, optimizer) as probe:
        for x in batches(3):
            with probe.step():
                for _ in range(4):
                    optimizer.zero_grad()
                    loss_of(model(x)).backward()
                    optimizer.step()
            with pytest.raises(RuntimeError), probe.step():
                model(x[:, :2])  # of the wrong shape
    assert probe.record.steps() == [0, 1, 2]


def test_backward_passes_without_a_step_are_said_once_by_name_and_memory_does_not_grow() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer) as probe:
        many = [torch.randn(4, 6) for _ in range(300)]
        with pytest.warns(UserWarning, match="256 backward passes were seen without a step of SGD") as caught:
            [loss_of(model(x)).backward() for x in many]
        assert len(caught) == 1
    assert probe.record.value("activation", "body", "count") == 256 * 4 * 8


def test_a_copy_that_runs_in_the_models_place_is_said_once() -> None:
    model = Net()
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(x: Tensor) -> None:
        loss_of(other(x)).backward()
        for p, q in zip(model.parameters(), other.parameters()):
            p.grad = q.grad
        optimizer.step()

    with Probe(model, optimizer, every=1):
        with pytest.warns(UserWarning, match="no module of Net was called"):
            step(torch.randn(4, 6))
        step(torch.randn(4, 6))


# ---- models that change ------------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [True, False])
def test_modules_that_are_replaced_or_added_in_training_are_measured(refresh: bool) -> None:
    """A new head was a silent gap."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def train(steps: int) -> None:
        for x in batches(steps):
            loss_of(model(x)).backward()
            optimizer.step()
            optimizer.zero_grad()

    with probed(model, optimizer) as probe:
        train(3)
        model[2] = nn.Linear(8, 5)
        model.append(nn.Tanh())
        optimizer.add_param_group({"params": list(model[2].parameters())})
        if refresh:
            probe.refresh()
        train(3)
    record = probe.record
    last = record.steps()[-1]
    assert set(record.values("activation", last)) == {"0", "1", "2", "3"}
    assert set(record.values("gradient", last)) == {"0", "1", "2", "3"}
    assert {"2.weight", "2.bias"} <= set(record.values("update", last))
    assert record.value("activation", "2", "count", last) == 8 * 5
    assert ("3" in record.values("activation", 3)) == refresh  # else from the next step on that begins


@pytest.mark.parametrize("before", [True, False], ids=["before the step", "after the step"])
@pytest.mark.parametrize("every", [1, 3])
def test_a_metric_belongs_to_its_step_where_no_forward_pass_is_seen(before: bool, every: int) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with probed(model, optimizer, every) as probe:
        for number, x in enumerate(batches(8)):
            loss = loss_of(model(x))
            if before:
                probe.log(number=number)
            loss.backward()
            optimizer.step()
            if not before:
                probe.log(number=number)
    steps, numbers = probe.record.metric("number")
    assert steps.tolist() == numbers.tolist() == list(range(8))
