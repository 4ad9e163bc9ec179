"""Every optimizer against a reference in plain float64 numpy. A new one adds a row to TABLE and inherits all of it."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain.optim import SGD, Adam, Momentum, RMSProp


def sgd(w, gradients, lr, wd, **_):
    for g in gradients:
        w = w * (1 - lr * wd) - lr * g
    return w


def momentum(w, gradients, lr, wd, momentum=0.9):
    average = np.zeros_like(w)
    for g in gradients:
        average = momentum * average + (1 - momentum) * g
        w = w * (1 - lr * wd) - lr * average
    return w


def rmsprop(w, gradients, lr, wd, square_momentum=0.99, eps=1e-5):
    square = gradients[0] ** 2
    for g in gradients:
        square = square_momentum * square + (1 - square_momentum) * g**2
        w = w * (1 - lr * wd) - lr * g / (np.sqrt(square) + eps)
    return w


def adam(w, gradients, lr, wd, betas=(0.9, 0.99), eps=1e-5):
    average, square = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        average = betas[0] * average + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g**2
        w = w * (1 - lr * wd) - lr * (average / (1 - betas[0] ** t)) / np.sqrt(
            square / (1 - betas[1] ** t) + eps
        )
    return w


TABLE: dict[str, tuple[type[torch.optim.Optimizer], Callable, dict, float]] = {
    # name: (class, reference, options that are not the default, a learning rate that trains)
    "sgd": (SGD, sgd, {}, 0.3),
    "momentum": (Momentum, momentum, {"momentum": 0.7}, 0.3),
    "rmsprop": (RMSProp, rmsprop, {"square_momentum": 0.8, "eps": 1e-3}, 0.02),
    "adam": (Adam, adam, {"betas": (0.8, 0.95), "eps": 1e-4}, 0.05),
}
SHAPES = [(), (3,), (4, 5), (2, 3, 3, 3), (0, 4)]
EACH = pytest.mark.parametrize("name", TABLE)


def parameters(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in SHAPES]


def run(optimizer, ps, steps, first=0):
    """Steps with gradients that depend on the step's number only."""
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(1000 + step)
        for p in ps:
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


@EACH
@pytest.mark.parametrize("foreach", [True, False, None])
@pytest.mark.parametrize("wd", [0.0, 0.1])
@pytest.mark.parametrize("default", [True, False])
def test_is_its_formula_in_float64(name, foreach, wd, default) -> None:
    make, reference, options, _ = TABLE[name]
    options = {} if default else options
    ps = parameters()
    before = [p.detach().numpy().copy() for p in ps]
    gradients = []
    for step in range(5):
        generator = torch.Generator().manual_seed(1000 + step)
        gradients.append([torch.randn(p.shape, generator=generator, dtype=p.dtype).numpy() for p in ps])
    run(make(ps, lr=0.1, weight_decay=wd, foreach=foreach, **options), ps, 5)
    for i, (p, w) in enumerate(zip(ps, before)):
        expected = reference(w, [g[i] for g in gradients], 0.1, wd, **options)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_at_once_gives_the_bits_of_one_by_one(name, dtype) -> None:
    make, _, options, lr = TABLE[name]
    results = []
    for foreach in (True, False):
        ps = parameters(dtype)
        run(make(ps, lr=lr, weight_decay=0.01, foreach=foreach, **options), ps, 4)
        results.append(ps)
    assert all(torch.equal(a, b) for a, b in zip(*results))


@EACH
def test_trains_a_small_network(name) -> None:
    make, _, options, lr = TABLE[name]
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    x = torch.randn(256, 4)
    y = torch.sin(x.sum(1, keepdim=True))
    optimizer = make(model.parameters(), lr=lr, **options)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


