"""prove=True: advice is tried before it is given. Each case is one in which the untried advice lost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain._check import Change, Course, Plan, Trials, compare, place_of
from unitgain.rules import Finding, Prescription


def labelled(n: int, seed: int, inputs: int = 20, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Examples whose class a linear function of them decides."""
    weights = torch.randn(inputs, classes, generator=torch.Generator().manual_seed(7))
    x = torch.randn(n, inputs, generator=torch.Generator().manual_seed(seed))
    return x, (x @ weights).argmax(1)


def stream(count: int = 40, n: int = 64, first: int = 1) -> list[tuple[Tensor, Tensor]]:
    return [labelled(n, seed) for seed in range(first, first + count)]


def mlp(*between: nn.Module, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, width), *(between or (nn.ReLU(),)), nn.Linear(width, 10))


def trained(model: nn.Module, optimizer: Any, data: list[Any], steps: int = 200) -> float:
    """Mean loss over the last quarter of a plain training."""
    losses = []
    for step in range(steps):
        x, y = data[step % len(data)]
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-steps // 4 :]) / (steps // 4)


def proven(report: ug.Report, code: str) -> Finding:
    return next(f for f in report.findings if f.code == code)


# ---- advice that lost -----------------------------------------------------------------------------------------


def test_weight_decay_that_dominates_is_not_answered_by_a_lower_learning_rate() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    report = ug.check(model, stream()[0], optimizer=optimizer, data=stream(), prove=True)
    assert report.diagnosis.first_action.startswith("Set weight_decay to 0.005. Tried: loss ")
    assert report.findings[0].cause.startswith("The weight decay is too large")
    assert "Lower the learning rate" not in report.diagnosis.first_action


def test_a_rate_far_too_low_comes_before_normalizing_the_input() -> None:
    data = [(x / 5 + 1, y) for x, y in stream()]
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    report = ug.check(model, data[0], optimizer=optimizer, data=data, prove=True)
    assert {"UG201", "UG502"} <= {f.code for f in report.findings}
    assert "learning rate" in report.diagnosis.first_action.lower()


@pytest.mark.parametrize("gain", [0.2, 1.0])
def test_weights_before_batchnorm_get_no_rate_from_their_scale(gain: float) -> None:
    """Their outputs do not depend on their scale, so that update:data says nothing about the rate."""
    torch.manual_seed(0)
    layers = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())]
    model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), *layers, nn.Linear(64, 10))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(gain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    report = ug.check(model, stream()[0], optimizer=optimizer, data=stream(), prove=True)
    assert "UG501" not in {f.code for f in report.findings if f.severity != "info"}


def test_a_rate_that_trains_better_than_the_prescribed_one_is_no_finding() -> None:
    """A rate whose updates are large, and that is right: the published one of small linear forecasters."""
    torch.manual_seed(0)
    model = nn.Linear(48, 12)
    g = torch.Generator().manual_seed(0)

    def windows(n: int = 64) -> tuple[Tensor, Tensor]:
        t = torch.rand(n, 1, generator=g) * 50 + torch.arange(60) / 4
        wave = torch.sin(t) + torch.sin(t / 3)
        return wave[:, :48], wave[:, 48:]

    data = [windows() for _ in range(40)]
    report = ug.check(
        model, data[0], "mse", optimizer=lambda p: torch.optim.Adam(p, lr=2e-2), data=data, prove=True
    )
    assert report.ok, report.verdict
    assert proven(report, "UG501").proof.outcome != "better"  # type: ignore[union-attr]
    finding = proven(report, "UG501")
    assert finding.remedy.startswith("Nothing. Tried, and of no help: Multiply the learning rate by ")
    assert "too large" not in finding.cause


class Words(nn.Module):
    def __init__(self, kinds: int = 50) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(kinds, 32), nn.LSTM(32, 32, batch_first=True)
        self.head = nn.Linear(32, kinds)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(x))[0])


