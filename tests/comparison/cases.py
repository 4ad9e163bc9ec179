"""Small networks for the rules that compare outputs, targets and loss: sick ones, and healthy ones that look like them.

Each is a function that builds (model, batch, loss). `HELD_OUT` was drawn by chance, half of each rule's sick and
healthy ones, before the rule was written, and was first run when the rule was finished; README.md has the figures of
that first run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from case_rows import Rows

Built = tuple[nn.Module, Any, Any]


CASES: Rows[Built] = Rows()
ROWS, sick, healthy = CASES.rows, CASES.sick, CASES.healthy


# ---- networks and data -----------------------------------------------------------------------------------------


def chain(*widths: int, last: nn.Module | None = None, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*layers[:-1], *([] if last is None else [last]))


def picture_net(out: int, last: nn.Module | None = None, channels: int = 3) -> nn.Sequential:
    layers = [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, out, 1), *([] if last is None else [last]))


class Net(nn.Module):
    """Parts by name and a function that runs them."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def vectors(n: int = 96, width: int = 12) -> Tensor:
    return torch.randn(n, width)


def bits(x: Tensor, columns: int = 1) -> Tensor:
    """Binary targets (N, columns) that depend on the inputs."""
    return (x.flatten(1) @ torch.randn(x[0].numel(), columns) > 0).float()


def labels(x: Tensor, classes: int) -> Tensor:
    return (x.flatten(1) @ torch.randn(x[0].numel(), classes)).argmax(1)


def values(x: Tensor, columns: int = 1) -> Tensor:
    """Regression targets (N, columns) of unit variance."""
    y = x.flatten(1) @ torch.randn(x[0].numel(), columns)
    return (y - y.mean(0)) / y.std(0)


def pictures(n: int = 24, channels: int = 3, size: int = 12) -> Tensor:
    return torch.randn(n, channels, size, size)


def spots(x: Tensor, classes: int = 2) -> Tensor:
    """A class for each pixel (N, H, W)."""
    return torch.bucketize(x.mean(1), torch.linspace(-1, 1, classes + 1)[1:-1] / 2)


BCE, BCE_LOGITS, CE, MSE = (
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.cross_entropy,
    F.mse_loss,
)


# ---- UG103: softmax before a loss that applies one --------------------------------------------------------------


@sick("UG103")
def softmax_over_pixels_flattened_before_the_loss() -> Built:
    x = pictures()
    return (
        picture_net(4, nn.Softmax(1)),
        (x, spots(x, 4)),
        lambda o, t: CE(o.permute(0, 2, 3, 1).reshape(-1, 4), t.reshape(-1)),
    )


@sick("UG103")
def softmax_flattened_in_the_model() -> Built:
    model = Net(lambda net, x: net.head(net.rnn(x)[0]).softmax(-1).flatten(0, 1), rnn=nn.GRU(8, 24, batch_first=True),
                head=nn.Linear(24, 5))  # fmt: skip
    x = torch.randn(24, 6, 8)
    return model, (x, (x.sum(2) > 0).long().flatten()), CE


@sick("UG103")
def softmax_by_hand_before_weighted_cross_entropy() -> Built:
    x = vectors()
    model = Net(lambda net, x: F.softmax(net.body(x), dim=1), body=chain(12, 48, 6))
    return model, (x, labels(x, 6)), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 1, 3, 1, 1]))


@sick("UG103")
def softmax_of_tokens_as_one_long_row() -> Built:
    x = torch.randint(0, 9, (32, 5))
    model = Net(lambda net, x: net.head(net.embed(x)).softmax(-1).reshape(len(x), -1), embed=nn.Embedding(9, 16),
                head=nn.Linear(16, 9))  # fmt: skip
    return model, (x, (x + 2) % 9), lambda o, t: CE(o.view(-1, 9), t.view(-1))


@sick("UG103")
def softmax_before_label_smoothing() -> Built:
    x = vectors(128)
    return chain(12, 48, 8, last=nn.Softmax(-1)), (x, labels(x, 8)), nn.CrossEntropyLoss(label_smoothing=0.1)


@sick("UG103")
def softmax_before_a_focal_loss_of_logits() -> Built:
    x = vectors()

    def focal(o: Tensor, t: Tensor) -> Tensor:
        nll = CE(o, t, reduction="none")
        return ((1 - (-nll).exp()) ** 2 * nll).mean()

    return chain(12, 48, 5, last=nn.Softmax(1)), (x, labels(x, 5)), focal


@healthy("UG103")
def softmax_then_logarithm_then_nll() -> Built:
    x = vectors()
    return (
        chain(12, 48, 5, last=nn.Softmax(1)),
        (x, labels(x, 5)),
        lambda o, t: F.nll_loss((o + 1e-8).log(), t),
    )


@healthy("UG103")
def attention_inside_and_logits_outside() -> Built:
    x = torch.randn(48, 6, 8)
    model = Net(
        lambda net, x: net.head((net.score(x).softmax(1) * x).sum(1)),
        score=nn.Linear(8, 1),
        head=nn.Linear(8, 4),
    )
    return model, (x, labels(x, 4)), CE


@healthy("UG103")
def log_softmax_before_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 5, last=nn.LogSoftmax(1)), (x, labels(x, 5)), CE


@healthy("UG103")
def segmentation_with_ignored_pixels() -> Built:
    x = pictures()
    t = spots(x, 4)
    t[:, :2] = 255
    return picture_net(4), (x, t), nn.CrossEntropyLoss(ignore_index=255)


@healthy("UG103")
def probabilities_into_a_brier_score_of_one_column() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.body(x).softmax(1)[:, :1], body=chain(12, 48, 2))
    return model, (x, bits(x)), MSE


@healthy("UG103")
def mixture_of_experts_softmax_gate() -> Built:
    x = vectors()
    model = Net(
        lambda net, x: (net.gate(x).softmax(1)[:, :, None] * torch.stack([e(x) for e in net.experts], 1)).sum(1),
        gate=nn.Linear(12, 3), experts=nn.ModuleList([chain(12, 24, 5) for _ in range(3)]),
    )  # fmt: skip
    return model, (x, labels(x, 5)), CE


