"""Architectures for words, characters and time series, from papers and small public repositories, written anew."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from architecture import Setup, adam, adamw, architecture, kinds, seasons, sgd, words
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, length: int):
        super().__init__()
        self.c_attn, self.c_proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.register_buffer("bias", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.c_attn(x).split(c, dim=2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))
        scores = scores.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
        return self.c_proj((F.softmax(scores, -1) @ v).transpose(1, 2).reshape(b, t, c))


class GptBlock(nn.Module):
    def __init__(self, width: int, heads: int, length: int):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = (
            nn.LayerNorm(width),
            Attention(width, heads, length),
            nn.LayerNorm(width),
        )
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x))))


class Gpt(nn.Module):
    def __init__(
        self, vocabulary: int = 65, width: int = 64, layers: int = 4, length: int = 32, tied: bool = False
    ):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.ModuleList(GptBlock(width, 4, length) for _ in range(layers))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if "c_proj" in name else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if tied:
            self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def each_token(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))


def next_words(count: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    ids = words(count, length + 1, vocabulary)
    return ids[:, :-1], ids[:, 1:]


@architecture("karpathy/minGPT: GPT on characters, AdamW 5e-4, clipping at 1")
def mingpt() -> Setup:
    return Setup(Gpt(), next_words(32, 32, 65), each_token, adamw(lr=5e-4, betas=(0.9, 0.95)), clip=1.0)


@architecture("karpathy/nanoGPT: tied embeddings, AdamW 1e-3, clipping at 1")
def nanogpt() -> Setup:
    model = Gpt(tied=True)
    return Setup(model, next_words(32, 32, 65), each_token, adamw(lr=1e-3, betas=(0.9, 0.99)), clip=1.0)


@architecture("karpathy/ng-video-lecture: the lecture's GPT with normal weights of 0.02, AdamW 3e-4")
def lecture_gpt() -> Setup:
    return Setup(Gpt(layers=3), next_words(64, 32, 65), each_token, adamw(lr=3e-4))


@architecture("karpathy/makemore: the MLP as it is in the repository, AdamW 5e-4")
def makemore_mlp() -> Setup:
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(28, 64)
            self.mlp = nn.Sequential(nn.Linear(3 * 64, 64), nn.Tanh(), nn.Linear(64, 27))

        def forward(self, ids: Tensor) -> Tensor:
            return self.mlp(self.wte(ids).flatten(1))

    ids = words(256, 4, 27)
    return Setup(Mlp(), (ids[:, :3], ids[:, 3]), F.cross_entropy, adamw(lr=5e-4, weight_decay=0.01))


@architecture("karpathy/makemore: bigrams, one table of logits, AdamW 5e-4")
def makemore_bigram() -> Setup:
    class Bigram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(27, 27))

        def forward(self, ids: Tensor) -> Tensor:
            return self.logits[ids]

    return Setup(Bigram(), next_words(64, 12, 27), each_token, adamw(lr=5e-4))


@architecture("karpathy/makemore: the RNN cell over characters, AdamW 5e-4")
def makemore_rnn() -> Setup:
    class Rnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.wte = nn.Parameter(torch.zeros(1, 64)), nn.Embedding(27, 64)
            self.xh_to_h, self.lm_head = nn.Linear(128, 64), nn.Linear(64, 27)

        def forward(self, ids: Tensor) -> Tensor:
            h, states = self.start.expand(len(ids), -1), []
            for x in self.wte(ids).unbind(1):
                h = torch.tanh(self.xh_to_h(torch.cat([x, h], 1)))
                states.append(h)
            return self.lm_head(torch.stack(states, 1))

    return Setup(Rnn(), next_words(64, 12, 27), each_token, adamw(lr=5e-4))


def _padded(count: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Short words in a wide batch: behind each word all targets are -1, and at the last positions all are."""
    ids = words(count, length + 1, vocabulary - 1) + 1
    ends = torch.randint(3, length - 4, (count, 1))
    place = torch.arange(length)
    return torch.where(place < ends, ids[:, :-1], 0), torch.where(place < ends, ids[:, 1:], -1)


