"""Healthy trainings: networks that look suspicious and are right. Development half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import healthy
from samples import (
    Net,
    clusters,
    descend,
    encoder,
    glyphs,
    log,
    mixture,
    mlp,
    seeded,
    sentences,
    series,
    standard,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


@healthy("seq2seq", steps=100, rate=5e-3)
def teacher_forcing():
    """The decoder reads the true words, one place later than it is to say them."""
    source = torch.randint(1, 12, (96, 6), generator=seeded(0))
    spoken = torch.cat(
        [torch.zeros(96, 1, dtype=torch.long), source.flip(1)], 1
    )  # 0 starts; the task is to reverse

    def run(net: Net, source: Tensor, said: Tensor) -> Tensor:
        state = net.reader(net.words(source))[1]
        return net.head(net.writer(net.words(said), state)[0]).transpose(1, 2)

    model = Net(
        run, words=nn.Embedding(12, 24), reader=nn.GRU(24, 64, batch_first=True),
        writer=nn.GRU(24, 64, batch_first=True),
        head=nn.Linear(64, 12),
    )  # fmt: skip
    return model, (source, spoken[:, :-1], spoken[:, 1:]), {"loss": F.cross_entropy}


@healthy("vae", form="probe")
def variational_autoencoder():
    g = seeded(1)
    kinds = torch.randn(8, 40, generator=g)
    x = standard(kinds[torch.arange(128) % 8] + 0.2 * torch.randn(128, 40, generator=g))

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = net.encode(x).chunk(2, 1)
        return net.decode(mean + spread.exp() * torch.randn_like(mean)), mean, spread

    model = Net(run, encode=mlp(40, 64, 8), decode=mlp(4, 64, 40))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loss_at(step: int) -> Tensor:
        picture, mean, spread = model(x)
        divergence = 0.5 * (mean.square() + (2 * spread).exp() - 1 - 2 * spread).sum(1).mean()
        return (picture - x).square().sum(1).mean() + divergence

    return model, optimizer, lambda probe, steps=200: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("diffusion", form="probe")
def diffusion_noise():
    """A denoiser that predicts the noise: the loss ends well above zero, and inputs are normalized inside."""
    model = Net(
        lambda net, x, level: net.body(torch.cat([x / (1 + level.square()).sqrt(), net.level(level)], 1)),
        level=nn.Sequential(nn.Linear(1, 16), nn.SiLU()), body=mlp(18, 64, 64, 2, act=nn.SiLU),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(2)

    def loss_at(step: int) -> Tensor:
        noise, level = torch.randn(256, 2, generator=g), torch.rand(256, 1, generator=g) * 3
        return F.mse_loss(model(mixture(256, step) + level * noise, level), noise)

    return model, optimizer, lambda probe, steps=200: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("rnn", form="probe")
def truncated_backpropagation():
    """The state is detached between the pieces of a long sequence."""
    x = series(24, 61, 2)
    model = Net(lambda net, x, state: net.rnn(x, state), rnn=nn.GRU(2, 32, batch_first=True))
    head = nn.Linear(32, 2)
    model.head = head
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loop(probe, steps: int = 120) -> float:
        loss, state = torch.zeros(()), None
        for step in range(steps):
            start = step * 10 % 60
            state = None if start == 0 else state
            out, state = model(x[:, start : start + 10], state)
            state = state.detach()
            loss = F.mse_loss(head(out), x[:, start + 1 : start + 11])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, None, {}


@healthy("rnn", steps=80, rate=5e-3)
def packed_sequences():
    text, lengths, labels = sentences(160, 12, 20, 3, shortest=4)

    def run(net: Net, text: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(net.embed(text), lengths, batch_first=True, enforce_sorted=False)
        return net.head(net.rnn(packed)[1][0][-1])

    model = Net(
        run, embed=nn.Embedding(20, 16, padding_idx=0), rnn=nn.LSTM(16, 32, batch_first=True), head=nn.Linear(32, 3)
    )  # fmt: skip
    return model, (text, lengths, labels), {"loss": F.cross_entropy}, wrong_on((text, lengths), labels)


@healthy("transformer", steps=80, rate=3e-3)
def padding_mask_of_attention():
    """The mask's minus infinities are an input of the network."""
    text, _, labels = sentences(128, 12, 20, 3, shortest=5)
    mask = torch.zeros(text.shape).masked_fill(text == 0, -math.inf)

    def run(net: Net, text: Tensor, mask: Tensor) -> Tensor:
        h = net.encoder(net.embed(text) + net.places, src_key_padding_mask=mask)
        return net.head((h * (mask == 0)[..., None]).sum(1) / (mask == 0).sum(1, keepdim=True))

    model = Net(
        run, embed=nn.Embedding(20, 32), places=nn.Parameter(torch.randn(12, 32) * 0.2), encoder=encoder(32, 2),
        head=nn.Linear(32, 3)
    )  # fmt: skip
    return model, (text, mask, labels), {"loss": F.cross_entropy}, wrong_on((text, mask), labels)