# ---- UG105: sigmoid before logits -------------------------------------------------------------------------------


@sick("UG105")
def sigmoid_module_before_bce_with_logits() -> Built:
    x = vectors()
    return chain(12, 32, 1, last=nn.Sigmoid()), (x, bits(x)), nn.BCEWithLogitsLoss()


@sick("UG105")
def sigmoid_function_then_squeeze() -> Built:
    x = vectors()
    model = Net(lambda net, x: torch.sigmoid(net.body(x)).squeeze(1), body=chain(12, 32, 1))
    return model, (x, bits(x)[:, 0]), BCE_LOGITS


@sick("UG105")
def sigmoid_masks_into_a_focal_loss_of_ones_own() -> Built:
    x = pictures()

    def focal(o: Tensor, t: Tensor) -> Tensor:
        loss = BCE_LOGITS(o, t, reduction="none")
        return ((1 - (-loss).exp()) ** 2 * loss).mean()

    return picture_net(1, nn.Sigmoid()), (x, spots(x)[:, None].float()), focal


@sick("UG105")
def sigmoid_of_each_class_into_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 6, last=nn.Sigmoid()), (x, labels(x, 6)), CE


@sick("UG105")
def many_labels_with_weights_and_a_sigmoid() -> Built:
    x = vectors()
    return (
        chain(12, 48, 7, last=nn.Sigmoid()),
        (x, bits(x, 7)),
        nn.BCEWithLogitsLoss(pos_weight=torch.full((7,), 3.0)),
    )


@sick("UG105")
def discriminator_with_sigmoid_and_logits_loss() -> Built:
    x = torch.cat([pictures(), pictures() * 0.5])
    t = torch.cat([torch.ones(24, 1), torch.zeros(24, 1)])
    model = Net(lambda net, x: net.body(x).mean((2, 3)).sigmoid(), body=picture_net(1))
    return model, (x, t), BCE_LOGITS


@sick("UG105")
def sigmoid_written_by_hand() -> Built:
    x = vectors()
    model = Net(lambda net, x: 1 / (1 + torch.exp(-net.body(x))), body=chain(12, 32, 3))
    return model, (x, bits(x, 3)), nn.MultiLabelSoftMarginLoss()


@sick("UG105")
def sigmoid_before_dice_that_applies_one() -> Built:
    x = pictures()

    def dice(o: Tensor, t: Tensor) -> Tensor:
        p = o.sigmoid()
        return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)

    return picture_net(1, nn.Sigmoid()), (x, spots(x)[:, None].float()), dice


@healthy("UG105")
def autoencoder_with_sigmoid_and_bce() -> Built:
    x = (torch.rand(64, 16) < 0.4).float()
    return chain(16, 8, 16, last=nn.Sigmoid()), (x, x.clone()), BCE


@healthy("UG105")
def autoencoder_with_sigmoid_and_squared_error() -> Built:
    x = torch.rand(64, 16)
    return Net(lambda net, x: net.body(x).sigmoid(), body=chain(16, 12, 16)), (x, x.clone()), MSE


@healthy("UG105")
def sigmoid_and_focal_loss_of_probabilities() -> Built:
    x = vectors()

    def focal(p: Tensor, t: Tensor) -> Tensor:
        right = (p * t + (1 - p) * (1 - t)).clamp(1e-6, 1)
        return -((1 - right) ** 2 * right.log()).mean()

    return chain(12, 32, 1, last=nn.Sigmoid()), (x, bits(x)), focal


@healthy("UG105")
def logits_that_all_lie_between_zero_and_one() -> Built:
    x = vectors()
    model = chain(12, 32, 1)
    nn.init.normal_(model[2].weight, std=0.01)
    nn.init.constant_(model[2].bias, 0.5)
    return model, (x, bits(x)), BCE_LOGITS


@healthy("UG105")
def gate_inside_and_logits_outside() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.a(x) * net.b(x).sigmoid(), a=nn.Linear(12, 4), b=nn.Linear(12, 4))
    return model, (x, bits(x, 4)), BCE_LOGITS


@healthy("UG105")
def discriminator_with_sigmoid_and_bce() -> Built:
    x = torch.cat([pictures(), pictures() * 0.5])
    t = torch.cat([torch.full((24, 1), 0.9), torch.zeros(24, 1)])
    model = Net(lambda net, x: net.body(x).mean((2, 3)).sigmoid(), body=picture_net(1))
    return model, (x, t), BCE


@healthy("UG105")
def critic_without_sigmoid_under_a_linear_loss() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x) * 2 - 1), lambda o, t: -(o * t).mean()


@healthy("UG105")
def sigmoid_and_dice_of_probabilities() -> Built:
    x = pictures()
    return (
        picture_net(1, nn.Sigmoid()),
        (x, spots(x)[:, None].float()),
        lambda p, t: 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1),
    )


# ---- UG106: targets out of range --------------------------------------------------------------------------------


@sick("UG106")
def masks_of_255_into_bce_with_logits() -> Built:
    x = pictures()
    return picture_net(1), (x, spots(x)[:, None] * 255.0), BCE_LOGITS


@sick("UG106")
def labels_of_plus_and_minus_one_into_bce() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x) * 2 - 1), nn.BCEWithLogitsLoss()


@sick("UG106")
def labels_one_and_two_into_bce_of_probabilities() -> Built:
    x = vectors()

    def by_hand(p: Tensor, t: Tensor) -> Tensor:
        return -(t * (p + 1e-7).log() + (1 - t) * (1 - p + 1e-7).log()).mean()

    return chain(12, 32, 1, last=nn.Sigmoid()), (x, bits(x) + 1), by_hand


@sick("UG106")
def autoencoder_of_standardized_inputs_under_bce() -> Built:
    x = vectors(64, 16)
    return chain(16, 8, 16), (x, x.clone()), BCE_LOGITS


