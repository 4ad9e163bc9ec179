"""Data: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import adam, convnet, glyphs, mlp, scored, seeded, sgd, wrong_on


@report(
    "data", "UG201", "UG501 UG504 UG101 UG302 UG304", area="detection", steps=200, rate=3e-3,
    action=r"normali|mean|standard|scale|255",
    source="github.com/toandaominh1997/EfficientDet.Pytorch/issues/137",
    cause="mean and deviation are those of pictures from 0 to 1, and the pictures are from 0 to 255",
)  # fmt: skip
def statistics_of_another_range(cured: bool):
    x, labels = glyphs(96, 6, 12, channels=3, seed=81)
    pixels = ((x - x.min()) / (x.max() - x.min()) * 255).round()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((pixels / 255 if cured else pixels) - mean[:, None, None]) / std[:, None, None]
    model = convnet(3, 6, 12, norm=False)
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": sgd(0.1)}
    return model, (x, labels), kwargs, scored(lambda out: F.cross_entropy(out, labels), x)


@report(
    "data", area="sequences", action=r"same|identical|repeat|generator|seed|shuffle", steps=150, rate=5e-3,
    no_rule="every batch of the loader is the same: its generator starts from the same seed each time",
    says=r"same (batch|examples)|identical|repeats",
    source="github.com/Atcold/NYU-DLSP20/issues/851",
    cause="the data set ignores the index and draws from a generator of a fixed seed: there is one batch only",
)  # fmt: skip
def one_batch_again_and_again(cured: bool):
    def drawn(seed: int):
        g = seeded(seed)
        labels = torch.randint(0, 4, (16,), generator=g)
        centres = torch.randn(4, 24, generator=seeded(83))
        return centres[labels] + 1.5 * torch.randn(16, 24, generator=g), labels

    batches = [drawn(90 + i if cured else 90) for i in range(24)]
    kwargs = {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(5e-3), "data": batches[1:]}
    fresh = [drawn(200 + i) for i in range(20)]
    x, labels = torch.cat([b[0] for b in fresh]), torch.cat([b[1] for b in fresh])
    return mlp(24, 48, 4), batches[0], kwargs, wrong_on(x, labels)
