"""Targets and shapes: ninth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, houses, scored, seeded
from torch import Tensor, nn


class PriceModel(nn.Module):
    """Written for a trainer that calls training_step."""

    def __init__(self, features: int, squeezed: bool):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 1))
        self.squeezed = squeezed

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(-1) if self.squeezed else self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return ((self(x) - y) ** 2).mean()


@report(
    "target", "UG107", "UG114 UG110", area="regression on tables", action=r"squeeze|shape|view|reshape|unsqueeze",
    rate=5e-3, source="solofox.github.io/torch/broadcasting/2025/12/07/torch-broadcasting-trap.html",
    cause="outputs (N, 1) minus prices (N,) broadcast to (N, N): every example is fitted to the mean price",
)  # fmt: skip
def column_of_prices_minus_row(cured: bool):
    x, y = houses(256, 8, seed=1)
    y = y.squeeze(1)
    score = scored(lambda out: F.mse_loss(out.flatten(), y), x)
    step = lambda model, batch: model.training_step(batch)  # noqa: E731
    return PriceModel(8, squeezed=cured), (x, y), {"step": step}, score


@report(
    "target", area="tagging", action=r"ignore_index|-100|pad", rate=5e-3,
    no_rule="ignore_index is the number of a class that occurs: this class is never learnt",
    says=r"ignore_index|ignored|never counted|left out of the loss",
    source="github.com/nyu-mll/jiant/issues/925",
    cause="ignore_index is the padding's 0, and 0 is the first tag as well: the loss leaves that class out",
)  # fmt: skip
def first_tag_is_the_ignored_index(cured: bool):
    g = seeded(2)
    words = torch.randint(1, 40, (64, 10), generator=g)
    tags = words % 4  # the tag follows from the word; 0 is one of four
    model = nn.Sequential(nn.Embedding(40, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    criterion = nn.CrossEntropyLoss() if cured else nn.CrossEntropyLoss(ignore_index=0)

    def loss(scores: Tensor, wanted: Tensor) -> Tensor:
        return criterion(scores.flatten(0, 1), wanted.flatten())

    score = scored(lambda out: float((out.argmax(-1) != tags).float().mean()), words)
    return model, (words, tags), {"loss": loss}, score


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(6, 32), nn.Tanh())
        self.logits = nn.Linear(32, 3)

    def forward(self, observation: Tensor) -> torch.distributions.Categorical:
        return torch.distributions.Categorical(logits=self.logits(self.shared(observation)))


@report(
    "target", "UG107", "UG403 UG110 UG510", area="reinforcement", action=r"mean|element|each|own", rate=5e-3,
    source="github.com/Farama-Foundation/Gymnasium/issues/1336",
    cause="the log-probabilities are averaged before they are multiplied with the returns: no action gets its own",
)  # fmt: skip
def averaged_log_probability_times_returns(cured: bool):
    g = seeded(3)
    observations = torch.randn(256, 6, generator=g)
    best = (observations @ torch.randn(6, 3, generator=g)).argmax(1)
    actions = torch.randint(0, 3, (256,), generator=g)
    returns = (actions == best).float() + 0.3 * torch.randn(256, generator=g)
    returns = (returns - returns.mean()) / returns.std()
    batch = {"observations": observations, "actions": actions, "returns": returns}

    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        log_probs = model(batch["observations"]).log_prob(batch["actions"])
        if not cured:
            log_probs = log_probs.mean()
        return -torch.sum(log_probs * batch["returns"]) / len(batch["returns"])

    score = scored(lambda policy: float((policy.logits.argmax(1) != best).float().mean()), observations)
    return Policy(), batch, {"step": step}, score


class Seq2Seq(nn.Module):
    """Reads a sentence with a GRU; a second one goes on from its state and reads the translation so far."""

    def __init__(self, words: int = 12, width: int = 48):
        super().__init__()
        self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        _, state = self.encoder(self.source(src))
        out, _ = self.decoder(self.target(tgt), state)
        return self.head(out).transpose(1, 2)  # (B, words, T)


@report(
    "target", "UG116", "UG802", area="translation", action=r"shift", steps=400, rate=1e-2,
    source="github.com/Kyubyong/transformer/issues/94",
    cause="the decoder reads the very tokens that it is asked for: it learns to copy its input and fails at test time",
)  # fmt: skip
def decoder_reads_what_it_is_asked_for(cured: bool):
    src = torch.randint(2, 12, (128, 4), generator=seeded(4))
    tgt = (src.flip(1) - 2 + 3) % 10 + 2
    begin = torch.ones(128, 1, dtype=torch.long)
    read = torch.cat([begin, tgt[:, :-1]], 1) if cured else tgt

    @torch.no_grad()
    def score(model: nn.Module) -> float:
        """Errors where the model translates by itself."""
        said = begin
        for _ in range(4):
            said = torch.cat([said, model(src, said)[:, :, -1:].argmax(1)], 1)
        return float((said[:, 1:] != tgt).float().mean())

    return Seq2Seq(), (src, read, tgt), {"loss": F.cross_entropy}, score


class Segmenter(nn.Module):
    """Gives its loss itself, like the models of a well-known hub."""

    def __init__(self, permuted: bool):
        super().__init__()
        self.permuted = permuted
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 3, 1),
        )

    def forward(self, pixels: Tensor, labels: Tensor | None = None):
        scores = self.net(pixels)  # (N, C, H, W)
        if labels is None:
            return scores
        flat = scores.permute(0, 2, 3, 1) if self.permuted else scores
        return F.cross_entropy(flat.reshape(-1, scores.size(1)), labels.reshape(-1)), scores


@report(
    "target", "UG806 UG116 UG807", area="segmentation", action=r"permute|transpose", rate=1e-2,
    source="github.com/irfanICMLL/structure_knowledge_distillation/issues/11",
    cause="scores (N, C, H, W) are viewed as rows of C without a permute: a row holds C pixels of one class",
)  # fmt: skip
def pixel_scores_viewed_as_rows(cured: bool):
    x, mask, _ = boxes(32, 16, seed=5)
    labels = mask[:, 0].long()
    labels[:, :, 8:] *= 2  # another class in the right half
    x[:, :, :, 8:] *= -1
    score = scored(lambda out: float((out.argmax(1) != labels).float().mean()), x)
    return Segmenter(permuted=cured), {"pixels": x, "labels": labels}, {"loss": None}, score


@report(
    "target", "UG109", "UG502 UG101", area="demand forecasts", action=r"normaliz|standardiz|scale", rate=1e-2,
    source="github.com/sktime/pytorch-forecasting/issues/1339",
    cause="the targets stay in their units, thousands: the loss is huge and the outputs creep towards the mean",
)  # fmt: skip
def demand_in_pieces(cured: bool):
    t = torch.arange(300.0)
    demand = (
        4000 + 900 * torch.sin(t / 5) + 300 * torch.cos(t / 2.3) + 60 * torch.randn(300, generator=seeded(6))
    )
    windows = demand.unfold(0, 13, 1)
    x, y = windows[:, :12], windows[:, 12:]
    x = (x - 4000) / 700
    mean, deviation = (y.mean(), y.std()) if cured else (0.0, 1.0)
    model = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))
    score = scored(lambda out: float((out * deviation + mean - y).square().mean().sqrt() / y.std()), x)
    return model, (x, (y - mean) / deviation), {"loss": nn.MSELoss()}, score