@sick("UG106")
def focal_loss_on_bytes() -> Built:
    x = pictures()

    def focal(o: Tensor, t: Tensor) -> Tensor:
        p = o.sigmoid()
        loss = BCE_LOGITS(o, t, reduction="none")
        return (loss * (t * (1 - p) ** 2 + (1 - t) * p**2)).mean()

    return picture_net(1), (x, spots(x)[:, None] * 128.0), focal


@sick("UG106")
def nll_loss_on_raw_scores() -> Built:
    x = vectors()
    return chain(12, 48, 5), (x, labels(x, 5)), F.nll_loss


@sick("UG106")
def nll_loss_of_probabilities() -> Built:
    x = vectors()
    return chain(12, 48, 5, last=nn.Softmax(1)), (x, labels(x, 5)), nn.NLLLoss()


@sick("UG106")
def ctc_on_scores() -> Built:
    x = torch.randn(16, 12, 8)
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.GRU(8, 24, batch_first=True), head=nn.Linear(24, 6)
    )
    n, s = torch.full((16,), 12), torch.full((16,), 3)
    return (
        model,
        (x, torch.randint(1, 6, (16, 3))),
        lambda o, t: F.ctc_loss(o.transpose(0, 1), t, n, s),
    )


@sick("UG106")
def standardized_soft_labels_into_cross_entropy() -> Built:
    x = vectors()
    t = F.one_hot(labels(x, 5), 5).float()
    return chain(12, 48, 5), (x, (t - t.mean()) / t.std()), CE


@healthy("UG106")
def soft_targets_under_bce_with_logits() -> Built:
    x = vectors()
    return chain(12, 32, 3), (x, bits(x, 3) * 0.9 + 0.05), BCE_LOGITS


@healthy("UG106")
def targets_of_plus_and_minus_one_under_hinge() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x) * 2 - 1), lambda o, t: F.relu(1 - o * t).mean()


@healthy("UG106")
def unknown_labels_of_minus_one_are_masked() -> Built:
    x = vectors()
    t = bits(x, 4)
    t[torch.rand(t.shape) < 0.2] = -1

    def loss(o: Tensor, t: Tensor) -> Tensor:
        known = t >= 0
        return (BCE_LOGITS(o, t.clamp(min=0), reduction="none") * known).sum() / known.sum()

    return chain(12, 32, 4), (x, t), loss


@healthy("UG106")
def bytes_divided_inside_the_loss() -> Built:
    x = pictures()
    return picture_net(1), (x, spots(x)[:, None] * 255.0), lambda o, t: BCE_LOGITS(o, t / 255)


@healthy("UG106")
def plus_and_minus_one_in_a_logistic_loss() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x) * 2 - 1), nn.SoftMarginLoss()


@healthy("UG106")
def nll_on_log_softmax() -> Built:
    x = vectors()
    return chain(12, 48, 5, last=nn.LogSoftmax(1)), (x, labels(x, 5)), F.nll_loss


@healthy("UG106")
def ctc_on_log_softmax_in_the_model() -> Built:
    x = torch.randn(16, 12, 8)
    model = Net(lambda net, x: net.head(net.rnn(x)[0]).log_softmax(2).transpose(0, 1),
                rnn=nn.GRU(8, 24, batch_first=True), head=nn.Linear(24, 6))  # fmt: skip
    n, s = torch.full((16,), 12), torch.full((16,), 3)
    return model, (x, torch.randint(1, 6, (16, 3))), lambda o, t: F.ctc_loss(o, t, n, s)


@healthy("UG106")
def policy_gradient_with_advantages() -> Built:
    x = vectors()
    actions = torch.randint(0, 4, (96,))
    t = torch.stack([actions.float(), torch.randn(96)], 1)

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return -(o.log_softmax(1).gather(1, t[:, :1].long())[:, 0] * t[:, 1]).mean()

    return chain(12, 32, 4), (x, t), loss


@healthy("UG106")
def counts_under_poisson() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, torch.poisson(values(x).exp())), F.poisson_nll_loss


@healthy("UG106")
def gaussian_likelihood_of_mean_and_log_variance() -> Built:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return 0.5 * (o[:, 1:] + (t - o[:, :1]) ** 2 * (-o[:, 1:]).exp()).mean()

    return chain(12, 32, 2), (x, values(x)), loss


# ---- UG108: targets out of reach --------------------------------------------------------------------------------


@sick("UG108")
def tanh_for_targets_up_to_five() -> Built:
    x = vectors()
    return chain(12, 32, 1, last=nn.Tanh()), (x, values(x) * 2), MSE


@sick("UG108")
def sigmoid_for_bytes() -> Built:
    x = pictures()
    return picture_net(3, nn.Sigmoid()), (x, torch.randint(0, 256, x.shape).float()), nn.L1Loss()


@sick("UG108")
def relu_for_standardized_targets() -> Built:
    x = vectors()
    return Net(lambda net, x: F.relu(net.body(x)), body=chain(12, 32, 2)), (x, values(x, 2)), nn.HuberLoss()


@sick("UG108")
def softmax_for_three_measurements() -> Built:
    x = vectors()
    return chain(12, 32, 3, last=nn.Softmax(1)), (x, values(x, 3) + 1), MSE


@sick("UG108")
def softplus_for_returns_of_both_signs() -> Built:
    x = torch.randn(48, 10, 4)
    model = Net(lambda net, x: F.softplus(net.head(net.rnn(x)[0][:, -1])).squeeze(-1),
                rnn=nn.LSTM(4, 24, batch_first=True), head=nn.Linear(24, 1))  # fmt: skip
    return model, (x, values(x)[:, 0]), MSE


@sick("UG108")
def half_open_tanh_for_zero_to_one_and_targets_in_bytes() -> Built:
    x = pictures()
    model = Net(lambda net, x: (torch.tanh(net.body(x)) + 1) / 2, body=picture_net(3))
    return model, (x, torch.rand(x.shape) * 255), lambda o, t: (o - t).abs().mean()


@sick("UG108")
def clamped_outputs_below_the_targets() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.body(x).clamp(0, 1), body=chain(12, 32, 1))
    nn.init.constant_(model.body[2].bias, 0.5)
    return model, (x, values(x) * 0.2 + 0.9), MSE


