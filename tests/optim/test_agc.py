"""AGC against a reference written from the formula, with loops, in float64."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain.optim import AGC, agc_


def reference(w: np.ndarray, g: np.ndarray, clipping: float, eps: float, gains: str) -> np.ndarray:
    """Unit by unit. DeepMind's: scalars, and what squeezes to at most one axis, as a whole; else per output."""
    whole = w.ndim <= 1 or (gains == "vector" and np.squeeze(w).ndim <= 1)
    out = g.astype(np.complex128 if np.iscomplexobj(g) else np.float64)
    for unit in [...] if whole else range(w.shape[0]):
        size = max(np.sqrt((np.abs(w[unit].astype(out.dtype)) ** 2).sum()), eps)
        norm = np.sqrt((np.abs(out[unit]) ** 2).sum())
        if norm > clipping * size:
            out[unit] = out[unit] * (clipping * size / max(norm, 1e-6))
    return out


shapes = st.one_of(
    st.just(()),
    st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple),
    st.integers(1, 6).map(lambda n: (n, 1, 1, 1)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3), st.just(3)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(shapes, min_size=1, max_size=6),
    st.sampled_from([1e-4, 0.01, 0.5]),
    st.sampled_from([1e-3, 0.1]),
    st.sampled_from(["vector", "channel"]),
    st.sampled_from([torch.float32, torch.float64, torch.complex64]),
    st.sampled_from([1e-8, 1e-3, 1.0, 100.0]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_is_the_formula_on_any_parameters(sizes, clipping, eps, gains, dtype, scale, last, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    ps = []
    for size in sizes:
        p = nn.Parameter(torch.randn(size, generator=generator, dtype=dtype))
        p.grad = torch.randn(size, generator=generator, dtype=dtype) * scale
        if p.dim() > 1 and len(p):
            with torch.no_grad():
                p[0] = 0  # a unit that starts at zero may still move
        if last and p.dim() == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
            p.grad = p.grad.contiguous(memory_format=torch.channels_last)
        ps.append(p)
    expected = [reference(p.detach().numpy(), p.grad.numpy(), clipping, eps, gains) for p in ps]
    agc_(ps, clipping, eps, gains=gains)
    for p, e in zip(ps, expected):
        bound = 1e-12 if dtype is torch.float64 else 3e-6
        np.testing.assert_allclose(p.grad.numpy(), e, rtol=bound, atol=bound * 1e-6)


def clipped(shape, gradient=None, weight=None, **options):
    p = nn.Parameter(torch.ones(shape) if weight is None else weight)
    p.grad = torch.ones(shape) if gradient is None else gradient
    agc_(p, **options)
    return p.grad


def test_gradients_below_their_limit_keep_every_bit() -> None:
    g = torch.randn(8, 16) * 1e-4
    assert torch.equal(clipped((8, 16), g.clone()), g)


def test_after_clipping_every_unit_obeys_its_bound_and_twice_is_once() -> None:
    p = nn.Parameter(torch.randn(16, 4, 3, 3))
    p.grad = torch.randn(16, 4, 3, 3)
    agc_(p)
    once = p.grad.clone()
    ratio = once.flatten(1).norm(dim=1) / p.detach().flatten(1).norm(dim=1)
    assert (ratio <= 0.01 * (1 + 1e-6)).all()
    agc_(p)
    torch.testing.assert_close(p.grad, once)


def test_scaling_weights_and_gradients_scales_the_result() -> None:
    w, g = torch.randn(6, 9) + 1, torch.randn(6, 9)
    a = clipped((6, 9), g.clone(), w.clone())
    b = clipped((6, 9), 7 * g, 7 * w)
    torch.testing.assert_close(7 * a, b)


def test_a_conv_gain_is_one_unit_or_one_per_channel_by_choice() -> None:
    g = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1, 1)
    whole = clipped((4, 1, 1, 1), g.clone())
    each = clipped((4, 1, 1, 1), g.clone(), gains="channel")
    assert whole.flatten()[0].item() == pytest.approx(0.01 * 2)  # the vector's norm is 2
    assert each.flatten()[0].item() == pytest.approx(0.01)
    zero = torch.zeros(4, 1, 1, 1)
    assert clipped((4, 1, 1, 1), g.clone(), zero.clone()).norm().item() == pytest.approx(1e-5)


def test_groups_carry_their_own_factor_and_none_leaves_them_alone() -> None:
    ps = [nn.Parameter(torch.ones(4, 4)) for _ in range(3)]
    for p in ps:
        p.grad = torch.ones(4, 4)
    count = agc_(
        [{"params": [ps[0]]}, {"params": [ps[1]], "clipping": 0.5}, {"params": [ps[2]], "clipping": None}]
    )
    assert [p.grad[0, 0].item() for p in ps] == pytest.approx([0.01, 0.5, 1.0])
    assert count.item() == 8


def test_no_gradient_nothing_and_the_same_parameter_twice_are_fine() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    assert agc_([p]).item() == 0
    assert agc_([]).item() == 0
    p.grad = torch.ones(2, 2)
    assert agc_([p, p]).item() == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_norms_do_not_overflow(dtype) -> None:
    g = torch.full((2, 512), 100.0, dtype=dtype)  # the sum of squares is 5.12e6, beyond float16
    out = clipped((2, 512), g, torch.ones(2, 512, dtype=dtype))
    assert torch.isfinite(out).all()
    assert out.float().norm(dim=1)[0].item() == pytest.approx(0.01 * 512**0.5, rel=0.01)


def test_a_gradient_that_is_not_finite_stays_so_and_spoils_no_other_unit() -> None:
    g = torch.ones(3, 4)
    g[0, 0], g[1, 0] = float("inf"), float("nan")
    out = clipped((3, 4), g)
    assert not torch.isfinite(out[0]).all()
    assert not torch.isfinite(out[1]).all()
    assert out[2].norm().item() == pytest.approx(0.02)


def test_before_unscaling_the_scale_moves_the_limit_along() -> None:
    w, g = torch.randn(5, 7), torch.randn(5, 7)
    scaled = clipped((5, 7), 1024 * g, w.clone(), grad_scale=1024.0)
    torch.testing.assert_close(scaled / 1024, clipped((5, 7), g.clone(), w.clone()))
    by_tensor = clipped((5, 7), 1024 * g, w.clone(), grad_scale=torch.tensor(1024.0))
    torch.testing.assert_close(by_tensor, scaled)


def test_rows_of_an_embedding_are_clipped_in_a_sparse_gradient_too() -> None:
    tables = [nn.Embedding(6, 4, sparse=sparse) for sparse in (True, False)]
    tables[1].load_state_dict(tables[0].state_dict())
    for table in tables:
        (100 * table(torch.tensor([1, 4, 4]))).sum().backward()
        agc_(table.parameters())
    assert tables[0].weight.grad.is_sparse
    torch.testing.assert_close(tables[0].weight.grad.to_dense(), tables[1].weight.grad)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"clipping": 0}, "clipping=0"), ({"clipping": -1.0}, "clipping=-1.0"), ({"eps": 0.0}, "eps=0.0"),
     ({"gains": "row"}, "'vector' or 'channel'")],
)  # fmt: skip
def test_impossible_numbers_are_refused(options, words) -> None:
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    with pytest.raises(InputError, match=words):
        agc_(p, **options)
    with pytest.raises(InputError, match="tensors or groups"):
        agc_(["weight"])


