"""Each law of moments/ against what a network of that one kind gives: mean, variance, autocorrelation, correlation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain.graph import BackwardPropagation, Propagation, Tracer, run
from unitgain.graph.moments import Signal, layout, measure
from unitgain.graph.trace import read


def smooth(examples: int, channels: int, side: int) -> Tensor:
    """Images whose neighbouring pixels are alike: noise, blurred, and a brightness of its own for each example."""
    noise = torch.randn(examples, channels, side + 4, side + 4)
    blurred = F.avg_pool2d(noise, 5, 1)
    x = blurred / blurred.std() + 0.5 * torch.randn(examples, channels, 1, 1) + torch.randn(channels, 1, 1)
    return x


def _known(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def propagated(model: nn.Module, x: Tensor, *, checks: bool = True) -> Propagation:
    theory = Propagation(checks=checks)
    with torch.no_grad():
        run(Tracer(model, theory, theory=True), read("test", model, x))
    return theory


class Seen(Propagation):
    """Keeps the last Signal beside what is measured there."""

    def _keep(self, value, tensor, held) -> None:
        self.last: tuple[Signal, Signal] = (held.known.signal, measure(layout(tensor, held.known.axis)))
        super()._keep(value, tensor, held)


LAYERS = {
    "convolution": lambda: nn.Conv2d(16, 48, 3, padding=1),
    "strided convolution": lambda: nn.Conv2d(16, 48, 3, stride=2, padding=1),
    "dilated convolution": lambda: nn.Conv2d(16, 48, 3, padding=2, dilation=2),
    "unpadded convolution": lambda: nn.Conv2d(16, 48, 3),
    "circular convolution": lambda: nn.Conv2d(16, 48, 3, padding=1, padding_mode="circular"),
    "grouped convolution": lambda: nn.Conv2d(16, 48, 3, padding=1, groups=4),
    "depthwise convolution": lambda: nn.Conv2d(16, 16, 5, padding=2, groups=16),
    "pointwise convolution": lambda: nn.Conv2d(16, 48, 1),
    "same convolution": lambda: nn.Conv2d(16, 48, 3, padding="same"),
    "transposed convolution": lambda: nn.ConvTranspose2d(16, 48, 4, 2, 1),
    "grouped transposed convolution": lambda: nn.ConvTranspose2d(16, 48, 3, 2, 1, 1, groups=4, dilation=2),
    "batch norm": lambda: nn.BatchNorm2d(16),
    "batch norm in evaluation": lambda: nn.BatchNorm2d(16).eval(),
    "group norm": lambda: nn.GroupNorm(4, 16),
    "instance norm": lambda: nn.InstanceNorm2d(16),
    "average pool": lambda: nn.AvgPool2d(2),
    "average pool with padding": lambda: nn.AvgPool2d(3, 2, 1),
    "average pool that does not count padding": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "global average pool": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive average pool": lambda: nn.AdaptiveAvgPool2d(4),
    "dropout that is off": lambda: nn.Dropout().eval(),
    "flatten": lambda: nn.Flatten(),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("data", ["noise", "smooth"])
def test_a_layer_is_predicted(name: str, data: str) -> None:
    """On correlated pixels predictions for white noise were up to 27,000% off."""
    x = torch.randn(16, 16, 16, 16) if data == "noise" else smooth(16, 16, 16)
    model = nn.Sequential(LAYERS[name]())
    theory = propagated(model, x)
    claim = theory.by_node["0"]
    assert claim.predicted is not None, claim.reason
    assert claim.off < 0.05


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.Tanh(), nn.LeakyReLU(0.2), nn.ELU(), nn.Hardswish(),
    nn.Softplus(), nn.PReLU(16, init=0.3), nn.Sigmoid(),
]  # fmt: skip


@pytest.mark.parametrize("function", ACTIVATIONS, ids=str)
def test_an_activation_is_predicted_with_its_correlations(function: nn.Module) -> None:
    x = torch.randn(64, 16, 12, 12)
    x = F.conv2d(x, torch.randn(16, 16, 3, 3) / 12) * (0.5 + torch.rand(16, 1, 1)) + torch.randn(16, 1, 1)
    theory = Seen()
    with torch.no_grad():
        run(Tracer(nn.Sequential(function), theory, theory=True), read("test", function, x))
    assert theory.by_node["0"].off < 0.02
    said, found = theory.last
    assert said.mean == pytest.approx(found.mean, abs=0.03)
    assert (_known(said.cov) - _known(found.cov)).abs().max() < 0.05 * found.var.max()
    centre = said.lags.shape[1] // 2
    near = (slice(None), slice(centre - 2, centre + 3), slice(centre - 2, centre + 3))
    assert (_known(said.lags)[near] - _known(found.lags)[near]).abs().max() < 0.06


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1))]
)
def test_a_maximum_is_predicted_from_neighbours_correlation(pool: nn.Module) -> None:
    """On white noise a maximum over 3x3 normal values keeps 0.36 of the variance, on alike neighbours much more."""
    for x in (torch.randn(32, 16, 16, 16), smooth(64, 16, 16)):
        theory = propagated(nn.Sequential(pool), x)
        claims = [c for c in theory.by_node.values() if c.node != "input"]
        assert claims
        assert all(c.predicted is not None and c.off < 0.1 for c in claims), claims


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv2d(16, 64, 3, padding=1), nn.Conv2d(64, 64, 1)

    def forward(self, x):
        x = self.first(x)
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Conv2d(32, 64, 3)

    def forward(self, x):
        return self.last(torch.cat([self.a(x), torch.relu(self.b(x))], 1))


class Tokens(nn.Module):
    """A patch embedding with a class token and positions, a norm, an MLP: as in a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Conv2d(16, 64, 2, 2), nn.LayerNorm(64)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 64)), nn.Parameter(torch.randn(1, 65, 64))
        self.up, self.down, self.scale = nn.Linear(64, 128), nn.Linear(128, 64), nn.Parameter(torch.rand(64))

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return x + self.scale * self.down(F.gelu(self.up(self.norm(x))))


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(16, 32 + 32 * i, 1) for i in (0, 1, 1))

    def forward(self, x):
        a, b = self.first(x).chunk(2, dim=1)
        return self.second(b) - 2 * self.third(torch.tanh(a))