@EACH
def test_resumes_from_its_state_to_the_same_bits(name) -> None:
    make, _, options, lr = TABLE[name]
    whole = parameters(torch.float32)
    run(make(whole, lr=lr, **options), whole, 6)
    halves = parameters(torch.float32)
    first = make(halves, lr=lr, **options)
    run(first, halves, 3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(halves, lr=999.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    run(second, halves, 3, first=3)
    assert all(torch.equal(a, b) for a, b in zip(whole, halves))


@EACH
def test_a_learning_rate_in_a_tensor_is_the_same_learning_rate(name) -> None:
    make, _, options, lr = TABLE[name]
    results = []
    for rate in (lr, torch.tensor(lr, dtype=torch.float64)):
        ps = parameters()
        run(make(ps, lr=rate, weight_decay=0.1, **options), ps, 3)
        results.append(ps)
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@EACH
def test_groups_have_their_own_numbers_and_parameters_without_gradient_rest(name) -> None:
    make, _, options, lr = TABLE[name]
    ps = parameters()
    still, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))
    optimizer = make(
        [{"params": [*ps, still]}, {"params": [other], "lr": 0.0}], lr=lr, weight_decay=0.1, **options
    )
    other.grad = torch.ones(2, 2)
    before = [p.detach().clone() for p in ps]
    run(optimizer, ps, 1)
    assert torch.equal(still, torch.ones(3))
    assert still not in optimizer.state
    assert torch.equal(other, torch.ones(2, 2))  # lr 0: not even decayed
    assert not torch.equal(ps[2], before[2])


@EACH
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(name) -> None:
    make, _, options, lr = TABLE[name]
    w = nn.Parameter(torch.tensor([2.0]))
    optimizer = make([w], lr=lr, **options)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert w.item() < 2.0


@EACH
def test_a_sparse_gradient_is_refused_before_anything_moves(name) -> None:
    make, _, _, lr = TABLE[name]
    table, other = nn.Embedding(5, 3, sparse=True), nn.Parameter(torch.ones(2))
    optimizer = make([other, *table.parameters()], lr=lr)
    (table(torch.tensor([1, 2])).sum() + other.sum()).backward()
    with pytest.raises(InputError, match=r"shape \(5, 3\), has a sparse gradient.*SparseAdam"):
        optimizer.step()
    assert torch.equal(other, torch.ones(2))


@EACH
def test_a_complex_parameter_is_a_pair_of_real_ones(name) -> None:
    make, _, options, lr = TABLE[name]
    z = nn.Parameter(torch.randn(3, dtype=torch.complex64))
    pair = nn.Parameter(torch.view_as_real(z.detach().clone()).clone())
    optimizers = [make([p], lr=lr, weight_decay=0.1, **options) for p in (z, pair)]
    for _ in range(3):
        g = torch.randn(3, dtype=torch.complex64)
        z.grad, pair.grad = g, torch.view_as_real(g).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(z.detach()), pair.detach())


@EACH
def test_schedulers_and_gradient_scalers_work(name) -> None:
    make, _, options, lr = TABLE[name]
    w = nn.Parameter(torch.ones(4))
    plain = nn.Parameter(torch.ones(4))
    optimizer, reference = make([w], lr=lr, **options), make([plain], lr=lr, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    schedulers = [torch.optim.lr_scheduler.StepLR(o, 1, 0.5) for o in (optimizer, reference)]
    for number in range(3):
        loss, same = (w * (number + 1.0)).sum(), (plain * (number + 1.0)).sum()
        scaler.scale(loss).backward()
        same.backward()
        if number == 1:
            w.grad[0] = math.inf  # the scaler skips this step
        scaler.step(optimizer)
        scaler.update()
        if number != 1:
            reference.step()
        optimizer.zero_grad()
        reference.zero_grad()
    torch.testing.assert_close(w, plain)
    for scheduler in schedulers:
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(lr / 2)


@EACH
def test_a_copy_goes_its_own_way(name) -> None:
    make, _, options, lr = TABLE[name]
    ps = parameters(torch.float32)
    optimizer = make(ps, lr=lr, **options)
    run(optimizer, ps, 1)
    twin = copy.deepcopy(optimizer)
    before = [p.detach().clone() for p in ps]
    run(twin, twin.param_groups[0]["params"], 2)
    assert all(torch.equal(p, b) for p, b in zip(ps, before))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (SGD, {"lr": -0.1}, "lr=-0.1"),
        (SGD, {"lr": "fast"}, "lr='fast'"),
        (SGD, {"lr": torch.ones(2)}, r"shape \(2,\)"),
        (SGD, {"lr": 0.1, "weight_decay": -1}, "weight_decay=-1"),
        (SGD, {"lr": math.nan}, "lr=nan"),
        (Momentum, {"lr": 0.1, "momentum": 1.0}, "0 <= m < 1"),
        (RMSProp, {"lr": 0.1, "square_momentum": 1.5}, "0 <= b < 1"),
        (RMSProp, {"lr": 0.1, "eps": 0.0}, "eps=0.0"),
        (Adam, {"lr": 0.1, "betas": (0.9, 1.0)}, "pair of numbers"),
        (Adam, {"lr": 0.1, "betas": 0.9}, "pair of numbers"),
        (Adam, {"lr": 0.1, "eps": 0}, "eps=0"),
    ],
)
def test_impossible_numbers_are_refused(make, options, words) -> None:
    with pytest.raises(InputError, match=words):
        make([nn.Parameter(torch.ones(1))], **options)


