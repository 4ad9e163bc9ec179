"""Targets of another shape than the outputs' are never reshaped in silence."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError, check
from unitgain._batch.losses import LOSSES

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
Y = X.sum(1)  # (16,)


def model(out: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, out))


def codes(*arguments) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of losses that broadcast
        return [f.code for f in check(*arguments).findings if f.severity == "error"]


@pytest.mark.parametrize("loss", ["auto", "mse", "l1", "smooth_l1"])
def test_a_loss_by_name_computes_what_torchs_does_and_the_report_names_both_shapes(loss: str) -> None:
    report = check(model(), (X, Y), loss)
    (finding,) = (f for f in report.findings if f.severity == "error")
    assert finding.code == "UG107"
    assert "(16, 1) and targets of shape (16,) are broadcast to (16, 16)" in finding.message
    function = {"l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}.get(loss, F.mse_loss)
    with pytest.warns(UserWarning, match="broadcast"):
        expected = function(model()(X), Y)
    assert report.record.facts.loss.value == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.HuberLoss(),
        F.l1_loss,
        lambda o, t: (o - t).square().mean(),
        lambda o, t: (o * t).sum(),
    ],
)
def test_losses_of_torch_and_of_ones_own_that_broadcast_are_found(loss) -> None:
    assert codes(model(), (X, Y), loss) == ["UG107"]
    assert "UG107" not in codes(model(), (X, Y[:, None]), loss)


def test_torch_s_own_warning_is_not_repeated_at_every_call() -> None:
    """It came three times, from lines of ours, above the finding that says the same."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        report = ug.check(model(), (X, Y), loss=F.mse_loss, steps=2)
    assert [f.code for f in report.findings if f.severity == "error"] == ["UG107"]
    assert not [w for w in seen if "target size" in str(w.message)]


@pytest.mark.parametrize(("out", "shape"), [(3, (16, 1)), (3, (3,)), (1, (16, 3))])
def test_shapes_with_unequal_numbers_of_values_that_broadcast_are_found(
    out: int, shape: tuple[int, ...]
) -> None:
    assert codes(model(out), (X, torch.randn(shape, generator=torch.Generator().manual_seed(1))), "mse") == [
        "UG107"
    ]


def test_losses_that_see_to_the_shape_themselves_and_one_target_for_all_are_no_finding() -> None:
    def squeezes(outputs: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(outputs.squeeze(1), target)

    def refuses(outputs: Tensor, target: Tensor) -> Tensor:
        assert target.dim() == 1
        return F.mse_loss(outputs.squeeze(1), target)

    def noisy(outputs: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(outputs.squeeze(1) + 0.1 * torch.randn(16), target.ravel())

    for loss in (squeezes, refuses, noisy):
        report = check(model(), (X, Y), loss)
        assert not [f for f in report.findings if f.severity == "error"]
    assert check(model(), (X, Y), squeezes).record.facts.loss.kind == "mse"
    assert codes(model(), (X, torch.tensor(1.0)), "mse") == []
    assert codes(model(), (X, torch.ones(1)), nn.MSELoss()) == []
    assert codes(model(3), (X, torch.arange(16) % 3)) == []


@pytest.mark.parametrize(
    ("loss", "target", "words"),
    [
        (
            "bce_with_logits",
            (Y > 0).float(),
            r"\(16,\) does not fit outputs of shape \(16, 1\).*unsqueeze\(-1\)",
        ),
        ("mse", torch.randn(16, 2, 1), r"\(16, 2, 1\) does not fit outputs of shape \(16, 4\)"),
        ("mse", torch.randn(4, 16), r"\(4, 16\) does not fit.*reshape\(outputs.shape\)"),
    ],
)
def test_what_torchs_function_refuses_is_refused_with_both_shapes(
    loss: str, target: Tensor, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check(model(1 if loss == "bce_with_logits" else 4), (X, target), loss)


@pytest.mark.parametrize("loss", ["auto", "mse", "l1", "smooth_l1", "bce_with_logits"])
def test_a_learner_refuses_before_the_first_step(loss: str) -> None:
    """Nobody means to train on all outputs against all targets, and reshaping would hide it from the next reader."""
    trained = model()
    before = [p.detach().clone() for p in trained.parameters()]
    learn = ug.train.Learner(trained, [(X, Y.sigmoid())], loss, lambda p: torch.optim.SGD(p, 0.1))
    with pytest.raises(
        InputError, match=r"\(16,\) is not that of the outputs, \(16, 1\).*targets.unsqueeze\(-1\)"
    ):
        learn.fit(1)
    assert all(torch.equal(a, b) for a, b in zip(before, trained.parameters()))
    good = ug.train.Learner(trained, [(X, Y.sigmoid()[:, None])], loss, lambda p: torch.optim.SGD(p, 0.1))
    good.fit(1)


def test_no_loss_by_name_reshapes_targets() -> None:
    for name in ("mse", "l1", "smooth_l1"):
        assert float(LOSSES[name](torch.tensor([[0.0], [2.0]]), torch.tensor([0.0, 2.0]))) > 0.5, name
