"""calibrate_: the statistics of the concatenated data, however it is cut."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.nn import calibrate_


class Net(nn.Module):
    """Two paths that join, Dropout, and BatchNorm layers (ours or torch's) registered out of their order."""

    def __init__(self, norm) -> None:
        super().__init__()
        self.last = norm(5)
        self.fc1, self.fc2, self.side = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(4, 5)
        self.first, self.beside, self.unused = norm(5), norm(5), norm(3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.relu(self.first(self.fc1(x))))
        return self.last(self.fc2(h) * self.beside(self.side(x)))


def norms(net: Net) -> list[nn.Module]:
    return [net.first, net.beside, net.last]


def data(seed: int, n: int = 60) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + 7


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=6, unique=True), ours=st.booleans(), seed=st.integers(0, 99)
)
def test_equals_one_training_pass_over_the_concatenated_data(cuts: list[int], ours: bool, seed: int) -> None:
    torch.manual_seed(seed)
    net = Net(ug.nn.BatchNorm if ours else nn.BatchNorm1d).double()
    x = data(seed)
    whole = copy.deepcopy(net).train()
    whole.drop.eval()
    inputs = {}
    for layer in norms(whole):
        layer.register_forward_pre_hook(lambda m, args: inputs.__setitem__(m, args[0]))
    expected = whole(x)
    ends = [0, *sorted(cuts), 60]
    calibrate_(net, [x[a:b] for a, b in itertools.pairwise(ends)])
    for layer, reference in zip(norms(net), norms(whole)):
        torch.testing.assert_close(layer.running_mean, inputs[reference].mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            layer.running_var, inputs[reference].var(0, correction=0), rtol=1e-11, atol=1e-12
        )
    torch.testing.assert_close(net.eval()(x), expected, rtol=1e-10, atol=1e-10)


def test_one_pass_form_is_exact_for_the_first_layer_and_near_for_the_others() -> None:
    torch.manual_seed(0)
    exact = Net(nn.BatchNorm1d).double()
    quick = copy.deepcopy(exact)
    batches = list(data(1, 4096).split(512))
    calibrate_(exact, batches)
    calibrate_(quick, iter(batches), exact=False)  # read once: an iterator will do
    torch.testing.assert_close(quick.first.running_var, exact.first.running_var, rtol=1e-12, atol=0)
    torch.testing.assert_close(quick.last.running_var, exact.last.running_var, rtol=0.02, atol=0)
    assert not torch.allclose(quick.last.running_var, exact.last.running_var, rtol=1e-6)
    assert quick.first.num_batches_tracked == 0


@pytest.mark.parametrize("exact", [True, False])
def test_nothing_but_the_statistics_changes(exact: bool) -> None:
    net = Net(nn.BatchNorm1d).double().train()
    net.beside.eval()
    net.drop.eval()
    flags = {n: m.training for n, m in net.named_modules()}
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random_state = torch.get_rng_state()
    assert calibrate_(net, [data(0)], exact=exact) is net
    assert {n: m.training for n, m in net.named_modules()} == flags
    assert torch.equal(torch.get_rng_state(), random_state)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{n}.running_{s}" for n in ("first", "beside", "last") for s in ("mean", "var")}
    assert not any(m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("exact", [True, False])
def test_a_failure_puts_everything_back(exact: bool) -> None:
    net = Net(ug.nn.BatchNorm).double().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    bad = data(0)
    bad[3, 2] = torch.nan
    for batches, says in (([bad], "NaN or infinite"), ([], "empty")):
        with pytest.raises(InputError, match=says):
            calibrate_(net, batches, exact=exact)
    with pytest.raises(RuntimeError):
        calibrate_(net, [data(0), torch.zeros(2, 9, dtype=torch.float64)], exact=exact)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert not any(m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_sums_do_not_lose_digits_in_any_dtype(dtype: torch.dtype) -> None:
    x = (torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0)) + 30).to(dtype)
    layer = calibrate_(ug.nn.BatchNorm(3), x.split(333))  # buffers in float32
    torch.testing.assert_close(layer.running_mean, x.double().mean(0).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(layer.running_var, x.double().var(0, correction=0).float(), rtol=1e-6, atol=0)


def test_images_larger_than_a_chunk() -> None:
    x = torch.randn(40, 3, 64, 160, generator=torch.Generator().manual_seed(0)) * 2 + 5  # 1.2 million values
    layer = calibrate_(ug.nn.BatchNorm(3), [x, x[:1]])
    joined = torch.cat([x, x[:1]]).double()
    torch.testing.assert_close(layer.running_mean.double(), joined.mean((0, 2, 3)), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        layer.running_var.double(), joined.var((0, 2, 3), correction=0), rtol=1e-6, atol=0
    )


def test_batches_of_any_form() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return self.norm(input=x if y is None else x + y)

    x, y = data(0).float(), data(1).float()
    target = torch.zeros(60)
    for batches, expected in (
        ([(x, target)], x),
        ([[x]], x),
        ([(x, y, target)], x + y),
        ([{"x": x, "y": y}], x + y),
        ([({"x": x, "y": y}, target)], x + y),
        (torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, target), batch_size=7), x),
    ):
        torch.testing.assert_close(calibrate_(Two(), batches).norm.running_mean, expected.mean(0))
    got = calibrate_(Two(), [("ignored", y)], forward=lambda model, batch: model(batch[1]))
    torch.testing.assert_close(got.norm.running_mean, y.mean(0))


def test_a_shared_layer_has_no_exact_statistics_but_pooled_ones() -> None:
    norm = nn.BatchNorm1d(4).double()
    net = nn.Sequential(norm, nn.Linear(4, 4).double(), norm)
    with pytest.raises(InputError, match="0 runs 2 times"):
        calibrate_(net, [data(0)])
    x = data(0)
    batch_normed = nn.functional.batch_norm(x, None, None, training=True)
    pooled = torch.cat([x, net[1](batch_normed)])
    calibrate_(net, [x], exact=False)
    torch.testing.assert_close(norm.running_mean, pooled.mean(0))
    torch.testing.assert_close(norm.running_var, pooled.var(0, correction=0))


def test_an_iterator_is_refused_before_it_is_used_up() -> None:
    batches = iter([data(0)])
    with pytest.raises(InputError, match="read only once"):
        calibrate_(nn.BatchNorm1d(4).double(), batches)
    assert len(list(batches)) == 1


def test_models_without_running_statistics_are_left_alone() -> None:
    for net in (nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.GroupNorm(2, 4)):
        assert calibrate_(net, []) is net
