"""Mode "train": what a network without BatchNorm needs to train from scratch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from normfree_networks import Dense, PreActivation, conv
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import unitgain as ug
from unitgain import InputError
from unitgain._batch import Batch, tensors_in
from unitgain.normfree import convert, rebuild
from unitgain.normfree.reading import count_batch_norms


def images(count: int = 8, side: int = 16) -> Tensor:
    """Smooth ones, as photographs are: neighbouring pixels are alike."""
    small = torch.randn(count, 3, side // 4, side // 4)
    return nn.functional.interpolate(small, size=side, mode="bilinear") + 0.1 * torch.randn(
        count, 3, side, side
    )


class Block(nn.Module):
    """ResNet's basic block, with the activation behind the sum."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(cin, cout, stride=stride), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = conv(cout, cout), nn.BatchNorm2d(cout)
        self.relu, self.down = nn.ReLU(inplace=True), None
        if stride != 1 or cin != cout:
            self.down = nn.Sequential(conv(cin, cout, 1, stride=stride), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.down is None else self.down(x)))


def resnet() -> nn.Module:
    return nn.Sequential(
        conv(3, 16), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), Block(16, 16), Block(16, 16), Block(16, 32, 2),
        Block(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Inverted(nn.Module):
    """MobileNet's: expand, depthwise, squeeze and excite, project."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 4 * channels
        self.expand = nn.Sequential(conv(channels, wide, 1), nn.BatchNorm2d(wide), nn.SiLU())
        self.depth = nn.Sequential(conv(wide, wide, groups=wide), nn.BatchNorm2d(wide), nn.SiLU())
        self.squeeze, self.excite = nn.Conv2d(wide, 4, 1), nn.Conv2d(4, wide, 1)
        self.project = nn.Sequential(conv(wide, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depth(self.expand(x))
        gate = self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x + self.project(gate * y)


def mobile() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.SiLU(), *(Inverted(8) for _ in range(4)),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))  # fmt: skip


class Parallel(nn.Module):
    """RepVGG's: a 3x3 and a 1x1 convolution and the identity, each with a norm, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = conv(channels, channels), conv(channels, channels, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norms[0](self.a(x)) + self.norms[1](self.b(x)) + self.norms[2](x))


def parallel() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), *(Parallel(8) for _ in range(4)))


class Overparameterized(nn.Module):
    """MobileOne's: several convolutions in parallel, and the identity where there is one, added one after the other."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(cin, cout) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(cout) for _ in range(4))
        self.identity = nn.BatchNorm2d(cin) if cin == cout else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](self.convs[0](x))
        for layer, norm in zip(self.convs[1:], self.norms[1:]):
            y = y + norm(layer(x))
        return (y if self.identity is None else y + self.identity(x)).relu()


def overparameterized() -> nn.Module:
    sizes = [3, 8, 8, 8, 16, 16, 16]
    return nn.Sequential(*(Overparameterized(a, b) for a, b in pairwise(sizes)))


class Ghost(nn.Module):
    """A branch that ends in a concatenation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.main, self.norm = conv(channels, half), nn.BatchNorm2d(half)
        self.cheap, self.cheap_norm = conv(half, half, groups=half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.main(x.relu()))
        return x + torch.cat([y, self.cheap_norm(self.cheap(y))], 1)


def ghost() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), *(Ghost(8) for _ in range(5)))


class InPlaceOnStream(nn.Module):
    """Pre-activation with an activation that works in place on what the norm returns."""

    def __init__(self, functional: bool = False) -> None:
        super().__init__()
        self.norm, self.act, self.conv = nn.BatchNorm2d(8), nn.ReLU(inplace=True), conv(8, 8)
        self.functional = functional

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.conv(y.relu_() if self.functional else self.act(y))


def in_place() -> nn.Module:
    return nn.Sequential(
        conv(3, 8), nn.BatchNorm2d(8), InPlaceOnStream(), InPlaceOnStream(True), InPlaceOnStream()
    )