@architecture("karpathy/makemore: the transformer over padded names, ignored targets of -1, AdamW 5e-4")
def makemore_transformer() -> Setup:
    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.view(-1, logits.size(-1)), target.view(-1), ignore_index=-1)

    return Setup(Gpt(27, length=16), _padded(64, 16, 27), loss, adamw(lr=5e-4, betas=(0.9, 0.99)))


class WordRnn(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], vocabulary: int = 500, width: int = 64):
        super().__init__()
        self.drop, self.encoder = nn.Dropout(0.2), nn.Embedding(vocabulary, width)
        self.rnn, self.decoder = (
            kind(width, width, 2, dropout=0.2, batch_first=True),
            nn.Linear(width, vocabulary),
        )
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, ids: Tensor) -> Tensor:
        out, _ = self.rnn(self.drop(self.encoder(ids)))
        return F.log_softmax(self.decoder(self.drop(out)), -1)


def nll(logits: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(logits.flatten(0, 1), target.flatten())


@architecture("pytorch/examples word_language_model: LSTM, SGD 20, clipping at 0.25")
def word_lstm() -> Setup:
    return Setup(WordRnn(nn.LSTM), next_words(20, 35, 500), nll, sgd(lr=20.0), clip=0.25)


@architecture(
    "pytorch/examples word_language_model: RNN with tanh, SGD 20 and clipping at 0.25 as for the LSTM"
)
def word_rnn() -> Setup:
    return Setup(WordRnn(nn.RNN), next_words(20, 35, 500), nll, sgd(lr=20.0), clip=0.25)


@architecture("pytorch/examples word_language_model: transformer with a square mask of minus infinity, SGD 5")
def word_transformer() -> Setup:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(64, 2, 128, 0.2, batch_first=True)
            self.encoder, self.decoder = nn.Embedding(500, 64), nn.Linear(64, 500)
            self.body = nn.TransformerEncoder(layer, 2)
            nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
            nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
            nn.init.zeros_(self.decoder.bias)

        def forward(self, ids: Tensor, src: Tensor) -> Tensor:
            return F.log_softmax(self.decoder(self.body(self.encoder(ids) * 8, src)), -1)

    ids, target = next_words(20, 35, 500)
    square = nn.Transformer.generate_square_subsequent_mask(35)
    return Setup(Words(), ((ids, square), target), nll, sgd(lr=5.0), clip=0.25)


@architecture("encoder-decoder with an additive bias on attention that holds minus infinity, Adam 1e-4")
def additive_attention() -> Setup:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.qkv, self.out = (
                nn.Embedding(100, 32),
                nn.Linear(32, 96, bias=False),
                nn.Linear(32, 5),
            )
            self.norm = nn.LayerNorm(32)

        def forward(self, ids: Tensor, allowed: Tensor) -> Tensor:
            x = self.embed(ids)
            q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
            x = x + torch.softmax(q @ k.transpose(1, 2) / 32**0.5 + allowed, -1) @ v
            return self.out(x.mean(1))

    ids = words(64, 20, 100)
    allowed = torch.zeros(64, 1, 20).masked_fill(
        torch.arange(20) >= torch.randint(5, 21, (64, 1, 1)), -torch.inf
    )
    return Setup(Encoder(), ((ids, allowed), kinds(ids, 5)), F.cross_entropy, adam(lr=1e-4))


@architecture("Kim 2014: convolutions of three widths over word vectors, Adadelta of 1.0")
def text_cnn() -> Setup:
    class TextCnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(300, 48)
            self.convs = nn.ModuleList(nn.Conv1d(48, 32, k) for k in (3, 4, 5))
            self.drop, self.out = nn.Dropout(0.5), nn.Linear(96, 2)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids).transpose(1, 2)
            return self.out(self.drop(torch.cat([F.relu(c(x)).amax(2) for c in self.convs], 1)))

    ids = words(50, 30, 300)
    return Setup(TextCnn(), (ids, kinds(ids, 2)), F.cross_entropy, partial(torch.optim.Adadelta, lr=1.0))


