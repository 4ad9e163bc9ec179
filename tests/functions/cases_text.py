"""Cases of UG116 (how far targets lie from inputs), UG117 (padding in the loss) and UG805 (padding in the outputs)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    MSE,
    Arguments,
    Net,
    flat_ce,
    healthy,
    labels,
    sequences,
    sick,
    text,
    values,
    vectors,
)
from torch import Tensor, nn

WORDS = 20


def words(n: int = 16, steps: int = 13, least: int = 0) -> Tensor:
    return torch.randint(least, WORDS, (n, steps))


def recurrent(run: object = None, words: int = WORDS, width: int = 32) -> Net:
    return Net(run or (lambda net, x: net.head(net.rnn(net.embed(x))[0])), embed=nn.Embedding(words, width),
               rnn=nn.GRU(width, width, batch_first=True), head=nn.Linear(width, words))  # fmt: skip


class Decoder(nn.Module):
    """Causal self-attention, as language models have it; with labels it returns its loss, shifted by `shift`."""

    def __init__(self, shift: int = 1, width: int = 32, last: int | None = None) -> None:
        super().__init__()
        self.embed, self.places = nn.Embedding(WORDS, width), nn.Embedding(64, width)
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.lm_head, self.shift, self.last = nn.Linear(width, WORDS), shift, last
        nn.init.normal_(self.embed.weight, std=0.3)
        nn.init.normal_(self.places.weight, std=0.3)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> object:
        x = self.embed(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        logits = self.lm_head(x)[:, : self.last]
        if labels is None:
            return logits
        steps = input_ids.shape[1] - self.shift
        return {"loss": flat_ce(logits[:, :steps], labels[:, self.shift :]), "logits": logits}


# ---- UG116: targets too near or too far ----------------------------------------------------------------------------


@sick("UG116")
def recurrent_net_that_is_asked_for_the_word_it_reads() -> Arguments:
    x = words()
    return recurrent(), (x, x.clone()), {"loss": flat_ce}


@sick("UG116")
def attention_that_is_asked_for_the_word_it_reads() -> Arguments:
    x = words()
    model = Net(lambda net, x: net.decoder(x).transpose(1, 2), decoder=Decoder())
    return model, (x, x.clone()), {"loss": CE}


@sick("UG116")
def labels_that_the_model_does_not_shift() -> Arguments:
    x = words()
    return Decoder(shift=0), {"input_ids": x, "labels": x.clone()}, {}


@sick("UG116")
def time_first_and_not_shifted() -> Arguments:
    x = words(13, 16)
    model = Net(lambda net, x: net.head(net.rnn(net.embed(x))[0]).flatten(0, 1), embed=nn.Embedding(WORDS, 32),
                rnn=nn.LSTM(32, 32), head=nn.Linear(32, WORDS))  # fmt: skip
    return model, (x, x.flatten()), {"loss": CE}


@sick("UG116")
def shifted_by_the_data_and_by_the_loss() -> Arguments:
    x, y = text()
    return recurrent(), (x, y), {"loss": lambda o, t: flat_ce(o[:, :-1], t[:, 1:])}


@sick("UG116")
def shifted_by_the_data_and_by_the_model() -> Arguments:
    x, y = text()
    return Decoder(shift=1), {"input_ids": x, "labels": y}, {}


@sick("UG116")
def data_that_skips_a_word() -> Arguments:
    whole = words(16, 14)
    return Decoder(), (whole[:, :-2].contiguous(), whole[:, 2:].contiguous()), {"loss": flat_ce}


@sick("UG116")
def prompts_ignored_and_shifted_twice() -> Arguments:
    x, y = text(steps=16)
    y[:, :4] = -100

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(o[:, :-1].reshape(-1, WORDS), t[:, 1:].reshape(-1), label_smoothing=0.1)

    return Decoder(), (x, y), {"loss": loss}


@healthy("UG116")
def shifted_by_the_data() -> Arguments:
    return recurrent(), text(), {"loss": flat_ce}


@healthy("UG116")
def shifted_by_the_model() -> Arguments:
    x = words()
    return Decoder(shift=1), {"input_ids": x, "labels": x.clone()}, {}


@healthy("UG116")
def shifted_by_the_loss() -> Arguments:
    x = words()
    return recurrent(), (x, x.clone()), {"loss": lambda o, t: flat_ce(o[:, :-1], t[:, 1:])}


@healthy("UG116")
def masked_words_of_a_bidirectional_net() -> Arguments:
    x = words(least=1)

    def run(net: Net, x: Tensor) -> Tensor:
        hidden = torch.where(torch.rand(x.shape) < 0.3, 0, x) if net.training else x
        return net.head(net.rnn(net.embed(hidden))[0])

    model = Net(run, embed=nn.Embedding(WORDS, 32), rnn=nn.GRU(32, 16, batch_first=True, bidirectional=True),
                head=nn.Linear(32, WORDS))  # fmt: skip
    return model, (x, x.clone()), {"loss": flat_ce}


@healthy("UG116")
def a_sentence_through_one_vector_and_back() -> Arguments:
    x = words(least=1)

    def run(net: Net, x: Tensor) -> Tensor:
        state = net.encoder(net.embed(x))[1]
        before = F.pad(x[:, :-1], (1, 0))
        return net.head(net.decoder(net.embed(before), state)[0])

    model = Net(run, embed=nn.Embedding(WORDS, 32), encoder=nn.GRU(32, 32, batch_first=True),
                decoder=nn.GRU(32, 32, batch_first=True), head=nn.Linear(32, WORDS))  # fmt: skip
    return model, (x, x.clone()), {"loss": flat_ce}


@healthy("UG116")
def a_code_for_each_word_by_itself() -> Arguments:
    x = words()
    model = Net(lambda net, x: net.head(torch.tanh(net.code(net.embed(x)))), embed=nn.Embedding(WORDS, 32),
                code=nn.Linear(32, 8), head=nn.Linear(8, WORDS))  # fmt: skip
    return model, (x, x.clone()), {"loss": flat_ce}


@healthy("UG116")
def a_model_that_shifts_its_inputs() -> Arguments:
    x = words(least=1)
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(F.pad(x[:, :-1], (1, 0))))[0]))
    return model, (x, x.clone()), {"loss": flat_ce}


@healthy("UG116")
def an_echo_of_three_steps_before() -> Arguments:
    whole = words(16, 15)
    return recurrent(), (whole[:, 3:].contiguous(), whole[:, :-3].contiguous()), {"loss": flat_ce}


@healthy("UG116")
def a_model_that_drops_its_last_step() -> Arguments:
    x = words()
    return Decoder(last=-1), (x, x[:, 1:].contiguous()), {"loss": flat_ce}


# ---- padding ---------------------------------------------------------------------------------------------------------


def padded(
    n: int = 24, steps: int = 14, shortest: int = 4, pad: int = 0, least: int = 1
) -> tuple[Tensor, Tensor]:
    """Sentences (n, steps) with `pad` behind their last word, and their lengths."""
    lengths = torch.randint(shortest, steps + 1, (n,))
    x = words(n, steps, least)
    x[x == pad] = least + 1 if least + 1 != pad else least + 2
    return torch.where(torch.arange(steps) < lengths[:, None], x, pad), lengths


def to_the_left(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.stack([row.roll(len(row) - int(n)) for row, n in zip(x, lengths, strict=True)])


def classes_of(x: Tensor) -> Tensor:
    return (x == 3).sum(1).clamp(max=2)


class Encoder(nn.Module):
    """One layer of attention over words; `mask` makes what key_padding_mask gets, `pool` the sentence's vector."""

    def __init__(self, mask: object, pool: object) -> None:
        super().__init__()
        self.embed, self.places = (
            nn.Embedding(WORDS, 32, padding_idx=0),
            nn.Parameter(0.3 * torch.randn(64, 32)),
        )
        self.attention, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 3)
        self.mask, self.pool = mask, pool

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        real = input_ids != 0 if attention_mask is None else attention_mask.bool()
        x = self.embed(input_ids) + self.places[: input_ids.shape[1]]
        x = x + self.attention(x, x, x, key_padding_mask=self.mask(real), need_weights=False)[0]
        return self.head(self.pool(x, real))


