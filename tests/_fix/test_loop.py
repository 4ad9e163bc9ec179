"""fix() keeps what helped, undoes what did not, and never leaves a model worse than it came."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain._check import Difference, looks_untrained
from unitgain._fix import loop, plan
from unitgain.remedies import REMEDIES, Change, Remedy, RemedyReport
from unitgain.rules import CATALOGUE


def gaussian(model: nn.Module) -> nn.Module:
    """The classic mistake: every weight from N(0, 1)."""
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p)
    return model


def mlp(activation: Callable[[], nn.Module], depth: int = 50, width: int = 64) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(32 if i == 0 else width, width), activation()]
    return gaussian(nn.Sequential(*layers, nn.Linear(width, 10)))


def cnn(depth: int = 30, channels: int = 12) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(3 if i == 0 else channels, channels, 3, padding=1), nn.ReLU()]
    return gaussian(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(x)))


class Transformer(nn.Module):
    """Twelve blocks and no norm anywhere."""

    def __init__(self, width: int = 32, blocks: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(x)).mean(1))


def vectors(n: int = 128) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, 32, generator=g)
    return x, (x @ torch.randn(32, 10, generator=g)).argmax(1)


def images(n: int = 32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    y = torch.randint(0, 10, (n,), generator=g)
    return torch.randn(n, 3, 12, 12, generator=g) + 0.3 * y.view(-1, 1, 1, 1), y


def tokens(n: int = 32) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 50, (n, 8), generator=g)
    return x, x[:, 0] % 10


SICK = {
    "tanh": (lambda: mlp(nn.Tanh), vectors),
    "relu": (lambda: mlp(nn.ReLU), vectors),
    "gelu": (lambda: mlp(nn.GELU), vectors),
    "cnn": (cnn, images),
    "transformer": (lambda: gaussian(Transformer()), tokens),
}


def falls(model: nn.Module, batch: tuple[Tensor, Tensor], steps: int = 40) -> float:
    """By how much Adam brings the loss of one batch down; NaN if it stops being finite."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0] - losses[-1] if all(map(math.isfinite, losses)) else math.nan


@pytest.mark.parametrize("name", SICK)
def test_a_network_that_cannot_start_is_made_to_train(name: str) -> None:
    torch.manual_seed(0)
    make, batches = SICK[name]
    model, batch = make(), batches()
    result = ug.fix(model, batch)
    assert not result.before.ok
    assert [f for f in result.after.findings if f.severity == "error"] == []
    left = {f.code for f in result.after.findings if f.severity != "info"}
    assert left <= {f.code for f in result.before.findings}
    stds = {
        s: v["std"]
        for s, v in result.after.record.values("activation", 0).items()
        if "attention" not in s and "down" not in s  # ends of residual branches are quiet on purpose
    }
    assert all(0.2 < std < 2 for std in stds.values()), stds
    assert falls(model, batch) > 0.01


def test_the_makemore_network_starts_at_an_even_guess() -> None:
    names = ug.data.load_names()
    model = ug.models.create("char_mlp_original")
    batch = next(names.train.batches(512, torch.Generator().manual_seed(0)))
    result = ug.fix(model, batch)
    assert {"UG101", "UG303"} <= set(result.fixed)
    loss = float(F.cross_entropy(model(batch[0]), batch[1]).detach())
    assert loss == pytest.approx(math.log(27), rel=0.02)
    assert str(result).startswith("unitgain fix")


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(model: nn.Module, before: dict[str, Tensor]) -> bool:
    now = model.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[k], before[k]) for k in before)


def confident() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.normal_(model[2].weight)
    return model


def test_a_dry_run_leaves_the_model_as_it_came() -> None:
    model = confident()
    before, rng = state(model), torch.get_rng_state()
    result = ug.fix(model, vectors(), dry_run=True)
    assert result.fixed == ("UG101",)
    assert result.dry_run
    assert same(model, before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert "dry run" in str(result)


def test_flags_gradients_and_random_state_stay() -> None:
    model = confident().eval()
    model(vectors()[0]).sum().backward()
    gradients, rng = [p.grad for p in model.parameters()], torch.get_rng_state()
    ug.fix(model, vectors())
    assert not model.training
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients))
    assert torch.equal(torch.get_rng_state(), rng)