@architecture("bentrevett/pytorch-sentiment-analysis: bidirectional LSTM, Adam 5e-4")
def sentiment_lstm() -> Setup:
    class Sentiment(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn = (
                nn.Embedding(300, 48),
                nn.LSTM(48, 64, bidirectional=True, batch_first=True),
            )
            self.drop, self.out = nn.Dropout(0.5), nn.Linear(128, 1)

        def forward(self, ids: Tensor) -> Tensor:
            _, (h, _) = self.rnn(self.drop(self.embed(ids)))
            return self.out(self.drop(torch.cat([h[-2], h[-1]], 1))).squeeze(1)

    ids = words(64, 25, 300)
    return Setup(Sentiment(), (ids, kinds(ids, 2).float()), nn.BCEWithLogitsLoss(), adam(lr=5e-4))


@architecture("bentrevett/pytorch-seq2seq: GRUs with attention, Adam 1e-3, clipping at 1")
def seq2seq() -> Setup:
    class Seq2Seq(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(200, 48), nn.Embedding(200, 48)
            self.encoder, self.decoder = (
                nn.GRU(48, 64, batch_first=True),
                nn.GRU(48, 64, batch_first=True),
            )
            self.score, self.out = nn.Linear(64, 64, bias=False), nn.Linear(128, 200)
            for p in self.parameters():
                nn.init.normal_(p, 0, 0.01) if p.dim() > 1 else nn.init.zeros_(p)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            memory, h = self.encoder(self.source(source))
            out, _ = self.decoder(self.target(target), h)
            weights = torch.softmax(out @ self.score(memory).transpose(1, 2), -1)
            return self.out(torch.cat([out, weights @ memory], -1))

    source, target = words(32, 15, 200), words(32, 13, 200)
    return Setup(Seq2Seq(), (source, target[:, :-1], target[:, 1:]), each_token, adam(lr=1e-3), clip=1.0)


@architecture("Mikolov et al. 2013: skip-gram with negative samples, small uniform vectors, Adam 1e-3")
def skip_gram() -> Setup:
    class SkipGram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Embedding(300, 50), nn.Embedding(300, 50)
            nn.init.uniform_(self.u.weight, -0.5 / 50, 0.5 / 50)
            nn.init.zeros_(self.v.weight)

        def forward(self, centre: Tensor, around: Tensor) -> Tensor:
            return (self.v(around) @ self.u(centre)[:, :, None]).squeeze(2)

    ids = words(256, 2, 300)
    around = torch.cat([ids[:, 1:], torch.randint(0, 300, (256, 5))], 1)
    y = torch.zeros(256, 6)
    y[:, 0] = 1
    return Setup(SkipGram(), ((ids[:, 0], around), y), nn.BCEWithLogitsLoss(), adam(lr=1e-3))


@architecture("nn.Transformer for translation with torch's tutorial's initialization, Adam 1e-4")
def translation_transformer() -> Setup:
    class Translate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target, self.out = (
                nn.Embedding(150, 64),
                nn.Embedding(150, 64),
                nn.Linear(64, 150),
            )
            self.body = nn.Transformer(64, 4, 2, 2, 128, batch_first=True)
            self.place = nn.Parameter(torch.zeros(1, 20, 64))
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.xavier_uniform_(p)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            square = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
            s = self.source(source) * 8 + self.place[:, : source.shape[1]]
            t = self.target(target) * 8 + self.place[:, : target.shape[1]]
            return self.out(self.body(s, t, tgt_mask=square))

    source, target = words(32, 15, 150), words(32, 13, 150)
    return Setup(
        Translate(),
        (source, target[:, :-1], target[:, 1:]),
        each_token,
        adam(lr=1e-4, betas=(0.9, 0.98), eps=1e-9),
    )


@architecture("Gu et al.-like gated linear recurrence over characters with torch's defaults, AdamW 1e-3")
def linear_recurrence() -> Setup:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.inner, self.out = nn.LayerNorm(64), nn.Linear(64, 128), nn.Linear(64, 64)
            self.log_decay = nn.Parameter(torch.linspace(-4, 2, 64))

        def forward(self, x: Tensor) -> Tensor:
            u, gate = self.inner(self.norm(x)).chunk(2, -1)
            a, h, states = torch.sigmoid(self.log_decay), torch.zeros_like(u[:, 0]), []
            for part in u.unbind(1):
                h = a * h + (1 - a**2).sqrt() * part
                states.append(h)
            return x + self.out(torch.stack(states, 1) * F.silu(gate))

    model = nn.Sequential(
        nn.Embedding(65, 64), *(Mixer() for _ in range(3)), nn.LayerNorm(64), nn.Linear(64, 65)
    )
    return Setup(model, next_words(32, 24, 65), each_token, adamw(lr=1e-3))


# ---- time series ---------------------------------------------------------------------------------------------


def forecast(count: int, past: int, future: int, columns: int) -> tuple[Tensor, Tensor]:
    x = seasons(count, past + future, columns)
    return x[:, :past], x[:, past:]


class MovingAverage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        padded = torch.cat([x[:, :1].expand(-1, 12, -1), x, x[:, -1:].expand(-1, 12, -1)], 1)
        return F.avg_pool1d(padded.transpose(1, 2), 25, 1).transpose(1, 2)


class DLinear(nn.Module):
    def __init__(self, past: int, future: int):
        super().__init__()
        self.average = MovingAverage()
        self.seasonal, self.trend = nn.Linear(past, future), nn.Linear(past, future)

    def forward(self, x: Tensor) -> Tensor:
        trend = self.average(x)
        return (self.seasonal((x - trend).transpose(1, 2)) + self.trend(trend.transpose(1, 2))).transpose(
            1, 2
        )


@architecture("cure-lab/LTSF-Linear: DLinear, Adam 5e-3")
def dlinear() -> Setup:
    return Setup(DLinear(96, 24), forecast(32, 96, 24, 7), nn.MSELoss(), adam(lr=5e-3))


@architecture(
    "cure-lab/LTSF-Linear: NLinear on series of a high level, whose last value it subtracts, Adam 5e-3"
)
def nlinear() -> Setup:
    class NLinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(96, 24)

        def forward(self, x: Tensor) -> Tensor:
            last = x[:, -1:].detach()
            return self.linear((x - last).transpose(1, 2)).transpose(1, 2) + last

    x, y = forecast(32, 96, 24, 7)
    return Setup(NLinear(), (x + 5, y + 5), nn.MSELoss(), adam(lr=5e-3))


@architecture("Kim et al. 2022: RevIN around a two-layer network, series of any level, Adam 1e-3")
def revin() -> Setup:
    class RevIn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(7)), nn.Parameter(torch.zeros(7))
            self.net = nn.Sequential(nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 24))

        def forward(self, x: Tensor) -> Tensor:
            mean = x.mean(1, keepdim=True).detach()
            std = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt().detach()
            x = (x - mean) / std * self.weight + self.bias
            y = self.net(x.transpose(1, 2)).transpose(1, 2)
            return (y - self.bias) / self.weight * std + mean

    x, y = forecast(32, 96, 24, 7)
    level = 20 * torch.randn(32, 1, 7)
    return Setup(RevIn(), (3 * x + level, 3 * y + level), nn.MSELoss(), adam(lr=1e-3))