@sick("UG108")
def states_of_an_lstm_for_values_beyond_one() -> Built:
    x = torch.randn(48, 10, 4)
    model = Net(lambda net, x: net.rnn(x)[0][:, -1], rnn=nn.LSTM(4, 2, batch_first=True))
    return model, (x, values(x, 2) * 1.5), MSE


@healthy("UG108")
def tanh_generator_and_pictures_of_both_signs() -> Built:
    x = pictures()
    return picture_net(3, nn.Tanh()), (x, torch.rand(x.shape) * 2 - 1), nn.L1Loss()


@healthy("UG108")
def relu_for_counts() -> Built:
    x = vectors()
    return chain(12, 32, 1, last=nn.ReLU()), (x, torch.poisson(values(x).exp())), MSE


@healthy("UG108")
def scaled_tanh_for_actions_of_two() -> Built:
    x = vectors()
    model = Net(lambda net, x: 2 * torch.tanh(net.body(x)), body=chain(12, 32, 2))
    return model, (x, values(x, 2).clamp(-2, 2)), MSE


@healthy("UG108")
def tanh_plus_the_input() -> Built:
    x = vectors()
    model = Net(lambda net, x: x + torch.tanh(net.body(x)), body=chain(12, 32, 12))
    return model, (x, x + 0.5 * torch.randn_like(x)), MSE


@healthy("UG108")
def sigmoid_with_missing_values_masked() -> Built:
    x = vectors()
    t = bits(x, 3)
    t[:, 2] = -9

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return ((o - t).square() * (t > -1)).sum() / (t > -1).sum()

    return chain(12, 32, 3, last=nn.Sigmoid()), (x, t), loss


@healthy("UG108")
def sigmoid_times_the_range_of_a_buffer() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.low + (net.high - net.low) * net.body(x).sigmoid(), body=chain(12, 32, 1),
                low=torch.tensor(-4.0), high=torch.tensor(4.0))  # fmt: skip
    return model, (x, values(x)), MSE


@healthy("UG108")
def a_hundredth_of_outliers_for_tanh() -> Built:
    x = vectors(400)
    t = values(x).tanh()
    t[:2] = 1.5
    return chain(12, 32, 1, last=nn.Tanh()), (x, t), MSE


@healthy("UG108")
def logarithm_of_targets_taken_in_the_loss() -> Built:
    x = vectors()
    return (
        chain(12, 32, 1, last=nn.Sigmoid()),
        (x, torch.rand(96, 1) * 9),
        lambda o, t: (o - (1 + t).log() / 2.5).square().mean(),
    )


# ---- UG109: targets not normalized ------------------------------------------------------------------------------


@sick("UG109")
def house_prices() -> Built:
    x = vectors()
    return chain(12, 64, 1), (x, values(x) * 8e4 + 3e5), MSE


@sick("UG109")
def ages_of_forty_years() -> Built:
    x = pictures()
    model = Net(lambda net, x: net.body(x).mean((2, 3)), body=picture_net(1))
    return model, (x, values(x) * 12 + 40), nn.L1Loss()


@sick("UG109")
def fluxes_of_a_millionth() -> Built:
    x = vectors()
    return chain(12, 64, 2), (x, values(x, 2) * 1e-6), nn.MSELoss()


@sick("UG109")
def squared_error_by_hand_of_temperatures() -> Built:
    x = torch.randn(48, 10, 4)
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.GRU(4, 24, batch_first=True),
        head=nn.Linear(24, 1),
    )
    return model, (x, values(x) * 10 + 290), lambda o, t: ((o - t) ** 2).sum() / len(t)


@sick("UG109")
def pixels_of_255_as_targets() -> Built:
    x = pictures()
    return picture_net(3), (x, torch.randint(0, 256, x.shape).float()), F.smooth_l1_loss


@sick("UG109")
def weighted_error_of_small_concentrations() -> Built:
    x = vectors()
    weight = torch.rand(96, 1) + 0.5
    return chain(12, 64, 1), (x, values(x).abs() * 1e-4), lambda o, t: (weight * (o - t).abs()).mean()


@healthy("UG109")
def prices_in_standard_units() -> Built:
    x = vectors()
    return chain(12, 64, 1), (x, values(x)), MSE


@healthy("UG109")
def large_targets_scaled_back_in_the_model() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.body(x) * net.std + net.mean, body=chain(12, 64, 1), std=torch.tensor(80.0),
                mean=torch.tensor(300.0))  # fmt: skip
    return model, (x, values(x) * 80 + 300), MSE


@healthy("UG109")
def relative_error_of_prices() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.body(x).exp(), body=chain(12, 64, 1))
    return model, (x, (values(x) * 0.3 + 8).exp()), lambda o, t: (o.log() - t.log()).square().mean()


@healthy("UG109")
def targets_scaled_inside_the_loss() -> Built:
    x = vectors()
    return chain(12, 64, 1), (x, values(x) * 500 + 2000), lambda o, t: (o - (t - 2000) / 500).square().mean()


@healthy("UG109")
def heat_maps_of_one_point() -> Built:
    x = pictures(16, 3, 32)
    t = torch.zeros(16, 1, 32, 32)
    t[torch.arange(16), 0, torch.randint(0, 32, (16,)), torch.randint(0, 32, (16,))] = 1
    return picture_net(1), (x, t), MSE


@healthy("UG109")
def residual_of_an_equation_against_zero() -> Built:
    x = torch.rand(128, 2)
    return chain(2, 32, 1, act=nn.Tanh), (x, torch.zeros(128, 1)), MSE


@healthy("UG109")
def large_targets_of_cross_entropy_are_indices() -> Built:
    x = vectors(256)
    return chain(12, 64, 100), (x, torch.randint(0, 100, (256,))), CE


# ---- UG111: the loss does not fit the task ----------------------------------------------------------------------


def rows(t: Tensor, classes: int) -> Tensor:
    return F.one_hot(t, classes).float()


@sick("UG111")
def squared_error_of_softmax_and_one_hot() -> Built:
    x = vectors()
    return chain(12, 48, 6, last=nn.Softmax(1)), (x, rows(labels(x, 6), 6)), MSE