def test_a_group_that_is_refused_is_not_kept() -> None:
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(InputError):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


def test_momentum_is_torchs_with_the_learning_rate_divided() -> None:
    ours, theirs = parameters(), parameters()
    run(Momentum(ours, lr=0.1, momentum=0.9), ours, 5)
    run(torch.optim.SGD(theirs, lr=0.1 * (1 - 0.9), momentum=0.9), theirs, 5)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_adam_is_torchs_adamw_where_eps_does_not_matter() -> None:
    ours, theirs = parameters(), parameters()
    run(Adam(ours, lr=0.1, eps=1e-30, weight_decay=0.1), ours, 5)
    run(torch.optim.AdamW(theirs, lr=0.1, betas=(0.9, 0.99), eps=1e-30, weight_decay=0.1), theirs, 5)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@EACH
def test_maximize_is_the_same_with_the_opposite_gradient(name) -> None:
    make, _, options, lr = TABLE[name]
    ours, negated = parameters(), parameters()
    run(make(ours, lr=lr, **options, maximize=True), ours, 3)
    optimizer = make(negated, lr=lr, **options)

    def negate(*_: object) -> None:
        for p in negated:
            p.grad.neg_()

    optimizer.register_step_pre_hook(negate)
    run(optimizer, negated, 3)
    for a, b in zip(ours, negated):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="maximize='yes'"):
        make(parameters(), lr=lr, **options, maximize="yes")


@EACH
@pytest.mark.parametrize("foreign", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_another_optimizers_state_is_refused_instead_of_started_from_zero(name, foreign) -> None:
    make, _, options, lr = TABLE[name]
    theirs = parameters()
    other = foreign(theirs, lr=lr)
    run(other, theirs, 2)
    ours = make(parameters(), lr=lr, **options)
    with pytest.raises(InputError, match="another optimizer's"):
        ours.load_state_dict(other.state_dict())
    assert not ours.state


def test_a_state_from_before_a_setting_existed_loads() -> None:
    ps = parameters()
    optimizer = Momentum(ps, lr=0.1)
    run(optimizer, ps, 2)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["maximize"]
    other = Momentum(parameters(), lr=0.1)
    other.load_state_dict(state)
    run(other, other.param_groups[0]["params"], 1)


@pytest.mark.parametrize("m", [0.0, 0.9])
def test_sgd_with_momentum_is_torchs(m: float) -> None:
    ours, theirs = parameters(), parameters()
    run(SGD(ours, lr=0.1, momentum=m), ours, 5)
    run(torch.optim.SGD(theirs, lr=0.1, momentum=m), theirs, 5)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("schedule", ["one cycle", "cyclic"])
@pytest.mark.parametrize("make", [SGD, Momentum, Adam])
def test_torchs_cycles_turn_rate_and_momentum(make, schedule: str) -> None:
    ps = parameters()
    optimizer = make(ps, lr=0.1)
    if schedule == "one cycle":
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=5)
    else:
        scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.2, step_size_up=2)
    seen = set()
    for step in range(4):
        run(optimizer, ps, 1, first=step)
        scheduler.step()
        group = optimizer.param_groups[0]
        seen.add(round(group["betas"][0] if "betas" in group else group["momentum"], 6))
    assert len(seen) > 2
    assert all(torch.isfinite(p).all() for p in ps)
