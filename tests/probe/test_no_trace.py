"""Training with a Probe is training without one, bit for bit; and nothing of the Probe stays behind."""

from __future__ import annotations

import contextlib
import copy
import gc
import random
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain import InputError, Probe


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Linear(16, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 3),
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout2d(0.2),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


KINDS = {"mlp": (mlp, (8, 12)), "cnn": (cnn, (4, 2, 6, 6)), "transformer": (Transformer, (4, 5, 16))}


def train(
    model, shape, *, every: int | None, steps: int = 50, amp=False, accumulate=1, scaler=False, optimizer=None
) -> dict:
    """Trains a copy; returns everything that a Probe could have disturbed."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    model = copy.deepcopy(model)
    chosen = (optimizer or torch.optim.AdamW)(model.parameters(), lr=1e-2)
    scale = torch.amp.GradScaler("cpu", enabled=False) if scaler else None
    losses, outer_grad_mode = [], torch.is_grad_enabled()
    with Probe(model, chosen, every=every, strict=True) if every else contextlib.nullcontext() as probe:
        for step in range(steps):
            for _ in range(accumulate):
                x = torch.randn(shape)
                y = torch.randint(0, 3, (shape[0],))
                with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                    loss = F.cross_entropy(model(x), y)
                (scale.scale(loss) if scale else loss).backward()
            if scale:
                scale.unscale_(chosen)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                scale.step(chosen)
                scale.update()
            else:
                chosen.step()
            chosen.zero_grad()
            losses.append(loss.item())
            if step % 20 == 10:  # validation in between
                model.eval()
                with torch.no_grad():
                    losses.append(model(x).sum().item())
                model.train()
    assert torch.is_grad_enabled() == outer_grad_mode
    if every:
        assert probe.record.steps() == list(range(0, steps, every))
    return {
        "weights": {k: v.clone() for k, v in model.state_dict().items()},
        "optimizer": chosen.state_dict()["state"], "losses": losses, "rng": torch.get_rng_state(),
        "python": random.getstate(), "numpy": np.random.get_state(),  # noqa: NPY002
        "hooks": hooks_of(model),
        "hooks of optimizer": [dict(chosen._optimizer_step_pre_hooks), dict(chosen._optimizer_step_post_hooks)],
    }  # fmt: skip


def hooks_of(model: nn.Module) -> dict:
    return {
        (name, attribute): dict(getattr(module, attribute))
        for name, module in model.named_modules() for attribute in vars(module) if "hooks" in attribute
    }  # fmt: skip


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same(plain: dict, probed: dict) -> None:
    for name in plain:
        assert same(plain[name], probed[name]), f"{name} differ with and without a Probe"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [1, 3])
def test_training_is_the_same_bit_for_bit(kind: str, every: int) -> None:
    make, shape = KINDS[kind]
    model = make()
    assert_same(train(model, shape, every=None), train(model, shape, every=every))


@pytest.mark.parametrize(
    "options",
    [
        {"amp": True},
        {"accumulate": 3},
        {"scaler": True},
        {"amp": True, "accumulate": 2, "scaler": True},
        {"optimizer": torch.optim.SGD},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["cnn", "transformer"])
def test_training_is_the_same_with_autocast_accumulation_and_scalers(kind: str, options: dict) -> None:
    make, shape = KINDS[kind]
    model = make()
    plain, probed = (train(model, shape, every=every, steps=12, **options) for every in (None, 2))
    assert_same(plain, probed)


def test_without_an_optimizer_training_is_the_same_too() -> None:
    model = cnn()

    def run(probed: bool) -> dict:
        torch.manual_seed(1)
        twin = copy.deepcopy(model)
        with Probe(twin, strict=True, every=2) if probed else contextlib.nullcontext():
            for _ in range(6):
                twin(torch.randn(4, 2, 6, 6)).square().mean().backward()
                with torch.no_grad():
                    for p in twin.parameters():
                        assert p.grad is not None
                        p -= 0.1 * p.grad
                twin.zero_grad()
        return {"weights": dict(twin.state_dict()), "rng": torch.get_rng_state()}

    assert_same(run(False), run(True))


def test_hooks_are_gone_and_the_next_step_works_after_forward_raised_in_the_middle() -> None:
    class Fragile(nn.Module):
        fail = True

        def forward(self, x):
            if self.fail:
                raise RuntimeError("in the middle")
            return torch.tanh(x)

    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Fragile(), nn.ReLU()), nn.Linear(4, 2))
    before = hooks_of(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        Probe(model, optimizer, strict=True, every=1) as probe,
    ):
        model(torch.randn(3, 4))
    assert hooks_of(model) == before
    assert probe.failed_in == "1.0"
    assert torch.tanh(torch.zeros(1)) == 0
    assert torch._C._len_torch_function_stack() == 0
    with Probe(model, optimizer, strict=True, every=1) as probe:
        with pytest.raises(RuntimeError, match="in the middle"):
            model(torch.randn(3, 4))
        assert torch._C._len_torch_function_stack() == 0
        model[1][0].fail = False
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert hooks_of(model) == before
    assert probe.record.steps() == [0, 1]
    assert {"0", "1.0:tanh", "1.1", "2"} <= set(probe.record.values("gradient", 1))


def test_an_error_inside_the_probe_warns_and_training_goes_on(monkeypatch) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = hooks_of(model)
    monkeypatch.setattr("unitgain.stats.take_examples", lambda *a, **k: 1 / 0)
    with Probe(model, optimizer, every=1) as probe:
        with pytest.warns(UserWarning, match="ZeroDivisionError"):
            model(torch.randn(4, 12)).sum().backward()
        optimizer.step()
        assert hooks_of(model) == before
        model(torch.randn(4, 12)).sum().backward()
    assert probe.record.steps() == []
    assert torch._C._len_torch_function_stack() == 0


def test_no_tensor_is_kept_alive() -> None:
    """Every activation, gradient and input of a probed step dies with the step."""
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    alive: list[weakref.ref] = []
    with Probe(model, optimizer, maps=True, strict=True, every=1) as probe:
        for _ in range(3):
            x = torch.randn(4, 2, 6, 6)
            out = model(x)
            out.square().mean().backward()
            alive += [weakref.ref(t.untyped_storage()) for t in (x, out, model[0].weight.grad)]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del x, out
        gc.collect()
        assert [ref() for ref in alive] == [None] * len(alive)
        tensors = [
            t for t in gc.get_objects() if type(t) is torch.Tensor and t.dim() == 4 and t.shape[1] in (2, 8)
        ]
        assert not [t.shape for t in tensors if t.shape[0] == 4]
    weak = weakref.ref(model)
    del model, optimizer, probe
    gc.collect()
    assert weak() is None


def test_a_graph_kept_over_the_step_does_not_add_to_later_steps() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        first = model(torch.randn(8, 12)).sum()
        first.backward(retain_graph=True)
        count = 8 * 16
        optimizer.step()
        model(torch.randn(8, 12)).sum().backward()
        optimizer.step()
    assert probe.record.value("gradient", "0", "count", 0) == count
    assert probe.record.value("gradient", "0", "count", 1) == count


def test_steps_that_are_not_sampled_run_without_hooks() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, every=4, strict=True):
        hooked = []
        for _ in range(8):
            model(torch.randn(8, 12)).sum().backward()
            optimizer.step()
            hooked.append(sum(len(m._forward_hooks) for m in model.modules()))
    assert [n > 1 for n in hooked] == [
        False,
        False,
        False,
        True,
        False,
        False,
        False,
        True,
    ]  # armed for the next step


def test_double_start_and_stop_are_harmless() -> None:
    model = mlp()
    probe = Probe(model, every=1)
    assert probe.start() is probe.start()
    model(torch.randn(4, 12)).sum().backward()
    probe.stop()
    assert all(not v for v in hooks_of(model).values())
    probe.stop()
    assert all(not v for v in hooks_of(model).values())
    assert probe.record.steps() == [0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"every": 0}, "every"),
        ({"every": 1.5}, "every"),
        ({"signals": ["grads"]}, "grads"),
        ({"optimizer": mlp()}, "optimizer"),
    ],
)
def test_wrong_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Probe(mlp(), **options)
    with pytest.raises(InputError, match="model"):
        Probe(lambda x: x, every=1)


def test_parameters_keep_no_emptied_dictionaries_of_hooks() -> None:
    """torch calls Python for such a one in every later backward pass."""
    model = mlp()
    first, *rest = model.parameters()
    mine = first.register_hook(lambda gradient: None)
    with Probe(model, torch.optim.SGD(model.parameters(), 0.1), every=2) as probe:
        model(torch.randn(4, 12)).sum().backward()
        probe.optimizers[0].step()
        assert all(p._backward_hooks is None and p._post_accumulate_grad_hooks is None for p in rest)
        assert list(first._backward_hooks) == [mine.id]
    assert all(p._backward_hooks is None and p._post_accumulate_grad_hooks is None for p in rest)
    assert list(first._backward_hooks) == [mine.id]