class Stem(nn.Module):
    """A stream that begins with a concatenation of layers, and with a sum of layers."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.joined = joined
        self.a, self.b = conv(3, 4 if joined else 8), conv(3, 4 if joined else 8, 1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(self.a.out_channels), nn.BatchNorm2d(self.b.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.norm_a(self.a(x)), self.norm_b(self.b(x))
        return torch.relu(torch.cat([a, b], 1) if self.joined else a + b)


class CrossStage(nn.Module):
    """CSPNet's: a stream that begins with a layer without activation, and blocks that end in one."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = conv(3, 16), nn.BatchNorm2d(16)
        self.one, self.two = Block(8, 8), Block(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        kept, x = self.norm(self.expand(x)).split(8, 1)
        return torch.cat([kept, self.two(self.one(x))], 1)


class DualPath(nn.Module):
    """DPN's: one convolution gives what is added and what is concatenated."""

    def __init__(self, cin: int, first: bool) -> None:
        super().__init__()
        self.norm, self.a = nn.BatchNorm2d(cin), conv(cin, 8, 1)
        self.norm2, self.b = nn.BatchNorm2d(8), conv(8, 8)
        self.norm3, self.c = nn.BatchNorm2d(8), conv(8, 12, 1)
        self.skip = (
            nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU(inplace=True), conv(cin, 12, 1)) if first else None
        )

    def forward(self, x: tuple[Tensor, Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat(x, 1) if isinstance(x, tuple) else x
        stream, dense = x if self.skip is None else self.skip(joined).split((8, 4), 1)
        y = self.a(self.norm(joined).relu())
        y = self.c(self.norm3(self.b(self.norm2(y).relu())).relu())
        return stream + y[:, :8], torch.cat([dense, y[:, 8:]], 1)


class Dark(nn.Module):
    """DarkNet's: the branch ends in an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(8, 8, 1), conv(8, 8)
        self.norm1, self.norm2, self.act = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.norm2(self.two(self.act(self.norm1(self.one(x))))))


def dark() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.LeakyReLU(0.1), *(Dark() for _ in range(8)))


def cross_stage() -> nn.Module:
    return nn.Sequential(conv(3, 3), nn.BatchNorm2d(3), nn.ReLU(), CrossStage())


def dual_path() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), DualPath(8, True), DualPath(16, False),
                         DualPath(20, False), DualPath(24, True), DualPath(16, False))  # fmt: skip


class Agreeing(nn.Module):
    """A branch whose output is like the stream, so that the stream grows faster than alpha says."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(8), conv(8, 8, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(8)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.norm(x))


def agreeing() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), *(Agreeing() for _ in range(12)))


def joined() -> nn.Module:
    return nn.Sequential(Stem(True), Block(8, 8), Block(8, 8))


def summed() -> nn.Module:
    return nn.Sequential(Stem(False), Block(8, 8), Block(8, 8))