def mean_of_real(x: Tensor, real: Tensor) -> Tensor:
    return (x * real[..., None]).sum(1) / real.sum(1, keepdim=True)


# ---- UG805 ----------------------------------------------------------------------------------------------------


@sick("UG805")
def last_state_behind_the_padding() -> Arguments:
    x, _ = padded()
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(x))[1][-1]))
    model.head = nn.Linear(32, 3)
    return model, (x, classes_of(x)), {}


@sick("UG805")
def mean_over_padding_although_a_mask_is_given() -> Arguments:
    x, _ = padded()
    batch = {"input_ids": x, "attention_mask": (x != 0).long(), "labels": classes_of(x)}
    model = Encoder(lambda real: ~real, lambda x, real: x.mean(1))
    return model, batch, {"loss": CE}


@sick("UG805")
def attention_to_padding() -> Arguments:
    x, _ = padded()
    return Encoder(lambda real: None, mean_of_real), (x, classes_of(x)), {}


@sick("UG805")
def attention_to_nothing_but_padding() -> Arguments:
    x, _ = padded()
    x[:, -1] = 0
    return Encoder(lambda real: real, mean_of_real), (x, classes_of(x)), {}


@sick("UG805")
def padding_before_words_with_absolute_positions() -> Arguments:
    x = to_the_left(*padded())
    return Encoder(lambda real: ~real, lambda x, real: x[:, -1]), (x, classes_of(x)), {}


