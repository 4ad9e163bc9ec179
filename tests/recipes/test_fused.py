"""The hand-written backward pass is autograd's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug
from unitgain.models.char_mlp import VARIANTS, CharMLP
from unitgain.recipes._fused import FusedStep


def small(variant: str, dtype: torch.dtype) -> CharMLP:
    model = ug.models.create(f"char_mlp_{variant}", generator=torch.Generator().manual_seed(3))
    assert isinstance(model, CharMLP)
    return model.to(dtype)


def batches(steps: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randint(27, (steps, size, 3), generator=g), torch.randint(27, (steps, size), generator=g)


def plain(model: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float) -> torch.Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for one, target in zip(x, y):
        loss = F.cross_entropy(model(one), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_gradients_equal_those_of_autograd(variant: str, dtype: torch.dtype, tolerance: float) -> None:
    expected, model = small(variant, dtype), small(variant, dtype)
    x, y = batches(1)
    F.cross_entropy(expected(x[0]), y[0]).backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    FusedStep(model, 32).run(x, y, lr=1.0)
    for name, p in expected.named_parameters():
        moved = before[name] - dict(model.named_parameters())[name].detach()
        scale = max(1.0, float(before[name].abs().max()))  # float32 weights round at 6e-8 of their size
        assert torch.allclose(moved, p.grad, rtol=tolerance, atol=tolerance * scale), name


@pytest.mark.parametrize("variant", ["softmax", "batchnorm", "deep_batchnorm"])
def test_500_steps_have_the_losses_and_buffers_of_the_plain_loop(variant: str) -> None:
    expected, model = small(variant, torch.float32), small(variant, torch.float32)
    x, y = batches(500)
    losses = plain(expected, x, y, 0.1)
    step = FusedStep(model, 32)
    found = torch.cat([step.run(x[:200], y[:200], 0.1), step.run(x[200:], y[200:], 0.1)])
    assert float((found - losses).abs().max()) < 1e-4
    for name, buffer in expected.named_buffers():
        assert torch.allclose(dict(model.named_buffers())[name], buffer, rtol=1e-3, atol=1e-4), name


def test_a_run_in_pieces_begun_anew_ends_with_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a resumed run does: a new FusedStep over weights and buffers that were stored between two chunks.

    Also on a processor whose vectorized square root is not correctly rounded, as MKL's on AMD processors.
    """
    exact = torch.Tensor.sqrt
    monkeypatch.setattr(torch.Tensor, "sqrt", lambda self: exact(self) * (1 + 2**-22))
    x, y = batches(40)
    whole, parts = small("batchnorm", torch.float32), small("batchnorm", torch.float32)
    FusedStep(whole, 32).run(x, y, 0.1)
    for at in range(0, 40, 8):
        other = small("batchnorm", torch.float32)
        other.load_state_dict(parts.state_dict())
        FusedStep(other, 32).run(x[at : at + 8], y[at : at + 8], 0.1)
        parts = other
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values()))


def test_what_it_cannot_train_is_refused() -> None:
    with pytest.raises(ug.InputError, match="made for a CharMLP"):
        FusedStep(nn.Linear(2, 2), 32)
    with pytest.raises(ug.InputError, match="at least 2 examples"):
        FusedStep(small("batchnorm", torch.float32), 1)
