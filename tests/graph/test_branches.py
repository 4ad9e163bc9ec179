"""Which sums are residual: one small network for each thing that decides it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from own_models import Block, resnet
from torch import Tensor, nn

from unitgain.graph import Branch, trace


class Written(nn.Module):
    """Layers a to d of one width, put together by a function."""

    def __init__(self, forward: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))
        self.norm, self.pool = nn.LayerNorm(8), nn.AvgPool1d(3, 1, 1)
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def branches(forward: Callable[[Written, Tensor], Tensor]) -> tuple[Branch, ...]:
    return trace(Written(forward), torch.randn(4, 5, 8)).branches


RESIDUAL: dict[str, Callable[[Written, Tensor], Tensor]] = {
    "x + f(x)": lambda m, x: x + m.a(x),
    "f(x) + x": lambda m, x: m.a(x) + x,
    "in place": lambda m, x: m.a(x).add_(x),
    "torch.add": lambda m, x: torch.add(m.a(x), x),
    "a projection as skip": lambda m, x: m.a(x) + m.c(torch.relu(m.b(x))),
    "fewer weights, none nonlinear": lambda m, x: m.a(x) + m.c(m.b(x)),
    "a norm alone": lambda m, x: x + m.norm(x),
    "a pool alone": lambda m, x: x + m.pool(x),
    "the network's input minus its noise": lambda m, x: x - m.a(x),
    "through a view": lambda m, x: x + m.a(x.reshape(20, 8)).view(4, 5, 8),
    "a scaled skip": lambda m, x: 0.5 * x + m.a(x),
    "a gated skip": lambda m, x: torch.sigmoid(m.b(x)) * x + m.a(x),
    "an index_add": lambda m, x: x.index_add(1, torch.tensor([0, 1, 1]), torch.relu(m.a(x))[:, :3]),
}
NOT: dict[str, Callable[[Written, Tensor], Tensor]] = {
    "a function of the sum's own": lambda m, x: x + x**3,
    "an activation": lambda m, x: x + torch.tanh(x),
    "two equal paths": lambda m, x: m.a(x) + m.b(x),
    "two nonlinear paths": lambda m, x: torch.relu(m.a(x)) + torch.relu(m.c(torch.relu(m.b(x)))),
    "a constant": lambda m, x: m.a(x) + torch.ones(8),
    "a parameter": lambda m, x: m.a(x) + m.gain,
    "a broadcast": lambda m, x: x + m.a(x).mean(1, keepdim=True),
    "straight through": lambda m, x: x + (m.a(x) - x).detach(),
    "a difference from the skip": lambda m, x: m.pool(x) - x,
    "another position": lambda m, x: x[:, 0] + torch.relu(m.a(x[:, 1])),
    "pieces": lambda m, x: torch.cat([p + q for p, q in zip(m.a(x).chunk(2, -1), m.b(x).chunk(2, -1))], -1),
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_sums_are_found_however_they_are_written(name: str) -> None:
    assert len(branches(RESIDUAL[name])) == 1


@pytest.mark.parametrize("name", NOT)
def test_other_sums_are_not_taken_for_residual(name: str) -> None:
    assert branches(NOT[name]) == ()


def test_the_sum_of_all_layers_outputs_is_no_residual_sum() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        total = torch.zeros(())
        for layer in (m.a, m.b, m.c, m.d):
            x = x + torch.relu(layer(x))
            total = total + x
        return total

    assert [b.end for b in branches(forward)] == [":relu", ":relu#2", ":relu#3", ":relu#4"]


def test_inputs_that_have_nothing_in_common_are_no_skip_and_branch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 8)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + self.a(y)

    assert trace(Two(), (torch.randn(4, 8), torch.randn(4, 8), torch.zeros(1))).branches == ()


@pytest.mark.parametrize("order", ["x + (a + b)", "(x + a) + b", "(a + b) + x", "a + (x + b)"])
def test_parallel_branches_share_a_sum_in_whatever_order_they_are_added(order: str) -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        n = m.norm(x)
        given = {"x": x, "a": torch.tanh(m.a(n)), "b": torch.tanh(m.b(n))}
        return eval(order, given)

    graph = trace(Written(forward), torch.randn(4, 5, 8))
    assert [b.start for b in graph.branches] == ["input", "input"]
    assert {b.end for b in graph.branches} == {":tanh", ":tanh#2"}
    assert len({b.sum for b in graph.branches}) == 1
    assert graph.residual_sums() == [list(graph.branches)]


def test_a_branch_inside_a_branch_knows_the_sum_that_it_lies_in() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        y = m.a(x)
        y = y + m.b(torch.relu(y))
        return x + m.c(y)

    inner, outer = branches(forward)
    assert (inner.inside, outer.inside) == (outer.sum, None)
    assert inner.sum in outer.nodes


def test_factors_on_branch_and_skip_are_numbers_where_they_are_one() -> None:
    (found,) = branches(lambda m, x: 0.25 * x - 0.5 * (0.1 * F.dropout(m.a(x), 0.5, m.training)))
    assert (found.skip_scale, found.scale) == (0.25, pytest.approx(-0.05))
    (found,) = branches(lambda m, x: x + m.gain * m.a(x))
    assert found.scale == 0.5
    (found,) = branches(lambda m, x: x + torch.arange(8.0) * m.a(x))
    assert found.scale is None
    (found,) = branches(lambda m, x: x + 2 * m.b(x))  # a gain of the branch's own, as behind a gate
    assert (found.scale, found.end) == (1.0, "b")


def test_skip_start_and_end_of_a_transition() -> None:
    graph = trace(resnet(squeeze=True), torch.randn(2, 3, 8, 8))
    first, change, last = graph.branches
    assert (first.start, first.skip, first.transition) == ("0", (), False)
    assert (change.start, change.skip, change.transition) == (
        "1:relu#2",
        ("2.shortcut.0", "2.shortcut.1"),
        True,
    )
    assert change.nodes[0] == "2.conv1"
    assert (change.end, change.skip_end) == ("2.bn2", "2.shortcut.1")
    assert (change.after, change.block, change.order) == ("relu", "2:relu#2", "post")
    assert (last.site, last.scaled) == ("3.bn2", True)  # a gate lies between


def test_what_comes_from_elsewhere_is_no_part_of_a_branch() -> None:
    """Of a decoder that attends to an encoder, the branch does not contain the encoder."""
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    graph = trace(model, (torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.zeros(1)))
    cross = [b for b in graph.branches if b.path.startswith("decoder")][1]
    assert cross.nodes == ("decoder.layers.0.multihead_attn", "decoder.layers.0.dropout2")


def test_a_block_called_twice_has_a_branch_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    found = trace(Twice(), torch.randn(2, 4, 6, 6)).branches
    assert [(b.sum, b.call, b.end) for b in found] == [
        ("block:add", 1, "block.bn2"),
        ("block:add#2", 2, "block.bn2#2"),
    ]


def test_fourier_transforms_mix_positions_as_attention_does() -> None:
    """FNet's first branch has no weights, and its tensors are complex on the way."""
    (found,) = branches(lambda m, x: m.norm(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=0).real))
    assert (found.nodes, found.order) == ((":fft", ":fft#2"), "post")
    (found,) = branches(lambda m, x: x + torch.fft.irfft(torch.fft.rfft(x) * m.a(x)[..., :5], n=8))
    assert "a" in found.nodes


def test_gates_that_do_not_come_from_the_start_make_a_weighted_sum_and_no_skip() -> None:
    """Focal modulation adds up features of several widths, each times a gate that was computed beside the first."""

    def focal(m: Written, x: Tensor) -> Tensor:
        first, gates = m.a(x), torch.sigmoid(m.d(x))
        return first * gates + torch.relu(m.b(first)) * (2 - gates)

    assert branches(focal) == ()

    def highway(m: Written, x: Tensor) -> Tensor:
        gate = torch.sigmoid(m.d(x))
        return x * gate + torch.relu(m.a(x)) * (1 - gate)

    assert len(branches(highway)) == 1