@architecture("Oreshkin et al. 2020: N-BEATS of three generic blocks, Adam 1e-3")
def nbeats() -> Setup:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = [
                nn.Linear(48, 64),
                nn.ReLU(),
                nn.Linear(64, 64),
                nn.ReLU(),
                nn.Linear(64, 64),
                nn.ReLU(),
            ]
            self.fc = nn.Sequential(*widths)
            self.backcast, self.forecast = nn.Linear(64, 48), nn.Linear(64, 12)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.fc(x)
            return self.backcast(h), self.forecast(h)

    class NBeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            total = torch.zeros(len(x), 12)
            for block in self.blocks:
                back, ahead = block(x)
                x, total = x - back, total + ahead
            return total

    x, y = forecast(128, 48, 12, 1)
    return Setup(NBeats(), (x.squeeze(2), y.squeeze(2)), nn.L1Loss(), adam(lr=1e-3))


@architecture("Bai et al. 2018: temporal convolutions with weights of 0.01 and residual sums, Adam 2e-3")
def tcn() -> Setup:
    class Block(nn.Module):
        def __init__(self, a: int, b: int, dilation: int):
            super().__init__()
            self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
            self.conv1, self.conv2 = (
                nn.Conv1d(a, b, 3, dilation=dilation),
                nn.Conv1d(b, b, 3, dilation=dilation),
            )
            self.skip = nn.Conv1d(a, b, 1) if a != b else nn.Identity()
            for conv in (self.conv1, self.conv2):
                nn.init.normal_(conv.weight, 0, 0.01)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.conv1(self.pad(x)))
            return F.relu(F.relu(self.conv2(self.pad(h))) + self.skip(x))

    class Tcn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(Block(1, 25, 1), Block(25, 25, 2), Block(25, 25, 4), Block(25, 25, 8))
            self.out = nn.Linear(25, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.net(x)[:, :, -1])

    x = seasons(64, 100).transpose(1, 2)
    return Setup(Tcn(), (x, kinds(x, 10)), F.cross_entropy, adam(lr=2e-3))


