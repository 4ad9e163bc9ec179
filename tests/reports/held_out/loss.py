"""Loss functions: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    adam,
    boxes,
    clouds,
    encoder,
    glyphs,
    log,
    mlp,
    scored,
    seeded,
    sentences,
    sgd,
    standard,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn


@report(
    "loss", "UG106", "UG103", area="text", action=r"log_softmax|logarithm|log.softmax", steps=60, rate=2e-3,
    source="github.com/AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9; clvrai/ACGAN-PyTorch/pull/4",
    cause="NLLLoss takes logarithms of probabilities and gets probabilities: the loss is always negative",
)  # fmt: skip
def nll_of_probabilities(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        scores = net.head(net.encoder(net.embed(text) + net.places).mean(1))
        return scores.log_softmax(1) if cured else scores.softmax(1)

    text, _, labels = sentences(128, 8, 16, 4)
    model = Net(
        run, embed=nn.Embedding(16, 24), places=nn.Parameter(torch.randn(8, 24) * 0.3), encoder=encoder(24, 1),
        head=nn.Linear(24, 4)
    )  # fmt: skip
    score = scored(lambda out: F.nll_loss(out if cured else out.log(), labels), text)
    return model, (text, labels), {"loss": F.nll_loss}, score


@report(
    "loss", "UG106", "UG504 UG501 UG302", area="point clouds",
    action=r"log_softmax|log.softmax|cross.entropy|logarithm",
    steps=120, rate=5e-3,
    source="github.com/yanx27/Pointnet_Pointnet2_pytorch/issues/30; pytorch/pytorch/pull/12703",
    cause="raw scores go into nll_loss, which is then minus the score of the right class and falls without end",
)  # fmt: skip
def nll_of_raw_scores(cured: bool):
    x, labels = clouds(96, 24, seed=1)
    model = Net(
        lambda net, x: net.head(net.points(x).amax(1)).log_softmax(1) if cured else net.head(net.points(x).amax(1)),
        points=mlp(3, 32, 48), head=mlp(48, 32, 3),
    )  # fmt: skip
    kwargs = {"loss": F.nll_loss, "steps": 20, "optimizer": adam(5e-3)}
    return model, (x, labels), kwargs, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "loss", "UG111", "UG106", area="segmentation", action=r"log", steps=150, rate=5e-3,
    source="github.com/microsoft/ProDA/issues/20, 43",
    cause="kl_div takes the logarithm of the student's probabilities and gets the probabilities",
)  # fmt: skip
def kl_without_log_in_segmentation(cured: bool):
    x, mask, _ = boxes(16, seed=1)
    teacher = torch.cat([(2 - 4 * mask), (4 * mask - 2), torch.zeros_like(mask)], 1)
    teacher = F.avg_pool2d(teacher, 3, 1, 1).softmax(1)

    def loss(out: Tensor, teacher: Tensor) -> Tensor:
        return (
            F.kl_div(out.log_softmax(1) if cured else out.softmax(1), teacher, reduction="none").sum(1).mean()
        )

    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 3, 1)
    )  # fmt: skip
    score = scored(lambda out: (out.softmax(1) - teacher).abs().sum(1).mean(), x)
    return model, (x, teacher), {"loss": loss}, score


@report(
    "loss", "UG111", "UG106", area="ranking", action=r"log", steps=200, rate=5e-3,
    source="github.com/sebastian-hofstaetter/matchmaker/issues/18; AberHu/Knowledge-Distillation-Zoo/issues/12",
    cause="the list's scores go through softmax, not log_softmax, before KLDivLoss",
)  # fmt: skip
def kl_without_log_in_ranking(cured: bool):
    g = seeded(2)
    query, documents = torch.randn(96, 1, 8, generator=g), torch.randn(96, 6, 8, generator=g)
    relevance = ((query * documents)[..., :4].sum(2) * 0.7).softmax(1)

    def run(net: Net, query: Tensor, documents: Tensor) -> Tensor:
        return net.score(torch.cat([query.expand(-1, 6, -1), documents, query * documents], 2))[..., 0]

    def loss(out: Tensor, relevance: Tensor) -> Tensor:
        return nn.KLDivLoss(reduction="batchmean")(out.log_softmax(1) if cured else out.softmax(1), relevance)

    score = scored(
        lambda out: F.kl_div(out.log_softmax(1), relevance, reduction="batchmean"), query, documents
    )
    return Net(run, score=mlp(24, 48, 1)), (query, documents, relevance), {"loss": loss}, score


@report(
    "loss", "UG111", "UG106 UG504", area="segmentation", action=r"sigmoid|probabilit", steps=80, rate=3e-3,
    source="github.com/jakeret/tf_unet/issues/15; milesial/Pytorch-UNet/issues/271; ScrollPrize/villa/issues/1488",
    cause="the Dice loss is taken of raw scores, for which it has no bounds: it becomes negative and huge",
)  # fmt: skip
def dice_on_raw_scores(cured: bool):
    x, mask, _ = boxes(16, seed=2)

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        p, axes = out.sigmoid() if cured else out, (1, 2, 3)
        return 1 - ((2 * (p * mask).sum(axes) + 1) / (p.sum(axes) + mask.sum(axes) + 1)).mean()

    def missed(out: Tensor) -> Tensor:
        p = (out > (0 if cured else 0.5)).float()
        return 1 - ((p * mask).sum() / ((p + mask) > 0).sum())

    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 1)
    )  # fmt: skip
    return model, (x, mask), {"loss": loss}, scored(missed, x)


@report(
    "loss", "UG115", "UG304 UG403", area="cnn", action=r"relu|last|drop", steps=100,
    source="github.com/pytorch/examples/pull/117",
    cause="a ReLU after the last layer, before log_softmax: scores cannot be negative, and some never move",
)  # fmt: skip
def relu_before_softmax_in_convnet(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(F.max_pool2d(net.second(F.relu(F.max_pool2d(net.first(x), 2))), 2)).flatten(1)
        scores = net.last(F.relu(net.hidden(h)))
        return F.log_softmax(scores if cured else F.relu(scores), 1)

    x, labels = glyphs(120, 10, noise=0.2, seed=3)
    model = Net(
        run, first=nn.Conv2d(1, 10, 3, padding=1), second=nn.Conv2d(10, 20, 3, padding=1),
        hidden=nn.Linear(180, 50), last=nn.Linear(50, 10)
    )  # fmt: skip
    kwargs = {"loss": F.nll_loss, "steps": 20, "optimizer": sgd(0.05, 0.5)}
    return model, (x, labels), kwargs, wrong_on(x, labels)


@report(
    "loss", "", "UG504 UG303 UG501 UG502", form="probe", area="rl", action=r"sign|minus|negat|ascent",
    no_rule="the actor's loss lacks its minus: the policy is trained to be as bad as it can", says=r"sign|minus|maximi",
    source="github.com/KanishJebaMathewM/Truxify/pull/11885",
    cause="actor_loss = q.mean() is minimized; it has to be -q.mean()",
)  # fmt: skip
def actor_loss_without_minus(cured: bool):
    g = seeded(4)
    goal = torch.randn(5, 2, generator=g) * 0.5

    def reward(state: Tensor, action: Tensor) -> Tensor:
        return -(action - torch.tanh(state @ goal)).square().sum(1, keepdim=True)

    actor, critic = mlp(5, 48, 2, last=nn.Tanh()), mlp(7, 64, 64, 1)
    optimizer = torch.optim.Adam(actor.parameters(), 1e-3)
    of_critic = torch.optim.Adam(critic.parameters(), 3e-3)

    def loop(probe, steps: int = 250) -> float:
        for _ in range(steps):
            state = torch.randn(128, 5, generator=g)
            tried = (actor(state).detach() + 0.4 * torch.randn(128, 2, generator=g)).clamp(-1, 1)
            of_critic.zero_grad()
            F.mse_loss(critic(torch.cat([state, tried], 1)), reward(state, tried)).backward()
            of_critic.step()
            value = critic(torch.cat([state, actor(state)], 1)).mean()
            loss = -value if cured else value
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        state = torch.randn(512, 5, generator=g)
        with torch.no_grad():
            return -reward(state, actor(state)).mean().item()

    return actor, optimizer, loop, None, {}


@report(
    "loss", area="vae", action=r"kl|divergence|sum|reduc|weight|beta", steps=200, rate=5e-3,
    no_rule="the reconstruction is averaged over all pixels and outweighed by the divergence",
    says=r"KL|divergence|posterior|collaps",
    source="github.com/AppliedDataSciencePartners/WorldModels/issues/12; molecularsets/moses/issues/45",
    cause="with means where sums belong, the divergence outweighs the picture: the code carries nothing",
)  # fmt: skip
def posterior_collapse_by_means(cured: bool):
    g = seeded(5)
    kinds = torch.randn(8, 64, generator=g)
    x = standard(kinds[torch.arange(128) % 8] + 0.2 * torch.randn(128, 64, generator=g))

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.encode(x).chunk(2, 1)
        return net.decode(mean + spread.exp() * torch.randn_like(mean)), mean, spread

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        picture, mean, spread = out
        divergence = 0.5 * (mean.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1).mean()
        return (
            (picture - x).square().sum(1).mean() + divergence
            if cured
            else F.mse_loss(picture, x) + divergence
        )

    model = Net(run, encode=mlp(64, 48, 8), decode=mlp(4, 48, 64))
    return model, (x, x), {"loss": loss}, scored(lambda out: F.mse_loss(out[0], x), x)
