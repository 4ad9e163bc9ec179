"""Planted defects: what function a network computes, in which mode, and whether it learns. Networks of several families
with weights that they do not hold, without nonlinear functions, without a mask, with lost statistics."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from networks import (
    Call,
    Recurrent,
    Then,
    Transformer,
    cnn,
    images,
    insert,
    mlp,
    numbers,
    series,
    tokens,
    vectors,
)
from row import Case, sick
from torch import Tensor, nn

ADAM, SGD = torch.optim.Adam, torch.optim.SGD


class Hidden(nn.Module):
    """A network, and layers behind its first part in a list."""

    def __init__(
        self,
        net: nn.Module,
        layers: list[nn.Module],
        head: nn.Module,
        act: Callable[[Tensor], Tensor] = torch.relu,
    ):
        super().__init__()
        self.net, self.layers, self.head, self.act = net, layers, head, act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.net(x))
        for layer in self.layers:
            x = self.act(layer(x))
        return self.head(x)


class Coder(nn.Module):
    """Draws a code, with means and variances from a network, and rebuilds 64 numbers of it."""

    def __init__(self, net: nn.Module, log_variance: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.log_variance, self.decode = net, log_variance, nn.Linear(5, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.net(x).chunk(2, 1)
        log_variance = self.log_variance(spread)
        return self.decode(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


def coded(
    net: nn.Module,
    x: Tensor,
    log_variance: Callable[[Tensor], Tensor] = lambda x: x,
    divergence: Callable[[Tensor, Tensor], Tensor] = lambda m, v: 0.5 * (m**2 + v.exp() - v - 1),
) -> Case:
    def loss(out: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
        return F.mse_loss(out[0], target) + divergence(*out[1:]).sum(1).mean()

    return Case(
        Coder(net, log_variance),
        (x, x.flatten(1) @ torch.randn(x[0].numel(), 64) / x[0].numel() ** 0.5),
        loss,
    )


def scaled_by(model: nn.Module, scale: Tensor) -> nn.Module:
    """Its outputs times a tensor that learns and that only a closure holds."""
    scale.requires_grad_()
    return Then(model, lambda outputs: outputs * scale)


def unassigned(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Calls the function and goes on with what it was given."""

    def run(x: Tensor) -> Tensor:
        function(x)
        return x

    return run


def policy_gradient(outputs: Tensor, taken: Tensor) -> Tensor:
    """Of actions and their advantages; the bonus for the entropy is added to the loss."""
    logp = outputs.log_softmax(1)
    gained = (logp.gather(1, taken[:, :1].long())[:, 0] * taken[:, 1]).mean()
    return -gained - 0.1 * (logp.exp() * logp).sum(1).mean()


def actions(x: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs, and for each of them an action and its advantage."""
    return x, torch.stack([torch.arange(len(x)) % 10, torch.linspace(-1, 1, len(x))], 1)


class DropsAttention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + F.scaled_dot_product_attention(x, x, x, dropout_p=0.9 if self.training else 0.0)


def again_and_again(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Case:
    """What next(iter(loader)) gives at each of four steps."""
    data = [tuple(part.clone() for part in batch) for _ in range(4)]
    return Case(model, batch, steps=4, optimizer=lambda p: ADAM(p, 1e-3), data=data)


def attend_sharply(x: Tensor) -> Tensor:
    """Of queries and keys three times as large as usual."""
    return x + (9 * x @ x.transpose(1, 2)).softmax(2) @ x


def head(width: int) -> nn.Linear:
    layer = nn.Linear(width, 10)
    nn.init.normal_(layer.weight, 0, 0.3 / width**0.5)
    return layer


def straight(model: nn.Module) -> nn.Module:
    """Every activation function replaced by nothing."""
    for name, child in model.named_children():
        if isinstance(child, (nn.ReLU, nn.Tanh, nn.GELU)):
            setattr(model, name, nn.Identity())
        else:
            straight(child)
    return model


def narrow(model: nn.Sequential, after: str, width: int) -> nn.Sequential:
    """One unit, and a layer back to the width, behind an activation function."""
    layers = nn.Sequential(
        nn.Linear(width, 1), nn.Tanh(), nn.Linear(1, width), nn.LayerNorm(width), nn.Tanh()
    )
    return insert(model, after, "narrow", layers)


def trained(model: nn.Module, batch: tuple[Tensor, Tensor]) -> nn.Module:
    optimizer = ADAM(model.parameters(), 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
    return model


def forgotten(model: nn.Module) -> nn.Module:
    """Running statistics as they were at the start."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return model


def lost(
    make: Callable[[], nn.Module], batch: tuple[Tensor, Tensor], change: Callable[[nn.Module], nn.Module]
) -> Case:
    return Case(change(trained(make(), batch)), batch)


class Both(nn.Module):
    """A recurrent network of both directions, a word at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(50, 32), nn.GRU(32, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 50)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0])


class Words(nn.Module):
    """A recurrent network that reads from left to right: a word at each step, or one from its last state."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = (
            nn.Embedding(50, 32),
            nn.GRU(32, 32, batch_first=True),
            nn.Linear(32, 50),
        )
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(self.embed(x))[0]
        return self.head(states[:, -1] if self.last else states)


