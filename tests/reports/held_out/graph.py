"""Axes, masks and the graph: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    chains,
    convnet,
    encoder,
    glyphs,
    mlp,
    molecules,
    scored,
    seeded,
    sentences,
    standard,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn


@report(
    "graph", "UG801", area="text", action=r"ModuleList|regist", steps=200, rate=5e-3,
    source="github.com/pytorch/pytorch/issues/1053; dotnet/TorchSharp/issues/532",
    cause="the convolutions of three widths are kept in a Python list: they are no parameters of the network",
)  # fmt: skip
def text_kernels_in_a_list(cured: bool):
    def run(net: Net, vectors: Tensor) -> Tensor:
        x = vectors.transpose(1, 2)
        return net.head(torch.cat([F.relu(kernel(x)).amax(2) for kernel in net.kernels], 1))

    g = seeded(0)
    vectors = torch.randn(160, 14, 10, generator=g)
    labels = torch.randint(0, 3, (160,), generator=g)
    phrase = torch.randn(3, 2, 10, generator=g)
    place = torch.randint(0, 13, (160,), generator=g)
    for i in range(2):
        vectors[torch.arange(160), place + i] = phrase[labels, i] + 0.2 * torch.randn(160, 10, generator=g)
    kernels = [nn.Conv1d(10, 3, width) for width in (2, 3, 4)]
    model = Net(run, kernels=nn.ModuleList(kernels) if cured else kernels, head=nn.Linear(9, 3))
    return model, (vectors, labels), {"loss": F.cross_entropy}, wrong_on(vectors, labels)


@report(
    "graph", "UG801", area="gnn", action=r"ModuleDict|ParameterDict|ModuleList|regist", steps=200, rate=5e-3,
    source="github.com/pytorch/pytorch/issues/632, 4631",
    cause="one matrix per relation, in a dict of Parameters: the network does not know them, and no "
    "optimizer gets them",
)  # fmt: skip
def relation_weights_in_a_dict(cured: bool):
    def run(net: Net, x: Tensor, relations: Tensor) -> Tensor:
        gathered = sum(relations[:, i] @ x @ net.weights[f"r{i}"] for i in range(3))
        return net.head(torch.tanh(gathered)).mean(1)

    x = molecules(64)[0]
    relations = torch.stack([molecules(64, seed=i)[1] for i in range(3)], 1)
    truth = torch.tanh(
        (relations[:, 0] @ x)[..., 0] - (relations[:, 1] @ x)[..., 1] * (relations[:, 2] @ x)[..., 2]
    )
    weights = {f"r{i}": nn.Parameter(torch.randn(6, 12) * 0.3) for i in range(3)}
    model = Net(run, weights=nn.ParameterDict(weights) if cured else weights, head=nn.Linear(12, 1))
    return model, (x, relations, standard(truth.mean(1))[:, None]), {"loss": F.mse_loss}


@report(
    "graph", "UG802", area="language model", action=r"mask|causal|later|future", steps=80, rate=5e-3,
    source="github.com/rasbt/LLMs-from-scratch/issues/1061",
    cause="scaled_dot_product_attention takes True for `takes part`, and was given the upper triangle: only the future",
)  # fmt: skip
def causal_mask_inverted(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text) + net.places[: text.shape[1]]
        q, k, v = (part.unflatten(2, (2, 16)).transpose(1, 2) for part in net.qkv(x).chunk(3, 2))
        future = torch.ones(text.shape[1], text.shape[1], dtype=torch.bool).triu(1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=~future if cured else future)
        x = x + net.out(mixed.transpose(1, 2).flatten(2))
        return net.head(x + net.mlp(x)).transpose(1, 2)

    text = chains(48, 13, 20)
    x, after = text[:, :-1], text[:, 1:]
    other = x.clone()
    other[:, 6:] = other[:, 6:].roll(1, 0)
    model = Net(
        run, embed=nn.Embedding(20, 32), places=nn.Parameter(torch.randn(16, 32) * 0.1), qkv=nn.Linear(32, 96),
        out=nn.Linear(32, 32), mlp=mlp(32, 64, 32, act=nn.GELU), head=nn.Linear(32, 20),
    )  # fmt: skip
    leak = scored(lambda out: (out[:48, :, :6] - out[48:, :, :6]).abs().max(), torch.cat([x, other]))
    return model, (x, after), {"loss": F.cross_entropy}, leak


@report(
    "graph", "UG807", area="retrieval", action=r"normali|axis|axes|dim", steps=150, rate=3e-3,
    source="github.com/gabeur/mmt/issues/1; vpariza/open-hummingbird-eval/issues/5; xmed-lab/CLIP_Surgery/issues/35",
    cause="F.normalize of (batch, tokens, width) without dim=-1 divides by the norm over the tokens",
)  # fmt: skip
def embeddings_normalized_over_tokens(cured: bool):
    def run(net: Net, video: Tensor, text: Tensor) -> Tensor:
        codes = net.video(video)  # (batch, tokens, width)
        codes = F.normalize(codes, dim=-1) if cured else F.normalize(codes)
        return codes.mean(1) @ F.normalize(net.text(text), dim=-1).T / 0.07

    def pairs(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        meaning = torch.randn(96, 6, generator=g)
        video = meaning[:, None] @ torch.randn(6, 16, generator=seeded(99)) + 0.6 * torch.randn(
            96, 2, 16, generator=g
        )
        return video * (3 * torch.rand(96, 1, 1, generator=g)).exp() / 6, meaning @ torch.randn(
            6, 12, generator=seeded(98)
        )

    video, text = pairs(0)
    later = pairs(1)
    model = Net(run, video=mlp(16, 48, 12), text=mlp(12, 48, 12))
    which = torch.arange(96)
    return model, (video, text, which), {"loss": F.cross_entropy}, wrong_on(later, which)


class NormOverTime(nn.Module):
    """A layer normalization written by hand, with the axis that is normalized."""

    def __init__(self, width: int, axis: int):
        super().__init__()
        self.gain, self.bias, self.axis = (
            nn.Parameter(torch.ones(width)),
            nn.Parameter(torch.zeros(width)),
            axis,
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = x.mean(self.axis, keepdim=True), x.std(self.axis, keepdim=True)
        return self.gain * (x - mean) / (deviation + 1e-3) + self.bias


@report(
    "graph", "", "UG102", area="transformer", action=r"normali|axis|axes|dim", steps=100, rate=3e-3,
    no_rule="layer normalization over time instead of over the features",
    says=r"normali[sz]\w* (over|along|across)|wrong axis|over time|LayerNorm",
    source="github.com/jadore801120/attention-is-all-you-need-pytorch/pull/17; tensorflow/addons/pull/2142",
    cause="mean and deviation are taken over the sequence: what is the same at all times is subtracted",
)  # fmt: skip
def layer_norm_over_time(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        h = h + net.mix(net.first(h).transpose(1, 2)).transpose(1, 2)
        return net.head(net.last(h + net.mlp(net.middle(h))).mean(1))

    g = seeded(2)
    labels = torch.arange(128) % 5
    x = torch.randn(5, 1, 6, generator=g)[labels] + 0.8 * torch.randn(128, 12, 6, generator=g)
    norm = [NormOverTime(24, 2 if cured else 1) for _ in range(3)]
    model = Net(
        run, embed=nn.Linear(6, 24), first=norm[0], mix=nn.Linear(12, 12), middle=norm[1],
        mlp=mlp(24, 48, 24, act=nn.GELU),
        last=norm[2], head=nn.Linear(24, 5),
    )  # fmt: skip
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "graph", "UG102 UG307", "UG403 UG110 UG114", area="cnn", action=r"norm|group|axis|one value", steps=80,
    source="github.com/pytorch/pytorch/issues/19250",
    cause="after pooling to one pixel, a normalization with one channel a group leaves nothing but zeros",
)  # fmt: skip
def instance_norm_of_one_pixel(cured: bool):
    x, labels = glyphs(96, 6)
    body = list(convnet(1, 6, 12, norm=False))[:-2]
    model = nn.Sequential(*body, nn.GroupNorm(1 if cured else 24, 24), nn.Flatten(), nn.Linear(24, 6))
    kwargs = {"loss": F.cross_entropy}
    return model, (x, labels), kwargs, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "graph", "UG403", "UG502", area="contrastive", action=r"no_grad|detach|gradient", steps=150, rate=5e-3,
    source="github.com/edreisMD/ConVIRT-pytorch/issues/7",
    cause="the text's projection runs under torch.no_grad: its weights are trainable and never get a gradient",
)  # fmt: skip
def projection_under_no_grad(cured: bool):
    def run(net: Net, image: Tensor, text: Tensor) -> Tensor:
        with torch.set_grad_enabled(cured and torch.is_grad_enabled()):
            words = net.text(text)
        return F.normalize(net.image(image), dim=1) @ F.normalize(words, dim=1).T / 0.1

    def pairs(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        meaning = torch.randn(160, 5, generator=g)
        image = torch.tanh(meaning @ torch.randn(5, 20, generator=seeded(97))) + 0.1 * torch.randn(
            160, 20, generator=g
        )
        return image, torch.cat(
            [meaning, torch.randn(160, 25, generator=g)], 1
        )  # much of a text is beside the point

    image, text = pairs(3)
    later = pairs(4)
    model = Net(run, image=mlp(20, 48, 6), text=nn.Linear(30, 6))
    which = torch.arange(160)
    score = scored(
        lambda out: F.cross_entropy(out, which).exp() / 160, *later
    )  # among how many a picture is lost
    return model, (image, text, which), {"loss": F.cross_entropy}, score


@report(
    "graph", area="pathology", action=r"frozen|freez|requires_grad|train", steps=200, rate=5e-3,
    no_rule="an encoder with random weights is frozen", says=r"frozen|freez|requires_grad",
    source="github.com/mahmoodlab/TRIDENT/issues/122",
    cause="the helper that makes the slide encoder freezes it, also where it has no pretrained weights",
)  # fmt: skip
def random_encoder_frozen(cured: bool):
    def run(net: Net, patches: Tensor) -> Tensor:
        h = net.embed(patches)
        weights = net.score(torch.tanh(h)).softmax(1)
        return net.head((weights * h).sum(1))

    g = seeded(4)
    labels = torch.arange(128) % 2
    patches = torch.randn(128, 16, 12, generator=g)
    sign = torch.randn(12, generator=g)
    patches[labels == 1, 3] = patches[labels == 1, 3] * 0.5 + sign * 1.2  # one patch tells
    model = Net(run, embed=mlp(12, 24, last=nn.ReLU()), score=nn.Linear(24, 1), head=nn.Linear(24, 2))
    if not cured:
        for part in (model.embed, model.score):
            part.requires_grad_(False)
    return model, (patches, labels), {"loss": F.cross_entropy}, wrong_on(patches, labels)


@report(
    "graph", area="language model", action=r"shar|same|copy|separate", steps=120, rate=5e-3,
    no_rule="a list of heads made by `[head] * 3` is three times the same module", says=r"shar|same module|identical",
    source="github.com/linkedin/Liger-Kernel/pull/269; yassouali/pytorch-segmentation/pull/159",
    cause="multiplying a list copies references: the heads for the next, second and third word are one head",
)  # fmt: skip
def heads_share_one_block(cured: bool):
    def head() -> nn.Module:
        return nn.Sequential(nn.Linear(32, 48), nn.SiLU(), nn.Linear(48, 16))

    text = chains(64, 15, 16, noise=0.0)
    target = torch.stack(
        [text[:, 1 + i : 13 + i] for i in range(3)], 2
    )  # the next, the second, the third word
    model = Net(
        lambda net, x: torch.stack([head(net.rnn(net.embed(x))[0]) for head in net.heads], 3).transpose(1, 2),
        embed=nn.Embedding(16, 24), rnn=nn.GRU(24, 32, batch_first=True),
        heads=nn.ModuleList([head() for _ in range(3)] if cured else [head()] * 3),
    )  # fmt: skip
    return model, (text[:, :12], target), {"loss": F.cross_entropy}, wrong_on(text[:, :12], target)


@report(
    "graph", "UG603", area="transformer", action=r"position|axis|axes|batch", steps=120, rate=5e-3,
    source="github.com/cmu-l3/anlp-fall2025-code/issues/1; songyangco/GETNext/issues/2",
    cause="positions are counted along the batch: all words of a sentence get the same position, and "
    "what it is depends "
    "on the sentence's place in the batch",
)  # fmt: skip
def positions_counted_over_the_batch(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        place = torch.arange(text.shape[1])[None] if cured else torch.arange(len(text))[:, None]
        return net.head(net.encoder(net.embed(text) + net.places(place)).mean(1))

    text, _, labels = sentences(128, 8, 16, 3)
    held = sentences(128, 8, 16, 3, seed=5)
    model = Net(
        run, embed=nn.Embedding(16, 24), places=nn.Embedding(128, 24), encoder=encoder(24, 1), head=nn.Linear(24, 3)
    )  # fmt: skip
    return model, (text, labels), {"loss": F.cross_entropy}, wrong_on(held[0], held[2])


@report(
    "graph", "UG807", area="gnn", action=r"softmax|axis|axes|index", steps=200, rate=5e-3,
    source="github.com/pyg-team/pytorch_geometric/issues/224; chainer/chainer-chemistry/pull/217",
    cause="the softmax runs over the receivers of each sender instead of over the senders of each receiver",
)  # fmt: skip
def edge_softmax_over_sources(cured: bool):
    def run(net: Net, x: Tensor, adjacency: Tensor) -> Tensor:
        scores = net.query(x) @ net.key(x).transpose(1, 2)  # (batch, receiver, sender)
        weights = scores.masked_fill(adjacency == 0, -30.0).softmax(2 if cured else 1)
        return net.head(weights @ net.value(x)).transpose(1, 2)

    g = seeded(6)
    kind, colour, wanted = (torch.randint(0, n, (96, 8), generator=g) for n in (4, 3, 4))
    x = torch.cat([F.one_hot(kind, 4), F.one_hot(colour, 3), F.one_hot(wanted, 4)], 2).float() * 2 - 0.5
    adjacency = (torch.rand(96, 8, 8, generator=g) < 0.6).float()
    match = (wanted[:, :, None] == kind[:, None]) & (adjacency > 0)
    votes = match.float() @ F.one_hot(colour, 3).float()
    labels = torch.where(
        match.any(2), votes.argmax(2), -100
    )  # the colour of most neighbours of the wanted kind
    model = Net(
        run, query=nn.Linear(11, 16), key=nn.Linear(11, 16), value=nn.Linear(11, 16), head=nn.Linear(16, 3)
    )
    return model, (x, adjacency, labels), {"loss": F.cross_entropy}, wrong_on((x, adjacency), labels)


@report(
    "graph", "UG112", "UG403", area="rnn", action=r"softmax|axis|axes|dim", steps=150, rate=5e-3, few=50,
    source="github.com/DEEP-PolyU/KEQA_WSDM19/issues/2; localminimum/R-net/issues/8; "
    "phanideepgampa/stacked-capsule-networks/pull/5",
    cause="the attention has one score a word, and its softmax runs over that axis of one: every weight is 1",
)  # fmt: skip
def attention_over_one_score(cured: bool):
    def run(net: Net, words: Tensor) -> Tensor:
        states = torch.tanh(net.state(words))  # (batch, words, width)
        weights = net.score(states).softmax(1 if cured else 2)
        return net.head((weights * states).sum(1))

    def said(seed: int) -> tuple[Tensor, Tensor]:
        g = seeded(seed)
        labels = torch.randint(0, 4, (160,), generator=g)
        words = 1.5 * torch.randn(160, 30, 12, generator=g)
        words[..., 0] = -1
        place = torch.randint(0, 30, (160,), generator=g)
        kind = torch.cat([torch.ones(4, 1), torch.randn(4, 11, generator=seeded(96))], 1)
        words[torch.arange(160), place] = kind[labels]
        return words, labels

    words, labels = said(7)
    later = said(8)
    model = Net(run, state=nn.Linear(12, 24), score=nn.Linear(24, 1), head=nn.Linear(24, 4))
    return model, (words, labels), {"loss": F.cross_entropy}, wrong_on(*later)