# ---- AGC, beside an optimizer ------------------------------------------------------------------------------


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def grads(model: nn.Module, scale: float = 1e3) -> None:
    (scale * model(torch.randn(16, 4))).square().mean().backward()


def test_a_step_uses_clipped_gradients_and_removing_ends_that() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with AGC(optimizer, model) as agc:
        grads(model)
        before = model[0].weight.detach().clone()
        optimizer.step()
    change = (model[0].weight - before).norm(dim=1) / before.norm(dim=1)
    assert (change <= 0.0101).all()
    assert agc.excluded == ["2.weight"]
    assert model[2].weight.grad.norm() > 1  # the classifier's weight is left alone
    optimizer.zero_grad()
    grads(model)
    optimizer.step()
    assert model[0].weight.grad.norm() > 1


class Odd(nn.Module):
    """Registers its head first and returns log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.body = nn.Linear(4, 8)

    def forward(self, x):
        return torch.log_softmax(self.head(torch.relu(self.body(x))), -1)


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(1, 8, 3)

    def forward(self, x):
        return torch.relu(self.body(x.unsqueeze(1))).mean(-1)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box, self.body, self.label = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = torch.relu(self.body(x))
        return {"boxes": self.box(h).view(-1, 2, 2), "label": self.label(h)}


@pytest.mark.parametrize(
    ("make", "expected"),
    [(net, ["2.weight"]), (Odd, ["head.weight"]), (Headless, []), (TwoHeads, ["box.weight", "label.weight"])],
)
def test_the_output_layer_is_found_by_what_it_does(make, expected) -> None:
    model = make()
    agc = AGC(torch.optim.SGD(model.parameters(), lr=0.1), model)
    with torch.no_grad():
        model(torch.randn(2, 4))  # a pass without gradients tells nothing
    model(torch.randn(2, 4))
    assert sorted(agc.excluded) == expected
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.reference
def test_timm_and_transformers_tell_their_output_layer(torchvision_operators) -> None:
    import timm
    from transformers import GPT2Config, GPT2LMHeadModel

    for options, expected in (({}, ["head.fc.weight"]), ({"num_classes": 0}, [])):
        model = timm.create_model("nf_resnet26", **options)
        agc = AGC(torch.optim.SGD(model.parameters(), lr=0.1), model)
        assert agc.excluded == expected
    config = GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=16)
    gpt = GPT2LMHeadModel(config)
    agc = AGC(torch.optim.SGD(gpt.parameters(), lr=0.1), gpt)
    assert agc.excluded == ["transformer.wte.weight"]  # tied to the output
    gpt(input_ids=torch.randint(0, 11, (2, 5))).logits.square().sum().backward()
    w = gpt.transformer.h[0].mlp.c_fc.weight  # (in, out): its units are columns
    w.grad = torch.ones_like(w)
    agc.clip()
    torch.testing.assert_close(w.grad.norm(dim=0), 0.01 * w.detach().norm(dim=0))


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [((), []), ("2", ["2.weight", "2.bias"]), ("*.bias", ["0.bias", "2.bias"]), (["0.weight"], ["0.weight"])],
)
def test_exclude_takes_names_of_parameters_and_modules(exclude, expected) -> None:
    model = net()
    assert AGC(torch.optim.SGD(model.parameters(), lr=0.1), model, exclude=exclude).excluded == expected
    assert AGC(torch.optim.SGD(model.parameters(), lr=0.1), model, exclude=model[0]).excluded == [
        "0.weight",
        "0.bias",
    ]
    with pytest.raises(InputError, match="'heads' matches no parameter; there are"):
        AGC(torch.optim.SGD(model.parameters(), lr=0.1), model, exclude="heads")


@pytest.mark.parametrize("groups", [1, 2])
def test_units_of_a_transposed_convolution_are_its_outputs(groups) -> None:
    model = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
    model.weight.grad = torch.randn_like(model.weight)
    start, w = model.weight.grad.clone(), model.weight.detach()
    AGC(torch.optim.SGD(model.parameters(), lr=0.1), model, exclude=()).clip()
    for g in range(groups):
        inputs = slice(g * 4 // groups, (g + 1) * 4 // groups)
        for o in range(6 // groups):
            limit = 0.01 * w[inputs, o].norm()
            torch.testing.assert_close(
                model.weight.grad[inputs, o], start[inputs, o] * limit / start[inputs, o].norm()
            )


def test_what_a_closure_computes_is_clipped() -> None:
    model = net()
    twin = copy.deepcopy(model)
    x = torch.randn(16, 4)
    for m, by_closure in ((model, True), (twin, False)):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)
        AGC(optimizer, m)

        def closure(m=m, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (1e3 * m(x)).square().mean()
            loss.backward()
            return loss

        if by_closure:
            assert optimizer.step(closure).item() > 0
            optimizer.step(closure=closure)
        else:
            for _ in range(2):
                closure()
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_gradient_scaler_the_step_is_that_without_one(fused) -> None:
    model = net()
    twin = copy.deepcopy(model)
    x = torch.randn(16, 4)
    options = {"lr": 0.1, "fused": True} if fused else {"lr": 0.1}
    optimizers = [torch.optim.SGD(m.parameters(), **options) for m in (model, twin)]
    for m, optimizer in zip((model, twin), optimizers):
        AGC(optimizer, m)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    scaler.scale((10 * model(x)).square().mean()).backward()
    scaler.step(optimizers[0])
    (10 * twin(x)).square().mean().backward()
    optimizers[1].step()
    for a, b in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(a, b)


def test_how_often_each_unit_was_clipped_is_in_the_record() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)
    with ug.Probe(model, optimizer, every=2) as probe, AGC(optimizer, model, probe=probe, gains="channel"):
        for step in range(6):
            optimizer.zero_grad()
            grads(model, 1e3 if step < 3 else 1e-6)
            optimizer.step()
    record = probe.record
    steps, share = record.metric("agc")
    assert steps.tolist() == [0, 2, 4]
    assert share[0] > 0.5
    assert share[2] == 0
    counts = record.meta["agc"]["parameters"]
    assert counts["0.weight"]["steps"] == 6
    assert len(counts["0.weight"]["clipped"]) == 8
    assert max(counts["0.weight"]["clipped"]) == 3
    assert "2.weight" not in counts
    gradient = record.value("parameter_gradient", "0.weight", "rms", 0)
    weight = record.value("parameter", "0.weight", "rms", 0)
    assert gradient <= 0.0101 * weight  # the Probe, hooked before AGC, saw clipped gradients


class Standardized(nn.Module):
    """Linear with scaled weight standardization: rows of mean 0 and norm `gain`."""

    def __init__(self, fan_in: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fan_in) / fan_in**0.5)
        self.gain = nn.Parameter(torch.ones(out, 1))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        centred = self.weight - self.weight.mean(1, keepdim=True)
        rows = centred / centred.square().sum(1, keepdim=True).clamp_min(1e-4).sqrt()
        return nn.functional.linear(x, self.gain * rows, self.bias)


class Block(nn.Module):
    def __init__(self, width: int, beta: float) -> None:
        super().__init__()
        self.first, self.last = Standardized(width, width), Standardized(width, width)
        self.skip_gain = nn.Parameter(torch.ones(()))
        self.beta = beta

    def forward(self, h):
        inner = self.first(1.7128586 * torch.relu(h / self.beta))
        return h + 0.2 * self.skip_gain * self.last(1.7128586 * torch.relu(inner))


def test_four_times_the_stable_rate_diverges_without_and_trains_with_agc() -> None:
    torch.manual_seed(3)
    x = torch.randn(256, 16)
    y = (x[:, :4] * x[:, 4:8] + x[:, 8:12]).argmax(1)
    blocks = (Block(64, (1 + 0.04 * k) ** 0.5) for k in range(12))
    start = nn.Sequential(Standardized(16, 64), *blocks, nn.ReLU(), nn.Linear(64, 4))

    def train(lr: float, clip: bool) -> list[float]:
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        if clip:
            AGC(optimizer, model, clipping=0.01)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    stable = train(1.6, clip=False)
    assert stable[-1] < 0.1 * stable[0]
    assert not train(4 * 1.6, clip=False)[-1] < 10 * stable[0]  # or NaN
    assert train(4 * 1.6, clip=True)[-1] < 0.3 * stable[0]


# ---- before the first step, and wrappers -------------------------------------------------------------------


def test_a_model_can_be_copied_pickled_exported_and_traced_before_its_first_step() -> None:
    """The hooks that look for the output layer were local functions, and looked at fake tensors' memory."""
    model = net()
    agc = AGC(torch.optim.SGD(model.parameters(), lr=0.1), model)
    x = torch.randn(2, 4)
    copied = copy.deepcopy(model)
    again = pickle.loads(pickle.dumps(model))
    for other in (copied, again):
        assert torch.equal(other(x), model.eval()(x))
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))
    fresh = net()
    agc = AGC(torch.optim.SGD(fresh.parameters(), lr=0.1), fresh)
    torch.export.export(fresh, (x,))
    torch.fx.symbolic_trace(fresh)
    torch._dynamo.reset()
    torch.compile(fresh, backend="eager", fullgraph=True)(x)
    copy.deepcopy(fresh)(x)
    assert agc._finder is not None
    assert agc._finder._found is None  # none of these was the model's own first pass
    fresh(x)
    assert agc.excluded == ["2.weight"]


