"""Axes, masks and the graph: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, houses, mlp, molecules, scored, seeded, sentences, standard, wrong_on
from torch import Tensor, nn


@report(
    "graph", "UG807 UG603", area="world models", action=r"softmax|axis|axes|dim", steps=120, rate=5e-3,
    source="github.com/ctallec/world-models/issues/10",
    cause="the mixture's weights are a log-softmax over the axis of the batch, not over the Gaussians",
)  # fmt: skip
def mixture_weights_over_the_batch(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        weight, place = net.body(x).chunk(2, 1)
        return torch.cat([weight.log_softmax(1 if cured else 0), place], 1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        weight, place = out.chunk(2, 1)
        return -torch.logsumexp(weight - 0.5 * ((y - place) / 0.3).square(), 1).mean()

    x, y = houses(160, 6, seed=11)
    y = y * torch.randn(160, 1, generator=seeded(12)).sign()  # two modes
    total = scored(lambda out: (out[:, :5].exp().sum(1) - 1).abs().mean(), x)
    return Net(run, body=mlp(6, 32, 10)), (x, y), {"loss": loss}, total


class Front(nn.Module):
    """A convolution block with a residual connection and dropout at its end."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.GELU())
        self.reduce, self.drop, self.cured = nn.Conv1d(width, width, 1), nn.Dropout(0.1), cured

    def forward(self, x: Tensor) -> Tensor:
        out = self.convs(x)
        out = out + self.reduce(x)
        return self.drop(out if self.cured else x)


@report(
    "graph", "UG403", "UG803", area="speech", action=r"not used|unused|reach|forward|gradient", steps=150, rate=5e-3,
    source="github.com/speechbrain/speechbrain/issues/1124",
    cause="dropout at the end of the block is given the block's input: the sum of both branches is computed and lost",
)  # fmt: skip
def sum_lost_before_dropout(cured: bool):
    g = seeded(22)
    x = torch.randn(128, 3, 16, generator=g)
    labels = ((x[:, 0] * x[:, 1]).mean(1) > 0).long()
    model = nn.Sequential(
        nn.Conv1d(3, 16, 3, padding=1), Front(16, cured), Front(16, cured), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "graph", "UG603", "UG806 UG116", area="language model", action=r"repeat|order|interleav|example|axis", steps=150,
    rate=5e-3,
    source="github.com/wenet-e2e/west/pull/121",
    cause="contexts are repeated as a whole (s0 s1 s0 s1), their completions one by one (s0 s0 s1 s1): pairs are mixed",
)  # fmt: skip
def repeated_as_a_whole(cured: bool):
    def run(net: Net, context: Tensor, answers: Tensor) -> Tensor:
        count = answers.shape[1]
        repeated = context.repeat_interleave(count, 0) if cured else context.repeat(count, 1)
        return net.judge(torch.cat([repeated, answers.flatten(0, 1)], 1)).view(len(context), count)

    def asked(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        g = seeded(seed)
        context, answers = torch.randn(192, 6, generator=g), torch.randn(192, 4, 6, generator=g)
        return context, answers, (answers * context[:, None]).sum(2).argmax(1)

    context, answers, labels = asked(24)
    later = asked(25)
    model = Net(run, judge=mlp(12, 64, 1))
    return model, (context, answers, labels), {"loss": F.cross_entropy}, wrong_on(later[:2], later[2])


@report(
    "graph", "UG805", area="vision transformer", action=r"mask|padding|softmax", steps=120, rate=3e-3,
    source="github.com/huggingface/pytorch-image-models/pull/2236",
    cause="attention's mask is applied after the softmax, which has shared the weights with padding before",
)  # fmt: skip
def mask_after_the_softmax(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        real = (text != 0)[:, None]
        x = net.embed(text)
        q, k, v = net.qkv(x).chunk(3, 2)
        scores = q @ k.transpose(1, 2) / 24**0.5
        if cured:
            weights = scores.masked_fill(~real, -torch.inf).softmax(2)
        else:
            weights = scores.softmax(2).masked_fill(~real, 0.0)
        x = x + net.out(weights @ v)
        return net.head((x * real.transpose(1, 2)).sum(1) / real.sum(2))

    text, _, labels = sentences(128, 12, 16, 3, shortest=4)
    wider = F.pad(text, (0, 28))
    model = Net(
        run, embed=nn.Embedding(16, 24), qkv=nn.Linear(24, 72), out=nn.Linear(24, 24), head=nn.Linear(24, 3)
    )

    def of_padding(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model(text) - model(wider)).abs().mean())

    return model, (text, labels), {"loss": F.cross_entropy}, of_padding


@report(
    "graph", "UG205", area="molecules", action=r"input|edge|feature|unused|not used", steps=200, rate=5e-3,
    no_rule="an input of the model is overwritten: nothing that it says reaches the output",
    says=r"input.{0,60}(not used|unused|no effect|ignored|does not reach|makes no difference|never)",
    source="github.com/lucidrains/egnn-pytorch/issues/6",
    cause="the features of edges are overwritten by the distances of their atoms: the model never sees them",
)  # fmt: skip
def features_of_edges_thrown_out(cured: bool):
    def run(net: Net, atoms: Tensor, bonds: Tensor, edges: Tensor) -> Tensor:
        distance = (atoms[:, :, None] - atoms[:, None]).square().sum(3, keepdim=True)
        edges = torch.cat([distance, edges], 3) if cured else distance.expand(-1, -1, -1, 2)
        messages = torch.relu(net.message(edges)) * bonds[..., None]
        return net.head(torch.cat([atoms, messages.sum(2) / 4], 2).mean(1))

    atoms, bonds = molecules(96, 8, 3, seed=27)
    edges = torch.randn(96, 8, 8, 1, generator=seeded(28))
    y = standard((edges[..., 0].clamp(min=0) * bonds).mean((1, 2)))[:, None]
    model = Net(run, message=nn.Linear(2, 16), head=mlp(19, 24, 1))
    return model, (atoms / 2, bonds, edges, y), {"loss": F.mse_loss}