def sentences(seed: int, n: int = 16, length: int = 12, kinds: int = 50) -> tuple[Tensor, Tensor]:
    """Each word is mostly the one before it plus one."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.randint(0, kinds, (n, 1), generator=g) + torch.arange(length + 1)) % kinds
    noisy = torch.rand(n, length + 1, generator=g) < 0.1
    x = torch.where(noisy, torch.randint(0, kinds, x.shape, generator=g), x)
    return x[:, :-1], x[:, 1:]


def test_sgd_at_20_with_clipping_is_no_error_in_a_word_model() -> None:
    torch.manual_seed(0)
    model, data = Words(), [sentences(seed) for seed in range(60)]
    report = ug.check(
        model, data[0], optimizer=lambda p: torch.optim.SGD(p, lr=20.0), data=data, clip=0.25, prove=True
    )
    assert report.ok, report.verdict


def test_a_trained_network_is_not_told_to_shrink_its_weights() -> None:
    """Its units have learnt to be confident, and a factor would undo that: the loss goes up before it can come down."""
    model = mlp(nn.Tanh())
    with torch.no_grad():
        model[0].weight.mul_(5)
    data = stream(200)
    trained(model, torch.optim.Adam(model.parameters(), lr=3e-3), data, 1000)
    report = ug.check(
        model, data[0], optimizer=lambda p: torch.optim.SGD(p, lr=1e-3), data=data[1:], prove=True
    )
    finding = next(f for f in report.findings if f.code == "UG303")
    assert finding.prescription is None
    assert "Multiply" not in finding.remedy


def test_a_shifted_pre_activation_is_centred_and_not_scaled() -> None:
    model = mlp(nn.Tanh())
    with torch.no_grad():
        model[0].bias.fill_(-8.0)
    report = ug.check(model, stream()[0], data=stream(), prove=True)
    finding = proven(report, "UG303")
    assert finding.prescription is not None
    assert finding.prescription.shift == pytest.approx({"0.bias": 8.0}, abs=0.5)
    assert "from 0.bias" in finding.remedy
    assert finding.proof is not None
    assert finding.proof.outcome == "better"


def test_a_stack_without_activation_functions_is_not_told_to_use_kaiming_for_relu() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(50)], nn.Linear(64, 10))
    report = ug.check(model, (torch.randn(64, 64), torch.arange(64) % 10))
    finding = next(f for f in report.findings if f.code in ("UG301", "UG401"))
    assert "ReLU" not in finding.remedy
    if finding.code == "UG301":
        assert "no function lies between" in finding.remedy.lower()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embedding(x)))


def test_of_a_tied_head_it_is_said_that_the_embedding_would_be_scaled_too() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 50, (64, 8))
    finding = proven(ug.check(Tied(), (x, (x + 1) % 50)), "UG101")
    assert "embedding" in finding.remedy
    assert "Divide the logits" in finding.remedy


def test_log_of_zero_is_not_answered_by_a_lower_rate() -> None:
    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(20, 8), nn.Linear(8, 20)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.decode(torch.tanh(self.encode(x))))

    def likelihood(p: Tensor, x: Tensor) -> Tensor:
        return -(x * p.log() + (1 - x) * (1 - p).log()).mean()

    torch.manual_seed(0)
    x = (torch.rand(64, 20) > 0.5).float()
    report = ug.check(Coder(), (x, x), likelihood, optimizer=lambda p: torch.optim.Adam(p, 1e-3), prove=True)
    assert not report.ok
    assert "learning rate" not in report.diagnosis.first_action.lower()


# ---- what is advised lowers the loss --------------------------------------------------------------------------


def normal(model: nn.Module, std: float) -> nn.Module:
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=std)
    return model


def shifted(model: nn.Module) -> nn.Module:
    nn.init.constant_(model.get_parameter("0.bias"), -8.0)
    return model


SICK: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "rate too large": lambda: (mlp(), lambda p: torch.optim.SGD(p, lr=30.0)),
    "rate too small": lambda: (mlp(), lambda p: torch.optim.SGD(p, lr=1e-5)),
    "shifted": lambda: (shifted(mlp(nn.Tanh())), lambda p: torch.optim.SGD(p, lr=0.1)),
    "Gaussian weights": lambda: (
        normal(mlp(nn.Tanh(), nn.Linear(64, 64), nn.Tanh()), 1.0), lambda p: torch.optim.Adam(p, 1e-3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_what_was_proven_holds_in_a_longer_training(name: str) -> None:
    model, make = SICK[name]()
    report = ug.check(model, stream()[0], optimizer=make, data=stream(), prove=True)
    helped = [f for f in report.findings if f.proof is not None and f.proof.outcome == "better"]
    assert helped
    assert report.diagnosis.first_action == min(helped, key=lambda f: f.proof.with_it).remedy  # type: ignore[union-attr]
    first = min(helped, key=lambda f: f.proof.with_it)  # type: ignore[union-attr]
    cured, optimizer = copy.deepcopy(model), None
    if first.prescription is not None and first.prescription.rate != 1:
        optimizer = make(cured.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= first.prescription.rate
    elif first.prescription is not None and first.prescription.shift:
        optimizer = make(cured.parameters())
        with torch.no_grad():
            for key, amount in first.prescription.shift.items():
                cured.get_parameter(key).add_(amount)
    else:
        ug.fix(cured, stream()[0])
        optimizer = make(cured.parameters())
    ends = trained(cured, optimizer, stream()), trained(model, make(model.parameters()), stream())
    assert not ends[0] >= ends[1]  # the untouched one may end as NaN
    assert ends[0] < 2.3


# ---- the trials themselves --------------------------------------------------------------------------------------


def test_trials_begin_in_the_same_state_and_leave_none() -> None:
    model = mlp(nn.Dropout(0.3), nn.BatchNorm1d(64), nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    trials = Trials(model, stream()[0], "auto", None, Plan(20, optimizer, stream()), 20)
    plain, again = trials.run(), trials.run()
    other = trials.run(Change("", prescription=Prescription(rate=0.1, scale={"0.weight": 2.0})))
    assert plain == again != other
    assert trials.run() == plain
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 1e-2
    assert torch.equal(torch.get_rng_state(), random)


def test_an_iterator_of_batches_serves_all_trials() -> None:
    def once() -> Iterator[Any]:
        while True:
            yield from stream()

    model = mlp()
    report = ug.check(
        model, stream()[0], optimizer=lambda p: torch.optim.SGD(p, lr=30.0), data=once(), prove=True
    )
    assert report.diagnosis.tried
    assert "fresh batches" in report.diagnosis.tried


def test_differences_within_the_noise_are_none() -> None:
    flat = Course(tuple(2.0 + 0.1 * (-1) ** i for i in range(40)), "fresh batches")
    near = Course(tuple(2.0 + 0.1 * (-1) ** (i // 2) for i in range(40)), "fresh batches")
    low = Course(tuple(1.0 + 0.1 * (-1) ** i for i in range(40)), "fresh batches")
    lost = Course((2.0, 3.0, float("inf")), "fresh batches")
    assert [compare(flat, c).outcome for c in (near, low, lost)] == ["same", "better", "worse"]
    assert [compare(lost, c).outcome for c in (flat, lost)] == ["better", "same"]


def test_without_a_loss_it_is_said_that_nothing_could_be_tried() -> None:
    report = ug.check(mlp(), torch.randn(64, 20), prove=True)
    assert "nothing could be tried" in report.diagnosis.tried
    assert "nothing could be tried" in str(report)


def test_a_finding_with_its_proof_goes_through_json() -> None:
    report = ug.check(mlp(), stream()[0], optimizer=lambda p: torch.optim.SGD(p, lr=30.0), prove=True)
    finding = proven(report, "UG501")
    assert repr(Finding.from_dict(finding.to_dict())) == repr(finding)
    stored = next(row for row in report.record.findings() if row["code"] == "UG501")
    assert "proof" in str(stored)


def test_a_finding_says_which_line_makes_its_module() -> None:
    place = place_of(Tied(), "head.weight")
    assert place is not None
    assert "self.head in class Tied" in place
    assert "test_prove.py" in place
    assert place_of(nn.Sequential(nn.Linear(2, 2)), "0") is None


class Ends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(20, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.hidden(x))  # the first relu (not this one) is another matter
        x = torch.relu(x)
        return torch.softmax(self.head(x), dim=1)


def own_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return F.nll_loss(scores, labels)


def test_a_finding_says_which_line_calls_its_function() -> None:
    """Of functions that forward calls only the class was named, and of a loss nothing."""
    torch.manual_seed(0)
    batch = labelled(64, 1)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()

    def line_of(where: str | None) -> str:
        assert where is not None
        return lines[int(where.partition(":")[2].split()[0]) - 1]

    found = proven(ug.check(Ends(), batch), "UG103")
    assert "torch.softmax(self.head(x), dim=1)" in line_of(found.where)
    assert "(softmax in Ends.forward)" in str(found.where)
    assert "x = torch.relu(x)" in line_of(place_of(Ends(), ":relu#2"))
    found = proven(ug.check(nn.Sequential(nn.Linear(20, 10)), batch, own_loss), "UG106")
    assert "def own_loss" in line_of(found.where)
    assert place_of(nn.Sequential(), "0", code="UG106", loss=F.nll_loss) is None


def test_prove_needs_nothing_but_a_loss() -> None:
    model = normal(mlp(nn.Tanh()), 1.0)
    report = ug.check(model, stream()[0], prove=True)
    assert any(f.proof is not None for f in report.findings)
    with pytest.raises(InputError, match="data"):
        ug.check(model, stream()[0], data=stream())


def test_what_was_tried_is_said_in_words_where_nothing_was() -> None:
    report = ug.check(
        nn.Sequential(nn.Linear(20, 32), nn.Linear(32, 10)),
        stream()[0],
        data=stream(),
        select=["UG803"],
        prove=True,
    )
    assert "nothing, since no finding has a remedy that a short training can try; in 100 steps" in str(
        report.diagnosis.tried
    )


# ---- what a short training does not refute ---------------------------------------------------------------------


def test_two_softmaxes_are_not_withdrawn_because_labels_are_random() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10), nn.Softmax(1))
    batch = torch.randn(128, 20), torch.randint(0, 10, (128,))
    finding = proven(ug.check(model, batch, prove=True), "UG103")
    assert finding.severity == "error"
    assert finding.proof is None or finding.proof.outcome in ("better", "open")
    assert "Not the usual remedy" not in finding.remedy


@pytest.mark.parametrize("rate", [3e-7, 1e-2])
def test_trials_on_labels_that_nothing_predicts_withdraw_nothing(rate: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.constant_(model[0].bias[:30], -5.0)
    batch = torch.randn(128, 20), torch.randint(0, 10, (128,))
    report = ug.check(model, batch, optimizer=lambda p: torch.optim.SGD(p, lr=rate), prove=True)
    tried = [f for f in report.findings if f.proof is not None]
    assert tried
    assert {f.proof.outcome for f in tried} <= {"better", "open"}  # type: ignore[union-attr]
    assert proven(report, "UG304").severity == "warning"
    assert not any(f.remedy.startswith("Not the usual remedy") for f in report.findings)


@pytest.mark.parametrize("prove", ["yes", 1, None])
def test_prove_is_true_or_false(prove: Any) -> None:
    with pytest.raises(InputError, match="prove: expected True or False"):
        ug.check(mlp(), labelled(64, 1), prove=prove)


def test_large_models_get_fewer_steps_whatever_the_machine() -> None:
    from unitgain._check.effort import effort_for

    small = ug.check(mlp(), labelled(64, 1)).record
    assert effort_for(small, 100).steps == 100
    wide = nn.Sequential(
        nn.Linear(20, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.ReLU(), nn.Linear(2000, 10)
    )
    large = ug.check(wide, labelled(512, 1)).record
    assert effort_for(large, 100).steps == 40
    assert 2 <= effort_for(large, 100).trials < effort_for(small, 100).trials
