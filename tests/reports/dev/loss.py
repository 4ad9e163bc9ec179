"""Loss functions: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import (
    Net,
    adam,
    boxes,
    clusters,
    convnet,
    glyphs,
    log,
    mlp,
    ratings,
    rings,
    scored,
    seeded,
    sentences,
    utterances,
    wrong_on,
)  # fmt: skip
from torch import Tensor, nn


@report(
    "loss", "UG105", area="segmentation", action=r"sigmoid|logits", steps=100,
    source="github.com/avBuffer/UNet3plus_pth/issues/23; Turoad/lanedet/issues/32",
    cause="the network ends in a sigmoid, and the loss applies one as well",
)  # fmt: skip
def sigmoid_twice_in_segmentation(cured: bool):
    x, mask, _ = boxes(24)
    layers = [
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 1)
    ]  # fmt: skip
    model = nn.Sequential(*layers, *([] if cured else [nn.Sigmoid()]))
    # what the loss takes for the probability of the mask
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)
    return model, (x, mask), {"loss": F.binary_cross_entropy_with_logits}, score


@report(
    "loss", "UG105", "UG502", area="recommendation", action=r"sigmoid|logits", steps=150, rate=1e-2,
    source="github.com/yudi-mars/daisyRec/pull/15; itakurah/focal-loss-pytorch/pull/5",
    cause="the predicted click is already a probability when BCEWithLogitsLoss takes its sigmoid",
)  # fmt: skip
def sigmoid_twice_in_recommender(cured: bool):
    def run(net: Net, pairs: Tensor) -> Tensor:
        user, item = net.user(pairs[:, 0]), net.item(pairs[:, 1])
        logit = (user * item).sum(1) + net.rest(torch.cat([user, item], 1))[:, 0]
        return logit if cured else logit.sigmoid()

    pairs, clicked = ratings(512)
    model = Net(run, user=nn.Embedding(40, 8), item=nn.Embedding(30, 8), rest=mlp(16, 16, 1))
    score = scored(lambda out: F.binary_cross_entropy_with_logits(out, clicked), pairs)
    return model, (pairs, clicked), {"loss": F.binary_cross_entropy_with_logits}, score


@report(
    "loss", "UG103", "", area="rnn", action=r"softmax", steps=100, rate=5e-3,
    source="github.com/NVIDIA/VariantWorks/pull/134; shaoxiongji/federated-learning/issues/9",
    cause="the recurrent network ends in a softmax, and cross entropy has one of its own",
)  # fmt: skip
def softmax_twice_in_recurrent_net(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        scores = net.head(net.rnn(net.embed(text))[0].mean(1))
        return scores if cured else scores.softmax(1)

    text, _, labels = sentences(160, 8, 20, 4)
    model = Net(run, embed=nn.Embedding(20, 16), rnn=nn.GRU(16, 32, batch_first=True), head=nn.Linear(32, 4))
    return (
        model,
        (text, labels),
        {"loss": F.cross_entropy},
        scored(lambda out: F.cross_entropy(out, labels), text),
    )


def nearest_is_another(codes: Tensor, labels: Tensor) -> Tensor:
    """Share of examples whose nearest other one (of several at one place: any) has another label."""
    distance = torch.cdist(codes, codes, compute_mode="donot_use_mm_for_euclid_dist")
    near = distance <= distance.fill_diagonal_(torch.inf).amin(1, keepdim=True) + 1e-6
    return 1 - ((labels[:, None] == labels) & near).sum(1) / near.sum(1)


@report(
    "loss", "UG114 UG501", "UG102 UG307 UG304 UG403 UG504 UG303 UG503 UG502 UG508", form="probe", area="video",
    action=r"learning rate",
    source="github.com/omoindrot/tensorflow-triplet-loss/issues/6; xiaolonw/caffe-video_triplet/issues/8",
    cause="at this learning rate all embeddings fall on one point, where the loss is the margin and has no gradient",
)  # fmt: skip
def triplet_collapse_at_high_rate(cured: bool):
    x, labels = clusters(192, 32, 12, 1.6, seed=3)
    model = mlp(32, 64, 64, 16, last=nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3 if cured else 0.3)
    g = seeded(1)

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            anchor = torch.randint(0, 192, (64,), generator=g)
            weight = (labels[anchor, None] == labels).float()
            positive = torch.multinomial(weight, 1, generator=g)[:, 0]
            negative = torch.multinomial(1 - weight, 1, generator=g)[:, 0]
            codes = model(x[torch.cat([anchor, positive, negative])]).chunk(3)
            loss = F.triplet_margin_loss(*codes, margin=0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return float(nearest_is_another(model(x), labels).mean())

    return model, optimizer, loop, None, {}


@report(
    "loss", "UG114", "UG102 UG307 UG403 UG502 UG504", form="probe", area="image retrieval",
    action=r"triplet|margin|negative|constant",
    source="github.com/wanggrun/triplet/issues/1; VisualComputingInstitute/triplet-reid/issues/30; "
    "chrischoy/FCGF/issues/25",
    cause="with the hardest negative of the batch from the start, pulling everything to one point is what helps first",
)  # fmt: skip
def triplet_collapse_on_hardest_negatives(cured: bool):
    x, labels = glyphs(96, 8, noise=0.8, seed=2)
    model = nn.Sequential(*list(convnet(1, 16, 8, norm=False))[:-3], nn.Flatten(), nn.Linear(144, 16))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    same = labels[:, None] == labels

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            codes = model(x)
            distance = (codes[:, None] - codes).square().sum(2)
            if cured:  # over all triplets
                gap = (distance[:, :, None] - distance[:, None] + 1).clamp(min=0)
                loss = gap[same[:, :, None] & ~same[:, None]].mean()
            else:
                farthest = distance.masked_fill(~same, 0).amax(1)
                nearest = distance.masked_fill(same, torch.inf).amin(1)
                loss = (farthest - nearest + 1).clamp(min=0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        with torch.no_grad():
            return float(nearest_is_another(model(x), labels).mean())

    return model, optimizer, loop, None, {}


@report(
    "loss", "UG115", "UG304 UG403", area="mlp", action=r"relu|last|drop", steps=150,
    source="github.com/pytorch/tutorials/pull/1644; hunkim/PyTorchZeroToAll/pull/4",
    cause="a ReLU after the last layer: classes whose score is negative everywhere get no gradient",
)  # fmt: skip
def relu_before_cross_entropy_in_mlp(cured: bool):
    x, labels = clusters(256, 16, 10, 0.8, seed=4)
    model = mlp(16, 64, 64, 10, last=None if cured else nn.ReLU())
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "loss", "UG106", "UG504 UG501 UG402 UG302", area="speech", action=r"log_softmax|log.softmax|logarithm", steps=60,
    rate=1e-2, source="github.com/SeanNaren/deepspeech.pytorch/issues/488",
    cause="the CTC loss takes logarithms of probabilities and gets raw scores: it is negative and has no minimum",
)  # fmt: skip
def ctc_without_log_softmax(cured: bool):
    x, text = utterances(24, 4, seed=1)
    frames, lengths = torch.full((24,), 16), torch.full((24,), 4)

    def ctc(out: Tensor, text: Tensor) -> Tensor:
        return F.ctc_loss(out.transpose(0, 1), text, frames, lengths)

    def loss(out: Tensor, text: Tensor) -> Tensor:
        return ctc(out.log_softmax(2) if cured else out, text)

    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.GRU(12, 32, batch_first=True, bidirectional=True),
        head=nn.Linear(64, 7),
    )  # fmt: skip
    kwargs = {"loss": loss, "steps": 20, "optimizer": adam(1e-2)}
    return model, (x, text), kwargs, scored(lambda out: ctc(out.log_softmax(2), text), x)


@report(
    "loss", "UG112", "UG102 UG403", area="tabular", action=r"softmax|sigmoid", steps=150,
    source="github.com/GoogleCloudPlatform/cloudml-samples/pull/241",
    cause="softmax as the last function of a network with one label: its output is always 1",
)  # fmt: skip
def softmax_over_one_label(cured: bool):
    x, labels = rings(192, 2)
    y = labels.float()[:, None]
    model = mlp(2, 32, 32, 1, act=nn.GELU, last=nn.Sigmoid() if cured else nn.Softmax(-1))
    score = scored(lambda out: ((out > 0.5) != y.bool()).float().mean(), x)
    return model, (x, y), {"loss": F.binary_cross_entropy}, score