class Rectified(nn.Module):
    """ResNet v1's stream: relu(x + branch), again and again, which is no normal variable."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64)) for _ in range(3)
        )
        self.stem = nn.Conv2d(16, 64, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for branch in self.branches:
            x = torch.relu(x + branch(x))
        return x


class Padded(nn.Module):
    """As TensorFlow pads: by a function, one zero more behind than in front."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 64, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x + 1, (0, 1, 0, 1)))


@pytest.mark.parametrize("make", [Gated, Joined, Tokens, Halves, Rectified, Padded])
def test_what_networks_are_made_of_is_predicted_from_step_to_step(make) -> None:
    model = make()
    theory = propagated(model, torch.randn(256, 16, 16, 16))
    # of a gate there is one value for each example
    assert not [c for c in theory.by_node.values() if c.reason and "too few" not in c.reason]
    assert max(c.off for c in theory.by_node.values() if c.predicted is not None) < 0.1


def test_standardized_weights_cut_what_is_alike_and_pass_noise() -> None:
    """A depthwise kernel of mean zero gives 1 on white noise and 0.15 on smooth images; 1 was predicted for both."""
    conv = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
    with torch.no_grad():
        rows = conv.weight.flatten(1)
        rows -= rows.mean(1, keepdim=True)
        rows /= rows.norm(dim=1, keepdim=True)
    noise, alike = (
        propagated(nn.Sequential(conv), x).by_node["0"].predicted
        for x in (torch.randn(16, 64, 32, 32), smooth(16, 64, 32))
    )
    assert noise is not None
    assert alike is not None
    assert noise[0] == pytest.approx(1, abs=0.06)
    assert alike[0] < 0.5