@sick("UG111")
def absolute_error_of_sigmoids_and_one_hot() -> Built:
    x = vectors()
    return chain(12, 48, 5, last=nn.Sigmoid()), (x, rows(labels(x, 5), 5)), nn.L1Loss()


@sick("UG111")
def squared_error_on_class_numbers() -> Built:
    x = vectors(200)
    return chain(12, 48, 1), (x, (torch.arange(200) % 10).float()[:, None]), MSE


@sick("UG111")
def several_ones_a_row_into_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 8), (x, bits(x, 8)), CE


@sick("UG111")
def several_ones_a_row_by_hand() -> Built:
    x = vectors()
    t = (torch.rand(96, 10) < 0.3).float()
    return chain(12, 48, 10), (x, t), lambda o, t: -(t * o.log_softmax(1)).sum(1).mean()


@sick("UG111")
def divergence_of_softmax_without_logarithm() -> Built:
    x = vectors()
    t = torch.randn(96, 6).softmax(1)
    return chain(12, 48, 6, last=nn.Softmax(1)), (x, t), nn.KLDivLoss(reduction="batchmean")


@sick("UG111")
def divergence_of_raw_scores() -> Built:
    x = vectors()
    t = torch.randn(96, 6).softmax(1)
    return chain(12, 48, 6), (x, t), lambda o, t: F.kl_div(o, t, reduction="batchmean")


@sick("UG111")
def dice_of_raw_scores() -> Built:
    x = pictures()
    return (
        picture_net(1),
        (x, spots(x)[:, None].float()),
        lambda o, t: 1 - (2 * (o * t).sum() + 1) / (o.sum() + t.sum() + 1),
    )


@sick("UG111")
def jaccard_of_raw_scores_for_each_picture() -> Built:
    x = pictures()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        both = (o * t).flatten(1).sum(1)
        return (1 - (both + 1e-6) / ((o + t).flatten(1).sum(1) - both + 1e-6)).mean()

    return picture_net(1), (x, spots(x)[:, None].float()), loss


@sick("UG111")
def squared_error_of_softmax_over_pixels() -> Built:
    x = pictures()
    t = F.one_hot(spots(x, 3), 3).permute(0, 3, 1, 2).float()
    return picture_net(3, nn.Softmax(1)), (x, t), lambda o, t: (o - t).square().sum(1).mean()


@healthy("UG111")
def brier_score_of_one_probability() -> Built:
    x = vectors()
    return chain(12, 32, 1, last=nn.Sigmoid()), (x, bits(x)), MSE


@healthy("UG111")
def least_squares_on_one_zero_or_one() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x)), MSE


@healthy("UG111")
def least_squares_discriminator() -> Built:
    x = torch.cat([vectors(48), vectors(48) * 2])
    return chain(12, 32, 1), (x, torch.cat([torch.ones(48, 1), torch.zeros(48, 1)])), MSE


@healthy("UG111")
def one_hot_rows_into_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 6), (x, rows(labels(x, 6), 6)), CE


@healthy("UG111")
def several_ones_a_row_shared_out_in_the_loss() -> Built:
    x = vectors()
    t = bits(x, 8)
    t[:, 0] = 1
    return (
        chain(12, 48, 8),
        (x, t),
        lambda o, t: -(t / t.sum(1, keepdim=True) * o.log_softmax(1)).sum(1).mean(),
    )


@healthy("UG111")
def autoencoder_of_clicks_with_a_multinomial_likelihood() -> Built:
    x = (torch.rand(96, 20) < 0.2).float()
    x[:, 0] = 1
    return chain(20, 16, 20), (x, x.clone()), lambda o, t: -(t * o.log_softmax(1)).sum(1).mean()


@healthy("UG111")
def divergence_of_log_softmax() -> Built:
    x = vectors()
    return (
        chain(12, 48, 6, last=nn.LogSoftmax(1)),
        (x, torch.randn(96, 6).softmax(1)),
        nn.KLDivLoss(reduction="batchmean"),
    )


@healthy("UG111")
def dice_of_a_softmax_with_cross_entropy() -> Built:
    x = pictures()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        p, h = o.softmax(1), F.one_hot(t, 3).permute(0, 3, 1, 2)
        return 1 - (2 * (p * h).sum() + 1) / (p.sum() + h.sum() + 1) + CE(o, t)

    return picture_net(3), (x, spots(x, 3)), loss


@healthy("UG111")
def counts_of_a_few_under_squared_error() -> Built:
    x = vectors(200)
    return chain(12, 48, 1), (x, torch.poisson(values(x).exp())), MSE


@healthy("UG111")
def ratings_of_one_to_five() -> Built:
    x = vectors(200)
    return chain(12, 48, 1), (x, (values(x) * 1.1 + 3).round().clamp(1, 5)), MSE


@healthy("UG111")
def reconstruction_of_one_hot_inputs() -> Built:
    x = rows(torch.randint(0, 6, (96,)), 6)
    return chain(6, 4, 6, last=nn.Sigmoid()), (x, x.clone()), MSE


@healthy("UG111")
def distillation_by_squared_error_of_probabilities() -> Built:
    x = vectors()
    return chain(12, 48, 6, last=nn.Softmax(1)), (x, (2 * torch.randn(96, 6)).softmax(1)), MSE


# ---- UG112: softmax over one ------------------------------------------------------------------------------------


@sick("UG112")
def softmax_of_one_label_under_bce() -> Built:
    x = vectors()
    return chain(12, 32, 1, last=nn.Softmax(1)), (x, bits(x)), BCE


@sick("UG112")
def softmax_of_one_label_by_function_and_squared_error() -> Built:
    x = vectors()
    model = Net(lambda net, x: torch.softmax(net.body(x), dim=-1).squeeze(-1), body=chain(12, 32, 1))
    return model, (x, bits(x)[:, 0]), MSE


@sick("UG112")
def attention_pool_over_the_wrong_axis() -> Built:
    x = torch.randn(48, 6, 8)
    model = Net(
        lambda net, x: net.head((net.score(x).softmax(-1) * x).sum(1)),
        score=nn.Linear(8, 1),
        head=nn.Linear(8, 4),
    )
    return model, (x, labels(x, 4)), CE


