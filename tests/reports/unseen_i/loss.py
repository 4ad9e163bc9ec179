"""Loss functions: ninth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, log, missed_modes, mixture, mlp, scored, seeded, utterances, wrong_on
from torch import Tensor, nn


class Classifier(nn.Module):
    def __init__(self, softmax: bool):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 24)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return F.softmax(x, dim=1) if self.softmax else x


@report(
    "loss", "UG103", "UG401 UG510", area="classification", action=r"softmax", steps=300,
    source="discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16",
    cause="the network ends in a softmax, and nn.CrossEntropyLoss takes another one: the loss hardly moves",
)  # fmt: skip
def softmax_at_the_end_of_forward(cured: bool):
    x, labels = clusters(384, 20, 24, 0.8, seed=1)
    optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)  # noqa: E731
    kwargs = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "steps": 20}
    return Classifier(softmax=not cured), (x, labels), kwargs, wrong_on(x, labels)


class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(12, 32, batch_first=True, bidirectional=True)
        self.ph_frame_logits = nn.Linear(64, 7)

    def forward(self, frames: Tensor) -> Tensor:
        return self.ph_frame_logits(self.rnn(frames)[0])


@report(
    "loss", "UG106 UG119", "UG504", area="speech", action=r"log.?softmax|log-probab", rate=5e-3,
    source="github.com/gwx314/STARS/issues/9",
    cause="F.ctc_loss gets raw scores in place of log-probabilities: it falls below zero as all scores grow",
)  # fmt: skip
def ctc_of_raw_scores(cured: bool):
    frames, text = utterances(32, 5, 6, 4, seed=2)
    lengths, sizes = torch.full((32,), 20), torch.full((32,), 5)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        scores = model(batch[0]).transpose(0, 1)  # (T, B, symbols)
        scores = scores.log_softmax(-1) if cured else scores
        return {"loss": F.ctc_loss(scores, batch[1], lengths, sizes), "outputs": scores, "targets": batch[1]}

    def likelihood(scores: Tensor) -> float:
        """The loss as it is meant."""
        return float(F.ctc_loss(scores.transpose(0, 1).log_softmax(-1), text, lengths, sizes))

    return Speech(), (frames, text), {"step": step}, scored(likelihood, frames)


class WGAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = mlp(8, 64, 64, 2)
        self.critic = mlp(2, 64, 64, 1, act=lambda: nn.LeakyReLU(0.2))


@report(
    "loss", "UG120", "UG504 UG119", form="probe", area="GAN", action=r"sign|revers|minus|negat",
    source="github.com/rosinality/style-based-gan-pytorch/pull/60",
    cause="the sign of the discriminator's loss is reversed: it scores fakes above real examples",
)  # fmt: skip
def critic_prefers_fakes(cured: bool):
    gan = WGAN()
    opt_g = torch.optim.RMSprop(gan.generator.parameters(), 5e-4)
    opt_c = torch.optim.RMSprop(gan.critic.parameters(), 5e-4)
    g = seeded(3)
    data = mixture(2048, seed=4)

    def loop(probe, steps: int = 400) -> float:
        for _ in range(steps):
            for _ in range(2):
                real = data[torch.randint(0, 2048, (64,), generator=g)]
                fake = gan.generator(torch.randn(64, 8, generator=g)).detach()
                gap = gan.critic(real).mean() - gan.critic(fake).mean()
                loss_c = -gap if cured else gap
                opt_c.zero_grad()
                loss_c.backward()
                opt_c.step()
                for p in gan.critic.parameters():
                    p.data.clamp_(-0.15, 0.15)
            loss_g = -gan.critic(gan.generator(torch.randn(64, 8, generator=g))).mean()
            opt_g.zero_grad()
            loss_g.backward()
            opt_g.step()
            log(probe, loss_g)
        return missed_modes(gan.generator(torch.randn(512, 8, generator=g)).detach())

    return gan, [opt_c, opt_g], loop, None, {}


class TwoTowers(nn.Module):
    """Two views of an item are embedded by two networks of their own."""

    def __init__(self):
        super().__init__()
        self.query, self.document = mlp(12, 48, 16), mlp(10, 48, 16)

    def forward(self, query: Tensor, document: Tensor) -> tuple[Tensor, Tensor]:
        return self.query(query), self.document(document)


@report(
    "loss", "UG106", "UG307 UG102 UG114", area="retrieval", action=r"-1|minus one|0 and 1|range", rate=3e-3,
    source="github.com/pytorch/pytorch/issues/23782",
    cause="CosineEmbeddingLoss knows 1 and -1; pairs labelled 0 add nothing to it, and all embeddings become alike",
)  # fmt: skip
def pairs_labelled_zero_and_one(cured: bool):
    g = seeded(5)
    hidden = torch.randn(256, 6, generator=g)
    other = hidden[torch.randperm(256, generator=g)]
    alike = torch.arange(256) % 2
    a, b = torch.randn(6, 12, generator=g), torch.randn(6, 10, generator=g)
    query = torch.tanh(hidden @ a / 2)
    document = torch.tanh(torch.where(alike[:, None] == 1, hidden, other) @ b / 2)
    target = (2 * alike - 1 if cured else alike).float()
    criterion = nn.CosineEmbeddingLoss(margin=0.2)

    def error(out: tuple[Tensor, Tensor]) -> float:
        """Pairs that a cosine of 0.6 puts on the wrong side."""
        return float(((F.cosine_similarity(*out) > 0.6) != (alike == 1)).float().mean())

    loss = lambda out, target: criterion(*out, target)  # noqa: E731
    return TwoTowers(), (query, document, target), {"loss": loss}, scored(error, query, document)


class VAE(nn.Module):
    def __init__(self, averaged: bool, latent: int = 12):
        super().__init__()
        self.encoder, self.decoder = mlp(24, 64, 2 * latent), mlp(latent, 64, 24)
        self.averaged, self.latent = averaged, latent

    def forward(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, -1)
        reconstruction = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        bce = (reconstruction - x).square().sum(1).mean() / 0.1
        prior = 1 + logvar - mu.square() - logvar.exp()
        kld = -0.5 * (prior.mean(1).mean() * 0.1 if self.averaged else prior.sum(1).mean())
        return bce + kld


@report(
    "loss", area="VAE", action=r"sum|KL|prior|diverg", steps=500, rate=5e-3,
    no_rule="the divergence from the prior is averaged over latent dimensions while the reconstruction is summed",
    says=r"\bKL\b|prior|divergence",
    source="github.com/podgorskiy/VAE/issues/1",
    cause="the KL term is a mean over the latent dimensions, times 0.1: samples of the prior are no data any more",
)  # fmt: skip
def prior_term_averaged_over_dimensions(cured: bool):
    g = seeded(6)
    x = torch.tanh(torch.randn(512, 3, generator=g) @ torch.randn(3, 24, generator=g))

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        """How far decoded samples of the prior lie from the nearest example, on average."""
        made = model.decoder(torch.randn(512, model.latent, generator=seeded(7)))
        return float(torch.cdist(made, x).amin(1).mean())

    return VAE(averaged=not cured), (x,), {"loss": None}, score