def same_words() -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 50, (16, 12))
    return x, x.clone()


def filled_up(classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Words of 4 to 12 steps and zeros behind, with a label for each row, or with the next word for each step."""
    lengths = torch.randint(4, 13, (24, 1))
    words = torch.where(torch.arange(13) < lengths, torch.randint(1, 50, (24, 13)), 0)
    if classes is not None:
        return words[:, :-1], torch.randint(0, classes, (24,))
    return words[:, :-1].contiguous(), words[:, 1:].contiguous()


class Before(nn.Module):
    """A function of its input, and a network."""

    def __init__(self, net: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.function(x))


class Timed(nn.Module):
    """A network whose outputs depend on a time as well, in waves of 1 down to 1/10000 after a function of the time."""

    def __init__(self, net: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.function, self.head = net, function, nn.Linear(32, 10)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        waves = self.function(t)[:, None] * 10000 ** (-torch.arange(16) / 16)
        return self.net(x) + 0.3 * self.head(torch.cat([waves.sin(), waves.cos()], 1))


def timed(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return batch[0], torch.randint(0, 1000, (len(batch[0]),)), batch[1]


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return -gradient


def uphill(model: nn.Module, batch: tuple[Tensor, Tensor], lr: float) -> Case:
    model = Then(model, Backwards.apply)
    return Case(model, batch, steps=24, optimizer=SGD(model.parameters(), lr))


class Negated(nn.Module):
    """Another sign in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else -x


def hardest(outputs: Tensor, labels: Tensor) -> Tensor:
    """Hardest triplets of a batch, which pull all embeddings to one point."""
    apart = torch.cdist(outputs, outputs)
    same = labels[:, None] == labels[None]
    return F.relu((apart * same).amax(1) - (apart + 1e6 * same).amin(1) + 0.3).mean()


def collapsing(model: nn.Module, x: Tensor, lr: float, steps: int) -> Case:
    labels = torch.randint(0, 8, (len(x),))
    return Case(model, (x, labels), hardest, steps, SGD(model.parameters(), lr))


class OverSteps(nn.Module):
    """Features of each step, scaled along the steps."""

    def __init__(self, features: int = 8):
        super().__init__()
        self.mix = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.mix(x)) * x.shape[1] ** 0.5


class Pairs(nn.Module):
    """Cosines of all pairs of a batch, with norms of the whole batch."""

    def __init__(self, one: nn.Module, two: nn.Module):
        super().__init__()
        self.one, self.two = one, two

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.one(x), self.two(x)
        return 20 * (a / a.norm()) @ (b / b.norm()).T


def scrambled(pictures: Tensor) -> Tensor:
    """Pictures (N, C, H, W) that were kept with channels last, and reshaped to channels first."""
    return pictures.permute(0, 2, 3, 1).reshape(pictures.shape)


def viewed_time_first(windows: Tensor) -> Tensor:
    """Windows (N, T, F) that were reshaped, not transposed, to time first, as a network sees them that takes that."""
    n, steps, features = windows.shape
    return (windows / windows.std()).reshape(steps, n, features).transpose(0, 1)


