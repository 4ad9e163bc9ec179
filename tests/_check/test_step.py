"""check(step=...): losses that are more than a function of outputs and targets, and modules without a forward."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import InputError, Probe, check
from unitgain.record import GradientFacts

N = 64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape or (N, 4), generator=torch.Generator().manual_seed(seed))


X, Y = noise(), torch.arange(N) % 3


def mlp(out: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, out))


class Between(nn.Module):
    """Functions between its modules, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop, self.c = (
            nn.Linear(4, 16),
            nn.Linear(16, 16),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        return self.c(self.drop(x + F.relu(self.b(x))))


class Autoencoder(nn.Module):
    """No forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 8), nn.Linear(8, 4)


def reconstruct(model: Any, batch: Tensor) -> Tensor:
    return F.mse_loss(model.decode(torch.tanh(model.encode(batch))), batch)


def classify(model: Any, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


@pytest.mark.parametrize("make", [mlp, Between])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_step_that_does_what_check_does_measures_the_same(make: Any, steps: int) -> None:
    model = make()
    plain, stepped = check(model, (X, Y), steps=steps), check(model, (X, Y), step=classify, steps=steps)
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        for number in range(max(1, steps)):
            if (kind, number > 0) == ("input", True):
                continue
            assert plain.record.values(kind, number) == stepped.record.values(kind, number)
    sites = [[(s.kind, s.name, s.position, s.attributes) for s in r.record.sites()] for r in (plain, stepped)]
    assert sites[0] == sites[1]
    assert stepped.record.facts.loss.name == "classify"
    assert plain.record.facts.loss.value == stepped.record.facts.loss.value


def test_a_module_without_a_forward_is_measured_by_the_calls_of_its_parts() -> None:
    report = check(Autoencoder(), X, step=reconstruct)
    record = report.record
    assert [s.name for s in record.sites("activation")] == ["encode", ":tanh", "decode"]
    assert record.value("input", "input", "count") == X.numel()
    assert record.value("input", "input", "std") == pytest.approx(float(X.std(correction=0)), rel=1e-5)
    assert set(record.values("gradient")) == {"encode", ":tanh", "decode"}
    assert record.facts.gradients == GradientFacts(4, 4)
    assert record.site("activation", "decode").attributes["output"] is True
    assert record.site("activation", ":tanh").attributes["inputs"] == ["encode"]
    assert report.ok, report.findings


def test_what_goes_into_the_parts_from_outside_is_the_input_also_when_it_was_made_in_the_step() -> None:
    def denoise(model: Any, clean: Tensor) -> Tensor:
        added = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        return F.mse_loss(model.decode(model.encode(clean * 40 + added)), added)

    report = check(Autoencoder(), X, step=denoise)
    assert report.record.value("input", "input", "std") == pytest.approx(40, rel=0.1)
    assert "UG201" in {f.code for f in report.findings}


def test_a_discriminator_is_measured_on_what_is_real_and_what_is_not() -> None:
    generator, discriminator = mlp(4), mlp(1)

    def d_loss(model: Any, real: Tensor) -> Tensor:
        fake = generator(noise(N, 4, seed=2)).detach()
        zeros, ones = torch.zeros(N, 1), torch.ones(N, 1)
        with_logits = F.binary_cross_entropy_with_logits
        return with_logits(model(real), ones) + with_logits(model(fake), zeros)

    record = check(discriminator, X, step=d_loss).record
    assert record.value("activation", "0", "count") == 2 * N * 16
    assert record.value("input", "input", "count") == 2 * N * 4
    assert record.facts.gradients == GradientFacts(4, 4)
    assert all(p.grad is None for p in generator.parameters())


def test_outputs_and_targets_of_a_step_are_judged_as_those_of_a_loss() -> None:
    def step(model: Any, batch: Any) -> dict[str, Any]:
        x, y = batch
        outputs = model(x)
        penalty = sum(p.square().sum() for p in model.parameters())
        return {"loss": F.cross_entropy(outputs, y) + 0 * penalty, "outputs": outputs, "targets": y}

    hot = mlp()
    with torch.no_grad():
        hot[2].weight.mul_(100)
    report = check(hot, (X, Y), step=step)
    assert report.record.facts.loss.kind == "cross_entropy"
    assert report.record.facts.target.classes == 3
    assert "UG101" in {f.code for f in report.findings}
    # without them there is nothing to compare the loss with
    assert check(hot, (X, Y), step=classify).record.facts.loss.kind == "other"


def test_rehearsed_steps_are_those_of_a_loop_of_one_s_own() -> None:
    model = Autoencoder()
    report = check(model, X, step=reconstruct, steps=4, optimizer=lambda p: torch.optim.Adam(p, 0.01))
    twin, losses = copy.deepcopy(model), []
    optimizer = torch.optim.Adam(twin.parameters(), 0.01)
    for _ in range(4):
        loss = reconstruct(twin, X)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert report.record.metric("loss")[1].tolist()[: len(losses)] == pytest.approx(losses, rel=1e-6)
    assert report.record.steps() == [0, 1, 2, 3]
    assert report.record.values("update", 3)


def no_gradient(model: Any, batch: Any) -> float:
    return classify(model, batch).item()  # type: ignore[return-value]


def detached(model: Any, batch: Any) -> Tensor:
    return classify(model, batch).detach()


def backward_itself(model: Any, batch: Any) -> Tensor:
    loss = classify(model, batch)
    loss.backward()
    return loss


def raises(model: Any, batch: Any) -> Tensor:
    return model(batch[0][:, :3]).sum()


WRONG = {
    "not a function": (
        3,
        {},
        r"step: expected a function \(model, batch\) -> loss, got int; steps= is how many",
    ),
    "with a loss": (classify, {"loss": "mse"}, "loss: step= returns the loss itself"),
    "nothing": (
        lambda m, b: None,
        {},
        r'expected a loss \(one number\), or a mapping with "loss".*returned None',
    ),
    "outputs": (lambda m, b: m(b[0]), {}, r"it returned a tensor of shape \(64, 3\)"),
    "a mapping without a loss": (lambda m, b: {"outputs": m(b[0])}, {}, "it returned a dict"),
    "a number": (no_gradient, {}, "step no_gradient: expected a loss.*it returned a Python float"),
    "a detached loss": (detached, {}, r"step detached: nothing leads from the loss.*\.detach\(\)"),
    "backward in the step": (backward_itself, {}, "if the step calls backward itself: check does"),
    "a step that raises": (raises, {}, r"step raises raised RuntimeError in '0' \(Linear\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_step_is_named_in_one_line_and_nothing_is_changed(name: str) -> None:
    step, options, message = WRONG[name]
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=message) as caught:
        check(model, (X, Y), step=step, **options)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch._C._len_torch_function_stack() == 0


def test_a_step_that_spoils_its_batch_spoils_a_copy() -> None:
    def spoils(model: Any, batch: dict[str, Any]) -> Tensor:
        x = batch.pop("x")
        batch["rest"].clear()
        return model(x.mul_(2)).square().mean()

    batch = {"x": X.clone(), "rest": [X]}
    check(mlp(), batch, step=spoils, steps=2)
    assert torch.equal(batch["x"], X)
    assert len(batch["rest"]) == 1


@pytest.mark.parametrize("batch", [None, 3, "prompt", [], {"state": X, "done": [True]}], ids=str)
def test_the_batch_of_a_step_may_be_anything(batch: Any) -> None:
    def step(model: Any, given: Any) -> Tensor:
        assert type(given) is type(batch)
        return model(X).square().mean()

    assert check(mlp(), batch, step=step).record.facts.loss.name == "step"


# ---- modules that train as a LightningModule does ----------------------------------------------------------


class Lightning(nn.Module):
    automatic_optimization = True

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.net, self.criterion, self.options = mlp(), nn.CrossEntropyLoss(), options

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        assert batch_idx == 0
        x, y = batch
        return {"loss": self.criterion(self.net(x), y)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=0.003)
        if not self.options:
            return optimizer
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **self.options}}


def test_the_training_step_of_a_lightning_module_is_found_by_itself() -> None:
    report = check(Lightning(), (X, Y))
    record = report.record
    assert record.facts.loss.name == "training_step"
    assert record.facts.loss.value == pytest.approx(float(F.cross_entropy(mlp()(X), Y).detach()), rel=1e-5)
    assert [s.name for s in record.sites("activation") if s.attributes["role"] != "loss"] == [
        "net.0",
        "net.1",
        "net.2",
    ]
    assert record.site("activation", "net.2").attributes["output"] is True
    assert record.value("input", "input", "count") == X.numel()
    assert report.ok, report.findings


def test_a_lightning_module_is_rehearsed_with_its_own_optimizer_and_schedule() -> None:
    facts = check(Lightning(), (X, Y), steps=2).record.facts
    assert (facts.optimizer.name, facts.optimizer.lr) == ("Adam", (0.003,))
    record = check(Lightning(interval="step"), (X, Y), steps=3).record
    assert record.metric("lr")[1].tolist() == [0.003, 0.0015, 0.00075]
    given = check(Lightning(), (X, Y), steps=2, optimizer=lambda p: torch.optim.SGD(p, 0.5)).record.facts
    assert (given.optimizer.name, given.optimizer.lr) == ("SGD", (0.5,))


def test_what_a_lightning_module_cannot_say_is_asked_for() -> None:
    class Manual(Lightning):
        automatic_optimization = False

    class Broken(Lightning):
        def configure_optimizers(self) -> Any:
            raise RuntimeError("no trainer\nattached")

    class Two(Lightning):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), 0.1), torch.optim.SGD(self.parameters(), 0.1)]

    with pytest.raises(InputError, match=r"automatic_optimization=False\); give step="):
        check(Manual(), (X, Y))
    with pytest.raises(
        InputError, match="configure_optimizers raised RuntimeError: no trainer attached; give optimizer="
    ):
        check(Broken(), (X, Y), steps=1)
    with pytest.raises(InputError, match="no single optimizer; give optimizer="):
        check(Two(), (X, Y), steps=1)
    assert check(Manual(), (X, Y), step=lambda m, b: F.cross_entropy(m.net(b[0]), b[1])).ok


def test_a_loss_that_is_given_is_preferred_to_the_training_step() -> None:
    class WithForward(Lightning):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    assert check(WithForward(), (X, Y), loss=F.cross_entropy).record.facts.loss.name == "cross_entropy"


# ---- the Probe's own part ----------------------------------------------------------------------------------


def test_one_pass_of_a_probe_counts_as_one_step_however_often_the_model_is_called() -> None:
    model = mlp()
    with Probe(model, every=1) as probe:
        for _ in range(3):
            with probe.one_pass():
                loss = model(X).square().mean() + model(X * 2).square().mean()
            loss.backward()
    assert probe.record.steps() == [0, 1, 2]
    assert [probe.record.value("activation", "0", "count", step) for step in range(3)] == [2 * N * 16] * 3


def test_what_is_unmeasured_leaves_no_row() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, every=1) as probe:
        model(X).square().mean().backward()
        with probe.unmeasured():
            model(X).square().mean().backward()
        optimizer.step()
    assert probe.record.value("activation", "0", "count", 0) == N * 16
    assert probe.record.steps() == [0]


def test_an_error_in_one_pass_leaves_no_hook_and_no_mode() -> None:
    model = mlp()
    with Probe(model, every=1) as probe:
        with pytest.raises(RuntimeError), probe.one_pass():
            model[0](X[:, :3])
        assert torch._C._len_torch_function_stack() == 0
        model(X).square().mean().backward()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert probe.record.values("activation", 1)


def test_what_is_no_batch_or_has_keys_of_its_own_gets_a_sentence_that_says_so() -> None:
    """A data set was described by its shapes, a mapping by the error of the first layer."""
    model, x, y = nn.Linear(4, 3), torch.randn(8, 4), torch.arange(8) % 3
    with pytest.raises(InputError, match="a TensorDataset is a data set; give a DataLoader over it"):
        check(model, torch.utils.data.TensorDataset(x, y))
    with pytest.raises(InputError, match=r"its keys \('features', 'more', 'target'\) are not"):
        check(model, {"features": x, "more": x, "target": y})
