"""Cases of UG103 and UG105: a softmax or sigmoid that the loss, or the model before its own loss, applies twice."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, CE, Arguments, Net, chain, healthy, labels, pictures, sick, vectors
from torch import Tensor, nn

IN_LOSS = "in the loss"


def classes(loss: Any, model: nn.Module | None = None) -> Arguments:
    """Vectors into four classes."""
    x = vectors(96)
    return model or chain(12, 32, 4), (x, labels(x)), {"loss": loss}


def answers(loss: Any, model: nn.Module | None = None, columns: int = 1) -> Arguments:
    """Vectors into yes and no."""
    x = vectors(96)
    y = (x @ torch.randn(12, columns) > 0).float()
    return model or chain(12, 32, columns), (x, y), {"loss": loss}


def with_own_loss(loss: Any, columns: int, target: Tensor, x: Tensor) -> Arguments:
    model = Net(lambda net, x, y: {"loss": loss(net.body(x), y)}, body=chain(12, 32, columns))
    return model, {"x": x, "y": target}, {"loss": None}


# ---- softmax ---------------------------------------------------------------------------------------------------


@sick("UG103", IN_LOSS)
def softmax_in_front_of_cross_entropy() -> Arguments:
    return classes(lambda out, y: CE(F.softmax(out, dim=1), y))


@sick("UG103", IN_LOSS)
def softmax_of_each_pixel_in_front_of_cross_entropy() -> Arguments:
    x = pictures()
    y = torch.bucketize(x.mean(1), torch.tensor([-0.3, 0.3]))
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return CE(out.permute(0, 2, 3, 1).reshape(-1, 3).softmax(1), y.reshape(-1))

    return model, (x, y), {"loss": loss}


@sick("UG103", IN_LOSS)
def log_softmax_of_a_softmax() -> Arguments:
    return classes(lambda out, y: F.nll_loss(out.softmax(-1).log_softmax(-1), y))


@sick("UG103", IN_LOSS)
def softmax_before_the_loss_of_the_model_itself() -> Arguments:
    x = vectors(96)

    def run(net: Net, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        p = net.body(x).softmax(1)
        return {"loss": CE(p, labels), "logits": p}

    return Net(run, body=chain(12, 32, 4)), {"x": x, "labels": labels(x)}, {"loss": None}


@sick("UG103", IN_LOSS)
def probabilities_of_two_heads_in_a_dictionary() -> Arguments:
    x = vectors(96)
    model = Net(
        lambda net, x: {"size": net.size(net.body(x)), "kind": net.kind(net.body(x)).softmax(1)},
        body=nn.Sequential(nn.Linear(12, 32), nn.ReLU()), size=nn.Linear(32, 1), kind=nn.Linear(32, 4),
    )  # fmt: skip

    def loss(out: dict[str, Tensor], y: Tensor) -> Tensor:
        return CE(out["kind"], y) + (out["size"][:, 0] - y.float()).square().mean()

    return model, (x, labels(x)), {"loss": loss}


@sick("UG103", IN_LOSS)
def distillation_of_probabilities() -> Arguments:
    x = vectors(96)
    teacher = torch.randn(96, 4)

    def loss(out: Tensor, teacher: Tensor) -> Tensor:
        student = F.softmax(out, 1)
        return F.kl_div(F.log_softmax(student / 2, 1), F.softmax(teacher / 2, 1), reduction="batchmean")

    return chain(12, 32, 4), (x, teacher), {"loss": loss}


@sick("UG103", IN_LOSS)
def clamped_softmax_with_smoothed_labels() -> Arguments:
    return classes(lambda out, y: CE(out.softmax(1).clamp(1e-6, 1), y, label_smoothing=0.1))


@sick("UG103", IN_LOSS)
def softmax_with_a_temperature_in_front_of_cross_entropy() -> Arguments:
    return classes(lambda out, y: CE((out / 2).softmax(1), y))


@healthy("UG103", IN_LOSS)
def log_softmax_in_front_of_cross_entropy() -> Arguments:
    return classes(lambda out, y: CE(out.log_softmax(1), y))


@healthy("UG103", IN_LOSS)
def attention_and_cross_entropy() -> Arguments:
    model = Net(
        lambda net, x: net.head(net.gate(x).softmax(1) * torch.tanh(net.body(x))),
        gate=nn.Linear(12, 32), body=nn.Linear(12, 32), head=nn.Linear(32, 4),
    )  # fmt: skip
    return classes(CE, model)


@healthy("UG103", IN_LOSS)
def focal_loss_by_softmax() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.softmax(1).gather(1, y[:, None])[:, 0]
        return ((1 - p) ** 2 * CE(out, y, reduction="none")).mean()

    return classes(loss)


@healthy("UG103", IN_LOSS)
def entropy_beside_cross_entropy() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.softmax(1)
        return CE(out, y) + 0.1 * (p * p.log()).sum(1).mean()

    return classes(loss)


@healthy("UG103", IN_LOSS)
def logarithm_of_a_softmax() -> Arguments:
    return classes(lambda out, y: F.nll_loss((out.softmax(1) + 1e-8).log(), y))


@healthy("UG103", IN_LOSS)
def softmax_of_the_teacher_alone() -> Arguments:
    x = vectors(96)

    def loss(out: Tensor, teacher: Tensor) -> Tensor:
        return F.kl_div(F.log_softmax(out / 2, 1), F.softmax(teacher / 2, 1), reduction="batchmean")

    return chain(12, 32, 4), (x, torch.randn(96, 4)), {"loss": loss}


@healthy("UG103", IN_LOSS)
def chosen_experts_share_anew() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        best, which = net.gate(x).softmax(1).topk(2, 1)
        share = torch.zeros(len(x), 3).scatter(1, which, best.softmax(1))
        return (torch.stack([expert(x) for expert in net.experts], 1) * share[..., None]).sum(1)

    model = Net(run, gate=nn.Linear(12, 3), experts=nn.ModuleList(nn.Linear(12, 4) for _ in range(3)))
    return classes(CE, model)


@healthy("UG103", IN_LOSS)
def sharpened_guesses_as_scores() -> Arguments:
    return classes(lambda out, y: CE(out.softmax(1) / 0.05, y))


# ---- sigmoid ---------------------------------------------------------------------------------------------------


@sick("UG105", IN_LOSS)
def sigmoid_in_front_of_a_loss_of_logits() -> Arguments:
    return answers(lambda out, y: BCE_LOGITS(torch.sigmoid(out), y))


@sick("UG105", IN_LOSS)
def second_softmax_column_as_a_logit() -> Arguments:
    return answers(lambda out, y: BCE_LOGITS(out.softmax(1)[:, 1:], y), chain(12, 32, 2))


@sick("UG105", IN_LOSS)
def focal_loss_with_two_sigmoids() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.sigmoid().sigmoid()
        right = torch.where(y > 0, p, 1 - p)
        return -((1 - right) ** 2 * right.log()).mean()

    return answers(loss)


@sick("UG105", IN_LOSS)
def score_of_a_detector_squeezed_before_its_loss() -> Arguments:
    x = vectors(96)
    y = torch.cat([(x[:, :1] > 0).float(), x[:, 1:3].tanh()], 1)
    model = Net(
        lambda net, x: (net.score(net.body(x)).sigmoid(), net.box(net.body(x))),
        body=nn.Sequential(nn.Linear(12, 32), nn.ReLU()), score=nn.Linear(32, 1), box=nn.Linear(32, 2),
    )  # fmt: skip

    def loss(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out[0], y[:, :1]) + F.l1_loss(out[1], y[:, 1:])

    return model, (x, y), {"loss": loss}


@sick("UG105", IN_LOSS)
def sigmoid_before_the_loss_of_the_model_itself() -> Arguments:
    x = vectors(96)
    return with_own_loss(lambda out, y: BCE_LOGITS(out.sigmoid(), y), 1, (x[:, :1] > 0).float(), x)


@sick("UG105", IN_LOSS)
def sigmoid_in_front_of_cross_entropy() -> Arguments:
    return classes(lambda out, y: CE(out.sigmoid(), y))


@sick("UG105", IN_LOSS)
def sigmoid_in_front_of_a_soft_margin() -> Arguments:
    return answers(lambda out, y: F.multilabel_soft_margin_loss(out.sigmoid(), y), columns=3)


@sick("UG105", IN_LOSS)
def log_softmax_in_front_of_a_loss_of_logits() -> Arguments:
    return answers(lambda out, y: BCE_LOGITS(out.log_softmax(1), torch.cat([1 - y, y], 1)), chain(12, 32, 2))


@healthy("UG105", IN_LOSS)
def sigmoid_and_a_loss_of_probabilities() -> Arguments:
    return answers(lambda out, y: F.binary_cross_entropy(out.sigmoid(), y))


@healthy("UG105", IN_LOSS)
def gates_and_a_loss_of_logits() -> Arguments:
    model = Net(
        lambda net, x: net.head(net.gate(x).sigmoid() * torch.tanh(net.body(x))),
        gate=nn.Linear(12, 32), body=nn.Linear(12, 32), head=nn.Linear(32, 1),
    )  # fmt: skip
    return answers(BCE_LOGITS, model)


@healthy("UG105", IN_LOSS)
def focal_loss_by_sigmoid() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.sigmoid()
        return ((y - p).abs() ** 2 * BCE_LOGITS(out, y, reduction="none")).mean()

    return answers(loss)


@healthy("UG105", IN_LOSS)
def logits_of_probabilities() -> Arguments:
    return answers(lambda out, y: BCE_LOGITS(torch.logit(out.sigmoid(), 1e-6), y))


@healthy("UG105", IN_LOSS)
def capped_logits() -> Arguments:
    return classes(lambda out, y: CE(30 * torch.tanh(out / 30), y))


@healthy("UG105", IN_LOSS)
def overlap_and_cross_entropy_together() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.sigmoid()
        return BCE_LOGITS(out, y) + 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)

    return answers(loss)


@healthy("UG105", IN_LOSS)
def sigmoid_features_before_the_head() -> Arguments:
    return answers(BCE_LOGITS, nn.Sequential(nn.Linear(12, 32), nn.Sigmoid(), nn.Linear(32, 1)))


@healthy("UG105", IN_LOSS)
def agreement_of_two_guesses() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return BCE_LOGITS(out[:, :1], y) + 0.1 * (out[:, :1].sigmoid() - out[:, 1:].sigmoid()).square().mean()

    return answers(loss, chain(12, 32, 2))