def test_a_mean_shift_goes_through_the_row_sums_of_the_weights_that_are_there() -> None:
    layer = nn.Linear(64, 32)
    x = torch.randn(4096, 64) + torch.linspace(-2, 2, 64)
    theory = Seen()
    with torch.no_grad():
        run(Tracer(nn.Sequential(layer), theory, theory=True), read("test", layer, x))
    said, found = theory.last
    assert (said.mean - found.mean).abs().max() < 1e-4
    assert (_known(said.cov) - _known(found.cov)).abs().max() < 1e-3


# ---- where theory must be silent -----------------------------------------------------------------------------


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Linear(16, 16)
        nn.init.eye_(self.same.weight)

    def forward(self, x):
        return x + self.same(x)


class Squared(Doubled):
    def forward(self, x):
        return x * self.same(x)


def test_what_is_added_to_itself_is_not_taken_for_independent() -> None:
    claim = propagated(nn.Sequential(Doubled()), torch.randn(64, 16)).by_node["0:add"]
    assert claim.predicted is None
    assert "correlated" in claim.reason


def test_a_product_of_a_signal_with_itself_is_not_taken_for_one_of_independent_signals() -> None:
    claim = propagated(nn.Sequential(Squared()), torch.randn(8192, 16)).by_node["0:mul"]
    assert claim.predicted is not None
    assert claim.off < 0.1


def test_an_activation_of_values_that_are_not_as_predicted_is_not_predicted() -> None:
    """Two sums of cubes of the data: heavy tails, where normal values are expected behind so many weights."""
    x = torch.randn(512, 1) ** 3 * torch.ones(1, 64)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    claim = propagated(model, x).by_node["1"]
    assert claim.predicted is None
    assert "not normal" in claim.reason


def test_few_values_are_not_taken_for_their_expectation() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    claim = propagated(model, torch.randn(3, 8)).by_node["1"]
    assert claim.predicted is None
    assert "too few independent values" in claim.reason


def test_prediction_begins_anew_behind_what_it_cannot_predict() -> None:
    model = nn.Sequential(
        nn.Conv2d(16, 32, 1), nn.LocalResponseNorm(5), nn.Conv2d(32, 64, 1), nn.BatchNorm2d(64), nn.ReLU()
    )
    theory = propagated(model, torch.randn(16, 16, 8, 8))
    assert theory.by_node["1"].reason == "there is no law for LocalResponseNorm"
    assert theory.by_node["1"].start
    assert all(theory.by_node[name].off < 0.05 for name in ("2", "3", "4"))


# ---- backwards ------------------------------------------------------------------------------------------------


def backward(model: nn.Module, x: Tensor) -> BackwardPropagation:
    theory = BackwardPropagation()
    output = run(Tracer(model, theory, theory=True), read("test", model, x))
    (output * torch.randn_like(output)).sum().backward()
    theory.predict_back()
    return theory