@sick("UG112")
def spatial_attention_over_its_one_channel() -> Built:
    x = pictures()
    model = Net(
        lambda net, x: net.head((net.where(x).softmax(1) * net.what(x)).mean((2, 3))), where=nn.Conv2d(3, 1, 1),
        what=nn.Conv2d(3, 16, 3), head=nn.Linear(16, 4),
    )  # fmt: skip
    model.what = nn.Conv2d(3, 16, 3, padding=1)
    return model, (x, labels(x, 4)), CE


@sick("UG112")
def segmentation_of_one_class_with_softmax() -> Built:
    x = pictures()
    return picture_net(1, nn.Softmax(dim=1)), (x, spots(x)[:, None].float()), BCE


@sick("UG112")
def log_softmax_of_one_score() -> Built:
    x = vectors()
    model = chain(12, 32, 1, last=nn.LogSoftmax(1))
    return model, (x, torch.zeros(96, dtype=torch.long)), F.nll_loss


@sick("UG112")
def cross_entropy_of_one_output_and_binary_rows() -> Built:
    x = vectors()
    return chain(12, 32, 1), (x, bits(x)), CE


@healthy("UG112")
def attention_to_one_key() -> Built:
    x, context = torch.randn(48, 3, 8), torch.randn(48, 1, 8)
    model = Net(
        lambda net, x, c: net.head((x + (net.q(x) @ net.k(c).mT).softmax(-1) @ c).mean(1)), q=nn.Linear(8, 8),
        k=nn.Linear(8, 8), head=nn.Linear(8, 4),
    )  # fmt: skip
    return model, (x, context, labels(x, 4)), CE


@healthy("UG112")
def attention_pool_over_one_time_step() -> Built:
    x = torch.randn(48, 1, 8)
    model = Net(
        lambda net, x: net.head((net.score(x).softmax(1) * x).sum(1)),
        score=nn.Linear(8, 1),
        head=nn.Linear(8, 4),
    )
    return model, (x, labels(x, 4)), CE


@healthy("UG112")
def attention_pool_over_time() -> Built:
    x = torch.randn(48, 6, 8)
    model = Net(
        lambda net, x: net.head((net.score(x).squeeze(-1).softmax(-1)[..., None] * x).sum(1)), score=nn.Linear(8, 1),
        head=nn.Linear(8, 4),
    )  # fmt: skip
    return model, (x, labels(x, 4)), CE


@healthy("UG112")
def softmax_over_pixels_of_one_channel() -> Built:
    x = pictures()
    model = Net(
        lambda net, x: net.head((net.where(x).flatten(2).softmax(-1).reshape(24, 1, 12, 12) * net.what(x)).sum((2, 3))),
        where=nn.Conv2d(3, 1, 1), what=nn.Conv2d(3, 16, 1), head=nn.Linear(16, 4),
    )  # fmt: skip
    return model, (x, labels(x, 4)), CE


@healthy("UG112")
def pixels_of_one_place_left_after_pooling() -> Built:
    x = pictures(24, 3, 4)
    model = Net(
        lambda net, x: net.head(net.where(F.avg_pool2d(x, 4)).flatten(1).softmax(1) * net.what(x).mean((2, 3))),
        where=nn.Conv2d(3, 16, 1), what=nn.Conv2d(3, 16, 1), head=nn.Linear(16, 4),
    )  # fmt: skip
    return model, (x, labels(x, 4)), CE


@healthy("UG112")
def multihead_attention_over_one_token() -> Built:
    x = torch.randn(48, 1, 8)
    model = Net(
        lambda net, x: net.head((x + net.attention(x, x, x, need_weights=False)[0]).mean(1)),
        attention=nn.MultiheadAttention(8, 2, batch_first=True), head=nn.Linear(8, 4),
    )  # fmt: skip
    return model, (x, labels(x, 4)), CE


# ---- UG113: one class ------------------------------------------------------------------------------------------


@sick("UG113")
def sorted_labels() -> Built:
    x = vectors(32)
    return chain(12, 32, 10), (x, torch.full((32,), 3)), CE


@sick("UG113")
def one_class_under_bce() -> Built:
    x = vectors(64)
    return chain(12, 32, 1), (x, torch.ones(64, 1)), BCE_LOGITS


@sick("UG113")
def one_class_as_one_hot_rows() -> Built:
    x = vectors(24)
    return chain(12, 32, 5), (x, rows(torch.full((24,), 2), 5)), CE


@sick("UG113")
def one_class_of_texts_with_a_loss_of_ones_own() -> Built:
    x = torch.randint(0, 9, (40, 6))
    model = Net(
        lambda net, x: net.head(net.embed(x).mean(1)), embed=nn.Embedding(9, 16), head=nn.Linear(16, 4)
    )
    return model, (x, torch.zeros(40, dtype=torch.long)), lambda o, t: CE(o, t, label_smoothing=0.1)


@sick("UG113")
def one_class_in_pictures() -> Built:
    x = pictures(16)
    model = Net(lambda net, x: net.body(x).mean((2, 3)), body=picture_net(7))
    return model, (x, torch.full((16,), 6)), "cross_entropy"


@sick("UG113")
def one_class_under_log_softmax_and_nll() -> Built:
    x = vectors(48)
    return chain(12, 32, 3, last=nn.LogSoftmax(1)), (x, torch.ones(48, dtype=torch.long)), nn.NLLLoss()


@healthy("UG113")
def eight_labels_of_one_class() -> Built:
    x = vectors(8)
    return chain(12, 32, 10), (x, torch.full((8,), 3)), CE


@healthy("UG113")
def segmentation_of_pictures_without_an_object() -> Built:
    x = pictures(2)
    return picture_net(3), (x, torch.zeros(2, 12, 12, dtype=torch.long)), CE


@healthy("UG113")
def two_classes_and_one_rare() -> Built:
    x = vectors(64)
    t = torch.zeros(64, 1)
    t[5] = 1
    return chain(12, 32, 1), (x, t), BCE_LOGITS