@sick("UG805")
def last_output_of_measurements_of_given_lengths() -> Arguments:
    x, lengths = sequences(24, 12), torch.randint(3, 13, (24,))
    x = x * (torch.arange(12) < lengths[:, None])[..., None]
    model = Net(lambda net, x, lengths: net.head(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(6, 24, batch_first=True),
                head=nn.Linear(24, 1))  # fmt: skip
    return model, (x, lengths, values(x)), {"loss": MSE}


@sick("UG805")
def a_mask_that_is_added_as_it_is() -> Arguments:
    x, _ = padded(pad=1, least=2)

    def run(net: Net, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = net.embed(input_ids)
        scores = net.q(x) @ net.k(x).transpose(1, 2) / 32**0.5 + attention_mask[:, None].float()
        return net.head((scores.softmax(-1) @ x)[:, 0])

    model = Net(
        run, embed=nn.Embedding(WORDS, 32), q=nn.Linear(32, 32), k=nn.Linear(32, 32), head=nn.Linear(32, 3)
    )
    return model, ({"input_ids": x, "attention_mask": (x != 1).long()}, classes_of(x)), {"loss": CE}


@sick("UG805")
def largest_state_with_those_of_the_padding() -> Arguments:
    x, _ = padded()
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(x))[0].amax(1)))
    model.head = nn.Linear(32, 3)
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def packed_sentences() -> Arguments:
    x, lengths = padded()

    def run(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            net.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        return net.head(net.rnn(packed)[1][-1])

    model = recurrent(run)
    model.head = nn.Linear(32, 3)
    return model, (x, lengths, classes_of(x)), {}


@healthy("UG805")
def mean_over_words() -> Arguments:
    x, _ = padded()
    batch = {"input_ids": x, "attention_mask": (x != 0).long(), "labels": classes_of(x)}
    return Encoder(lambda real: ~real, mean_of_real), batch, {"loss": CE}


@healthy("UG805")
def outputs_before_the_padding_of_a_causal_net() -> Arguments:
    x, _ = padded(steps=13)
    return (
        Decoder(),
        (x[:, :-1], x[:, 1:].contiguous()),
        {"loss": lambda o, t: CE(o.flatten(0, 1), t.flatten(), ignore_index=0)},
    )


@healthy("UG805")
def largest_of_windows_over_words() -> Arguments:
    x, _ = padded()

    def run(net: Net, x: Tensor) -> Tensor:
        x = net.embed(x).transpose(1, 2)
        return net.head(torch.cat([F.relu(conv(x)).amax(2) for conv in net.convs.children()], 1))

    model = Net(run, embed=nn.Embedding(WORDS, 32, padding_idx=0), head=nn.Linear(32, 3),
                convs=nn.ModuleList(nn.Conv1d(32, 16, size) for size in (2, 3)))  # fmt: skip
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def state_after_the_last_word() -> Arguments:
    x, _ = padded()
    model = recurrent(
        lambda net, x: net.head(net.rnn(net.embed(x))[0][torch.arange(len(x)), (x != 0).sum(1) - 1])
    )
    model.head = nn.Linear(32, 3)
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def padding_before_words_with_positions_counted_from_the_first() -> Arguments:
    x = to_the_left(*padded())

    def run(net: Net, x: Tensor) -> Tensor:
        real = x != 0
        x = net.embed(x) + net.places[(real.cumsum(1) - 1).clamp(min=0)]
        x = x + net.attention(x, x, x, key_padding_mask=~real, need_weights=False)[0]
        return net.head(x[:, -1])

    model = Net(run, embed=nn.Embedding(WORDS, 32), places=nn.Parameter(torch.randn(64, 32)), head=nn.Linear(32, 3),
                attention=nn.MultiheadAttention(32, 4, batch_first=True))  # fmt: skip
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def a_sum_of_words_to_which_padding_adds_nothing() -> Arguments:
    x, _ = padded()
    model = Net(lambda net, x: net.head(torch.tanh(0.1 * net.embed(x).sum(1))), head=nn.Linear(32, 3),
                embed=nn.Embedding(WORDS, 32, padding_idx=0))  # fmt: skip
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def a_layer_of_all_steps() -> Arguments:
    x, _ = padded()
    model = Net(lambda net, x: net.head(net.embed(x).flatten(1)), embed=nn.Embedding(WORDS, 8),
                head=nn.Linear(112, 3))  # fmt: skip
    return model, (x, classes_of(x)), {}


@healthy("UG805")
def columns_of_a_table_with_zeros() -> Arguments:
    x = torch.randint(0, 3, (40, 8))
    model = Net(lambda net, x: net.head(net.embed(x + 3 * torch.arange(8)).sum(1)), embed=nn.Embedding(24, 16),
                head=nn.Linear(16, 2))  # fmt: skip
    return model, (x, x[:, 0].clamp(max=1)), {}


# ---- UG117 ----------------------------------------------------------------------------------------------------


@sick("UG117")
def next_words_and_padding() -> Arguments:
    x, _ = padded(steps=15)
    return recurrent(), (x[:, :-1].contiguous(), x[:, 1:].contiguous()), {"loss": flat_ce}


@sick("UG117")
def labels_with_padding_into_a_model_that_shifts() -> Arguments:
    x, _ = padded(pad=1, least=2)
    return Decoder(shift=1), {"input_ids": x, "labels": x.clone()}, {}


@sick("UG117")
def tags_of_padding() -> Arguments:
    x, _ = padded()
    tags = torch.where(x == 0, 0, 1 + x % 4)
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2))
    model.head = nn.Linear(32, 5)
    return model, (x, tags), {"loss": CE}


