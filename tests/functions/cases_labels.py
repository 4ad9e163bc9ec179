"""Cases of UG106: labels of 0 and 1 in a loss function of torch that takes -1 and 1, and the other way round."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, Arguments, Net, chain, healthy, sick, vectors
from torch import Tensor, nn

VALUES = "labels of two values"


def pairs(loss: Any, *, signs: bool) -> Arguments:
    """Two towers, and whether both of a pair are alike."""
    alike = (torch.arange(64) % 2).float()
    model = Net(lambda net, a, b: (net.one(a), net.other(b)), one=chain(12, 32, 8), other=chain(10, 32, 8))
    return model, (vectors(64), vectors(64, 10), 2 * alike - 1 if signs else alike), {"loss": loss}


def ranked(target: Tensor) -> Arguments:
    """A model that compares two of a kind and gives its own loss."""

    def run(net: Any, a: Tensor, b: Tensor, y: Tensor) -> dict[str, Tensor]:
        one, other = net.score(a).squeeze(1), net.score(b).squeeze(1)
        return {"loss": F.margin_ranking_loss(one, other, y, margin=1.0), "one": one, "other": other}

    model = Net(run, score=chain(12, 32, 1))
    return model, {"a": vectors(), "b": vectors(), "y": target}, {"loss": None}


def answers() -> Tensor:
    return (torch.randn(64) > 0).float()


def stepped(target: Tensor) -> Arguments:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return nn.SoftMarginLoss()(model(batch[0]).squeeze(1), batch[1])

    return chain(12, 32, 1), (vectors(), target), {"step": step}


def of_product(outputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
    return BCE_LOGITS((outputs[0] * outputs[1]).sum(1), y)


@sick("UG106", VALUES)
def pairs_of_zero_and_one() -> Arguments:
    return pairs(lambda o, y: F.cosine_embedding_loss(*o, y, margin=0.2), signs=False)


@sick("UG106", VALUES)
def ranks_of_zero_and_one() -> Arguments:
    return ranked(answers())


@sick("UG106", VALUES)
def signs_of_zero_and_one_in_a_step() -> Arguments:
    return stepped(answers())


@sick("UG106", VALUES)
def distances_labelled_zero_and_one() -> Arguments:
    return pairs(lambda o, y: nn.HingeEmbeddingLoss()(F.pairwise_distance(*o), y.long()), signs=False)


@sick("UG106", VALUES)
def links_labelled_minus_one_and_one() -> Arguments:
    return pairs(of_product, signs=True)


@sick("UG106", VALUES)
def tags_labelled_minus_one_and_one() -> Arguments:
    tags = torch.where(torch.randn(64, 5) > 0.5, 1.0, -1.0)
    return chain(12, 32, 5), (vectors(), tags), {"loss": nn.MultiLabelSoftMarginLoss()}


@healthy("UG106", VALUES)
def pairs_of_both_signs() -> Arguments:
    return pairs(lambda o, y: F.cosine_embedding_loss(*o, y, margin=0.2), signs=True)


@healthy("UG106", VALUES)
def ranks_with_ties() -> Arguments:
    return ranked((2 * answers() - 1) * (torch.arange(64) % 5 > 0))


@healthy("UG106", VALUES)
def ranks_given_in_one_order() -> Arguments:
    return ranked(torch.ones(64))


@healthy("UG106", VALUES)
def signs_made_in_a_step() -> Arguments:
    return stepped(2 * answers() - 1)


@healthy("UG106", VALUES)
def pairs_that_a_mask_leaves_out() -> Arguments:
    def loss(o: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return (F.cosine_embedding_loss(*o, y, reduction="none") * y).sum() / y.sum()

    return pairs(loss, signs=False)


@healthy("UG106", VALUES)
def links_labelled_zero_and_one() -> Arguments:
    return pairs(of_product, signs=False)