def doing(work: Callable[[nn.Module], None]) -> Remedy:
    def apply(subject, finding) -> RemedyReport:
        with torch.no_grad():
            work(subject.model)
        return RemedyReport("test", [Change("x", 1.0, 2.0, "test")])

    return Remedy("test", "test", ("UG101",), apply)


@pytest.mark.parametrize(
    "harm",
    [
        lambda m: m[2].weight.mul_(10),  # the finding stays
        lambda m: m[0].weight.fill_(math.nan),  # another, worse one appears
        lambda m: setattr(m, "0", nn.Linear(7, 7)),  # the model does not run any more
    ],
    ids=["useless", "worse", "broken"],
)
def test_what_does_not_help_is_undone_bit_for_bit(harm, monkeypatch) -> None:
    monkeypatch.setattr(loop, "PLANS", {"UG101": (doing(harm),)})
    model = confident()
    before = state(model)
    result = ug.fix(model, vectors())
    assert same(model, before)
    assert [a.kept for a in result.actions] == [False]
    assert result.actions[0].outcome.startswith("undone")
    assert result.advice
    assert result.after.findings[0].code == "UG101"


def test_a_remedy_that_raises_leaves_the_model_as_it_came(monkeypatch) -> None:
    def work(model: nn.Module) -> None:
        model[0].weight.zero_()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "PLANS", {"UG101": (doing(work),)})
    model = confident()
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        ug.fix(model, vectors())
    assert same(model, before)


def test_what_a_change_revealed_is_repaired_or_the_change_is_undone(monkeypatch) -> None:
    def explode(model: nn.Module) -> None:  # cures UG101 by killing the hidden layer
        model[2].weight.mul_(0.01)
        model[0].bias.fill_(-100.0)

    monkeypatch.setattr(loop, "PLANS", {"UG101": (doing(explode),)})
    model = confident()
    before = state(model)
    result = ug.fix(model, vectors())
    assert same(model, before)
    assert not any(action.kept for action in result.actions)


def test_a_trained_model_is_not_rescaled_unless_allowed() -> None:
    torch.manual_seed(0)
    model = mlp(nn.Tanh, depth=3)
    batch = vectors()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    assert falls(model, batch, steps=150) > 0.5
    for layer in model[:-1:2]:  # saturate it again, its guesses stay what they are
        with torch.no_grad():
            layer.weight.mul_(4)  # type: ignore[union-attr]
    before = state(model)
    result = ug.fix(model, batch)
    if "UG303" in {f.code for f in result.before.findings}:
        assert same(model, before)
        assert any("reinitialize" in line for line in result.advice)
        assert not ug.fix(model, batch, reinitialize=True).changed  # it would train worse
        assert ug.fix(model, batch, reinitialize=True, prove=False).changed


def test_only_named_findings_are_repaired() -> None:
    model = ug.models.create("char_mlp_original")
    batch = next(ug.data.load_names().train.batches(256, torch.Generator().manual_seed(0)))
    hidden = model.hidden.weight.clone()
    result = ug.fix(model, batch, only=["UG101"])
    assert "UG101" in result.fixed
    assert "UG303" not in result.fixed
    assert torch.equal(model.hidden.weight, hidden)
    with pytest.raises(InputError, match="only: no rule is called 'UG999'"):
        ug.fix(model, batch, only=["UG999"])


def test_inputs_off_scale_are_normalized_and_the_numbers_told() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 64), nn.ReLU(), nn.Linear(64, 10))
    x, y = images(64)
    x = x * torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1) + 100
    result = ug.fix(model, (x, y))
    assert "UG201" in result.fixed
    assert result.input_scale is not None
    assert len(result.input_scale) == 3
    assert result.input_scale[2] == pytest.approx(float(x[:, 2].std(correction=0)), rel=1e-4)
    assert "Normalize the data" in str(result)


def test_a_healthy_model_is_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    before = state(model)
    result = ug.fix(model, vectors())
    assert result.summary == "nothing to fix"
    assert same(model, before)
    assert not result.actions