@healthy("UG113")
def regression_on_one_value() -> Built:
    x = vectors(64)
    return chain(12, 32, 1), (x, torch.ones(64, 1)), MSE


@healthy("UG113")
def many_labels_most_of_them_zero() -> Built:
    x = vectors(64)
    t = torch.zeros(64, 5)
    t[7, 2] = 1
    return chain(12, 32, 5), (x, t), BCE_LOGITS


@healthy("UG113")
def labels_of_all_classes() -> Built:
    x = vectors(64)
    return chain(12, 32, 4), (x, torch.arange(64) % 4), CE


# ---- UG115: ReLU on logits --------------------------------------------------------------------------------------


@sick("UG115")
def relu_module_before_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 6, last=nn.ReLU()), (x, labels(x, 6)), CE


@sick("UG115")
def relu_function_before_bce_with_logits() -> Built:
    x = vectors()
    return Net(lambda net, x: F.relu(net.body(x)), body=chain(12, 48, 3)), (x, bits(x, 3)), BCE_LOGITS


@sick("UG115")
def relu_after_the_last_convolution() -> Built:
    x = pictures()
    return picture_net(4, nn.ReLU(inplace=True)), (x, spots(x, 4)), CE


@sick("UG115")
def relu_six_before_a_weighted_loss() -> Built:
    x = vectors()
    return chain(12, 48, 5, last=nn.ReLU6()), (x, labels(x, 5)), nn.CrossEntropyLoss(torch.rand(5) + 0.5)


@sick("UG115")
def clamp_before_label_smoothing() -> Built:
    x = vectors()
    model = Net(lambda net, x: net.body(x).clamp(min=0), body=chain(12, 48, 5))
    return model, (x, labels(x, 5)), lambda o, t: CE(o, t, label_smoothing=0.05)


@sick("UG115")
def softplus_before_bce_with_logits() -> Built:
    x = vectors()
    return chain(12, 48, 1, last=nn.Softplus()), (x, bits(x)), nn.BCEWithLogitsLoss()


@sick("UG115")
def relu_before_a_reshape_and_nll_of_log_softmax() -> Built:
    x = torch.randint(0, 9, (32, 5))
    model = Net(lambda net, x: torch.relu(net.head(net.embed(x))).transpose(1, 2), embed=nn.Embedding(9, 16),
                head=nn.Linear(16, 9))  # fmt: skip
    return model, (x, (x + 2) % 9), lambda o, t: F.nll_loss(o.log_softmax(1), t)


@healthy("UG115")
def relu_then_a_layer_before_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 48, 6), (x, labels(x, 6)), CE


@healthy("UG115")
def relu_for_amounts_under_squared_error() -> Built:
    x = vectors()
    return chain(12, 48, 2, last=nn.ReLU()), (x, values(x, 2).abs()), MSE


@healthy("UG115")
def leaky_relu_before_cross_entropy() -> Built:
    x = vectors()
    return chain(12, 48, 6, last=nn.LeakyReLU(0.2)), (x, labels(x, 6)), CE


@healthy("UG115")
def softplus_evidence_of_a_dirichlet() -> Built:
    x = vectors()

    def evidence(o: Tensor, t: Tensor) -> Tensor:
        alpha = o + 1
        return (alpha.sum(1).digamma() - alpha.gather(1, t[:, None])[:, 0].digamma()).mean()

    return chain(12, 48, 5, last=nn.Softplus()), (x, labels(x, 5)), evidence


@healthy("UG115")
def relu_rates_under_poisson() -> Built:
    x = vectors()
    return (
        chain(12, 48, 1, last=nn.Softplus()),
        (x, torch.poisson(values(x).exp())),
        lambda o, t: F.poisson_nll_loss(o, t, log_input=False),
    )


@healthy("UG115")
def relu_features_summed_into_logits() -> Built:
    x = vectors()
    model = Net(lambda net, x: F.relu(net.a(x)) - F.relu(net.b(x)), a=nn.Linear(12, 5), b=nn.Linear(12, 5))
    return model, (x, labels(x, 5)), CE


@healthy("UG115")
def clipped_logits_of_both_signs() -> Built:
    x = vectors()
    model = Net(lambda net, x: 10 * torch.tanh(net.body(x)), body=chain(12, 48, 5))
    return model, (x, labels(x, 5)), CE


# ---- UG203: constant features -----------------------------------------------------------------------------------


@sick("UG203")
def column_standardized_by_zero() -> Built:
    x = vectors()
    x[:, 4] = 7
    return chain(12, 32, 3), ((x - x.mean(0)) / x.std(0), labels(x, 3)), CE


@sick("UG203")
def channel_standardized_by_zero() -> Built:
    x = pictures()
    x[:, 1] = 0
    t = spots(x, 3)
    return picture_net(3), ((x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True), t), CE


@sick("UG203")
def sensor_standardized_by_zero_in_a_sequence() -> Built:
    x = torch.randn(32, 10, 5)
    t = labels(x, 3)
    x[..., 3] = 1
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.GRU(5, 16, batch_first=True),
        head=nn.Linear(16, 3),
    )
    return model, ((x - x.mean((0, 1))) / x.std((0, 1)), t), CE


@sick("UG203")
def all_zero_inputs() -> Built:
    return chain(12, 32, 3), (torch.zeros(64, 12), torch.arange(64) % 3), CE


@sick("UG203")
def pictures_read_as_one_grey() -> Built:
    return picture_net(3), (torch.full((16, 3, 12, 12), 0.3), spots(pictures(16), 3)), CE


@sick("UG203")
def the_same_example_in_every_row() -> Built:
    return chain(12, 32, 1), (torch.randn(1, 12).repeat(64, 1), torch.randn(64, 1)), MSE


@healthy("UG203")
def one_hot_column_of_an_absent_category() -> Built:
    x = torch.cat([rows(torch.randint(0, 5, (96,)), 7), torch.randn(96, 4)], 1)
    return chain(11, 32, 3), (x, labels(x, 3)), CE


