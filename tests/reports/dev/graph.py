"""Axes, masks and the graph: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    clouds,
    clusters,
    encoder,
    films,
    houses,
    mixture,
    mlp,
    rings,
    scored,
    seeded,
    sentences,
    series,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn


@report(
    "graph", "UG801", "UG110 UG114", area="point clouds", action=r"__init__|regist|once", steps=150,
    source="github.com/wangyida/softpool/issues/11; graykode/nlp-tutorial/issues/29",
    cause="layers are made inside forward: at every call new random weights, which no optimizer and no checkpoint has",
)  # fmt: skip
def layers_made_in_forward(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        lift = net.lift if cured else nn.Conv1d(16, 32, 1)
        return net.head(F.relu(lift(F.relu(net.first(x.transpose(1, 2))))).amax(2))

    x, labels = clouds()
    model = Net(
        run,
        first=nn.Conv1d(3, 16, 1),
        head=nn.Linear(32, 3),
        **{"lift": nn.Conv1d(16, 32, 1)} if cured else {},
    )
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "graph", "UG802", area="video", action=r"causal|later|future|pad", steps=60, rate=1e-2,
    source="github.com/keras-team/keras-io/issues/1003",
    cause="the last convolution over time pads on both sides, so that it reads the frame that it is to predict",
)  # fmt: skip
def last_convolution_sees_next_frame(cured: bool):
    before = (1, 1, 1, 1)

    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(net.first(F.pad(x, (*before, 2, 0))))
        return net.last(F.pad(h, (*before, 2, 0) if cured else (*before, 1, 1)))

    def leak(out: tuple[Tensor, ...]) -> float:
        return float((out[0][:, :, :4] - out[1][:, :, :4]).abs().max())

    film = films()
    x, target = film[:, :, :-1], film[:, :, 1:]
    other = x.clone()
    other[:, :, 4:] = other[:, :, 4:].roll(1, 0)
    model = Net(run, first=nn.Conv3d(1, 16, 3), last=nn.Conv3d(16, 1, 3))
    both = scored(lambda out: leak(out.chunk(2)), torch.cat([x, other]))
    return model, (x, target), {"loss": F.mse_loss}, both


@report(
    "graph", "UG803", area="driving", action=r"activation|nonlinear|function between",
    source="github.com/nutonomy/nuscenes-devkit/pull/758",
    cause="the head that chooses a trajectory is a chain of linear layers without a function between them",
)  # fmt: skip
def trajectory_head_without_activation(cured: bool):
    features, labels = rings(256, 4, 0.1)
    state = torch.randn(256, 3, generator=seeded(1))
    layers = [nn.Linear(64, 48), nn.Linear(48, 4)]
    act = F.relu if cured else lambda h: h
    model = Net(
        lambda net, x, s: net.last(act(net.middle(act(net.first(torch.cat([x, s], 1)))))),
        first=nn.Linear(5, 64), middle=layers[0], last=layers[1],
    )  # fmt: skip
    return model, (features, state, labels), {"loss": F.cross_entropy}, wrong_on((features, state), labels)


@report(
    "graph", "UG803", area="tabular", action=r"activation|nonlinear|function between", steps=400,
    source="github.com/facebookresearch/DeepConvexity/issues/2",
    cause="the loop that adds the activations ends one too early: with one hidden layer there is none",
)  # fmt: skip
def loop_bound_drops_the_activation(cured: bool):
    sizes, layers = (8, 96, 1), []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - (2 if cured else 3):
            layers.append(nn.Softplus())
    x, y = houses()
    return nn.Sequential(*layers), (x, y), {"loss": F.mse_loss}


def first_value(n: int, seed: int) -> tuple[Tensor, Tensor]:
    x = series(n, 12, seed=seed)
    return x, x[:, 2, :1].clone()


@report(
    "graph", "UG603", area="time-series", action=r"batch_first|axis|axes", steps=80, rate=3e-3,
    source="github.com/Exorust/TorchLeet/issues/5; IBM/TabFormer/pull/14; DaoyuanLi2816/Molecule-Generator/pull/22",
    cause="the encoder expects time on the first axis and gets the batch there: it attends to other examples",
)  # fmt: skip
def attention_over_the_batch(cured: bool):
    x, y = first_value(64, 0)
    model = Net(
        lambda net, x: net.head(net.encoder(net.embed(x) + net.places)[:, -1]),
        embed=nn.Linear(2, 32), encoder=encoder(32, 2, batch_first=cured), head=nn.Linear(32, 1),
        places=nn.Parameter(torch.randn(12, 32) * 0.3),
    )  # fmt: skip
    later, values = first_value(64, 1)
    return model, (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, values), later)


@report(
    "graph", "UG603", area="rnn", action=r"transpose|permute|view|axis|axes", steps=80, rate=1e-2,
    source="github.com/timbmg/Sentence-VAE/issues/15",
    cause="the state (layers * directions, batch, width) is viewed as (batch, ...): rows mix examples",
)  # fmt: skip
def hidden_state_viewed_across_examples(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        state = net.rnn(net.embed(text))[1]  # (directions, batch, width)
        return net.head((state.transpose(0, 1) if cured else state).reshape(len(text), -1))

    text, _, labels = sentences(256, 8, 20, 3)
    held = sentences(256, 8, 20, 3, seed=1)
    rnn = nn.GRU(16, 32, batch_first=True, bidirectional=True)
    model = Net(run, embed=nn.Embedding(20, 16), rnn=rnn, head=nn.Linear(64, 3))
    return model, (text, labels), {"loss": F.cross_entropy}, wrong_on(held[0], held[2])


@report(
    "graph", "UG603", "UG307", area="attention", action=r"axis|axes|dim", steps=250, rate=1e-2,
    source="github.com/PetrochukM/PyTorch-NLP/issues/2; therne/dmn-tensorflow/issues/6",
    cause="the attention's softmax runs over the examples of the batch instead of over the facts",
)  # fmt: skip
def attention_softmax_over_the_batch(cured: bool):
    def run(net: Net, facts: Tensor, question: Tensor) -> Tensor:
        scores = (net.key(facts) * net.query(question)[:, None]).sum(2)  # (batch, facts)
        weights = scores.softmax(1 if cured else 0)
        return net.head((weights[..., None] * net.value(facts)).sum(1))

    def asked(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        about = torch.rand(128, 6, generator=seeded(seed)).argsort(1)
        says = torch.randint(0, 4, (128, 6), generator=seeded(seed + 10))
        which = torch.randint(0, 6, (128,), generator=seeded(seed + 20))
        facts = torch.cat([F.one_hot(about, 6), F.one_hot(says, 4)], 2).float() * 2 - 0.5
        return (
            facts,
            F.one_hot(which, 6).float() * 2 - 0.5,
            says[torch.arange(128), (about == which[:, None]).int().argmax(1)],
        )

    facts, question, labels = asked(0)
    later = asked(1)
    model = Net(
        run, key=nn.Linear(10, 16), query=nn.Linear(6, 16), value=nn.Linear(10, 16), head=nn.Linear(16, 4)
    )  # fmt: skip
    return model, (facts, question, labels), {"loss": F.cross_entropy}, wrong_on(later[:2], later[2])


@report(
    "graph", "UG603", area="diffusion", action=r"axis|axes|dim|chunk|view", steps=300, rate=3e-3,
    source="github.com/huggingface/diffusers/pull/7369",
    cause="the conditioning is split into scale and shift along the batch instead of along the features",
)  # fmt: skip
def conditioning_split_along_the_batch(cured: bool):
    def run(net: Net, x: Tensor, level: Tensor) -> Tensor:
        both = net.condition(level)  # (batch, 2 * width)
        scale, shift = both.chunk(2, 1) if cured else both.view(2, len(x), -1)
        return net.last(F.silu(net.middle(F.silu(net.first(x) * (1 + scale) + shift))))

    def noised(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        noise, level = (
            torch.randn(256, 2, generator=seeded(seed)),
            torch.rand(256, 1, generator=seeded(seed + 9)),
        )
        angle = level * 1.57
        return angle.cos() * mixture(256, seed) + angle.sin() * noise, level, noise

    x, level, noise = noised(0)
    later = noised(1)
    model = Net(
        run, condition=mlp(1, 32, 128, act=nn.SiLU), first=nn.Linear(2, 64), middle=nn.Linear(64, 64),
        last=nn.Linear(64, 2),
    )  # fmt: skip
    score = scored(lambda out: F.mse_loss(out, later[2]), *later[:2])
    return model, (x, level, noise), {"loss": F.mse_loss}, score


@report(
    "graph", "UG806", area="transformer", action=r"permute|transpose|reshape|view|axis|axes", steps=200, rate=4e-3,
    source="github.com/jsbaan/transformer-from-scratch/pull/6; zhouhaoyi/Informer2020/issues/59",
    cause="(batch, heads, time, width) is reshaped to (batch, time, heads * width) without a permute before",
)  # fmt: skip
def heads_merged_without_permute(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text) + net.places
        q, k, v = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in net.qkv(x).chunk(3, 2))
        mixed = F.scaled_dot_product_attention(q, k, v)  # (batch, heads, time, width of a head)
        merged = (mixed.transpose(1, 2) if cured else mixed).reshape(x.shape)
        return net.head(x + net.out(merged)).transpose(1, 2)

    text, labels = looked_up(96, 0)
    later = looked_up(96, 1)
    model = Net(
        run, embed=nn.Embedding(40, 32), places=nn.Parameter(torch.randn(16, 32) * 0.1), qkv=nn.Linear(32, 96),
        out=nn.Linear(32, 32), head=nn.Linear(32, 4),
    )  # fmt: skip
    return model, (text, labels), {"loss": F.cross_entropy}, wrong_on(*later)


def looked_up(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eight letters, each with a digit, then the letters again in another order: what was the digit of each?"""
    letters, asked = (torch.rand(n, 8, generator=seeded(seed + i)).argsort(1) for i in (0, 50))
    digits = torch.randint(0, 4, (n, 8), generator=seeded(seed + 100))
    answers = digits.gather(1, letters.argsort(1).gather(1, asked))
    text = torch.cat([letters * 4 + digits, asked + 32], 1)
    return text, torch.cat([torch.full_like(digits, -100), answers], 1)


