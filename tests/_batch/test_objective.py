"""Which loss is taken: the one given, the one that a model returns, or one by the targets' type."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError, check
from unitgain._batch import OWN, Batch, Objective, find_logits, own_loss, read_batch
from unitgain.train import Learner

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 3
LOGITS = torch.randn(32, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
LOSS = LOGITS.square().mean()
Named = namedtuple("Named", ["loss", "logits"])


@dataclass
class Fields:
    logits: Tensor
    loss: Tensor | None


class Attributes:
    def __init__(self) -> None:
        self.loss, self.logits = LOSS, LOGITS


RETURNED: dict[str, tuple[Any, Tensor | None]] = {
    "a scalar": (LOSS, LOSS),
    "logits": (LOGITS, None),
    "logits and loss": ((LOGITS, LOSS), LOSS),
    "loss and logits": ((LOSS, LOGITS), LOSS),
    "loss, logits and states": ((LOSS, LOGITS, (LOGITS, LOGITS)), LOSS),
    "a loss in a tuple": ((LOSS,), LOSS),
    "a list": ([LOGITS, LOSS], LOSS),
    "logits and no loss": ((LOGITS, None), None),
    "two scalars": ((LOGITS, LOSS, LOSS * 2), None),
    "a mapping": ({"logits": LOGITS, "loss": LOSS}, LOSS),
    "a mapping whose loss has an axis": ({"loss": LOSS.reshape(1), "logits": LOGITS}, LOSS),
    "a mapping without": ({"logits": LOGITS, "aux_loss": LOSS}, None),
    "a mapping with None": ({"logits": LOGITS, "loss": None}, None),
    "a loss for each example": ({"loss": LOGITS.sum(1), "logits": LOGITS}, None),
    "several losses": ({"loss_a": LOSS, "loss_b": LOSS * 2, "accuracy": LOSS.detach() * 0 + 9}, LOSS * 3),
    "several terms": ({"box": LOSS, "kind": LOSS * 2}, LOSS * 3),
    "scores alone": ({"accuracy": LOSS.detach()}, None),
    "a named tuple": (Named(LOSS, LOGITS), LOSS),
    "a dataclass": (Fields(LOGITS, LOSS), LOSS),
    "a dataclass without": (Fields(LOGITS, None), None),
    "an object": (Attributes(), LOSS),
    "text": ("loss", None),
    "None": (None, None),
}


@pytest.mark.parametrize("name", RETURNED)
def test_the_loss_in_what_a_model_returned_is_found(name: str) -> None:
    returned, expected = RETURNED[name]
    found = own_loss(returned)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert float(found.detach()) == pytest.approx(float(expected.detach()))
        assert found.requires_grad
    judged = (
        Objective().judge(returned, Batch((X,))) if name not in ("text", "None", "scores alone") else None
    )
    if judged is not None:
        assert judged.name == (None if expected is None else OWN)
        assert judged.logits is None or judged.logits is find_logits(returned)
        assert judged.logits is not LOSS


def test_a_term_of_the_loss_beside_the_logits_is_not_taken_for_the_loss_where_there_is_a_target() -> None:
    name, value = Objective().compute((LOGITS, LOSS), Batch((X,), {}, Y)) or ("", LOSS)
    assert name == "cross_entropy"
    assert torch.equal(value, F.cross_entropy(LOGITS, Y))


def test_one_output_for_one_example_is_no_loss() -> None:
    name, _ = Objective().compute(LOSS, Batch((X[:1],), {}, torch.zeros(1))) or ("", LOSS)
    assert name == "mse"


class Ignores(nn.Module):
    """Returns logits, and with labels its own loss as well."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.fc(x)
        return {"logits": logits} if labels is None else {"logits": logits, "loss": logits.sum() * 0}


def test_a_loss_that_is_given_is_used_also_where_the_model_returns_one() -> None:
    expected = float(F.cross_entropy(Ignores().fc(X), Y).detach())
    for loss in ("cross_entropy", lambda out, y: F.cross_entropy(out["logits"], y)):
        for batch in ({"x": X, "labels": Y}, (X, Y)):
            facts = check(Ignores(), batch, loss).record.facts
            assert facts.loss.value == pytest.approx(expected, rel=1e-5)
            assert facts.loss.name in ("cross_entropy", "<lambda>")
            learn = Learner(Ignores(), [batch], loss, lambda p: torch.optim.SGD(p, 0.1))
            learn.fit()
            assert float(learn.loss.detach()) == pytest.approx(expected, rel=1e-5)


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def fixed(outputs: Tensor, target: Any) -> Tensor:
    assert target is None
    return (outputs - 1).square().mean()