class Doubled(nn.Module):
    """Layers whose output is added to itself."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        x = x + x
        return x


def block(width: int) -> nn.Module:
    return Doubled(
        nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
    )


class Branch(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def multiplied(model: nn.Module, after: str, width: int) -> nn.Module:
    """With one residual block in three places."""
    return insert(model, after, "blocks", nn.Sequential(*[Branch(width)] * 3))


class Beside(nn.Module):
    """A network beside a second input, which it does not use."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.net(x)


def beside(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    x, target = batch
    return x, torch.randn(len(x), 5), target


def among_steps(x: Tensor) -> Tensor:
    """Attention of a sequence to itself, each step shared among those that ask for it."""
    return (x @ x.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(1) @ x


ROWS = (
    sick("mlp-layers-in-a-list", "UG801", lambda: Case(
        Hidden(mlp(1), [nn.Linear(10, 64)], head(64), torch.tanh), vectors(),
    )),
    sick("cnn-scale-as-a-plain-tensor", "UG801", lambda: Case(scaled_by(cnn(), torch.ones(10)), images())),
    sick("rnn-second-layer-in-a-list", "UG801", lambda: Case(
        Hidden(Recurrent(), [nn.Linear(10, 10)], head(10)), series(),
    )),
    sick("transformer-without-its-mask", "UG802", lambda: Case(Transformer(causal=False), tokens())),
    sick("transformer-mean-over-all-steps", "UG802", lambda: Case(
        Then(Transformer(), lambda o: o - o.mean(1, keepdim=True)), tokens(),
    )),
    sick("rnn-both-directions-for-the-next-word", "UG802", lambda: Case(Both(), tokens())),
    sick("mlp-one-unit-between", "UG804", lambda: Case(narrow(mlp(2, norm=nn.LayerNorm), "act1", 64), vectors())),
    sick("mlp-one-unit-near-the-head", "UG804", lambda: Case(narrow(mlp(3, norm=nn.LayerNorm), "act2", 64), vectors())),
    sick("mlp-one-unit-after-tanh", "UG804", lambda: Case(
        narrow(mlp(2, act=nn.Tanh, norm=nn.LayerNorm), "act1", 64), vectors())),
    sick("transformer-asked-for-what-it-reads", "UG116", lambda: Case(Transformer(), same_words())),
    sick("transformer-shifted-twice", "UG116", lambda: Case(
        Transformer(), tokens(), lambda o, t: F.cross_entropy(o[:, :-1].flatten(0, 1), t[:, 1:].flatten()))),
    sick("rnn-asked-for-what-it-reads", "UG116", lambda: Case(Words(), same_words())),
    sick("rnn-state-behind-the-padding", "UG805", lambda: Case(Words(last=True), filled_up(classes=50))),
    sick("rnn-mean-with-padding", "UG805", lambda: Case(Then(Words(), lambda o: o.mean(1)), filled_up(classes=50))),
    sick("transformer-mean-with-padding", "UG805", lambda: Case(
        Then(Transformer(), lambda o: o.mean(1)), filled_up(classes=50))),
    sick("rnn-padding-in-the-loss", "UG117", lambda: Case(Words(), filled_up())),
    sick("transformer-padding-in-the-loss", "UG117", lambda: Case(Transformer(), filled_up())),
    sick("rnn-padding-of-another-number", "UG117", lambda: Case(
        Words(), filled_up(), lambda o, t: F.cross_entropy(o.transpose(1, 2), t, ignore_index=-1))),
    sick("cnn-channels-last-reshaped", "UG806", lambda: Case(
        Before(cnn(), lambda x: x.reshape(-1, 3, 32, 32)), (images()[0].permute(0, 2, 3, 1), images()[1]))),
    sick("rnn-steps-and-features-viewed", "UG806", lambda: Case(
        Before(Recurrent(), lambda x: x.reshape(-1, 12, 8)), (series()[0].transpose(1, 2).contiguous(), series()[1]))),
    sick("cnn-feature-map-viewed", "UG806", lambda: Case(
        insert(cnn(), "act4", "mixed", Call(lambda h: h.reshape(len(h), 8, 8, 32).permute(0, 3, 1, 2))), images())),
    sick("rnn-attention-over-the-queries", "UG807", lambda: Case(Before(Recurrent(), among_steps), series())),
    sick("rnn-features-scaled-along-the-steps", "UG807", lambda: Case(Before(Recurrent(), OverSteps()), series())),
    sick("mlp-pairs-with-one-norm", "UG807", lambda: Case(Pairs(mlp(), mlp()), (vectors()[0], torch.arange(64)))),
    sick("mlp-scores-twice-themselves", "UG808", lambda: Case(
        Then(mlp(), lambda o: (h := torch.tanh(o)) + h), vectors())),
    sick("cnn-branch-added-to-itself", "UG808", lambda: Case(
        insert(cnn(), "act4", "block", Doubled(nn.Conv2d(32, 32, 3, padding=1))), images())),
    sick("rnn-block-added-to-itself", "UG808", lambda: Case(Before(Recurrent(), block(8)), series())),
    sick("mlp-blocks-multiplied", "UG809", lambda: Case(
        multiplied(mlp(2, act=nn.Tanh, norm=nn.LayerNorm), "act1", 64), vectors())),
    sick("mlp-blocks-multiplied-near-the-head", "UG809", lambda: Case(multiplied(mlp(3), "act3", 64), vectors())),
    sick("rnn-blocks-multiplied", "UG809", lambda: Case(
        Before(Recurrent(), nn.Sequential(*[Branch(8)] * 3)), series())),
    sick("mlp-second-input-left", "UG205", lambda: Case(Beside(mlp()), beside(vectors()))),
    sick("cnn-second-input-left", "UG205", lambda: Case(Beside(cnn()), beside(images()))),
    sick("rnn-second-input-left", "UG205", lambda: Case(Beside(Recurrent()), beside(series()))),
    sick("mlp-first-batch-of-a-loader-each-time", "UG206", lambda: again_and_again(mlp(), vectors())),
    sick("cnn-first-batch-of-a-loader-each-time", "UG206", lambda: again_and_again(cnn(), images())),
    sick("rnn-first-batch-of-a-loader-each-time", "UG206", lambda: again_and_again(Recurrent(), series())),
    sick("rnn-scores-not-divided", "UG303", lambda: Case(Before(Recurrent(), attend_sharply), series(length=24))),
    sick("mlp-reward-without-an-end", "UG119", lambda: Case(
        mlp(out=1), numbers(), lambda o, t: -(o * t).mean())),
    sick("cnn-cross-entropy-the-other-way-round", "UG119", lambda: Case(
        cnn(), images(), lambda o, t: -(o * F.one_hot(t, o.shape[1]).float().log_softmax(1)).sum(1).mean())),
    sick("mlp-cosine-without-minus", "UG120", lambda: Case(
        mlp(), (vectors()[0], torch.randn(64, 10)), lambda o, t: F.cosine_similarity(o, t).mean())),
    sick("cnn-right-answers-made-rare", "UG120", lambda: Case(
        cnn(), images(), lambda o, t: o.softmax(1).gather(1, t[:, None]).mean())),
    sick("rnn-entropy-of-a-policy-added", "UG120", lambda: Case(Recurrent(), actions(*series()), policy_gradient)),
    sick("mlp-code-that-costs-more-than-it-tells", "UG121", lambda: coded(mlp(), vectors()[0])),
    sick("cnn-log-variance-never-negative", "UG121", lambda: coded(cnn(), images()[0], F.softplus)),
    sick("rnn-log-variance-taken-for-a-deviation", "UG121", lambda: coded(
        Recurrent(), series()[0], divergence=lambda m, v: 0.5 * (m**2 + v**2 - (v**2).log() - 1))),
    sick("rnn-penalty-subtracted", "UG119", lambda: Case(
        Recurrent(), series(), lambda o, t: F.cross_entropy(o, t) - 0.1 * o.abs().mean())),
    sick("cnn-colours-read-as-rows", "UG204", lambda: Case(cnn(), (scrambled(images()[0]), images()[1]))),
    sick("cnn-colours-read-as-rows-of-small-pictures", "UG204", lambda: Case(
        cnn(), (scrambled(images(size=16)[0]), images()[1]))),
    sick("rnn-windows-viewed-time-first", "UG204", lambda: Case(
        Recurrent(), (viewed_time_first(series()[0].cumsum(1)), series()[1]))),
    sick("mlp-without-activations", "UG803", lambda: Case(straight(mlp(gain=1.0)), vectors())),
    sick("cnn-without-activations", "UG803", lambda: Case(straight(cnn(gain=1.0)), images())),
    sick("mlp-regression-without-activations", "UG803", lambda: Case(straight(mlp(3, out=1, gain=1.0)), numbers())),
    sick("cnn-statistics-lost", "UG703", lambda: lost(cnn, images(), forgotten)),
    sick("mlp-statistics-lost", "UG703", lambda: lost(
        lambda: mlp(norm=nn.BatchNorm1d, bias=False), vectors(), forgotten,
    )),
    sick("rnn-other-sign-in-evaluation", "UG703", lambda: lost(
        lambda: Then(Recurrent(), Negated()), series(), lambda m: m,
    )),
    sick("mlp-share-to-keep-dropped", "UG707", lambda: Case(
        insert(mlp(), "act2", "drop", nn.Dropout(0.9)), vectors())),
    sick("cnn-share-to-keep-dropped", "UG707", lambda: Case(
        insert(cnn(), "act4", "drop", nn.Dropout2d(0.9)), images())),
    sick("rnn-attention-that-drops-most", "UG707", lambda: Case(Before(Recurrent(), DropsAttention()), series())),
    sick("mlp-dropout-in-either-mode", "UG706", lambda: Case(
        insert(mlp(), "act3", "drop", Call(lambda x: F.dropout(x, 0.2))), vectors())),
    sick("cnn-dropout-made-in-forward", "UG706", lambda: Case(
        insert(cnn(), "act4", "drop", Call(lambda x: nn.Dropout2d(0.1)(x))), images())),
    sick("rnn-dropout-of-its-input", "UG706", lambda: Case(Before(Recurrent(), lambda x: F.dropout(x, 0.1)), series())),
    sick("mlp-activation-whose-result-is-dropped", "UG810", lambda: Case(
        insert(mlp(), "act3", "clip", Call(unassigned(F.hardtanh))), vectors())),
    sick("cnn-normalization-whose-result-is-dropped", "UG810", lambda: Case(
        insert(cnn(), "act4", "norm", Call(unassigned(lambda x: F.normalize(x, dim=1)))), images())),
    sick("rnn-mask-whose-result-is-dropped", "UG810", lambda: Case(
        Before(Recurrent(), unassigned(lambda x: x.masked_fill(x.abs() > 3, 0.0))), series())),
    sick("mlp-times-divided-twice", "UG811", lambda: Case(Timed(mlp(), lambda t: t / 1e6), timed(vectors()))),
    sick("cnn-times-multiplied-twice", "UG811", lambda: Case(Timed(cnn(), lambda t: t * 1000), timed(images()))),
    sick("rnn-times-round-the-circle", "UG811", lambda: Case(Timed(Recurrent(), lambda t: t * 1e4), timed(series()))),
    sick("mlp-gradient-of-the-wrong-sign", "UG110", lambda: uphill(mlp(2, act=nn.Tanh, gain=1.0), vectors(), 0.1)),
    sick("cnn-gradient-of-the-wrong-sign", "UG110", lambda: uphill(cnn(), images(), 0.05)),
    sick("rnn-gradient-of-the-wrong-sign", "UG110", lambda: uphill(Recurrent(), series(), 0.3)),
    sick("rnn-triplets-that-collapse", "UG114", lambda: collapsing(Recurrent(), series(64)[0], 0.1, 100)),
    sick("rnn-triplets-that-collapse-fast", "UG114", lambda: collapsing(Recurrent(), series(64)[0], 0.3, 60)),
    sick("rnn-triplets-that-collapse-at-once", "UG114", lambda: collapsing(Recurrent(), series(64)[0], 1.0, 60)),
)  # fmt: skip