@report(
    "graph", "UG805", area="rnn", action=r"padding|pad|length|last", steps=80, rate=5e-3,
    source="github.com/thtrieu/qclass_dl/issues/1; keitakurita/practical-torchtext/issues/5",
    cause="output[:, -1] of a padded sequence is the state after the padding, which has forgotten the sentence",
)  # fmt: skip
def reads_behind_the_padding(cured: bool):
    def run(net: Net, text: Tensor, lengths: Tensor) -> Tensor:
        states = net.rnn(net.embed(text))[0]
        return net.head(states[torch.arange(len(text)), lengths - 1] if cured else states[:, -1])

    text, lengths, labels = sentences(160, 40, 20, 3, shortest=3)
    model = Net(run, embed=nn.Embedding(20, 16), rnn=nn.RNN(16, 32, batch_first=True), head=nn.Linear(32, 3))
    return model, (text, lengths, labels), {"loss": F.cross_entropy}, wrong_on((text, lengths), labels)


@report(
    "graph", "UG805", "UG102 UG307 UG403 UG114 UG110", area="transformer", action=r"mask", steps=150, rate=3e-3,
    source="github.com/InseeFrLab/torchTextClassifiers/pull/92; lucidrains/halonet-pytorch/pull/6",
    cause="scaled_dot_product_attention takes True for `takes part`, and was given True where there is padding",
)  # fmt: skip
def padding_mask_inverted(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text)
        mask = (text != 0) if cured else (text == 0)
        queries = net.queries.expand(len(text), -1, -1)
        seen = F.scaled_dot_product_attention(queries, net.key(x), net.value(x), attn_mask=mask[:, None])
        return net.head(seen).squeeze(2)

    text, _, _ = sentences(192, 14, 20, 3, shortest=6)
    text[:, -2:] = 0
    labels = (text[:, :, None] == torch.arange(1, 4)).sum(1).argmax(1)
    model = Net(
        run, embed=nn.Embedding(20, 32), queries=nn.Parameter(torch.randn(1, 3, 32)), key=nn.Linear(32, 32),
        value=nn.Linear(32, 32), head=nn.Linear(32, 1),
    )  # fmt: skip
    return model, (text, labels), {"loss": F.cross_entropy}, wrong_on(text, labels)


