"""Loss functions: fourth collection, half F."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, convnet, glyphs, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "loss", "UG115", "UG304 UG102 UG114 UG110", area="shapes", action=r"ReLU|last|logits|scores|negative", steps=60,
    rate=3e-3,
    source="github.com/WeiTang114/MVCNN-TensorFlow/issues/14; martinwicke/tf-dev-summit-tensorboard-tutorial/issues/3",
    cause="the last layer ends in a ReLU like all before it: no score can be below zero, and classes die",
)  # fmt: skip
def last_layer_keeps_its_relu(cured: bool):
    x, labels = glyphs(96, 6, 10, seed=1)
    model = convnet(1, 6, 8, norm=False)
    if not cured:
        model.append(nn.ReLU())
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "loss", area="embeddings", action=r"minus|sign|attract", steps=80, rate=5e-3,
    no_rule="the loss rises as an example comes near its own class", says=r"minus|sign|own class|wrong answer",
    source="github.com/kiankd/corel2019/pull/1",
    cause="the attraction is the cosine to the own class without its minus: examples are pushed away from their class",
)  # fmt: skip
def attraction_without_minus(cured: bool):
    def loss(cosines: Tensor, labels: Tensor) -> Tensor:
        own = F.one_hot(labels, cosines.shape[1]).bool()
        attract = cosines[own].mean()
        repel = cosines.masked_fill(own, -1.0).amax(1).square().mean()
        return 0.5 * (-attract if cured else attract) + 0.5 * repel

    def run(net: Net, x: Tensor) -> Tensor:
        return F.normalize(net.code(x), dim=1) @ F.normalize(net.classes, dim=1).T

    x, labels = clusters(192, 12, 6, 0.7, seed=2)
    model = Net(run, code=mlp(12, 48, 8), classes=nn.Parameter(torch.randn(6, 8, generator=seeded(3))))
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(5e-3)}
    return model, (x, labels), kwargs, scored(lambda out: F.cross_entropy(10 * out, labels), x)


@report(
    "loss", "UG403", area="anomalies", action=r"detach|gradient|no_grad", steps=120, rate=3e-3,
    source="github.com/samet-akcay/skip-ganomaly/issues/5",
    cause="the features of the generated picture come from the critic's pass, where it was detached: the term teaches "
    "the generator nothing",
)  # fmt: skip
def latent_loss_of_a_detached_picture(cured: bool):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh()).requires_grad_(False)
    with torch.no_grad():
        critic[1].weight.copy_(0.2 * torch.randn(24, 64, generator=seeded(4)))
        critic[1].bias.zero_()

    def latent(fake: Tensor, real: Tensor) -> Tensor:
        return F.mse_loss(critic(fake), critic(real))

    def loss(fake: Tensor, real: Tensor) -> Tensor:
        return F.l1_loss(fake, real) + 20 * latent(fake if cured else fake.detach(), real)

    x = glyphs(96, 6, 8, seed=5)[0]
    model = nn.Sequential(nn.Flatten(), *mlp(64, 32, 8, 32, 64), nn.Unflatten(1, (1, 8, 8)))
    return model, (x, x), {"loss": loss}, scored(lambda out: latent(out, x), x)


def coded(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a variational autoencoder gives: reconstruction, mean and log variance."""
    mean, log_variance = net.encode(x).chunk(2, 1)
    return net.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean)), mean, log_variance


@report(
    "loss", area="molecules", action=r"sum|mean|diverg|weigh", steps=200, rate=3e-3, boundary=True,
    no_rule="the divergence is the mean over the code's dimensions and not their sum", says=r"diverg|KL|mean over",
    source="github.com/mkusner/grammarVAE/issues/2; podgorskiy/VAE/issues/1; oriondollar/TransVAE/pull/3",
    cause="the divergence is averaged over the dimensions of the code: it weighs too little, and codes leave the prior",
)  # fmt: skip
def divergence_averaged_over_the_code(cured: bool):
    def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
        return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        apart = divergence(*out[1:])
        return F.mse_loss(out[0], x) * 12 + (apart.sum(1) if cured else apart.mean(1)).mean()

    x = clusters(192, 12, 6, 0.4, seed=6)[0]
    model = Net(coded, encode=mlp(12, 48, 48), decode=mlp(24, 48, 12))
    score = scored(lambda out: F.mse_loss(out[0], x) * 12 + divergence(*out[1:]).sum(1).mean(), x)
    return model, (x, x), {"loss": loss}, score