MODELS = [
    resnet, mobile, parallel, overparameterized, ghost, in_place, Dense, PreActivation,
    joined, summed, cross_stage, dual_path, dark, agreeing,
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS)
def test_blocks_have_a_variance_near_one_and_examples_are_independent(make: type[nn.Module]) -> None:
    model, x = make(), images()
    report = convert(model, x)
    assert report.refused == []
    assert report.blocks
    assert all(0.5 <= b.after <= 2 for b in report.blocks), report.blocks
    assert report.coupling[0] > 1e-3
    assert report.coupling[1] < 1e-5
    assert count_batch_norms(model, Batch((x,)), training=True) == 0
    sum(t.square().mean() for t in tensors_in(model.train()(x))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("make", MODELS)
def test_a_second_conversion_is_nothing_and_the_state_dict_loads_into_a_rebuilt_model(
    make: type[nn.Module],
) -> None:
    model, x = make(), images()
    report = convert(model, x)
    assert convert(model, x).edits == []
    new = rebuild(make(), [e.to_dict() for e in report.edits])
    new.load_state_dict(model.state_dict())
    with torch.no_grad():
        pairs = zip(tensors_in(new.eval()(x)), tensors_in(model.eval()(x)))
        assert all(torch.equal(a, b) for a, b in pairs)


def test_depthwise_kernels_keep_their_mean_and_gates_and_heads_stay_plain() -> None:
    model = mobile()
    report = convert(model, images())
    kinds = {path: edit.kind for edit in report.edits for path in edit.paths if edit.kind != "bias"}
    assert kinds["3.depth.0"] == "normalized"
    assert kinds["3.expand.0"] == kinds["3.project.0"] == kinds["0"] == "standardized"
    assert not {"3.squeeze", "3.excite", "9"} & set(kinds)
    assert kinds["3.project.1"] == "branch"
    kernels = model[3].depth[0].weight
    assert float(kernels.flatten(1).mean(1).abs().max().detach()) > 1e-3


def test_a_gate_over_channels_stays_plain() -> None:
    """ECA's convolution runs over the channels of the pooled map: another arrangement of axes."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.gate = conv(3, 8), nn.BatchNorm2d(8), nn.Conv1d(1, 1, 3, padding=1)
            self.last, self.last_norm = conv(8, 8), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x)).relu()
            gate = self.gate(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
            return self.last_norm(self.last(x * gate[:, :, None, None]))

    report = convert(Gated(), images())
    assert "gate" not in {path for edit in report.edits for path in edit.paths}
    assert report.standardized == 2


def test_the_stream_of_a_pre_activation_network_is_not_overwritten_in_place() -> None:
    model, x = in_place(), images()
    convert(model, x)
    seen = []
    model[2].register_forward_hook(lambda module, given, output: seen.append(given[0].min().item()))
    with torch.no_grad():
        model(x)
    assert seen[0] < 0


def test_a_layer_that_gives_a_constant_is_named() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4))
    report = convert(model, torch.zeros(4, 3, 8, 8))
    assert any("does not vary" in note for note in report.notes)


def test_an_error_in_the_middle_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from unitgain.normfree import calibrating

    def stops(*_: object) -> None:
        raise InputError("no")

    monkeypatch.setattr(calibrating, "calibrate", stops)
    model = resnet()
    state, modules = {k: v.clone() for k, v in model.state_dict().items()}, list(model.modules())
    with pytest.raises(InputError):
        convert(model, images())
    assert list(model.modules()) == modules
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_what_was_converted_for_training_folds_to_plain_layers_of_the_same_outputs() -> None:
    model, x = resnet().double(), images().double()
    convert(model, x)
    with torch.no_grad():
        wanted = model.eval()(x)
        report = convert(model, x, "fold")
        assert float((report.model.eval()(x) - wanted).norm() / wanted.norm()) < 1e-9
    assert report.classes_left == []


def plain() -> nn.Module:
    """Depthwise-separable layers one after the other: no residual stream that would carry the signal."""
    layers: list[nn.Module] = []
    for cin in (3, *[16] * 7):
        layers += [
            conv(cin, 16, 1),
            nn.BatchNorm2d(16),
            conv(16, 16, groups=16),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def test_what_all_examples_share_does_not_grow_from_layer_to_layer() -> None:
    """On maps of one pixel, behind rectifiers, it was most of the signal: layers' outputs now have mean 0."""
    layers: list[nn.Module] = []
    for cin in (3, *[16] * 7):
        layers += [conv(cin, 16), nn.BatchNorm2d(16), nn.ReLU()]
    model, x = nn.Sequential(*layers), images(32) + 2
    convert(model, x)
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            assert float(x.mean((0, 2, 3)).abs().max().detach()) < 1e-4
            assert 0.9 < float(x.var((0, 2, 3)).mean().detach()) < 1.1


def test_it_learns_where_the_stripped_network_does_not() -> None:
    x = images(64)
    y = (x[:, 0].mean((1, 2)) > 0).long()
    losses = {}
    for name in ("stripped", "converted"):
        torch.manual_seed(0)
        model: nn.Module = plain()
        if name == "converted":
            convert(model, x)
        else:
            model = nn.Sequential(*(m for m in model.children() if not isinstance(m, nn.BatchNorm2d)))
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        ug.optim.AGC(optimizer, model, clipping=0.02)
        for _ in range(60):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["stripped"] > 0.6
    assert losses["converted"] < 0.3


def test_check_finds_no_batch_coupling_and_no_noisy_statistics_in_the_result() -> None:
    model, x = resnet(), images(16)
    convert(model, x)
    report = ug.check(model, (x, torch.arange(16) % 10))
    assert not {"UG602", "UG603", "UG607"} & {finding.code for finding in report.findings}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch deprecates the older form
@pytest.mark.parametrize("norm", [weight_norm, nn.utils.weight_norm, spectral_norm])
def test_a_layer_whose_weight_is_computed_is_standardized_or_named(norm: Any) -> None:
    """BatchNorm was taken out behind weight-normed layers, with nothing in its place and not a word."""

    def make() -> nn.Module:
        return nn.Sequential(
            norm(conv(3, 8)), nn.BatchNorm2d(8), nn.ReLU(), norm(conv(8, 8)), nn.BatchNorm2d(8)
        )

    x = torch.randn(4, 3, 8, 8)
    report = convert(make(), x)
    if norm is spectral_norm:  # bounds the layer on purpose
        assert report.standardized == 0
        assert (
            sum("its norm is gone, but its weight is not standardized" in note for note in report.notes) == 2
        )
    else:
        assert [round(b.after, 3) for b in report.blocks] == [1.0, 1.0]
        again = rebuild(make(), report.edits)
        again.load_state_dict(report.model.state_dict())
        assert torch.equal(again.eval()(x), report.model.eval()(x))


def test_a_layer_whose_norm_stands_behind_its_activation_is_scaled_too() -> None:
    """The stem of a speaker encoder was not, and its residual stream had a variance of 0.1."""
    model = nn.Sequential(
        conv(3, 8), nn.ReLU(), nn.BatchNorm2d(8), conv(8, 8), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(8),
        nn.Flatten(), nn.Linear(512, 4),
    )  # fmt: skip
    report = convert(model, images())
    assert report.standardized == 2  # the head is left alone
    assert [round(b.after, 3) for b in report.blocks] == [1.0, 1.0]


class Siamese(nn.Module):
    """One encoder for two images, and a layer on the difference of what it makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8))
        self.joined, self.norm, self.head = conv(8, 8), nn.BatchNorm2d(8), conv(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.joined(self.encoder(x) - self.encoder(x.flip(0)))).relu())


def test_a_layer_that_is_called_twice_is_scaled_at_both_calls_before_others_are_measured() -> None:
    """Its second call ran with the old scale while the layer behind it was measured."""
    report = convert(Siamese(), images())
    after = {block.name: block.after for block in report.blocks}
    assert after["joined"] == pytest.approx(1, abs=0.05)