class Block(nn.Module):
    """Parallel paths of every kind: their gradients add."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = (
            nn.BatchNorm2d(32),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.Conv2d(64, 32, 1),
        )
        self.gate, self.skip = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x):
        y = self.narrow(F.gelu(self.wide(torch.relu(self.norm(x)))))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return self.skip(x) + 0.5 * y


BACKWARDS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 48, 3, 2, 1, groups=4)
    ),
    "transposed": lambda: nn.Sequential(
        nn.Conv2d(16, 32, 1), nn.ConvTranspose2d(32, 64, 4, 2, 1), nn.ReLU(), nn.Conv2d(64, 32, 3)
    ),
    "zero padding again and again": lambda: nn.Sequential(
        nn.AvgPool2d(4), *(nn.Conv2d(32 if i else 16, 32, 3, padding=1) for i in range(5))
    ),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(16, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=64)),
    "blocks": lambda: nn.Sequential(nn.Conv2d(16, 32, 1), Block(), Block()),
    "global pool": lambda: nn.Sequential(
        nn.Conv2d(16, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64)
    ),
    "rectified pool": lambda: nn.Sequential(nn.Conv2d(16, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "layer norm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4096, 64), nn.LayerNorm(64), nn.Linear(64, 128)),
    "concatenation": Joined,
}  # fmt: skip


@pytest.mark.parametrize("name", BACKWARDS)
def test_gradients_are_predicted_from_step_to_step(name: str) -> None:
    theory = backward(BACKWARDS[name](), torch.randn(64, 16, 16, 16))
    claims = [c for c in theory.back_by_node.values() if c.predicted is not None]
    assert claims
    assert max(c.off for c in claims) < 0.1, claims


def test_a_gradient_at_a_class_token_alone_is_predicted_there() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.norm = nn.Linear(16, 64), nn.LayerNorm(64)

        def forward(self, x):
            return self.norm(self.body(x))[:, 0]

    claim = backward(First(), torch.randn(128, 9, 16)).back_by_node["body"]
    assert claim.predicted is not None, claim.reason
    assert claim.off < 0.1


def test_gradients_of_overlapping_windows_add_at_the_value_that_all_of_them_chose() -> None:
    """The same gradient at every position: a value that is the largest of three windows gets three times as much."""
    model = nn.Sequential(
        nn.Conv2d(16, 64, 1), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64)
    )
    claim = backward(model, torch.randn(64, 16, 17, 17)).back_by_node["0"]
    assert claim.off < 0.1
    assert claim.predicted is not None


def test_a_maximum_passes_gradients_on_at_the_largest_values_not_at_the_top_quarter() -> None:
    """Of four independent values one in sixteen maxima is below the median, none of the top quarter."""
    model = nn.Sequential(nn.Conv2d(16, 64, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 64, 3))
    with torch.no_grad():
        model[0].bias.fill_(-0.6)  # most values are rectified away: a quarter of the maxima are
    claims = backward(model, torch.randn(64, 16, 16, 16)).back_by_node
    assert claims["0"].predicted is not None
    assert claims["0"].off < 0.1


def test_gradients_go_back_through_average_pools_whose_windows_overlap() -> None:
    model = nn.Sequential(nn.Conv2d(16, 64, 3), nn.AvgPool2d(3, 2, 1), nn.Conv2d(64, 64, 3))
    claims = backward(model, torch.randn(64, 16, 17, 17)).back_by_node
    assert claims["0"].predicted is not None
    assert claims["0"].off < 0.1


def test_a_batch_norm_divides_by_the_variance_of_few_values() -> None:
    """Of eight values the mean of one over the variance is 8 / 5 of one over the mean."""
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.BatchNorm1d(512))
    claim = backward(model, torch.randn(8, 64)).back_by_node["2"]
    assert claim.predicted is None or claim.off < 0.1


def test_a_gradient_through_a_norm_of_places_of_different_power_is_not_predicted() -> None:
    x = torch.randn(64, 9, 16)
    x[:, 0] *= 0.05  # a class token, say
    model = nn.Sequential(nn.Linear(16, 64, bias=False), nn.LayerNorm(64), nn.Linear(64, 16))
    claim = backward(model, x).back_by_node["0"]
    assert claim.predicted is None
    assert "differ between positions" in claim.reason


def test_a_gradient_of_few_values_is_not_taken_for_its_expectation() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 4))
    claim = backward(model, torch.randn(4, 64)).back_by_node["0"]
    assert claim.predicted is None
    assert "too few independent values" in claim.reason


def test_a_rectified_value_that_is_rectified_again_passes_no_gradient_at_zero() -> None:
    """A ResNet whose last gains are zero adds nothing: half of what its next ReLU gets is exactly zero."""
    model = nn.Sequential(
        nn.Conv2d(16, 64, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.ReLU(), nn.Conv2d(64, 64, 3)
    )
    with torch.no_grad():
        model[1].weight.uniform_(0.5, 1.5)
        model[1].bias.normal_()
    claims = backward(model, torch.randn(64, 16, 8, 8)).back_by_node
    assert claims["2"].predicted is None
    assert "one value" in claims["2"].reason
    assert all(c.predicted is None or c.off < 0.1 for c in claims.values())


def test_gradients_of_overlapping_windows_whose_neighbours_agree_are_not_predicted() -> None:
    """A stem's pool before a 2x2 average: neighbouring windows that chose one value have the same gradient."""
    model = nn.Sequential(nn.Conv2d(16, 64, 1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Conv2d(64, 64, 1))
    claim = backward(model, torch.randn(32, 16, 16, 16)).back_by_node["0"]
    assert claim.predicted is None
    assert "neighbours agree" in claim.reason


def test_a_depthwise_layer_between_smooth_activations_ties_gradients_to_values() -> None:
    """SiLU's slope is larger far from zero on average, and a depthwise layer keeps far values far."""
    model = nn.Sequential(
        nn.Conv2d(16, 64, 1), nn.BatchNorm2d(64), nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.BatchNorm2d(64), nn.SiLU(), nn.Conv2d(64, 64, 1),
    )  # fmt: skip
    claim = backward(model, torch.randn(64, 16, 8, 8)).back_by_node["1"]
    assert claim.predicted is None
    assert "depthwise" in claim.reason


def test_channels_that_depend_on_each_other_are_not_counted_as_many() -> None:
    """Sixty-four channels of a gradient that comes from two."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 2))
    claim = backward(model, torch.randn(128, 64)).back_by_node["0"]
    assert claim.predicted is None
    assert "too few independent values" in claim.reason


class Inception(nn.Module):
    """A maximum over a concatenation, beside a layer that reads the same."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 32, 1), nn.Conv2d(16, 32, 1)
        self.c, self.d = nn.Conv2d(64, 32, 1), nn.Conv2d(64, 32, 1)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x):
        both = torch.relu(torch.cat([self.a(x), self.b(x)], 1))
        return self.c(both)[..., ::2, ::2] + self.d(self.pool(both))


