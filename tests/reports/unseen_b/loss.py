"""Loss functions: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, glyphs, mlp, scored, seeded, sentences
from torch import Tensor, nn


@report(
    "loss", "UG807", "UG603", area="class discovery", action=r"softmax|axis|batch|dim", steps=150, rate=3e-3,
    source="github.com/DonkeyShot21/UNO/issues/4",
    cause="predictions are (view, example, class), and log_softmax(1) of them compares the examples with each other",
)  # fmt: skip
def assignments_softmax_over_batch(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        chances = (out / 0.5).log_softmax(2 if cured else 1)
        return -(y * chances).sum(2).mean()

    x, labels = clusters(160, 12, 6, 0.8, seed=1)
    labels = torch.where(labels > 2, 0, labels)  # one class of four in six, and two small ones
    views = torch.stack([x, x + 0.2 * torch.randn(x.shape, generator=seeded(2))])
    model = Net(lambda net, views: net.body(views), body=mlp(12, 48, 3))
    y = F.one_hot(labels, 3).float().expand(2, -1, -1)
    score = scored(lambda out: F.cross_entropy(out[0] / 0.5, labels), views)
    return model, (views, y), {"loss": loss}, score


@report(
    "loss", "UG103", area="linear model", action=r"softmax", steps=150, rate=1e-2,
    source="github.com/Lightning-Universe/lightning-bolts/issues/654; illiterate/BertClassifier/issues/2",
    cause="logistic regression ends in a softmax, and cross entropy takes the softmax of that",
)  # fmt: skip
def softmax_twice_in_logistic_regression(cured: bool):
    x, labels = clusters(256, 24, 8, 0.5, seed=3)
    model = nn.Sequential(nn.Linear(24, 8), *([] if cured else [nn.Softmax(1)]))
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "loss", "UG105", area="matching", action=r"sigmoid|logits", steps=120, rate=5e-3,
    source="github.com/cvg/glue-factory/issues/89",
    cause="the head that says how sure each point is ends in a sigmoid, and the loss applies another",
)  # fmt: skip
def sigmoid_twice_in_confidence_head(cured: bool):
    text, _, _ = sentences(96, 10, 24, 4, seed=4)
    sure = (text < 6).float()
    head = nn.Sequential(nn.Linear(32, 1), *([] if cured else [nn.Sigmoid()]))
    model = Net(
        lambda net, text: net.head(net.rnn(net.embed(text))[0])[..., 0],
        embed=nn.Embedding(24, 16), rnn=nn.GRU(16, 16, batch_first=True, bidirectional=True), head=head,
    )  # fmt: skip
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, sure), text)
    return model, (text, sure), {"loss": F.binary_cross_entropy_with_logits}, score


@report(
    "loss", "UG403", area="reconstruction", action=r"detach|gradient|float|item|number", steps=150, rate=3e-3,
    source="github.com/guopengf/FL-MRCM/issues/10",
    cause="the adversarial term is detached and made a number before it is added: it has no gradient",
)  # fmt: skip
def adversarial_term_as_a_number(cured: bool):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.Tanh(), nn.Linear(24, 1))
    with torch.no_grad():
        for parameter, seed in zip(critic.parameters(), range(4), strict=True):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(seed)) * 0.3)
    critic.requires_grad_(False)

    def fooled(out: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(critic(out), torch.ones(len(out), 1))

    def loss(out: Tensor, y: Tensor) -> Tensor:
        adversarial = fooled(out)
        return F.l1_loss(out, y) + 3 * (adversarial if cured else adversarial.detach().item())

    y = glyphs(48, 6, noise=0.05, seed=5)[0]
    x = y + 0.5 * torch.randn(y.shape, generator=seeded(6))
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1))
    return model, (x, y), {"loss": loss}, scored(lambda out: fooled(out), x)
