"""Cases of what a loss leaves out: a class (UG106), the minus of the own class (UG120), the outputs of a term
(UG403)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    MSE,
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


def classified(loss: object, classes: int = 4, n: int = 96) -> Arguments:
    x = vectors(n)
    return chain(12, 32, classes), (x, labels(x, classes)), {"loss": loss}


def cosines(loss: object) -> Arguments:
    x = vectors(96)

    def run(net: Net, x: Tensor) -> Tensor:
        return F.normalize(net.code(x), dim=1) @ F.normalize(net.classes, dim=1).T

    model = Net(run, code=chain(12, 32, 8), classes=nn.Parameter(torch.randn(5, 8)))
    return model, (x, labels(x, 5)), {"loss": loss}


def others(out: Tensor, y: Tensor) -> Tensor:
    return out.masked_fill(F.one_hot(y, out.shape[1]).bool(), -torch.inf)


def own(out: Tensor, y: Tensor) -> Tensor:
    return out.gather(1, y[:, None])[:, 0]


# ---- a class that does not count -------------------------------------------------------------------------------


@sick("UG106", "classes")
def weight_of_zero_for_a_class() -> Arguments:
    return classified(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 1.0, 1.0])))


@sick("UG106", "classes")
def class_zero_ignored() -> Arguments:
    return classified(nn.CrossEntropyLoss(ignore_index=0))


@sick("UG106", "classes")
def labels_as_a_mask() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        each = CE(out, y, reduction="none")
        return (each * (y > 0)).sum() / (y > 0).sum()

    return classified(loss, 6)


@sick("UG106", "classes")
def multiplied_by_the_label() -> Arguments:
    return classified(lambda out, y: (CE(out, y, reduction="none") * y).mean())


@sick("UG106", "classes")
def balanced_weights_with_a_count_of_zero() -> Arguments:
    weights = torch.tensor([0.3, 0.3, 0.4, 0.0, 0.2])
    return classified(lambda out, y: F.nll_loss(out.log_softmax(1), y, weight=weights), 5)


@sick("UG106", "classes")
def focal_loss_with_no_factor_for_one_class() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = own(out.softmax(1), y)
        alpha = torch.tensor([0.0, 0.75, 0.75, 0.75])[y]
        return -(alpha * (1 - p) ** 2 * p.log()).mean()

    return classified(loss)


@healthy("UG106", "classes")
def weights_of_very_different_size() -> Arguments:
    return classified(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.01, 1.0, 1.0])))


@healthy("UG106", "classes")
def some_examples_ignored() -> Arguments:
    model, (x, y), further = classified(CE)
    y[::5] = -100
    return model, (x, y), further


@healthy("UG106", "classes")
def hinge_of_several_classes() -> Arguments:
    return classified(F.multi_margin_loss)


@healthy("UG106", "classes")
def weight_of_zero_for_a_class_that_does_not_occur() -> Arguments:
    x = vectors(96)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]))
    return chain(12, 32, 5), (x, labels(x)), {"loss": loss}


@healthy("UG106", "classes")
def padding_ignored_in_text() -> Arguments:
    x = sequences(32)
    y = torch.randint(1, 6, (32, 10))
    y[:, 7:] = 0
    return nn.Linear(6, 6), (x, y), {"loss": lambda o, t: CE(o.transpose(1, 2), t, ignore_index=0)}


@healthy("UG106", "classes")
def triplets_of_labels() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        apart = torch.cdist(out, out)
        same = y[:, None] == y[None]
        far = (apart * same).amax(1)
        near = apart.masked_fill(same, torch.inf).amin(1)
        return F.relu(far - near + 1).mean()

    x = vectors(96)
    return chain(12, 32, 8), (x, labels(x)), {"loss": loss}


# ---- the own class pushed away ---------------------------------------------------------------------------------


@sick("UG120", "own class")
def cosine_to_the_own_class_without_minus() -> Arguments:
    return cosines(lambda out, y: own(out, y).mean() + others(out, y).amax(1).square().mean())


@sick("UG120", "own class")
def own_class_in_both_terms() -> Arguments:
    return cosines(lambda out, y: own(out, y).mean() + F.relu(others(out, y).amax(1) + 0.5).mean())


@sick("UG120", "own class")
def scores_of_all_classes_made_small() -> Arguments:
    return classified(lambda out, y: F.softplus(out).sum(1).mean() + own(out, y).mean() * 0.5)


@sick("UG120", "own class")
def energy_of_the_own_class_added() -> Arguments:
    return classified(lambda out, y: own(out, y).mean() + out.logsumexp(1).mean())


@sick("UG120", "own class")
def margin_with_a_wrong_sign() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (others(out, y).logsumexp(1) + own(out, y)).exp().log1p().mean()

    return classified(loss)


@sick("UG120", "own class")
def yes_and_no_confused_for_the_own_class() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.softplus(out).mean() + 0.1 * own(out, y).mean()

    return classified(loss, 5)


@healthy("UG120", "own class")
def distances_to_prototypes() -> Arguments:
    return classified(lambda out, y: CE(-out, y))


@healthy("UG120", "own class")
def cosine_with_its_minus() -> Arguments:
    return cosines(lambda out, y: -own(out, y).mean() + others(out, y).amax(1).square().mean())


@healthy("UG120", "own class")
def distances_to_centres_with_a_margin() -> Arguments:
    x = vectors(96)

    def run(net: Net, x: Tensor) -> Tensor:
        return torch.cdist(net.code(x), net.centres)

    model = Net(run, code=chain(12, 32, 8), centres=nn.Parameter(torch.randn(4, 8)))
    far = lambda out, y: F.relu(2 - out).masked_fill(F.one_hot(y, 4).bool(), 0).mean()  # noqa: E731
    return model, (x, labels(x)), {"loss": lambda out, y: own(out, y).mean() + far(out, y)}


@healthy("UG120", "own class")
def cross_entropy_with_a_penalty_on_logits() -> Arguments:
    return classified(lambda out, y: CE(out, y) + 1e-4 * out.logsumexp(1).square().mean())


@healthy("UG120", "own class")
def unlikelihood_of_a_class_that_is_wrong() -> Arguments:
    """Complementary labels: the class that it is not."""
    return classified(lambda out, y: -torch.log1p(-own(out.softmax(1), y)).mean())


@healthy("UG120", "own class")
def one_against_all() -> Arguments:
    return classified(lambda out, y: F.binary_cross_entropy_with_logits(out, F.one_hot(y, 4).float()))


# ---- a term of detached outputs --------------------------------------------------------------------------------


def frozen() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh()).requires_grad_(False)


def fitted(loss: object) -> Arguments:
    x = vectors()
    return chain(12, 32, 6), (x, values(x, 6)), {"loss": loss}


@sick("UG403", "detached terms")
def features_of_the_detached_output() -> Arguments:
    net = frozen()
    return fitted(lambda out, y: MSE(out, y) + MSE(net(out.detach()), net(y)))


@sick("UG403", "detached terms")
def total_variation_of_a_detached_picture() -> Arguments:
    x = pictures(8)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        still = out.detach()
        return MSE(out, y) + 0.1 * (still[..., 1:] - still[..., :-1]).abs().mean()

    return nn.Conv2d(3, 3, 3, padding=1), (x, x.mean(1, keepdim=True).expand_as(x).clone()), {"loss": loss}


@sick("UG403", "detached terms")
def norm_of_detached_codes() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        code = net.encode(x)
        return net.decode(code), code

    model = Net(run, encode=chain(12, 32, 4), decode=chain(4, 32, 12))
    return model, (x, x), {"loss": lambda o, t: MSE(o[0], t) + 0.1 * o[1].detach().square().sum(1).mean()}


@sick("UG403", "detached terms")
def cosine_of_detached_outputs() -> Arguments:
    return fitted(lambda out, y: MSE(out, y) + (1 - F.cosine_similarity(out.detach(), y)).mean())


@sick("UG403", "detached terms")
def detached_for_the_differences_of_neighbours() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        kept = out.detach()
        smooth = (kept[:, 1:] - kept[:, :-1]).pow(2).mean()
        return F.l1_loss(out, y) + 0.5 * smooth

    return fitted(loss)


@sick("UG403", "detached terms")
def entropy_of_detached_logits() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.detach().softmax(1)
        return CE(out, y) - 0.1 * -(p * p.log()).sum(1).mean()

    return classified(loss)


@healthy("UG403", "detached terms")
def features_of_the_output() -> Arguments:
    net = frozen()
    return fitted(lambda out, y: MSE(out, y) + MSE(net(out), net(y)))


@healthy("UG403", "detached terms")
def codes_and_their_book() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code = net.encode(x)
        nearest = net.book(torch.cdist(code, net.book.weight).argmin(1))
        return net.decode(code + (nearest - code).detach()), code, nearest

    def loss(o: tuple[Tensor, Tensor, Tensor], t: Tensor) -> Tensor:
        return MSE(o[0], t) + MSE(o[1].detach(), o[2]) + 0.25 * MSE(o[1], o[2].detach())

    model = Net(run, encode=chain(12, 32, 4), decode=chain(4, 32, 12), book=nn.Embedding(8, 4))
    return model, (x, x), {"loss": loss}


@healthy("UG403", "detached terms")
def value_shown_with_another_slope() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        soft = F.smooth_l1_loss(out, y)
        return soft + (MSE(out, y) - soft).detach()

    return fitted(loss)


@healthy("UG403", "detached terms")
def weights_of_detached_errors() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        error = (out - y).square()
        return (error * (1 + error.detach())).mean()

    return fitted(loss)


@healthy("UG403", "detached terms")
def divided_by_its_own_size() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        one, two = MSE(out, y), F.l1_loss(out, y)
        return one / one.detach() + two / two.detach()

    return fitted(loss)


@healthy("UG403", "detached terms")
def agreement_with_a_stopped_view() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        code = net.encode(x)
        return net.predict(code), code

    def loss(o: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
        return MSE(o[0], t) - 0.1 * F.cosine_similarity(o[0], o[1].detach()).mean()

    model = Net(run, encode=chain(12, 32, 12), predict=chain(12, 32, 12))
    return model, (x, x), {"loss": loss}