def test_a_gradient_through_a_maximum_and_beside_it_is_at_large_values_in_part() -> None:
    """GoogLeNet's were predicted 20% too small: half of a normal variable is positive, most of its maxima are."""
    theory = backward(Inception(), torch.randn(32, 16, 12, 12))
    claims = [c for c in theory.back_by_node.values() if c.predicted is not None]
    assert {"a", "b"} <= {c.node for c in claims}
    assert max(c.off for c in claims) < 0.1, claims


def test_a_channel_that_never_varies_passes_gradients_of_one_over_eps() -> None:
    """Rectified channels that are all zero, as in front of RepVGG's identity norms: predicted to pass nothing, the
    gradient was 90% too small."""
    norm = nn.BatchNorm2d(64)
    model = nn.Sequential(nn.Conv2d(16, 64, 1), norm, nn.Conv2d(64, 64, 1))
    with torch.no_grad():
        model[0].weight[:8] = 0
    claim = backward(model, torch.randn(64, 16, 8, 8)).back_by_node["0"]
    assert claim.predicted is not None
    assert claim.off < 0.1
    assert claim.measured[0] > 1000


class Mixed(nn.Module):
    """MLP-Mixer's mixing of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(16, 64, 2, 2), nn.LayerNorm(64), nn.Linear(64, 32)
        self.tokens = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 4))

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return self.head(x)


def test_gradients_behind_a_mixing_of_positions_do_not_raise() -> None:
    """`spp(backward=True)` of timm's MLP-Mixer, whose head begins with zeros, raised RuntimeError."""
    model = Mixed()
    nn.init.zeros_(model.head.weight)
    theory = backward(model, torch.randn(64, 16, 4, 4))
    assert all(c.off < 0.1 for c in theory.back_by_node.values() if c.predicted is not None)
