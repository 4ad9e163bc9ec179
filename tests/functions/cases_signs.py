"""Cases of UG120: a term of the loss has the wrong sign, and a lowest value all the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, chain, healthy, labels, pictures, sick, values, vectors
from torch import Tensor, nn
from torch.distributions import Categorical


def embedded(loss: object, width: int = 6, act: type[nn.Module] = nn.ReLU) -> Arguments:
    x = vectors()
    return chain(12, 32, width, act=act), (x, values(x, width)), {"loss": loss}


def classified(loss: object) -> Arguments:
    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


def masked(loss: object) -> Arguments:
    x = pictures()
    y = (x.mean(1, keepdim=True) > 0.2).float()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    return model, (x, y), {"loss": loss}


def dice(out: Tensor, y: Tensor) -> Tensor:
    p = out.sigmoid()
    return (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


# ---- right answers cost most -----------------------------------------------------------------------------------


@sick("UG120", "answers")
def cosine_without_its_minus() -> Arguments:
    return embedded(lambda out, y: F.cosine_similarity(out, y, dim=1).mean())


@sick("UG120", "answers")
def one_plus_cosine() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        alike = (F.normalize(out, dim=1) * F.normalize(y, dim=1)).sum(1)
        return (1 + alike).square().mean()

    return embedded(loss)


@sick("UG120", "answers")
def correlation_that_is_minimized() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        a, b = out - out.mean(), y - y.mean()
        return (a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()

    return embedded(loss, 1)


@sick("UG120", "answers")
def probability_of_the_right_class() -> Arguments:
    return classified(lambda out, y: out.softmax(1).gather(1, y[:, None]).mean())


@sick("UG120", "answers")
def closeness_of_a_kernel() -> Arguments:
    return embedded(lambda out, y: (-(out - y).square().sum(1) / 6).exp().mean())


@sick("UG120", "answers")
def unit_vectors_and_their_product() -> Arguments:
    x = vectors()
    y = F.normalize(values(x, 6), dim=1)
    model = Net(lambda net, x: F.normalize(net.body(x), dim=1), body=chain(12, 32, 6))
    return model, (x, y), {"loss": lambda out, y: (out * y).sum(1).mean()}


@sick("UG120", "answers")
def overlap_that_is_minimized() -> Arguments:
    return masked(dice)


@sick("UG120", "answers")
def share_of_variance_explained() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        error = (out - y).square().mean()
        return 1 / (1 + error)

    return embedded(loss, 1)


@healthy("UG120", "answers")
def one_minus_cosine() -> Arguments:
    return embedded(lambda out, y: 1 - F.cosine_similarity(out, y, dim=1).mean())


@healthy("UG120", "answers")
def expected_costs_of_choices() -> Arguments:
    """Targets are what each choice costs: the outputs are to be low where they are high."""
    return embedded(lambda out, y: (out.softmax(1) * y).sum(1).mean())


@healthy("UG120", "answers")
def squared_cosine_to_be_orthogonal() -> Arguments:
    return embedded(lambda out, y: F.cosine_similarity(out, y, dim=1).square().mean())


@healthy("UG120", "answers")
def unlikelihood_of_a_wrong_class() -> Arguments:
    """The targets are classes that the examples do not have."""
    return classified(lambda out, y: -torch.log1p(-out.softmax(1).gather(1, y[:, None]) + 1e-7).mean())


@healthy("UG120", "answers")
def one_minus_overlap() -> Arguments:
    return masked(lambda out, y: 1 - dice(out, y))


@healthy("UG120", "answers")
def cosine_and_a_distance() -> Arguments:
    return embedded(lambda out, y: MSE(out, y) - 0.1 * F.cosine_similarity(out, y, dim=1).mean())


@healthy("UG120", "answers")
def one_minus_the_right_probability() -> Arguments:
    return classified(lambda out, y: 1 - out.softmax(1).gather(1, y[:, None]).mean())


@healthy("UG120", "answers")
def robust_distance_that_ends() -> Arguments:
    return embedded(lambda out, y: 1 - (-(out - y).square().sum(1) / 6).exp().mean())


# ---- a policy's entropy is made small --------------------------------------------------------------------------


def policy(loss: object, baseline: float = 0.5) -> Arguments:
    """Targets (N, 2): the action that was taken, and its advantage."""
    x = vectors()
    action = torch.randint(0, 4, (len(x),))
    gained = (action == labels(x)).float() - baseline
    return chain(12, 32, 4), (x, torch.stack([action.float(), gained], 1)), {"loss": loss}


def clipped(logp: Tensor, y: Tensor) -> Tensor:
    ratio = (logp - logp.detach()).exp()
    return -torch.minimum(ratio * y[:, 1], ratio.clamp(0.8, 1.2) * y[:, 1]).mean()


@sick("UG120", "entropy")
def reinforce_with_its_entropy_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out.log_softmax(1)
        entropy = -(logp.exp() * logp).sum(1)
        return -(logp.gather(1, y[:, :1].long())[:, 0] * y[:, 1]).mean() + 0.01 * entropy.mean()

    return policy(loss)


@sick("UG120", "entropy")
def proximal_policy_with_its_entropy_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        choice = Categorical(logits=out)
        return clipped(choice.log_prob(y[:, 0]), y) + 0.01 * choice.entropy().mean()

    return policy(loss)


@sick("UG120", "entropy")
def actor_and_critic_with_negative_entropy_subtracted() -> Arguments:
    def loss(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        p = out[0].softmax(1)
        negative = (p * (p + 1e-8).log()).sum(1)
        advantage = y[:, 1] - out[1][:, 0]
        actor = CE(out[0], y[:, 0].long(), reduction="none") * advantage.detach()
        return actor.mean() + 0.5 * advantage.square().mean() - 0.02 * negative.mean()

    x = vectors()
    model = Net(lambda net, x: (net.actor(x), net.critic(x)), actor=chain(12, 32, 4), critic=chain(12, 32, 1))
    return model, (x, policy(loss)[1][1]), {"loss": loss}


@sick("UG120", "entropy")
def entropy_of_given_probabilities_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        choice = Categorical(probs=out.softmax(1))
        return (-choice.log_prob(y[:, 0]) * y[:, 1] + 0.05 * choice.entropy()).mean()

    return policy(loss, 0.3)


@sick("UG120", "entropy")
def bonus_of_chosen_columns_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        p, logp = out.softmax(1), out.log_softmax(1)
        chosen = (logp * F.one_hot(y[:, 0].long(), 4)).sum(1)
        return -(chosen * y[:, 1]).sum() - 0.1 * (p * logp).sum()

    return policy(loss)


@sick("UG120", "entropy")
def entropy_by_the_special_function_added() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = F.log_softmax(out, -1)
        chosen = logp[torch.arange(len(y)), y[:, 0].long()]
        return -(chosen * y[:, 1]).mean() + 0.1 * torch.special.entr(out.softmax(-1)).sum(-1).mean()

    return policy(loss)


@healthy("UG120", "entropy")
def reinforce_with_its_entropy_subtracted() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out.log_softmax(1)
        entropy = -(logp.exp() * logp).sum(1)
        return -(logp.gather(1, y[:, :1].long())[:, 0] * y[:, 1]).mean() - 0.01 * entropy.mean()

    return policy(loss)


@healthy("UG120", "entropy")
def proximal_policy_with_its_entropy_subtracted() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        choice = Categorical(logits=out)
        return clipped(choice.log_prob(y[:, 0]), y) - 0.01 * choice.entropy().mean()

    return policy(loss)


@healthy("UG120", "entropy")
def entropy_of_unlabelled_examples() -> Arguments:
    """Half of the examples have labels; the others are to be decided one way or the other."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out[32:].log_softmax(1)
        return CE(out[:32], y[:32]) - 0.1 * (logp.exp() * logp).sum(1).mean()

    return classified(loss)


@healthy("UG120", "entropy")
def confident_and_of_all_classes() -> Arguments:
    """Each example's entropy small, that of their average large."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        p = out.softmax(1)
        average = p.mean(0)
        own = -(p * p.log()).sum(1).mean()
        return CE(out, y) + 0.1 * own + 0.1 * (average * average.log()).sum()

    return classified(loss)


@healthy("UG120", "entropy")
def penalty_on_confidence() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out.log_softmax(1)
        return F.nll_loss(logp, y) + 0.1 * (logp.exp() * logp).sum(1).mean()

    return classified(loss)


@healthy("UG120", "entropy")
def divergence_from_an_older_policy() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out.log_softmax(1)
        older = (0.5 * out.detach()).log_softmax(1)
        away = (logp.exp() * (logp - older)).sum(1)
        return -(logp.gather(1, y[:, :1].long())[:, 0] * y[:, 1]).mean() + 0.1 * away.mean()

    return policy(loss)