def test_rules_and_remedies_name_each_other() -> None:
    named = {(code, name) for code, rule in CATALOGUE.items() for name in rule.remedies}
    cured = {(code, name) for name, remedy in REMEDIES.items() for code in remedy.cures}
    assert named == cured
    assert {code for code, rule in CATALOGUE.items() if rule.auto} == set(plan.PLANS)
    page = (Path(__file__).parents[2] / "docs" / "reference" / "fix.md").read_text(encoding="utf-8")
    assert {name for name in REMEDIES if f"`{name}`" not in page} == set()
    assert {code for code in plan.PLANS if code not in page} == set()


def test_why_a_remedy_did_not_apply_is_said() -> None:
    """It was swallowed: of a network without residual branches nothing said that scaling them had been considered."""
    torch.manual_seed(0)
    x = torch.randn(64, 64)
    layers = [m for _ in range(6) for m in (nn.Linear(64, 64, bias=False), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=0.05).requires_grad_(False)
    model = nn.Sequential(*layers, nn.Linear(64, 4))
    result = ug.fix(model, (x, torch.arange(64) % 4), only=["UG301"])
    assert not result.changed
    reasons = {skipped.remedy: skipped.reason for skipped in result.skipped if skipped.code == "UG301"}
    branches = "vanishing-activations: scale the residual branches by 1/sqrt(their number)"
    assert "no residual branch was found" in reasons[branches]
    assert "no residual branch was found" in str(result)
    assert "no residual branch was found" in result.to_html()
    assert [s["reason"] for s in json.loads(result.to_json())["skipped"]] == [
        s.reason for s in result.skipped
    ]


def test_what_is_done_only_when_asked_is_pointed_to() -> None:
    model = nn.Sequential(nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    for _ in range(60):
        model(5 * torch.randn(256, 20))
    batch = torch.randn(256, 20), torch.arange(256) % 10
    result = ug.fix(model, batch)
    assert not result.changed
    assert any(line.startswith("UG604") and "--only UG604" in line for line in result.advice)
    assert "UG604" in ug.fix(model, batch, only=["UG604"]).fixed


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="max_actions"):
        ug.fix(confident(), vectors(), max_actions=0)
    with pytest.raises(InputError, match="model"):
        ug.fix("resnet", vectors())  # type: ignore[arg-type]


def test_a_trained_regression_model_is_known_by_its_loss() -> None:
    x = torch.linspace(-1, 1, 256)[:, None]
    batch = x, torch.tanh(3 * x)
    knows, fresh = nn.Sequential(nn.Linear(1, 1), nn.Tanh()), nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    with torch.no_grad():
        knows[0].weight.fill_(2.8)
        knows[0].bias.zero_()
        fresh[0].weight.fill_(-2.8)
    for model, untrained in ((knows, False), (fresh, True)):
        assert looks_untrained(model, ug.check(model, batch, "mse")) is untrained


def test_a_normalization_that_is_undone_leaves_no_shift_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    batch = 50 + 30 * torch.randn(64, 4), torch.arange(64) % 3
    monkeypatch.setattr(loop._Repair, "_judge", lambda *_: (False, "undone"))
    result = ug.fix(model, batch, only=["UG201"])
    assert [a.code for a in result.actions][:1] == ["UG201"]
    assert result.input_shift is None
    assert result.input_scale is None


# ---- monotone -------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """A residual block whose norm was taken out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.down(torch.relu(self.up(x))))


def without_norms(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(32, 64), *[Plain(64) for _ in range(8)], nn.Linear(64, 10))
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return model


def held_out_loss(model: nn.Module, steps: int = 200) -> float:
    """The lowest loss on other examples while Adam trains."""
    x, y = vectors(256)
    optimizer, best = torch.optim.Adam(model.parameters(), 1e-3), math.inf
    for _ in range(steps):
        loss = F.cross_entropy(model(x[:128]), y[:128])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            best = min(best, float(F.cross_entropy(model(x[128:]), y[128:])))
    return best


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_a_residual_network_without_its_norms_ends_no_worse_than_it_began(seed: int) -> None:
    """A later remedy redrew what an earlier one had scaled: kinds of findings were compared, and not sizes."""
    model = without_norms(seed)
    untouched = without_norms(seed)
    result = ug.fix(model, vectors())
    sizes = {f.code: f.size for f in result.before.findings if f.severity != "info" and f.size is not None}
    for finding in result.after.findings:
        if finding.severity != "info":
            assert finding.code in sizes
            assert finding.size <= 1.1 * sizes[finding.code] + 0.05  # type: ignore[operator]
    assert held_out_loss(model) <= held_out_loss(untouched) + 0.05
    kept = [(a.code, a.remedy) for a in result.actions if a.kept]
    assert len(kept) == len(set(kept))


def test_what_trains_worse_is_undone(monkeypatch) -> None:
    monkeypatch.setattr(loop, "compare", lambda *_: Difference("worse", 1.0, 2.0, 0.1))
    model = confident()
    before = state(model)
    result = ug.fix(model, vectors())
    assert same(model, before)
    assert not result.changed
    assert result.rehearsed == ""
    assert "does not train better" in result.actions[0].outcome
    assert ug.fix(confident(), vectors(), prove=False).changed


@pytest.mark.parametrize(
    ("code", "last", "loss", "target"),
    [
        ("UG105", nn.Sigmoid, F.binary_cross_entropy_with_logits, "float"),
        ("UG103", lambda: nn.Softmax(1), F.cross_entropy, "class"),
        ("UG115", nn.ReLU, F.cross_entropy, "class"),
    ],
)
@pytest.mark.parametrize("called", [False, True])
def test_a_last_function_that_the_loss_does_not_want_is_taken_away(code, last, loss, target, called) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU()), nn.Linear(64, 10)
            if not called:
                self.last = last()

        def forward(self, x: Tensor) -> Tensor:
            x = self.head(self.body(x))
            if not called:
                return self.last(x)
            return {"UG105": torch.sigmoid, "UG103": lambda t: t.softmax(1), "UG115": torch.relu}[code](x)

    torch.manual_seed(0)
    model = Net()
    x, y = vectors()
    y = y if target == "class" else F.one_hot(y, 10).float()
    result = ug.fix(model, (x, y), loss)
    assert code in result.fixed, str(result)
    assert float(model(x).detach().min()) < 0
    if called:
        assert "ReturnsInput" in str(result.actions[0].changes)
    else:
        assert isinstance(model.last, nn.Identity)