@sick("UG117")
def translations_with_padding() -> Arguments:
    source, _ = padded(steps=11)
    target, _ = padded(steps=15)

    def run(net: Net, source: Tensor, given: Tensor) -> Tensor:
        real = source != 0
        state = mean_of_real(net.rnn(net.embed(source))[0], real)
        return net.head(net.decoder(net.embed(given), state[None].contiguous())[0])

    model = recurrent(run)
    model.decoder = nn.GRU(32, 32, batch_first=True)
    return model, (source, target[:, :-1], target[:, 1:].contiguous()), {"loss": flat_ce}


@sick("UG117")
def errors_of_steps_that_are_not_there() -> Arguments:
    x, lengths = sequences(24, 12), torch.randint(3, 13, (24,))
    real = (torch.arange(12) < lengths[:, None])[..., None]
    y = x[..., :1].cumsum(1) / 3
    model = Net(lambda net, x, lengths: net.head(net.rnn(x)[0]), rnn=nn.GRU(6, 24, batch_first=True),
                head=nn.Linear(24, 1))  # fmt: skip
    return model, (x * real, lengths, y * real), {"loss": MSE}


@sick("UG117")
def another_number_is_ignored_than_that_of_the_padding() -> Arguments:
    x, _ = padded(steps=15, pad=2, least=3)
    loss = nn.CrossEntropyLoss(ignore_index=0)
    return (
        Net(lambda net, x: net.decoder(x).transpose(1, 2), decoder=Decoder()),
        (x[:, :-1], x[:, 1:]),
        {"loss": loss},
    )