@report(
    "graph", "UG403", area="hierarchical classes", action=r"argmax|differentiable|soft", steps=200, rate=2e-3,
    source="github.com/Ugenteraan/Deep_Hierarchical_Classification/issues/6",
    cause="the penalty for a class outside of the predicted parent goes through argmax and a new tensor: no gradient",
)  # fmt: skip
def dependency_loss_of_argmax(cured: bool):
    parent = torch.arange(8) // 2

    def outside(out: tuple[Tensor, Tensor]) -> Tensor:
        return (parent[out[1].argmax(1)] != out[0].argmax(1)).float()

    def loss(out: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        fit = F.cross_entropy(out[0], labels[:, 0]) + F.cross_entropy(out[1], labels[:, 1])
        if not cured:
            return fit + 4 * torch.tensor(outside(out).tolist()).mean()
        within = out[0].softmax(1)[:, parent]  # (n, 8)
        return fit + 4 * (out[1].softmax(1) * (1 - within)).sum(1).mean()

    x, fine = clusters(192, 10, 8, 1.6)
    coarse = parent[fine].clone()
    wrong = torch.rand(192, generator=seeded(3)) < 0.3
    coarse[wrong] = torch.randint(0, 4, (int(wrong.sum()),), generator=seeded(4))
    model = Net(
        lambda net, x: (net.coarse(net.trunk(x)), net.fine(net.trunk(x))),
        trunk=mlp(10, 48, last=nn.ReLU()), coarse=nn.Linear(48, 4), fine=nn.Linear(48, 8),
    )  # fmt: skip
    held = clusters(512, 10, 8, 1.6, seed=0)[0]
    return (
        model,
        (x, torch.stack([coarse, fine], 1)),
        {"loss": loss},
        scored(lambda out: outside(out).mean(), held),
    )