def test_a_softmax_over_one_unit_becomes_a_sigmoid() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1), nn.Softmax(1))
    x, _ = vectors()
    result = ug.fix(model, (x, (x.sum(1, keepdim=True) > 0).float()), F.binary_cross_entropy)
    assert "UG112" in result.fixed
    assert isinstance(model[3], nn.Sigmoid)


@pytest.mark.parametrize(
    "layer",
    [lambda: ug.nn.scaled_std_(nn.Linear(32, 32), gain=3.0), lambda: ug.nn.ScaledStdLinear(32, 32, gain=3.0)],
)
@pytest.mark.parametrize("remedy", [ug.lsuv_, lambda model, x: ug.init_(model, batch=x)])
def test_remedies_act_on_the_gains_of_standardized_layers(layer, remedy) -> None:
    """Scaling a weight that is standardized when it is used changes nothing; five remedies reported success."""
    torch.manual_seed(0)
    layers = [m for _ in range(8) for m in (layer(), nn.ReLU())]
    model, x = nn.Sequential(*layers, nn.Linear(32, 10)), vectors()[0]
    before = model[:-1](x).std()
    report = remedy(model, x)
    after = model[:-1](x).std()
    assert any("gain" in change.name for change in report.changes)
    assert after < 0.1 * before
    assert 0.1 < after < 3


def test_standardized_weights_pass_no_mean_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    report = ug.remedies.standardize_weights_(model, vectors()[0])
    assert [change.name for change in report.changes] == ["0.weight", "2.weight"]
    assert float(model[2].weight.detach().sum(1).abs().max()) < 1e-4