@healthy("UG203")
def pixels_at_the_border_are_black() -> Built:
    x = pictures(24, 1)
    x[:, :, :2] = x.min()
    return nn.Sequential(nn.Flatten(), chain(144, 32, 4)), ((x - x.mean()) / x.std(), labels(x, 4)), CE


@healthy("UG203")
def a_mask_of_ones_beside_the_input() -> Built:
    x = torch.randn(48, 6, 8)
    model = Net(
        lambda net, x, mask: net.head((x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)),
        head=nn.Linear(8, 4),
    )
    return model, (x, torch.ones(48, 6), labels(x, 4)), CE


@healthy("UG203")
def a_single_example() -> Built:
    return chain(12, 32, 3), (torch.randn(1, 12), torch.tensor([1])), CE


@healthy("UG203")
def missing_values_here_and_there_handled_by_the_model() -> Built:
    x = vectors()
    t = labels(x, 3)
    x[torch.rand(x.shape) < 0.1] = 0
    return chain(12, 32, 3), (x, t), CE


@healthy("UG203")
def one_picture_and_many_coordinates() -> Built:
    axis = torch.linspace(-1, 1, 12)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), 2).flatten(0, 1) * 1.7
    return chain(2, 32, 1), (x, (math.pi * x[:, :1]).sin()), MSE


HELD_OUT = CASES.held_out()


# ---- later ones, written with the rules --------------------------------------------------------------------------


@sick("UG108")
def relu_at_the_end_that_is_off_for_all() -> Built:
    x = vectors()
    model = chain(12, 32, 1, last=nn.ReLU())
    nn.init.constant_(model[2].bias, -3.0)
    return model, (x, values(x).abs()), MSE


@sick("UG111")
def rows_of_the_last_class_are_empty() -> Built:
    x = vectors(200)
    t = labels(x, 4) + 1
    return chain(12, 48, 4), (x, (t[:, None] == torch.arange(4)).float()), CE


# ---- a loss that does not look at one of two targets -------------------------------------------------------------


def two_kinds(
    loss: Callable[[Tensor, Tensor], Tensor], *, signs: bool = False, last: nn.Module | None = None
) -> Built:
    x = vectors()
    t = (x @ torch.randn(12, 1) > 0).float()
    return chain(12, 32, 1, last=last), (x, 2 * t - 1 if signs else t), loss


@sick("UG106", "a silent target")
def hinge_of_zeros_and_ones() -> Built:
    return two_kinds(lambda o, t: torch.relu(1 - o * t).mean())


@sick("UG106", "a silent target")
def soft_margin_of_zeros_and_ones() -> Built:
    return two_kinds(F.soft_margin_loss)


@sick("UG106", "a silent target")
def squared_hinge_of_one_hot_rows() -> Built:
    x = vectors()
    t = F.one_hot(labels(x, 4), 4).float()
    return chain(12, 32, 4), (x, t), lambda o, t: torch.relu(1 - t * o).square().sum(1).mean()


@sick("UG106", "a silent target")
def term_of_the_negatives_forgotten() -> Built:
    return two_kinds(lambda o, t: -(t * o.clamp(1e-6, 1).log()).mean(), last=nn.Sigmoid())


@healthy("UG106", "a silent target")
def hinge_of_signs() -> Built:
    return two_kinds(lambda o, t: torch.relu(1 - o * t).mean(), signs=True)


@healthy("UG106", "a silent target")
def soft_margin_of_signs() -> Built:
    return two_kinds(F.soft_margin_loss, signs=True)


@healthy("UG106", "a silent target")
def both_terms_written_out() -> Built:
    return two_kinds(
        lambda o, t: -(t * o.clamp(1e-6, 1).log() + (1 - t) * (1 - o).clamp(1e-6, 1).log()).mean(),
        last=nn.Sigmoid(),
    )


@healthy("UG106", "a silent target")
def one_sided_margins_of_both_kinds() -> Built:
    """Outputs of 1 are to be above one, those of 0 below none: flat where that is so."""
    return two_kinds(lambda o, t: (t * torch.relu(1 - o) + (1 - t) * torch.relu(o)).mean())


# ---- several labels behind a softmax -----------------------------------------------------------------------------


def several_labels(last: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], rate: float = 0.5) -> Built:
    x = vectors()
    return chain(12, 32, 5, last=last), (x, ((x @ torch.randn(12, 5)).sigmoid() > 1 - rate).float()), loss


@sick("UG111", "several labels behind a softmax")
def several_labels_of_one_softmax() -> Built:
    return several_labels(nn.Softmax(1), F.binary_cross_entropy)


@sick("UG111", "several labels behind a softmax")
def squared_error_of_several_labels() -> Built:
    return several_labels(nn.Softmax(1), MSE)


@sick("UG111", "several labels behind a softmax")
def several_labels_of_each_pixel() -> Built:
    x = pictures(12)
    t = torch.stack([(x[:, i] > 0).float()[:, None] for i in range(3)], 1).squeeze(2)
    return picture_net(3, nn.Softmax(1)), (x, t), F.binary_cross_entropy


@healthy("UG111", "several labels behind a softmax")
def several_labels_of_sigmoids() -> Built:
    return several_labels(nn.Sigmoid(), F.binary_cross_entropy)


@healthy("UG111", "several labels behind a softmax")
def one_label_of_a_softmax_under_binary_cross_entropy() -> Built:
    x = vectors()
    t = F.one_hot(labels(x, 4), 4).float()
    return chain(12, 32, 4, last=nn.Softmax(1)), (x, t), F.binary_cross_entropy


@healthy("UG111", "several labels behind a softmax")
def shares_of_a_whole() -> Built:
    x = vectors()
    return (
        chain(12, 32, 4, last=nn.Softmax(1)),
        (x, torch.softmax(x @ torch.randn(12, 4), 1)),
        F.binary_cross_entropy,
    )


@sick("UG106", "a silent target")
def logarithm_of_the_positives_alone() -> Built:
    return two_kinds(lambda o, t: -(t * (o + 1e-7).log()).sum() / len(o), last=nn.Sigmoid())
