"""Other libraries on our layers and models: torch.func, per-sample gradients, Opacus, distributed checkpoints, fx."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

NF = ("nf_resnet_tiny",)


def net(name: str = "nf_resnet_tiny") -> nn.Module:
    torch.manual_seed(0)
    return ug.models.create(name, num_classes=4)


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % 4


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Per-sample gradients from a loop over the examples."""
    found: dict[str, list[Tensor]] = {}
    for i in range(len(x)):
        gradients = torch.autograd.grad(loss_of(model, x[i : i + 1], y[i : i + 1]), list(model.parameters()))
        for (name, _), gradient in zip(model.named_parameters(), gradients):
            found.setdefault(name, []).append(gradient)
    return {name: torch.stack(gradients) for name, gradients in found.items()}


@pytest.mark.parametrize("name", NF)
def test_vmap_gives_the_gradients_of_each_example(name) -> None:
    model, (x, y) = net(name), batch()
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(parameters, x, y):
        out = torch.func.functional_call(model, (parameters, buffers), (x[None],))
        return F.cross_entropy(out, y[None])

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0), randomness="different")(
        parameters, x, y
    )
    for name, expected in one_by_one(model, x, y).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script.*:DeprecationWarning"
)  # torch's own, when it loads its rules
@pytest.mark.parametrize("name", NF)
def test_functional_call_and_jvp_work_on_our_models(name) -> None:
    model, (x, _) = net(name), batch(2)
    parameters = {n: p.detach() for n, p in model.named_parameters()}
    tangents = {n: torch.ones_like(p) * 1e-3 for n, p in parameters.items()}
    found = torch.func.jvp(lambda p: torch.func.functional_call(model, p, (x,)), (parameters,), (tangents,))
    out, forward = found[0], found[1]
    assert out.shape == forward.shape == (2, 4)
    higher = {n: p + 1e-3 * tangents[n] for n, p in parameters.items()}
    step = torch.func.functional_call(model, higher, (x,)) - out
    torch.testing.assert_close(step / 1e-3, forward, rtol=0.05, atol=0.02)


def test_ensembles_of_our_models_run_under_vmap() -> None:
    models = [net() for _ in range(3)]
    for number, model in enumerate(models):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.01 * number)
    parameters, buffers = torch.func.stack_module_state(models)
    base = net().to("meta")
    x, _ = batch(2)

    def run(parameters, buffers):
        return torch.func.functional_call(base, (parameters, buffers), (x,))

    out = torch.func.vmap(run, randomness="different")(parameters, buffers)
    for number, model in enumerate(models):
        torch.testing.assert_close(out[number], model(x), rtol=1e-4, atol=1e-5)

    def loss(parameters, buffers):
        return torch.func.functional_call(base, (parameters, buffers), (x,)).square().mean()

    gradients = torch.func.vmap(torch.func.grad(loss), randomness="different")(parameters, buffers)
    models[2](x).square().mean().backward()
    for name, parameter in models[2].named_parameters():
        torch.testing.assert_close(gradients[name][2], parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_networks_leave_their_inputs_when_they_are_told_to_and_compute_the_same() -> None:
    model, (x, _) = net().eval(), batch(2)
    before = model(x)
    assert any(getattr(m, "inplace", False) for m in model.modules())
    assert torch.equal(ug.nn.out_of_place_(model)(x), before)
    assert not any(getattr(m, "inplace", False) for m in model.modules())


@pytest.mark.filterwarnings("ignore")
def test_opacus_trains_a_normalizer_free_network_privately() -> None:
    opacus = pytest.importorskip("opacus")
    model, (x, y) = net(), batch(8)
    assert opacus.validators.ModuleValidator.validate(model, strict=False) == []  # no layer mixes examples
    expected = one_by_one(model, x, y)
    for functorch in (False, True):
        model = ug.nn.out_of_place_(net())
        wrapped = opacus.GradSampleModule(model, force_functorch=functorch)
        loss_of(wrapped, x, y).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad_sample, expected[name], rtol=1e-3, atol=1e-4, msg=name)
    model = ug.nn.out_of_place_(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    engine = opacus.PrivacyEngine()
    private, optimizer, loader = engine.make_private(
        module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
    )
    before = [p.detach().clone() for p in model.parameters()]
    for images, classes in loader:
        if len(images):
            optimizer.zero_grad()
            loss_of(private, images, classes).backward()
            optimizer.step()
    assert any(not torch.equal(p, q) for p, q in zip(before, model.parameters()))
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.filterwarnings("ignore")
def test_distributed_checkpoints_hold_our_models_and_their_optimizers(tmp_path) -> None:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    model, (x, y) = net(), batch()
    optimizer = ug.optim.Momentum(model.parameters(), lr=0.1)
    loss_of(model, x, y).backward()
    optimizer.step()
    weights, moments = get_state_dict(model, optimizer)
    checkpoint.save({"model": weights, "optimizer": moments}, checkpoint_id=tmp_path / "one", no_dist=True)
    other = net()
    again = ug.optim.Momentum(other.parameters(), lr=0.5)
    weights, moments = get_state_dict(other, again)
    checkpoint.load({"model": weights, "optimizer": moments}, checkpoint_id=tmp_path / "one", no_dist=True)
    set_state_dict(other, again, model_state_dict=weights, optim_state_dict=moments)
    for one, two in ((model, optimizer), (other, again)):
        two.zero_grad()
        loss_of(one, x, y).backward()
        two.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))


def test_fx_traces_our_models() -> None:
    model, (x, _) = net().eval(), batch(2)
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))
    assert any(node.op == "call_module" for node in traced.graph.nodes)


@pytest.mark.filterwarnings("ignore")
def test_a_probe_takes_what_opacus_has_made_private_with_plain_names() -> None:
    opacus = pytest.importorskip("opacus")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    data = torch.utils.data.TensorDataset(torch.randn(32, 8), torch.arange(32) % 2)
    private, optimizer, loader = opacus.PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=torch.utils.data.DataLoader(data, batch_size=8),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    with ug.Probe(private, optimizer, every=2) as probe:
        for x, y in loader:
            optimizer.zero_grad()
            loss_of(private, x, y).backward()
            optimizer.step()
    record = probe.record
    assert record.steps() == [0, 2]
    assert [site.name for site in record.sites("activation")] == ["0", "1", "2"]
    assert [site.name for site in record.sites("update")] == ["0.weight", "0.bias", "2.weight", "2.bias"]
