"""Axes and the graph: tenth unseen half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, boxes, clusters, encoder, log, mlp, scored, seeded, wrong_on
from torch import Tensor, nn


class FieldAttention(nn.Module):
    """Self-attention over the fields of a table, several heads at once."""

    def __init__(self, width: int, heads: int, transposed: bool):
        super().__init__()
        self.heads, self.size, self.transposed = heads, width // heads, transposed
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.residual = nn.Linear(width, width, bias=False)

    def split(self, x: Tensor) -> Tensor:
        if self.transposed:
            return x.view(len(x), -1, self.heads, self.size).transpose(1, 2)
        return x.view(len(x) * self.heads, -1, self.size)

    def forward(self, x: Tensor) -> Tensor:  # (B, fields, width)
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(self.size)).softmax(-1)
        out = weights @ v
        out = out.transpose(1, 2).reshape(x.shape) if self.transposed else out.view(x.shape)
        return F.relu(out + self.residual(x))


class ClickModel(nn.Module):
    def __init__(self, transposed: bool, fields: int = 8, values: int = 6, width: int = 16):
        super().__init__()
        self.embed = nn.ModuleList([nn.Embedding(values, width) for _ in range(fields)])
        self.attend = nn.Sequential(*[FieldAttention(width, 2, transposed) for _ in range(2)])
        self.out = nn.Linear(fields * width, 1)

    def forward(self, rows: Tensor) -> Tensor:
        x = torch.stack([embed(rows[:, i]) for i, embed in enumerate(self.embed)], 1)
        return self.out(self.attend(x).flatten(1)).squeeze(1)


@report(
    "graph", "UG806", area="recommendation", action=r"transpose|permute", steps=300, rate=1e-2,
    source="github.com/reczoo/FuxiCTR/issues/30",
    cause="queries are viewed as (batch * heads, fields, size) without a transpose: a head sees parts of some fields",
)  # fmt: skip
def heads_split_by_view(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        rows = torch.randint(0, 6, (1024, 8), generator=g)
        rows[::2, 6] = rows[::2, 0]
        return rows, (rows[:, 0] == rows[:, 6]).float()

    rows, click = data(1)
    fresh, wanted = data(2)
    score = scored(lambda out: float(((out > 0).float() != wanted).float().mean()), fresh)
    return ClickModel(transposed=cured), (rows, click), {"loss": F.binary_cross_entropy_with_logits}, score


class PositionalEncoder(nn.Module):
    def __init__(self, width: int, batch_first: bool, longest: int = 512):
        super().__init__()
        place = torch.arange(longest)[:, None]
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
        table = torch.zeros(longest, 1, width)
        table[:, 0, 0::2], table[:, 0, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("table", table)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        table = self.get_buffer("table")
        return x + (table[: x.size(1), 0] if self.batch_first else table[: x.size(0)])


class FirstOfTwo(nn.Module):
    """Says which of two events came first."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.embed, self.position = nn.Embedding(12, 32), PositionalEncoder(32, batch_first)
        self.encoder, self.head = encoder(32, 1), nn.Linear(32, 2)

    def forward(self, events: Tensor) -> Tensor:
        return self.head(self.encoder(self.position(self.embed(events))).mean(1))


@report(
    "graph", "UG603", area="event sequences", action=r"position|batch.?first|axis|dim", rate=5e-3,
    source="github.com/KasperGroesLudvigsen/influenza_transformer/issues/9",
    cause="the table of positions (length, 1, width) is cut to the first axis, the batch: one for each example",
)  # fmt: skip
def positions_counted_along_the_batch(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        events = torch.randint(2, 12, (256, 10), generator=g)
        places = torch.rand(256, 10, generator=g).argsort(1)[:, :2]
        events.scatter_(1, places, torch.tensor([0, 1]).expand(256, 2))
        return events, (places[:, 0] < places[:, 1]).long()

    return FirstOfTwo(cured), data(3), {"loss": F.cross_entropy}, wrong_on(*data(4))


class Reads(nn.Module):
    """A sentence classifier that reads its answer off the first word, [CLS]."""

    def __init__(self, mask_of):
        super().__init__()
        self.mask_of = mask_of
        self.embed = nn.Embedding(30, 32, padding_idx=0)
        self.encoder, self.head = encoder(32, 2), nn.Linear(32, 3)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None):
        hidden = self.encoder(self.embed(input_ids), src_key_padding_mask=self.mask_of(input_ids))
        logits = self.head(hidden[:, 0])
        return logits if labels is None else (F.cross_entropy(logits, labels), logits)


