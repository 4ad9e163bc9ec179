"""What check() takes, what it refuses and how it says so, and the facts that it records."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import InputError, check
from unitgain.record import GradientFacts, ModelFacts, OptimizerFacts, ParameterCount, TargetFacts

CLASSES = torch.arange(8) % 3


def mlp(out: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, out))


class Gives(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.fc, self.what = nn.Linear(4, 3), what

    def forward(self, x):
        return self.what(self.fc(x))


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
REFUSED = {
    "not a module": (lambda x: x, (X, CLASSES), {}, "model: expected an nn.Module"),
    "a class": (nn.Linear, (X, CLASSES), {}, "model: got the class Linear; make a model of it"),
    "shape mismatch": (mlp(), (torch.randn(8, 5), CLASSES), {}, r"'0' \(Linear\).*\(8, 5\)"),
    "target out of range": (mlp(), (X, CLASSES + 1), {}, r"1 to 3.*0\.\.2"),
    "negative target": (mlp(), (X, CLASSES - 1), {}, r"-1 to 1"),
    "float target for classes": (mlp(), (X, CLASSES.float()), {"loss": "cross_entropy"}, "targets: cross_entropy"),
    "target of another shape": (mlp(), (X, CLASSES[:5]), {}, r"targets: shape \(5,\)"),
    "regression target of another shape": (mlp(), (X, torch.randn(8, 2)), {}, r"targets: shape \(8, 2\)"),
    "empty batch": (mlp(), (X[:0], CLASSES[:0]), {}, "empty"),
    "empty target": (mlp(), (X, CLASSES[:0]), {}, "empty"),
    "no tensor": (mlp(), {"x": 3}, {}, "no tensor"),
    "a number": (mlp(), 3, {}, "batch: cannot use a int"),
    "a string": (mlp(), "batch", {}, "batch: cannot use a str"),
    "a target of words": (mlp(), (X, "cats"), {}, "target is a str"),
    "unknown loss": (mlp(), (X, CLASSES), {"loss": "crossentropy"}, "did you mean 'cross_entropy'"),
    "loss of a wrong type": (mlp(), (X, CLASSES), {"loss": 3}, "loss: expected"),
    "loss that is not one number": (
        mlp(), (X, CLASSES), {"loss": nn.CrossEntropyLoss(reduction="none")}, r"\(8,\), not one number"
    ),
    "loss after .item()": (
        mlp(), (X, CLASSES), {"loss": lambda o, t: o.mean().item()}, r"a Python float, .* without \.item\(\)"
    ),
    "loss of None": (mlp(), (X, CLASSES), {"loss": lambda o, t: None}, "gave None, .* does the function return"),
    "loss of two parts": (mlp(), (X, CLASSES), {"loss": lambda o, t: (o.mean(), 1)}, "gave tuple, .* the loss alone"),
    "step after .item()": (
        mlp(), (X, CLASSES), {"step": lambda m, b: m(b[0]).mean().item()}, r"a Python float, .* without \.item\(\)"
    ),
    "loss that raises": (mlp(), (X, CLASSES), {"loss": lambda o, t: o.nothing}, "raised AttributeError"),
    "output without tensors": (Gives(lambda y: "text"), (X, CLASSES), {}, "no floating-point tensor"),
    "output of integers": (Gives(lambda y: y.argmax(1)), (X, CLASSES), {}, "no floating-point tensor"),
    "output of None": (Gives(lambda y: None), (X, CLASSES), {}, "no floating-point tensor"),
    "lazy module": (nn.Sequential(nn.LazyLinear(3)), (X, CLASSES), {}, "lazy"),
    "negative steps": (mlp(), (X, CLASSES), {"steps": -1}, "steps"),
    "fractional steps": (mlp(), (X, CLASSES), {"steps": 1.5}, "steps"),
    "true steps": (mlp(), (X, CLASSES), {"steps": True}, "steps"),
    "optimizer by name": (mlp(), (X, CLASSES), {"steps": 1, "optimizer": "adam"}, "optimizer: expected"),
    "factory that gives no optimizer": (
        mlp(), (X, CLASSES), {"steps": 1, "optimizer": lambda p: None}, "got NoneType"
    ),
    "nothing to train": (nn.Sequential(nn.Tanh()), (X, X), {"steps": 1}, "no trainable parameter"),
    "unknown rule": (mlp(), (X, CLASSES), {"select": ["UG999"]}, "UG999"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_named_in_one_line(name: str) -> None:
    model, batch, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        check(model, batch, **options)
    assert "\n" not in str(caught.value)


def test_the_models_own_exception_is_the_cause() -> None:
    with pytest.raises(InputError) as caught:
        check(mlp(), (torch.randn(8, 5), CLASSES))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_blame_goes_to_the_module_that_raised_not_to_one_that_returned_none() -> None:
    class Nothing(nn.Module):
        def forward(self, x):
            return None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.log, self.wrong = Nothing(), nn.Linear(7, 3)

        def forward(self, x):
            self.log(x)
            return self.wrong(x)

    with pytest.raises(InputError, match=r"'wrong' \(Linear\)"):
        check(Net(), (X, CLASSES))


def test_auto_takes_cross_entropy_for_integers_and_mse_for_floats() -> None:
    facts = check(mlp(), (X, CLASSES)).record.facts
    assert facts.loss.name == facts.loss.kind == "cross_entropy"
    assert facts.loss.value == pytest.approx(float(F.cross_entropy(mlp()(X), CLASSES).detach()), rel=1e-5)
    assert repr(facts.target) == repr(TargetFacts("class_index", classes=3, count=8))
    y = torch.randn(8, 3)
    facts = check(mlp(), (X, y)).record.facts
    assert facts.loss.kind == "mse"
    assert facts.loss.value == pytest.approx(float(F.mse_loss(mlp()(X), y).detach()), rel=1e-5)
    assert facts.target.kind == "float"
    assert facts.target.std == pytest.approx(float(y.std(correction=0)), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "name", "kind"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), "CrossEntropyLoss", "cross_entropy"),
        (F.cross_entropy, "cross_entropy", "cross_entropy"),
        (lambda o, t: F.nll_loss(F.log_softmax(o, 1), t), "<lambda>", "cross_entropy"),
        (lambda o, t: F.multi_margin_loss(o, t), "<lambda>", "other"),
        (lambda o, t: F.mse_loss(o, F.one_hot(t, 3).float()), "<lambda>", "other"),
    ],
)
def test_the_kind_of_a_callable_loss_is_recognised(loss, name: str, kind: str) -> None:
    found = check(mlp(), (X, CLASSES), loss=loss).record.facts.loss
    assert (found.name, found.kind) == (name, kind)


def test_class_probabilities_and_ignored_targets() -> None:
    soft = F.one_hot(CLASSES, 3).float()
    facts = check(mlp(), (X, soft), loss="cross_entropy").record.facts
    assert facts.target.kind == "probabilities"
    assert facts.target.classes == 3
    some = CLASSES.clone()
    some[:3] = -100
    assert check(mlp(), (X, some)).record.facts.target.count == 5
    assert check(mlp(), (X, CLASSES.to(torch.uint8))).record.facts.loss.kind == "cross_entropy"


def test_sequence_logits_with_the_classes_last() -> None:
    model = nn.Linear(4, 5)
    x, y = torch.randn(3, 7, 4), torch.randint(0, 5, (3, 7))
    facts = check(model, (x, y)).record.facts
    want = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    assert facts.loss.value == pytest.approx(float(want.detach()), rel=1e-5)
    assert facts.output.class_axis == 2


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_dict_batches_with_the_models_own_loss(torchvision_operators: None) -> None:
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=31, n_positions=12)
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(0, 31, (3, 7))
    facts = check(model, {"input_ids": tokens, "labels": tokens}).record.facts
    assert facts.loss.name == "the model's own"
    assert facts.loss.kind == "cross_entropy"
    assert facts.loss.value == pytest.approx(math.log(31), rel=0.2)
    assert facts.gradient_source == "loss"
    assert check(model, {"input_ids": tokens}).record.facts.gradient_source == "random"


def test_several_inputs_and_nested_pairs() -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, a, b):
            return self.fc(a + b)

    for batch in ((X, X, CLASSES), ((X, X), CLASSES), ({"a": X, "b": X}, CLASSES), [X, X, CLASSES]):
        report = check(Two(), batch)
        assert report.record.facts.loss.kind == "cross_entropy"
        assert len(report.record.sites("input")) == 2


@pytest.mark.parametrize("batch", [X, (X,), [X]])
def test_without_a_target_gradients_come_from_a_random_direction(batch) -> None:
    facts = check(mlp(), batch).record.facts
    assert facts.gradient_source == "random"
    assert facts.loss.value is None
    assert facts.gradients == GradientFacts(reached=4, of=4)


def test_a_model_that_gives_its_loss_only() -> None:
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x, labels):
            logits = self.fc(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    facts = check(Own(), {"x": X, "labels": CLASSES}).record.facts
    assert facts.loss.name == "the model's own"
    assert facts.target.classes == 3


@pytest.mark.parametrize("kind", ["default", "instance", "factory"])
def test_rehearsed_steps_are_those_of_the_optimizer(kind: str) -> None:
    model = mlp()
    optimizer = {
        "default": None,
        "instance": torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1),
        "factory": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1),
    }[kind]
    report = check(model, (X, CLASSES), steps=4, optimizer=optimizer)
    record = report.record
    twin = mlp()
    other = (
        torch.optim.SGD(twin.parameters(), 0.01)
        if kind == "default"
        else torch.optim.AdamW(twin.parameters(), 0.02, weight_decay=0.1)
    )
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(twin(X), CLASSES)
        loss.backward()
        other.step()
        other.zero_grad()
        losses.append(loss.item())
    steps, values = record.metric("loss")
    assert record.steps() == [0, 1, 2, 3]
    assert steps.tolist() == [0, 1, 2, 3, 4]
    losses.append(F.cross_entropy(twin(X), CLASSES).item())  # what the last step made of it
    assert values.tolist() == pytest.approx(losses, rel=1e-5)
    assert record.facts.rehearsed_steps == 4
    trained = record.facts.optimizer
    assert (trained.name, trained.lr) == (type(other).__name__, (0.01 if kind == "default" else 0.02,))
    assert math.isfinite(record.value("update", "0.weight", "ratio", 3))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("rate", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_rehearsal_that_destroys_the_network_is_sick_however_long_it_is(
    optimizer, rate: float, steps: int
) -> None:
    """`--steps 20 --lr 300` was healthy: the updates of a wrecked network are zero or NaN."""
    report = check(mlp(), (X, CLASSES), steps=steps, optimizer=lambda p: optimizer(p, lr=rate))
    (finding,) = report.findings  # the rate explains the loss, where it can be judged
    assert (finding.code in ("UG501", "UG504"), finding.severity) == (True, "error")


def test_a_rehearsal_that_goes_well_is_healthy_and_one_too_short_for_the_loss_says_so() -> None:
    def verdict(steps: int) -> str:
        return check(mlp(), (X, CLASSES), steps=steps, optimizer=lambda p: torch.optim.SGD(p, 0.02)).verdict

    assert verdict(20).startswith("healthy")
    assert "the rehearsed loss not judged" not in verdict(20)
    assert (
        "the rehearsed loss not judged: too few steps were recorded: needs 10 losses, there are 6"
        in verdict(5)
    )


def test_a_rehearsal_whose_loss_does_not_fall_is_not_healthy() -> None:
    def verdict(rate: float, steps: int = 20) -> str:
        report = check(
            mlp(), (X, CLASSES), steps=steps, optimizer=lambda p: torch.optim.SGD(p, rate), ignore=["UG502"]
        )
        assert report.diagnosis.status == "unknown"
        return report.verdict

    for rate in (0.0, 1e-30, 1e-5):
        assert verdict(rate).startswith("cannot tell: the loss does not fall in the rehearsal (1.")
    assert verdict(0.0, steps=3).endswith("after 3 steps; rehearse 20 to see more)")


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda o, t: F.cross_entropy(o.detach(), t), "none of the 4 trainable parameters gets a gradient"),
        (lambda o, t: F.cross_entropy(o, t) * 0, "the loss is exactly zero"),
        (lambda o, t: (o * 0).sum(), "the loss is exactly zero"),
        (
            lambda o, t: (o.argmax(1) != t).float().mean(),
            "none of the 4 trainable parameters gets a gradient",
        ),
    ],
)
def test_a_loss_that_gives_no_parameter_a_gradient_is_an_error(loss, words: str, steps: int) -> None:
    report = check(mlp(), (X, CLASSES), loss, steps=steps)
    assert [(f.code, f.severity) for f in report.findings] == [("UG403", "error")]
    never = "none of the 4 trainable parameters that SGD holds had a gradient at any of 3 sampled steps"
    assert words in report.findings[0].message or (steps and never in report.findings[0].message)


def test_a_model_that_detaches_its_own_output_is_an_error_with_and_without_targets() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).detach()

    for batch in ((X, CLASSES), X):
        assert [(f.code, f.severity) for f in check(Detached(), batch).findings] == [("UG403", "error")]


def test_steps_0_records_no_updates() -> None:
    record = check(mlp(), (X, CLASSES)).record
    assert record.values("update") == {}
    assert (
        set(record.values("parameter"))
        == set(record.values("parameter_gradient"))
        == set(dict(mlp().named_parameters()))
    )
    assert record.facts.optimizer == OptimizerFacts()
    assert record.steps() == [0]


def test_facts_of_the_output() -> None:
    facts = check(mlp(), (X, CLASSES)).record.facts
    logits = mlp()(X).detach()
    output = facts.output
    assert output.shape == (8, 3)
    assert output.site == "2"
    assert output.examples == 8
    assert output.class_axis == 1
    assert output.min == pytest.approx(float(logits.min()), rel=1e-5)
    assert output.rms == pytest.approx(float(logits.square().mean().sqrt()), rel=1e-5)
    assert output.zero_head is False
    assert facts.model == ModelFacts("Sequential", ParameterCount(trainable=131, all=131), modules=4)
    assert facts.mode == "check"
    soft = check(nn.Sequential(mlp(), nn.Softmax(1)), (X, CLASSES)).record.facts.output
    assert soft.row_sum_error == pytest.approx(0, abs=1e-6)
    log = check(nn.Sequential(mlp(), nn.LogSoftmax(1)), (X, CLASSES), loss="nll").record.facts.output
    assert log.exp_row_sum_error == pytest.approx(0, abs=1e-6)


def test_outputs_that_are_not_finite_do_not_break_the_facts() -> None:
    report = check(Gives(lambda y: y / 0), (X, CLASSES))
    assert report.record.facts.output.nonfinite == 24
    assert not math.isfinite(report.record.facts.loss.value)
    assert not report.ok


def test_targets_of_complex_structure_go_to_ones_own_loss() -> None:
    report = check(mlp(), (X, {"y": CLASSES}), loss=lambda out, t: F.cross_entropy(out, t["y"]))
    assert report.record.facts.loss.kind == "other"


def test_select_and_ignore_reach_the_rules() -> None:
    hot, batch = mlp(), (torch.randn(64, 4), torch.arange(64) % 3)
    with torch.no_grad():
        hot[2].weight *= 100
    codes = {f.code for f in check(hot, batch).findings}
    assert "UG101" in codes
    assert {f.code for f in check(hot, batch, select=["UG101"]).findings} == {"UG101"}
    assert "UG101" not in {f.code for f in check(hot, batch, ignore=["UG101"]).findings}


class _TakesLogarithm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(16).masked_fill(torch.arange(16) < 0, -torch.inf)
        return self.b(torch.log(torch.relu(self.a(x))) + mask)


def test_the_function_that_makes_nan_between_modules_is_named() -> None:
    report = check(_TakesLogarithm(), (torch.randn(32, 8), torch.randint(0, 3, (32,))))
    (finding,) = report.findings
    assert finding.code == "UG306"
    assert finding.cause.startswith("log, called in the forward of the model itself")