@healthy("UG117")
def next_words_without_padding() -> Arguments:
    x, _ = padded(steps=15)
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2))
    return model, (x[:, :-1], x[:, 1:]), {"loss": nn.CrossEntropyLoss(ignore_index=0)}


@healthy("UG117")
def labels_without_padding_into_a_model_that_shifts() -> Arguments:
    x, _ = padded(pad=1, least=2)
    return Decoder(shift=1), {"input_ids": x, "labels": torch.where(x == 1, -100, x)}, {}


@healthy("UG117")
def a_loss_times_a_mask() -> Arguments:
    x, _ = padded(steps=15)

    def loss(o: Tensor, t: Tensor) -> Tensor:
        real = (t != 0).float()
        return (CE(o.transpose(1, 2), t, reduction="none") * real).sum() / real.sum()

    return recurrent(), (x[:, :-1], x[:, 1:]), {"loss": loss}


@healthy("UG117")
def a_weight_of_zero_for_padding() -> Arguments:
    x, _ = padded(steps=15)
    weight = torch.ones(WORDS)
    weight[0] = 0
    model = recurrent(lambda net, x: net.head(net.rnn(net.embed(x))[0]).transpose(1, 2))
    return model, (x[:, :-1], x[:, 1:]), {"loss": nn.CrossEntropyLoss(weight)}


@healthy("UG117")
def sentences_of_nearly_one_length() -> Arguments:
    x, _ = padded(steps=15, shortest=13)
    return recurrent(), (x[:, :-1].contiguous(), x[:, 1:].contiguous()), {"loss": flat_ce}


@healthy("UG117")
def classes_of_steps_that_end_alike() -> Arguments:
    x = sequences(24, 12)
    y = (x[..., 0].cumsum(1).abs() < 3).long()
    model = Net(lambda net, x: net.head(net.rnn(x)[0]).transpose(1, 2), rnn=nn.GRU(6, 24, batch_first=True),
                head=nn.Linear(24, 2))  # fmt: skip
    return model, (x, y), {"loss": CE}


@healthy("UG117")
def one_label_for_each_padded_sentence() -> Arguments:
    x, _ = padded()
    return Encoder(lambda real: ~real, mean_of_real), (x, classes_of(x)), {}


@healthy("UG117")
def several_labels_of_vectors() -> Arguments:
    x = vectors(48)
    y = labels(x, 6)
    return (
        nn.Linear(12, 6),
        (x, (torch.arange(6) <= y[:, None]).float()),
        {"loss": F.binary_cross_entropy_with_logits},
    )