@report(
    "graph", "UG805", "UG102 UG114 UG307 UG510 UG110", area="language", action=r"mask|padding", rate=3e-3,
    source="github.com/lucidrains/x-transformers/issues/253",
    cause="a mask that says True for words to attend to, where True means to leave out: it reads padding",
)  # fmt: skip
def mask_keeps_only_the_padding(cured: bool):
    g = seeded(5)
    text = torch.randint(5, 30, (192, 12), generator=g)
    labels = torch.randint(0, 3, (192,), generator=g)
    text[torch.arange(192), torch.randint(1, 5, (192,), generator=g)] = labels + 2
    text[:, 0] = 1
    text[torch.arange(12) >= torch.randint(6, 12, (192, 1), generator=g)] = 0
    model = Reads((lambda ids: ids == 0) if cured else (lambda ids: ids != 0))
    return model, {"input_ids": text, "labels": labels}, {"loss": None}, wrong_on(text, labels)


class Detector(nn.Module):
    """A backbone and a head that gives a box. Early layers are frozen, as recipes for pretrained backbones have it."""

    def __init__(self, trainable: tuple[str, ...]):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 4, 4), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU())
        self.box = nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 48), nn.ReLU(), nn.Linear(48, 4))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith(trainable))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.box(self.layer1(self.stem(pictures)))


@report(
    "graph", area="detection", action=r"frozen|freez|requires_grad|unfreez",
    no_rule="layers with random weights are frozen",
    says=r"frozen|freez|requires_grad",
    source="github.com/pytorch/vision/issues/2164",
    cause="early layers of the backbone are frozen even where no pretrained weights are loaded: they stay random",
)  # fmt: skip
def stem_frozen_at_random(cured: bool):
    pictures, _, box = boxes(192, 16, seed=6)
    box = (box - box.mean(0)) / box.std(0)
    model = Detector(("stem", "layer1", "box") if cured else ("box",))
    return model, (pictures, box), {"loss": F.smooth_l1_loss}


class Distillation:
    """Trains a small network on the labels and on a large one's scores."""

    def __init__(self, large: nn.Module, small: nn.Module, right: bool):
        self.large, self.small, self.right = large, small, right
        self.optimizer = torch.optim.Adam(small.parameters(), lr=3e-3)

    def step(self, x: Tensor, labels: Tensor, temperature: float = 3.0) -> Tensor:
        with torch.no_grad():
            large_logits = self.large(x)
        output = self.small(x)
        soft_targets = F.softmax(large_logits / temperature, -1)
        soft_prob = F.log_softmax((output if self.right else large_logits) / temperature, -1)
        soft_loss = F.kl_div(soft_prob, soft_targets, reduction="batchmean") * temperature**2
        loss = 0.9 * soft_loss + 0.1 * F.cross_entropy(output, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


@report(
    "graph", form="probe", area="distillation", action=r"student|output|teacher|term|detach",
    no_rule="a term of the loss does not depend on the network that is trained",
    says=r"does not depend on|no gradient (comes|reaches)|constant term|compared with itself",
    source="github.com/labmlai/annotated_deep_learning_paper_implementations/issues/66",
    cause="the soft loss compares the large network's scores with themselves: the small one learns from labels alone",
)  # fmt: skip
def teacher_compared_with_itself(cured: bool):
    x, truth = clusters(384, 16, 6, 1.0, seed=7)
    large = mlp(16, 64, 6)
    fit = torch.optim.Adam(large.parameters(), 1e-2)
    for _ in range(60):
        fit.zero_grad()
        F.cross_entropy(large(x), truth).backward()
        fit.step()
    g = seeded(8)
    noisy = torch.where(torch.rand(384, generator=g) < 0.6, torch.randint(0, 6, (384,), generator=g), truth)
    small = mlp(16, 48, 6)
    distillation = Distillation(large.eval(), small, right=cured)

    def loop(probe, steps: int = 250) -> float:
        for _ in range(steps):
            log(probe, distillation.step(x, noisy))
        return wrong_on(x, truth)(small)

    return small, distillation.optimizer, loop, None, {}


@report(
    "graph", "UG403", "UG110 UG510 UG508 UG702", form="probe", area="speech",
    action=r"item|requires_grad|new tensor|graph|detach", source="github.com/speechbrain/speechbrain/issues/735",
    cause="the loss is wrapped as a new tensor with requires_grad, as backward had complained: it has no history",
)  # fmt: skip
def loss_wrapped_anew(cured: bool):
    x, labels = clusters(256, 20, 5, 0.7, seed=9)
    model = nn.ModuleDict({"encoder": mlp(20, 32, 16), "output": nn.Linear(16, 5)})
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)

    def forward(x: Tensor) -> Tensor:
        return model["output"](F.relu(model["encoder"](x)))

    def compute_objectives(predict: Tensor, wanted: Tensor) -> Tensor:
        loss = F.cross_entropy(predict, wanted)
        return loss if cured else torch.tensor(loss.item(), requires_grad=True)

    def loop(probe, steps: int = 200) -> float:
        for i in range(steps):
            part = slice(64 * (i % 4), 64 * (i % 4) + 64)
            loss = compute_objectives(forward(x[part]), labels[part])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            log(probe, loss)
        return float((forward(x).argmax(1) != labels).float().mean())

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return compute_objectives(forward(batch[0]), batch[1])

    return model, optimizer, loop, (x[:64], labels[:64]), {"step": step}


