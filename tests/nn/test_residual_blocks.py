"""Residual blocks and what they are made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitgain import InputError
from unitgain import nn as unn


def block(**options) -> unn.NFBlock:
    return unn.NFBlock(
        8, options.pop("out", 8), width=4, activation=lambda inplace: nn.ReLU(inplace), **options
    )


def test_expected_stds_are_the_papers_list() -> None:
    inverse = [[round(1 / b, 6) for b in stage] for stage in unn.expected_stds((1, 2, 6, 3), 0.2)]
    assert inverse == [
        [1.0],
        [0.980581, 0.980581],
        [0.962250, 0.980581, 0.962250, 0.944911, 0.928477, 0.912871],
        [0.898027, 0.980581, 0.962250],
    ]
    long = unn.expected_stds((8,), 0.2)[0]
    assert [round(1 / b, 6) for b in long[1:]] == [
        0.980581, 0.962250, 0.944911, 0.928477, 0.912871, 0.898027, 0.883883,
    ]  # fmt: skip


@pytest.mark.parametrize("skip_gain", [True, False])
@pytest.mark.parametrize("attention", [None, lambda c: unn.SqueezeExcite(c, 2), unn.ECA])
def test_a_block_without_transition_starts_as_the_identity(skip_gain: bool, attention) -> None:
    x = torch.randn(2, 8, 5, 5)
    layer = block(skip_gain=skip_gain, attention=attention, second_conv=True)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


def test_beta_divides_after_the_activation_and_only_what_the_convolutions_read() -> None:
    x, beta = torch.randn(2, 8, 5, 5), 1.3
    gelu = {"activation": lambda inplace: nn.GELU()}
    layer = unn.NFBlock(8, 16, width=4, stride=2, beta=beta, **gelu)
    nn.init.ones_(layer.skipinit_gain)
    plain = unn.NFBlock(8, 16, width=4, stride=2, beta=1.0, **gelu)
    plain.load_state_dict(layer.state_dict())
    o = nn.functional.gelu(x) / beta
    assert plain.downsample is not None
    expected = 0.2 * plain.branch(o) + plain.downsample(o)
    torch.testing.assert_close(layer(x), expected)


def test_the_shortcut_of_a_stage_without_transition_is_the_raw_input_even_with_relu_in_place() -> None:
    layer, x = block(), torch.randn(2, 8, 5, 5)
    nn.init.ones_(layer.skipinit_gain)
    before = x.clone()
    y = layer(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(y, x + 0.2 * layer.branch(x.relu()))


def test_stochastic_depth_keeps_the_mean_only_when_it_rescales() -> None:
    x = torch.ones(20000, 2)
    assert unn.StochasticDepth(0.3)(x).mean().item() == pytest.approx(1, abs=0.02)
    assert unn.StochasticDepth(0.3, rescale=False)(x).mean().item() == pytest.approx(0.7, abs=0.02)
    with pytest.raises(InputError, match="rate is 1"):
        unn.StochasticDepth(1.0)


def test_gates_start_near_one_and_their_gain_can_become_a_saved_number() -> None:
    x = torch.randn(4, 16, 6, 6)
    for gate in (unn.SqueezeExcite(16, 4), unn.ECA(16)):
        assert 0.7 < (gate(x) / x).mean().item() < 1.3
        before = gate(x)
        gate.gain_as_buffer()
        assert "gain" in gate.state_dict()
        torch.testing.assert_close(gate(x), before)
    with pytest.raises(InputError, match="odd"):
        unn.ECA(8, kernel_size=4)


BLOCKS = {
    "basic": unn.BasicBlock,
    "bottleneck": unn.Bottleneck,
    "preact": unn.PreActBlock,
    "preact basic": lambda *a, **o: unn.PreActBlock(*a, bottleneck=False, **o),
    "pooled": unn.PooledResBlock,
}


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c), None])
def test_blocks_halve_odd_sizes_upwards_and_reach_every_parameter(kind: str, norm) -> None:
    x = torch.randn(2, 8, 7, 9, requires_grad=True)
    layer = BLOCKS[kind](8, 16, 2, norm=norm)
    y = layer(x)
    assert y.shape == (2, 16, 4, 5)
    y.square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert BLOCKS[kind](8, 8, norm=norm)(x).shape == x.shape
    assert all(m.bias is None for m in layer.modules() if isinstance(m, nn.Conv2d)) is (
        norm is not None and kind != "pooled"
    )


def test_post_activation_blocks_start_as_their_shortcut() -> None:
    x = torch.rand(2, 8, 6, 6)
    for kind in (unn.BasicBlock, unn.Bottleneck, unn.PooledResBlock):
        torch.testing.assert_close(kind(8, 8)(x), x, rtol=0, atol=0)


def test_the_pooled_block_of_the_lesson_does_not_start_as_its_shortcut() -> None:
    x = torch.rand(2, 8, 5, 5)
    block = unn.PooledResBlock(8, 8, zero_last=False)
    assert float(block.norm2.weight.detach().min()) == 1  # type: ignore[union-attr]
    assert (block(x) - x).norm() > 0.1