@healthy("self-supervised", form="probe")
def bootstrap_your_own_latent():
    """The target network gets no gradient; it follows the other one by a moving average."""
    x, _ = clusters(192, 20, 12, 0.5, seed=4)

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 16))

    target = network().requires_grad_(False)
    model = Net(lambda net, x: net.predict(net.online(x)), online=network(), predict=mlp(16, 32, 16))
    target.load_state_dict(model.online.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(5)

    def loop(probe, steps: int = 150) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            views = [x + 0.3 * torch.randn(x.shape, generator=g) for _ in range(2)]
            with torch.no_grad():
                goal = F.normalize(target(views[1]), dim=1)
            loss = 2 - 2 * (F.normalize(model(views[0]), dim=1) * goal).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), model.online.parameters(), strict=True):
                    slow.lerp_(fast, 0.02)
            log(probe, loss)
        return loss.item()

    return model, optimizer, loop, None, {}


class Coupling(nn.Module):
    """Half of the coordinates scale and shift the other half; the last layer starts at zero, as the identity."""

    def __init__(self, flip: bool):
        super().__init__()
        self.body, self.flip = mlp(1, 32, 32, 2, act=nn.Tanh), flip
        nn.init.zeros_(self.body[-1].weight)
        nn.init.zeros_(self.body[-1].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        scale, shift = self.body(a).chunk(2, 1)
        return torch.cat([a, b * scale.tanh().exp() + shift], 1), scale.tanh()[:, 0]


@healthy("flow", form="probe")
def normalizing_flow():
    """The loss is a negative log-density and becomes negative, rightly."""
    x = mixture(512) * 0.5

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = torch.zeros(len(x))
        for step in net.steps:
            x, change = step(x)
            volume = volume + change
        return x, volume

    model = Net(run, steps=nn.ModuleList([Coupling(i % 2 == 1) for i in range(6)]))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss_at(step: int) -> Tensor:
        z, volume = model(x)
        return (0.5 * z.square().sum(1) + math.log(2 * math.pi) - volume).mean()

    return model, optimizer, lambda probe, steps=150: descend(probe, optimizer, steps, loss_at), None, {}


@healthy("vq-vae", form="probe")
def straight_through_codes():
    """The nearest code is taken by argmin; the gradient goes past it, and the code book has a loss of its own."""
    x, _ = clusters(192, 20, 8, 0.3, seed=6)

    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        code = net.encode(x)
        nearest = net.book(torch.cdist(code, net.book.weight).argmin(1))
        losses = F.mse_loss(nearest, code.detach()) + 0.25 * F.mse_loss(code, nearest.detach())
        return net.decode(code + (nearest - code).detach()), losses

    model = Net(run, encode=mlp(20, 48, 4), book=nn.Embedding(16, 4), decode=mlp(4, 48, 20))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss_at(step: int) -> Tensor:
        out, losses = model(x)
        return F.mse_loss(out, x) + losses

    return model, optimizer, lambda probe, steps=200: descend(probe, optimizer, steps, loss_at), None, {}


class Sine(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, first: bool):
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out)
        bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / 15
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(15 * self.linear(x))


@healthy("implicit representation", steps=200, rate=1e-3)
def sine_network():
    """SIREN: the first layer's frequencies are high by design, and inputs are coordinates."""
    axis = torch.linspace(-1, 1, 16)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), 2).flatten(0, 1)
    picture = (torch.sin(9 * x[:, :1]) * torch.cos(7 * x[:, 1:]) + (x.norm(dim=1, keepdim=True) < 0.5)) * 0.7
    model = nn.Sequential(Sine(2, 48, True), Sine(48, 48, False), nn.Linear(48, 1))
    return model, (x, picture), {"loss": F.mse_loss}


@healthy("attention", steps=100, rate=3e-3)
def attention_to_one_key():
    """Cross-attention to a context that in this batch has one token: its softmax is 1 everywhere, legally."""
    x, labels = clusters(128, 12, 4, 0.8, seed=7)
    context = F.one_hot(labels % 2, 2).float()[:, None]  # (batch, tokens = 1, width)
    queries = x[:, None].expand(-1, 3, -1)

    def run(net: Net, queries: Tensor, context: Tensor) -> Tensor:
        h, told = net.embed(queries), net.context(context)
        h = h + net.attention(h, told, told, need_weights=False)[0]
        return net.head(h + net.mlp(h)).mean(1)

    model = Net(
        run, embed=nn.Linear(12, 24), context=nn.Linear(2, 24),
        attention=nn.MultiheadAttention(24, 2, batch_first=True),
        mlp=mlp(24, 48, 24, act=nn.GELU), head=nn.Linear(24, 4),
    )  # fmt: skip
    return model, (queries, context, labels), {"loss": F.cross_entropy}, wrong_on((queries, context), labels)


@healthy("cnn", form="probe")
def group_norm_of_two():
    """Batches of two pictures, with GroupNorm because of it."""
    x, labels = glyphs(64, 4, noise=0.2)
    layers: list[nn.Module] = []
    for fan_in, fan_out in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, 2, 1, bias=False), nn.GroupNorm(4, fan_out), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    g = seeded(8)

    def loss_at(step: int) -> Tensor:
        part = torch.randint(0, 64, (2,), generator=g)
        return F.cross_entropy(model(x[part]), labels[part])

    def loop(probe, steps: int = 300) -> float:
        descend(probe, optimizer, steps, loss_at)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x[:2], labels[:2]), {"loss": F.cross_entropy}