class BiLSTMAttention(nn.Module):
    """The final state of both directions asks, all outputs answer."""

    def __init__(self, permuted: bool, hidden: int = 16):
        super().__init__()
        self.permuted, self.hidden = permuted, hidden
        self.embed = nn.Embedding(24, 16)
        self.lstm = nn.LSTM(16, hidden, bidirectional=True)
        self.out = nn.Linear(2 * hidden, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        output, (final, _) = self.lstm(self.embed(tokens).transpose(0, 1))
        output = output.transpose(0, 1)  # (B, T, 2 * hidden)
        final = final.transpose(0, 1) if self.permuted else final
        query = final.reshape(-1, 2 * self.hidden, 1)
        weights = torch.bmm(output, query).softmax(1)
        return self.out((output * weights).sum(1) + query.squeeze(2))


@report(
    "graph", "UG806 UG603", area="text classification", action=r"permute|transpose", rate=1e-2,
    source="github.com/zy1996code/nlp_basic_model/issues/1",
    cause="the final state (2, B, hidden) is viewed as (B, 2 * hidden, 1): it holds the states of two other examples",
)  # fmt: skip
def hidden_state_viewed_as_a_column(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        tokens = torch.randint(0, 24, (256, 8), generator=seeded(seed))
        return tokens, 2 * (tokens[:, 0] % 2) + tokens[:, -1] % 2

    return BiLSTMAttention(cured), data(10), {"loss": F.cross_entropy}, wrong_on(*data(11))


@report(
    "graph", "UG112 UG807", area="capsules", action=r"dim|axis", rate=1e-2, steps=300,
    source="github.com/phanideepgampa/stacked-capsule-networks/pull/5",
    cause="the softmax is taken along an axis with one entry: every weight is 1, and all capsules count the same",
)  # fmt: skip
def softmax_of_a_single_entry(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        parts = torch.randn(384, 9, 8, generator=g)
        there, labels = torch.randint(0, 9, (384,), generator=g), torch.randint(0, 4, (384,), generator=g)
        parts[..., 7] = -1.0
        parts[torch.arange(384), there] = F.one_hot(labels, 8) * 1.5
        parts[torch.arange(384), there, 7] = 2.0
        return parts, labels

    def run(net: Net, parts: Tensor) -> Tensor:
        poses = net.pose(parts)
        attention = net.score(parts)  # (B, capsules, 1)
        return net.classify((attention.softmax(1 if cured else 2) * poses).sum(1))

    model = Net(run, pose=nn.Linear(8, 12), score=nn.Linear(8, 1), classify=nn.Linear(12, 4))
    return model, data(12), {"loss": F.cross_entropy}, wrong_on(*data(13))
