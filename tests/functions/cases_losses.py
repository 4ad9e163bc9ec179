"""Cases of UG111 (divergences without their logarithm), UG115 (a ReLU behind a softmax) and UG118 (class weights)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    Arguments,
    Net,
    chain,
    healthy,
    labels,
    pictures,
    sequences,
    sick,
    values,
    vectors,
)
from torch import Tensor, nn

# ---- UG115: no score below zero, with a softmax or sigmoid between that and the loss ------------------------------

BEHIND = "behind a softmax"


@sick("UG115", BEHIND)
def relu_before_log_softmax() -> Arguments:
    x = vectors()
    return (
        nn.Sequential(*chain(12, 48, 5), nn.ReLU(), nn.LogSoftmax(1)),
        (x, labels(x, 5)),
        {"loss": F.nll_loss},
    )


@sick("UG115", BEHIND)
def relu_before_softmax_and_logarithm() -> Arguments:
    x = pictures()
    model = Net(lambda net, x: F.relu(net.b(F.relu(net.a(x)))).softmax(1), a=nn.Conv2d(3, 16, 3, padding=1),
                b=nn.Conv2d(16, 4, 1))  # fmt: skip
    target = (x.mean(1) > 0).long() * 2 + (x[:, 0] > 0).long()
    return model, (x, target), {"loss": lambda o, t: F.nll_loss((o + 1e-8).log(), t)}


@sick("UG115", BEHIND)
def relu_squeezed_before_log_softmax() -> Arguments:
    x = pictures(32, 6)

    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(net.b(F.relu(net.a(x))))  # (N, 4, 1, 1)
        return torch.log_softmax(h.squeeze(-1).flatten(1), dim=-1)

    return Net(run, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 4, 4)), (x, labels(x)), {"loss": nn.NLLLoss()}


class ReturnsItsLoss(nn.Module):
    """As models of language libraries do: labels go in, a loss comes out."""

    def __init__(self, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.last = chain(12, 48, 48), nn.Linear(48, 4), last

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.last(self.head(F.gelu(self.body(x))))
        return {"loss": F.cross_entropy(logits / 2.0, labels), "logits": logits}


@sick("UG115", BEHIND)
def relu_in_a_model_that_returns_its_loss() -> Arguments:
    x = vectors()
    return ReturnsItsLoss(F.relu), {"x": x, "labels": labels(x)}, {}


@sick("UG115", BEHIND)
def softplus_and_temperature_in_the_loss() -> Arguments:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return F.nll_loss(F.log_softmax(F.softplus(o) / 0.5, dim=1), t)

    return chain(12, 48, 4), (x, labels(x)), {"loss": loss}


@sick("UG115", BEHIND)
def relu_before_a_sigmoid() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: torch.sigmoid(F.relu(net.body(x))).squeeze(1), body=chain(12, 48, 1))
    return model, (x, (values(x)[:, 0] > 0).float()), {"loss": F.binary_cross_entropy}


@sick("UG115", BEHIND)
def relu_and_dropout_before_softmax_over_time_steps() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.drop(F.relu(net.head(net.rnn(x)[0]))).log_softmax(-1).transpose(1, 2), drop=nn.Dropout(0.1),
        rnn=nn.GRU(6, 32, batch_first=True), head=nn.Linear(32, 3),
    )  # fmt: skip
    return model, (x, (x.sum(2) > 0).long()), {"loss": F.nll_loss}


@sick("UG115", BEHIND)
def relu_before_a_probability_by_hand() -> Arguments:
    x = vectors()
    model = nn.Sequential(*chain(12, 48, 4), nn.ReLU(), nn.Softmax(-1))
    return model, (x, labels(x)), {"loss": lambda o, t: -o.gather(1, t[:, None]).clamp(min=1e-7).log().mean()}


@healthy("UG115", BEHIND)
def relu_in_the_hidden_layer_before_log_softmax() -> Arguments:
    x = vectors()
    return nn.Sequential(*chain(12, 48, 48, 5), nn.LogSoftmax(1)), (x, labels(x, 5)), {"loss": F.nll_loss}


@healthy("UG115", BEHIND)
def rectified_scores_of_attention() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.head((F.relu(net.score(x)).softmax(1) * x).sum(1)).log_softmax(1), score=nn.Linear(6, 1),
        head=nn.Linear(6, 4),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": F.nll_loss}


@healthy("UG115", BEHIND)
def negative_distances_to_prototypes() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: F.log_softmax(-torch.cdist(net.body(x), net.prototypes) ** 2, dim=1), body=chain(12, 32, 8),
        prototypes=nn.Parameter(0.3 * torch.randn(4, 8)),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": F.nll_loss}


@healthy("UG115", BEHIND)
def a_mixture_of_experts_with_rectified_gates() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: (F.relu(net.gate(x)).softmax(1)[:, :, None] * net.experts(x).view(-1, 3, 4)).sum(1),
        gate=nn.Linear(12, 3), experts=nn.Linear(12, 12),
    )  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG115", BEHIND)
def cosines_with_a_scale() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: 10 * F.normalize(net.body(x), dim=1) @ F.normalize(net.classes, dim=0), body=chain(12, 32, 16),
        classes=nn.Parameter(torch.randn(16, 4)),
    )  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG115", BEHIND)
def leaky_relu_before_softmax() -> Arguments:
    x = vectors()
    model = nn.Sequential(*chain(12, 48, 4), nn.LeakyReLU(0.1), nn.LogSoftmax(1))
    return model, (x, labels(x)), {"loss": F.nll_loss}


@healthy("UG115", BEHIND)
def a_pointer_of_clipped_scores() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: (3 * torch.tanh(net.score(net.rnn(x)[0]).squeeze(-1))).log_softmax(1),
        rnn=nn.GRU(6, 24, batch_first=True), score=nn.Linear(24, 1),
    )  # fmt: skip
    return model, (x, x[:, :, 0].argmax(1)), {"loss": F.nll_loss}


# ---- UG111: divergences -------------------------------------------------------------------------------------------

DIVERGENCE = "divergence"


def soft(x: Tensor, classes: int = 4, sharp: float = 1.5) -> Tensor:
    """What a teacher says: probabilities (N, classes)."""
    return (sharp * x.flatten(1) @ torch.randn(x[0].numel(), classes) / x[0].numel() ** 0.5).softmax(1)


@sick("UG111", DIVERGENCE)
def divergence_of_a_softmax_over_channels() -> Arguments:
    x = pictures()
    teacher = F.avg_pool2d(torch.randn(32, 5, 8, 8), 3, 1, 1).mul(2).softmax(1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 1))
    return (
        model,
        (x, teacher),
        {"loss": lambda o, t: F.kl_div(F.softmax(o, dim=1), t, reduction="none").sum(1).mean()},
    )


@sick("UG111", DIVERGENCE)
def divergence_module_of_a_softmax() -> Arguments:
    x = vectors()
    divergence = nn.KLDivLoss(reduction="batchmean")
    return chain(12, 48, 4), (x, soft(x)), {"loss": lambda o, t: divergence(o.softmax(-1), t)}


@sick("UG111", DIVERGENCE)
def distillation_of_softmax_at_a_temperature() -> Arguments:
    x = vectors()

    def loss(o: Tensor, teacher: Tensor) -> Tensor:
        t = 4.0
        return t * t * F.kl_div(F.softmax(o / t, 1), F.softmax(teacher / t, 1), reduction="batchmean")

    return chain(12, 48, 6), (x, 3 * x @ torch.randn(12, 6)), {"loss": loss}


@sick("UG111", DIVERGENCE)
def targets_as_logarithms_without_saying_so() -> Arguments:
    x = vectors()
    return (
        chain(12, 48, 4),
        (x, soft(x).log()),
        {"loss": lambda o, t: F.kl_div(F.log_softmax(o, 1), t, reduction="batchmean")},
    )


@sick("UG111", DIVERGENCE)
def targets_as_probabilities_that_are_said_to_be_logarithms() -> Arguments:
    x = vectors()
    divergence = nn.KLDivLoss(reduction="batchmean", log_target=True)
    return nn.Sequential(*chain(12, 48, 4), nn.LogSoftmax(1)), (x, soft(x)), {"loss": divergence}


@sick("UG111", DIVERGENCE)
def divergence_by_hand_without_the_logarithm() -> Arguments:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return (t * ((t + 1e-9).log() - o.softmax(1))).sum(1).mean()

    return chain(12, 48, 5), (x, soft(x, 5)), {"loss": loss}


class Student(nn.Module):
    def __init__(self, logarithm: bool) -> None:
        super().__init__()
        self.body, self.logarithm = chain(12, 48, 4), logarithm

    def forward(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(x)
        given = logits.log_softmax(1) if self.logarithm else logits.softmax(1)
        return F.kl_div(given, labels, reduction="batchmean"), logits


@sick("UG111", DIVERGENCE)
def divergence_inside_of_the_model() -> Arguments:
    x = vectors()
    return Student(False), {"x": x, "labels": soft(x)}, {}


@sick("UG111", DIVERGENCE)
def divergence_of_plain_scores() -> Arguments:
    x = vectors()
    return chain(12, 48, 4), (x, soft(x)), {"loss": lambda o, t: nn.KLDivLoss(reduction="sum")(o, t) / len(o)}


@healthy("UG111", DIVERGENCE)
def divergence_of_log_softmax() -> Arguments:
    x = vectors()
    return (
        chain(12, 48, 4),
        (x, soft(x)),
        {"loss": lambda o, t: F.kl_div(F.log_softmax(o, 1), t, reduction="batchmean")},
    )


@healthy("UG111", DIVERGENCE)
def targets_as_logarithms_that_are_said_to_be() -> Arguments:
    x = vectors()
    divergence = nn.KLDivLoss(reduction="batchmean", log_target=True)
    return nn.Sequential(*chain(12, 48, 4), nn.LogSoftmax(1)), (x, soft(x).log()), {"loss": divergence}


@healthy("UG111", DIVERGENCE)
def divergence_by_hand() -> Arguments:
    x = vectors()
    return (
        chain(12, 48, 5),
        (x, soft(x, 5)),
        {"loss": lambda o, t: (t * ((t + 1e-9).log() - o.log_softmax(1))).sum(1).mean()},
    )


@healthy("UG111", DIVERGENCE)
def distillation_at_a_temperature() -> Arguments:
    x = vectors()

    def loss(o: Tensor, teacher: Tensor) -> Tensor:
        t = 4.0
        return t * t * F.kl_div(F.log_softmax(o / t, 1), F.softmax(teacher / t, 1), reduction="batchmean")

    return chain(12, 48, 6), (x, 3 * x @ torch.randn(12, 6)), {"loss": loss}


@healthy("UG111", DIVERGENCE)
def divergence_the_other_way_round() -> Arguments:
    x = vectors()
    return (
        chain(12, 48, 4),
        (x, soft(x)),
        {"loss": lambda o, t: F.kl_div(t.log(), o.softmax(1), reduction="batchmean")},
    )


@healthy("UG111", DIVERGENCE)
def the_divergence_of_jensen_and_shannon() -> Arguments:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        p = o.softmax(1)
        middle = ((p + t) / 2).log()
        return (F.kl_div(middle, p, reduction="batchmean") + F.kl_div(middle, t, reduction="batchmean")) / 2

    return chain(12, 48, 4), (x, soft(x)), {"loss": loss}


@healthy("UG111", DIVERGENCE)
def cross_entropy_with_soft_targets_and_smoothing() -> Arguments:
    x = vectors()
    return chain(12, 48, 4), (x, soft(x)), {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}


@healthy("UG111", DIVERGENCE)
def divergence_inside_of_a_healthy_model() -> Arguments:
    x = vectors()
    return Student(True), {"x": x, "labels": soft(x)}, {}


@healthy("UG111", DIVERGENCE)
def divergence_of_padded_lists() -> Arguments:
    x = sequences(40, 6, 8)
    real = torch.arange(6) < torch.randint(2, 7, (40, 1))
    relevance = (2 * x[:, :, 0]).masked_fill(~real, -1e9).softmax(1)

    def run(net: Net, x: Tensor, real: Tensor) -> Tensor:
        return net.layers(x).squeeze(-1).masked_fill(~real, -1e9)

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return F.kl_div(o.log_softmax(1), t, reduction="batchmean")

    return Net(run, layers=chain(8, 32, 1)), (x, real, relevance), {"loss": loss}


# ---- UG118: weights of classes ------------------------------------------------------------------------------------


def rare(x: Tensor, shares: tuple[float, ...]) -> Tensor:
    """Classes that are as frequent as this, along the first feature."""
    order = x.flatten(1)[:, 0].argsort().argsort()
    return torch.bucketize(order / len(x), torch.tensor(shares).cumsum(0)[:-1], right=True)


def frequency(t: Tensor, classes: int) -> Tensor:
    return torch.bincount(t.flatten(), minlength=classes).float() / t.numel()


@sick("UG118")
def weights_are_shares() -> Arguments:
    x = vectors(200)
    t = rare(x, (0.9, 0.1))
    return chain(12, 32, 2), (x, t), {"loss": nn.CrossEntropyLoss(weight=frequency(t, 2))}


@sick("UG118")
def weights_are_counts_of_five_classes() -> Arguments:
    x = vectors(300)
    t = rare(x, (0.4, 0.3, 0.15, 0.1, 0.05))
    counts = 300 * frequency(t, 5)
    model = nn.Sequential(*chain(12, 48, 5), nn.LogSoftmax(1))
    return model, (x, t), {"loss": nn.NLLLoss(counts / counts.sum() * 5)}


@sick("UG118")
def weight_of_positives_upside_down() -> Arguments:
    x = vectors(200)
    t = (rare(x, (0.88, 0.12)) == 1).float()
    weight = t.mean() / (1 - t.mean())
    model = Net(lambda net, x: net.layers(x).squeeze(1), layers=chain(12, 32, 1))
    return model, (x, t), {"loss": nn.BCEWithLogitsLoss(pos_weight=weight)}


@sick("UG118")
def weights_of_pixels_are_shares() -> Arguments:
    x = pictures(16, 12)
    t = torch.bucketize(x[:, 0], torch.tensor([0.5, 1.3]))
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))
    weight = frequency(t, 3)
    return model, (x, t), {"loss": lambda o, t: CE(o, t, weight=weight)}


class WeighsItsLoss(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.layers, self.weight = chain(12, 32, len(weight)), nn.Buffer(weight)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layers(x)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.CrossEntropyLoss(self.weight)(logits, labels), "logits": logits}


@sick("UG118")
def weights_inside_of_the_model() -> Arguments:
    x = vectors(200)
    t = rare(x, (0.1, 0.75, 0.15))
    return WeighsItsLoss(frequency(t, 3).sqrt()), {"x": x, "labels": t}, {}


@sick("UG118")
def weights_grow_with_the_logarithm_of_counts() -> Arguments:
    x = sequences(40, 10, 6)
    t = torch.bucketize(x[:, :, 0], torch.tensor([0.6, 1.2, 1.7]))
    weight = (400 * frequency(t, 4)).log()
    model = Net(lambda net, x: net.head(net.rnn(x)[0]).flatten(0, 1), rnn=nn.GRU(6, 24, batch_first=True),
                head=nn.Linear(24, 4))  # fmt: skip
    return model, (x, t.flatten()), {"loss": nn.CrossEntropyLoss(weight)}


@healthy("UG118")
def weights_are_one_over_shares() -> Arguments:
    x = vectors(200)
    t = rare(x, (0.9, 0.1))
    weight = 1 / frequency(t, 2)
    return chain(12, 32, 2), (x, t), {"loss": nn.CrossEntropyLoss(weight=weight / weight.sum())}


@healthy("UG118")
def weights_of_equally_frequent_classes() -> Arguments:
    x = vectors(200)
    return (
        chain(12, 32, 2),
        (x, rare(x, (0.48, 0.52))),
        {"loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))},
    )


@healthy("UG118")
def a_small_weight_for_nothing_there() -> Arguments:
    x = vectors(200)
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1])
    return (
        chain(12, 32, 4),
        (x, rare(x, (0.1, 0.05, 0.05, 0.8))),
        {"loss": nn.CrossEntropyLoss(weight=weight)},
    )


@healthy("UG118")
def weight_of_positives() -> Arguments:
    x = vectors(200)
    t = (rare(x, (0.88, 0.12)) == 1).float()
    model = Net(lambda net, x: net.layers(x).squeeze(1), layers=chain(12, 32, 1))
    return model, (x, t), {"loss": nn.BCEWithLogitsLoss(pos_weight=(1 - t.mean()) / t.mean())}


@healthy("UG118")
def no_weight_for_padding() -> Arguments:
    x = sequences(40, 10, 6)
    t = torch.bucketize(x[:, :, 0], torch.tensor([-1.3, 0.2, 1.0]))
    weight = torch.tensor([0.0, 1, 1, 1])
    model = Net(lambda net, x: net.head(net.rnn(x)[0]).flatten(0, 1), rnn=nn.GRU(6, 24, batch_first=True),
                head=nn.Linear(24, 4))  # fmt: skip
    return model, (x, t.flatten()), {"loss": nn.CrossEntropyLoss(weight)}


@healthy("UG118")
def weights_that_have_nothing_to_do_with_shares() -> Arguments:
    x = vectors(300)
    weight = torch.tensor([1.0, 2.0, 1.0, 1.5, 2.0])
    return chain(12, 48, 5), (x, rare(x, (0.3, 0.25, 0.2, 0.15, 0.1))), {"loss": nn.CrossEntropyLoss(weight)}


@healthy("UG118")
def a_batch_of_few_labels() -> Arguments:
    x = vectors(24)
    return (
        chain(12, 32, 2),
        (x, rare(x, (0.75, 0.25))),
        {"loss": nn.CrossEntropyLoss(torch.tensor([0.7, 0.3]))},
    )


@healthy("UG118")
def weights_by_the_effective_number() -> Arguments:
    x = vectors(300)
    t = rare(x, (0.7, 0.2, 0.1))
    weight = (1 - 0.99) / (1 - 0.99 ** (300 * frequency(t, 3)))
    return chain(12, 48, 3), (x, t), {"loss": lambda o, t: CE(o, t, weight)}