REFUSED = {
    "by name without a target": (
        X,
        "cross_entropy",
        "loss cross_entropy: the batch holds nothing to compare with",
    ),
    "by name with None": ((X, None), "mse", "loss mse: the batch holds nothing to compare with"),
    "a function that needs one": (X, F.cross_entropy, r"loss cross_entropy: raised \w+ .* and no targets"),
    "none, with a target": (
        (X, Y),
        None,
        r"loss=None: the model returned no loss of its own but a tensor \(32, 3\)",
    ),
    "auto for a mapping of targets": ((X, {"kind": Y}), "auto", "loss mse: the target is a dict.*give loss="),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("steps", [0, 2])
def test_a_loss_that_cannot_be_used_is_refused_in_one_line(name: str, steps: int) -> None:
    batch, loss, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        check(linear(), batch, loss, steps=steps)
    assert "\n" not in str(caught.value)


def test_a_function_that_needs_no_target_is_a_loss_where_there_is_none() -> None:
    for batch in (X, (X, None), {"input": X}):
        facts = check(linear(), batch, fixed, steps=2).record.facts
        assert facts.loss.name == "fixed"
        assert facts.gradient_source == "loss"
    learn = Learner(linear(), [X, X], fixed, lambda p: torch.optim.SGD(p, 0.1))
    learn.fit()
    assert learn.steps == 2


def test_a_batch_without_targets_says_that_there_is_no_loss_to_judge() -> None:
    report = check(linear(), X, None)
    assert report.record.facts.gradient_source == "random"
    assert "UG104" in report.diagnosis.abstained


class Own(nn.Module):
    """As nanoGPT: with targets all positions and the loss, without them the last position alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.head(self.embed(idx))
        if targets is None:
            return logits[:, [-1]], None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def test_a_language_model_that_takes_its_targets_is_trained_as_it_trains_itself() -> None:
    tokens = torch.randint(0, 11, (8, 5), generator=torch.Generator().manual_seed(0))
    expected = float(Own()(tokens, tokens)[1].detach())
    for loss in ("auto", None):
        for batch in ((tokens, tokens), {"idx": tokens, "targets": tokens}):
            facts = check(Own(), batch, loss, steps=2).record.facts
            assert facts.loss.name == OWN
            assert facts.loss.kind == "cross_entropy"
            assert facts.loss.value == pytest.approx(expected, rel=1e-5)
            assert facts.target.classes == 11
            learn = Learner(Own(), [batch], loss, lambda p: torch.optim.SGD(p, 0.1))
            learn.fit()
            assert float(learn.loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_validation_of_a_model_that_takes_its_targets_has_a_loss_and_metrics() -> None:
    from unitgain.train import Metrics

    tokens = torch.randint(0, 11, (8, 5), generator=torch.Generator().manual_seed(0))

    def right(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.argmax(-1) == targets).float().mean()

    data = [(tokens, tokens)]
    learn = Learner(Own(), (data, data), "auto", lambda p: torch.optim.SGD(p, 0.0), [Metrics(right)])
    learn.fit()
    assert learn.metrics["valid_loss"] == pytest.approx(learn.metrics["train_loss"], rel=1e-5)
    assert 0 <= learn.metrics["right"] <= 1


# ---- how forward's arguments decide ------------------------------------------------------------------------


class Takes(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function


def arguments(function: Any, batch: Any, pass_target: Any = "by name") -> tuple[int, list[str], bool]:
    found = read_batch(batch, Takes(function), pass_target)
    return len(found.args), sorted(found.kwargs), found.target is not None


@pytest.mark.parametrize(
    ("function", "batch", "how", "expected"),
    [
        (lambda x: x, (X, Y), "by name", (1, [], True)),
        (lambda x, mask=None: x, (X, Y), "always", (1, [], True)),
        (lambda x, target=None: x, (X, Y), "by name", (1, ["target"], True)),
        (lambda x, target=None: x, (X, Y), "if required", (1, [], True)),
        (lambda x, target: x, (X, Y), "if required", (1, ["target"], True)),
        (lambda x, y=None: x, (X, Y), "by name", (1, [], True)),
        (lambda x, y: x, (X, Y), "by name", (1, ["y"], True)),
        (lambda x, y=None: x, (X, Y), "always", (1, ["y"], True)),
        (lambda a, b: a, (X, X), "by name", (2, [], False)),
        (lambda a, b: a, (X, X, Y), "by name", (2, [], True)),
        (lambda a, b: a, (X, X), "always", (1, ["b"], True)),
        (lambda x: x, ((X, X), Y), "by name", (1, [], True)),
        (lambda a, b, c=None: a, ((X, X), Y), "by name", (2, [], True)),
        (lambda *xs: xs[0], ((X, X, X), Y), "by name", (3, [], True)),
        (lambda x: x, {"x": X}, "by name", (0, ["x"], False)),
        (lambda x: x, {"x": X, "labels": Y}, "by name", (0, ["x"], True)),
        (lambda batch: batch, {"x": X, "labels": Y}, "by name", (1, [], False)),
        (lambda x, z: x, {"x": X, "other": Y}, "by name", (0, ["other", "x"], False)),
        (lambda **kw: kw, {"x": X, "labels": Y}, "by name", (0, ["labels", "x"], False)),
        (lambda x, *, labels=None: x, (X, Y), "by name", (1, ["labels"], True)),
    ],
)  # fmt: skip
def test_where_the_parts_of_a_batch_go(function: Any, batch: Any, how: str, expected: Any) -> None:
    assert arguments(function, batch, how) == expected


def test_wrapped_and_compiled_models_are_asked_for_what_is_inside() -> None:
    class Wrapper(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inside

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self._orig_mod(*args, **kwargs)

    found = read_batch((X, Y), Wrapper(Ignores()))
    assert found.passed == "labels"
    found = read_batch((X, Y), nn.DataParallel(Ignores()))
    assert found.passed == "labels"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_model_that_does_not_tell_what_it_takes_is_given_its_inputs() -> None:
    assert read_batch((X, Y), torch.jit.script(linear())).args[0] is X


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((), "cannot use a tuple"),
        ({}, "found no tensor in a dict"),
        ((None, Y), "found no tensor in a tuple"),
        ("x", "cannot use a str"),
        ((X, "cats"), "the target is a str"),
        ((X[:0], Y), "is empty"),
        ({"x": X[:0]}, "is empty"),
        (torch.nn.Linear(2, 2), "cannot use a Linear"),
    ],
    ids=str,
)
def test_what_is_no_batch_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"batch: .*{message}"):
        read_batch(batch, linear())


def test_a_detector_s_image_without_boxes_is_no_empty_batch() -> None:
    images = [torch.ones(3, 4, 4), torch.ones(3, 4, 4)]
    targets = [{"boxes": torch.zeros(0, 4)}, {"boxes": torch.ones(1, 4)}]
    found = read_batch((images, targets), Takes(lambda images, targets=None: images))
    assert found.examples == 2
    assert found.passed == "targets"


def test_time_first_batches_are_refused_by_no_one_that_needs_no_examples() -> None:
    found = read_batch((torch.ones(7, 3, 2), torch.zeros(3)))
    assert found.examples == 3
    assert found.select([0, 2]).args[0].shape == (7, 2, 2)
    with pytest.raises(InputError, match=r"\(7, 2\) float32 has no axis of 3 examples"):
        Batch((torch.ones(7, 2),), {}, torch.zeros(3)).select([0])
    with pytest.raises(InputError, match="no axis of examples"):
        Batch((torch.tensor(1.0),)).select([0])


def test_the_names_of_targets_are_the_same_for_batches_and_for_rules() -> None:
    """Rules work without torch, and so without the room that reads batches."""
    from unitgain._batch import TARGET_NAMES
    from unitgain.rules.ug201_input_not_normalized import _TARGETS

    names = {*TARGET_NAMES, "future_values"}  # those that only the model takes, and computes its loss from
    assert set(_TARGETS) == {f"input[{name}{end}" for name in names for end in ".]"}


def test_float_targets_that_a_model_takes_are_no_input_to_normalize() -> None:
    class Regresses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 1)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": F.mse_loss(self.fc(x), labels)}

    batch = {"x": X.repeat(8, 1), "labels": torch.full((256, 1), 300.0) + torch.randn(256, 1)}
    assert "UG201" not in {f.code for f in check(Regresses(), batch).findings}
    assert list(read_batch(batch, Regresses()).floating()) == ["input[x]"]


def test_arrays_that_are_no_numbers_are_told_of() -> None:
    with pytest.raises(InputError, match=r"an array of <U1 cannot become a tensor"):
        ug.check(nn.Linear(4, 3), (np.array(["a"] * 8), np.zeros(8, np.int64)))


def test_arrays_become_tensors_of_the_model_s_type_whatever_their_memory() -> None:
    frozen = np.arange(8.0).reshape(2, 4)[::-1]
    frozen.flags.writeable = False
    batch = read_batch((frozen, np.arange(2, dtype=np.uint32)), nn.Linear(4, 3).double())
    assert batch.args[0].dtype == torch.float64
    assert batch.args[0].tolist() == frozen.tolist()
    assert batch.target.dtype == torch.int64
    assert read_batch((np.ones((2, 4), dtype=">f4"), None), nn.Linear(4, 3)).args[0].dtype == torch.float32


def test_a_loss_of_outputs_alone_is_called_with_these_where_the_batch_has_no_targets() -> None:
    report = check(nn.Linear(4, 1), X, loss=lambda z: z.square().mean())
    assert report.record.facts.loss.value is not None


def test_a_loss_that_may_take_targets_is_called_with_both() -> None:
    seen = []

    def loss(outputs: Tensor, targets: Tensor | None = None) -> Tensor:
        seen.append((outputs, targets))
        return outputs.mean()

    Objective(loss).compute(LOGITS, Batch((X,)))
    assert seen == [(LOGITS, None)]


def test_several_targets_side_by_side_are_told_to_go_into_a_tuple() -> None:
    with pytest.raises(
        InputError, match=r"several targets go into one tuple: \(inputs, \(targets, more_targets\)\)"
    ):
        check(nn.Linear(4, 1), (X, X, X), loss=lambda o, t: o.mean())