class SAM(torch.optim.Optimizer):
    """The widely used one: two half steps, the second of which steps the inner optimizer."""

    def __init__(self, params: Any, base: Any, rho: float = 0.05, **options: Any):
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        grads = [p.grad.norm() for group in self.param_groups for p in group["params"]]
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["old"] = p.clone()
                p.add_(p.grad * (group["rho"] / torch.stack(grads).norm()))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old"])
        self.base_optimizer.step()
        self.zero_grad()

    def step(self, closure: Any = None) -> None:
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


@pytest.mark.parametrize("whole", [True, False])
def test_the_step_that_sam_makes_is_clipped(whole: bool) -> None:
    model = net()
    sam = SAM(model.parameters(), torch.optim.SGD, lr=1.0)
    agc = AGC(sam, model, exclude=())  # nothing grows without bound at this rate
    for _ in range(12):  # more than enough for a warning, which would be an error
        grads(model)
        before = model[0].weight.detach().clone()
        if whole:
            sam.step(lambda: grads(model))
        else:
            sam.first_step()
            grads(model)
            sam.second_step()
        change = (model[0].weight - before).norm(dim=1) / before.norm(dim=1)
        assert (change <= 0.0101).all()
    assert agc.metrics()["agc"] > 0.5


def test_an_optimizer_whose_step_is_never_called_is_named_once() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    AGC(optimizer, model)

    def steps_of_another() -> None:
        for _ in range(30):
            grads(model, 1.0)
            with torch.no_grad():
                for p in model.parameters():
                    assert p.grad is not None
                    p.sub_(0.01 * p.grad)
            optimizer.zero_grad()

    words = r"AGC: the weights have changed 10 times and SGD\.step was not called"
    with pytest.warns(UserWarning, match=words) as seen:
        steps_of_another()
    assert len(seen) == 1


def test_accumulated_gradients_are_no_changes_of_the_weights() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    AGC(optimizer, model)
    for _ in range(40):
        grads(model, 1e-3)
    optimizer.step()


def test_what_cannot_be_clipped_or_is_not_the_models_is_said_once_by_name_and_raises_nothing() -> None:
    """A sparse gradient without rows stopped the user's training in its first step."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    strange, known = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(2, 2))
    optimizer = torch.optim.SGD([*model.parameters(), strange, known], 0.1)
    agc = AGC(optimizer, model)

    def step() -> None:
        (100 * model(torch.randn(5, 4)).square().mean() + 100 * known.square().sum()).backward()
        strange.grad = torch.eye(3).to_sparse()
        optimizer.step()
        optimizer.zero_grad()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
        step()
    assert sorted(str(w.message)[:60] for w in caught) == [
        "AGC: 1 tensors of the SGD are no parameters of the model (gr",
        "AGC: group0[4] has a sparse gradient without separate units;",
    ]
    assert agc.rates()["group0[5]"].max() == 1