@architecture("pytorch/examples time_sequence_prediction: LSTM cells on sines, LBFGS 0.8")
def sine_lbfgs() -> Setup:
    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm1, self.lstm2, self.linear = (
                nn.LSTMCell(1, 51),
                nn.LSTMCell(51, 51),
                nn.Linear(51, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            zero = torch.zeros(len(x), 51)
            h1, c1, h2, c2, found = zero, zero, zero, zero, []
            for part in x.split(1, dim=1):
                h1, c1 = self.lstm1(part, (h1, c1))
                h2, c2 = self.lstm2(h1, (h2, c2))
                found.append(self.linear(h2))
            return torch.cat(found, 1)

    t = torch.arange(31)[None] + torch.randint(-80, 80, (24, 1))
    x = torch.sin(t / 20.0)
    optimizer = partial(torch.optim.LBFGS, lr=0.8, max_iter=4)
    return Setup(Sequence(), (x[:, :-1], x[:, 1:]), nn.MSELoss(), optimizer)


@architecture("an LSTM forecast of one standardized series, Adam 1e-2, as in many notebooks")
def lstm_forecast() -> Setup:
    class Forecast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(1, 32, 2, batch_first=True), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(x)[0][:, -1])

    x = seasons(64, 31)
    return Setup(Forecast(), (x[:, :-1], x[:, -1]), nn.MSELoss(), adam(lr=1e-2))


@architecture("Graves et al.-like speech recognition: bidirectional GRU and CTC, Adam 3e-4")
def speech_ctc() -> Setup:
    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv1d(40, 64, 5, 2, 2), nn.BatchNorm1d(64)
            self.rnn, self.out = nn.GRU(64, 64, 1, batch_first=True, bidirectional=True), nn.Linear(128, 29)

        def forward(self, x: Tensor) -> Tensor:
            h = F.relu(self.norm(self.conv(x))).transpose(1, 2)
            return F.log_softmax(self.out(self.rnn(h)[0]), -1)

    def ctc(log_probs: Tensor, target: Tensor) -> Tensor:
        n, t = log_probs.shape[:2]
        lengths = torch.full((n,), t), torch.full((n,), target.shape[1])
        return F.ctc_loss(log_probs.transpose(0, 1), target, *lengths)

    x = seasons(16, 80, 40).transpose(1, 2)
    return Setup(Speech(), (x, torch.randint(1, 29, (16, 8))), ctc, adam(lr=3e-4))
