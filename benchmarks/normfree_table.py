"""convert and fold over whole architectures: what becomes of each BatchNorm, and whether it is right.

    python benchmarks/normfree_table.py --out results.md [--only NAME ...]

For each network of timm and torchvision: batch norms, counted where torch computes them; what `preserve` made of them,
the distance of its outputs from the original's (rms, relative, in float64 and evaluation mode), in float32 the distance
from the original's float64 output over the original's own; the same for `fold`, and whether a class of unitgain is left;
for `train` the standardized layers, the least and largest channel variance at the end of a block, on Fashion-MNIST images
enlarged and repeated to three channels, and how far one example's output depends on the others. Weights are drawn anew,
with gains of both signs and running statistics of two batches. Where a figure is not what it should be the row says so.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import platform
import time
from collections import Counter

import torch
from torch import Tensor, nn

from unitgain._batch import tensors_in
from unitgain.data import load_fashion_mnist
from unitgain.normfree import convert
from unitgain.normfree.proving import distance
from unitgain.targets import load_model

SMALL = """timm:resnet18 torchvision:resnet18 timm:resnet50 timm:resnext26ts timm:seresnet18 timm:ecaresnet26t timm:wide_resnet50_2
timm:resnetv2_50 timm:densenet121 torchvision:densenet121 timm:dpn68 timm:mixnet_s timm:repvgg_a0 timm:mobileone_s0
timm:mobilenetv2_050 timm:mobilenetv3_small_100 torchvision:mobilenet_v3_small timm:efficientnet_b0 timm:tf_efficientnet_b0
torchvision:efficientnet_b0 timm:ghostnet_100 timm:regnety_002 timm:regnetx_002 torchvision:regnet_y_400mf timm:skresnet18
timm:res2net50_26w_4s timm:resnest14d timm:hrnet_w18_small timm:dla34 torchvision:shufflenet_v2_x0_5 torchvision:googlenet
torchvision:mnasnet0_5 timm:vovnet39a timm:ese_vovnet19b_dw timm:cspresnet50 timm:cspdarknet53 timm:gernet_s timm:rexnet_100
timm:hardcorenas_a timm:lcnet_050 timm:tinynet_e timm:fbnetc_100 timm:selecsls42b timm:fastvit_t8 timm:mobilevit_xxs
timm:nf_resnet26 timm:convnext_atto timm:resnetv2_50d_gn timm:xception41 torchvision:vgg11_bn""".split()
LARGE = """timm:botnet26t_256@256 timm:levit_128s@224 timm:efficientformer_l1@224 torchvision:inception_v3@128
timm:inception_resnet_v2@96 timm:vit_tiny_patch16_224@224""".split()


def images(count: int, size: int) -> Tensor:
    found = load_fashion_mnist().train.images[:count].float().reshape(count, 1, 28, 28)
    large = nn.functional.interpolate(found, size=size, mode="bilinear")
    return ((large - large.mean()) / large.std()).repeat(1, 3, 1, 1)


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    options = {"num_classes": 10}
    if name.endswith(("inception_v3", "googlenet")):
        options["init_weights"] = True
    return load_model(name, options)


@torch.no_grad()
def trained(model: nn.Module, x: Tensor) -> nn.Module:
    """Gains of both signs, biases, and running statistics that were measured."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            module.weight.uniform_(-0.5, 1.5)
            module.bias.normal_(0, 0.3)
    model.train()
    for _ in range(2):
        model(x)
    return model


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [t.double() for t in tensors_in(model.eval()(x))]


def exactly(name: str, x: Tensor, mode: str) -> tuple[str, list[str]]:
    model = trained(network(name), x)
    truth = outputs(copy.deepcopy(model).double(), x.double())
    own = distance(outputs(model, x), truth)
    wide = copy.deepcopy(model).double()
    convert(wide, x.double(), mode)
    off = distance(outputs(wide, x.double()), truth)
    report = convert(model, x, mode)
    here = distance(outputs(report.model, x), truth)
    counts = Counter(c.how for c in report.changes)
    text = " ".join(f"{n} {how}" for how, n in counts.items()) or "nothing"
    wrong = []
    if off > 1e-9:
        wrong.append(f"{mode}: {off:.0e} off in float64")
    if here > 2 * own:
        wrong.append(f"{mode}: in float32 {here / own:.1f}x the original's error")
    if report.batch_norms[1] and not report.refused:
        wrong.append(f"{mode}: {report.batch_norms[1]} batch norms left in silence")
    ours = [c for c in report.classes_left if c not in network_classes(name)]
    if mode == "fold" and ours:
        wrong.append(f"fold: left {', '.join(ours)}")
    if mode == "preserve":
        wrong += learns(report.model, x[:1], mode)
    if convert(report.model, x, mode).edits:
        wrong.append(f"{mode}: a second conversion changed something")
    return f"{report.batch_norms[0]} | {text} | {off:.0e} | {here / max(own, 1e-12):.2f}", wrong


def network_classes(name: str) -> set[str]:
    return {type(m).__name__ for m in network(name).modules() if type(m).__module__.startswith("unitgain")}


def learns(model: nn.Module, x: Tensor, mode: str) -> list[str]:
    """Forward and backward in training mode with these examples; one is enough."""
    model.train()
    try:
        found = [t for t in tensors_in(model(x)) if t.is_floating_point()]
        sum(t.square().mean() for t in found).backward()  # type: ignore[union-attr]
    except Exception as error:
        return [f"{mode}: {type(error).__name__} in training with {len(x)} examples: {str(error)[:80]}"]
    bad = [n for n, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return [f"{mode}: gradient of {bad[0]} not finite"] if bad else []


def to_train(name: str, x: Tensor) -> tuple[str, list[str]]:
    report = convert(network(name), x)
    after = [b.after for b in report.blocks]
    wrong = [f"train: variance {b.after:.2f} at {b.name}" for b in report.blocks if not 0.5 <= b.after <= 2]
    coupled = report.coupling[1]
    if coupled is not None and coupled > 1e-4 and not report.refused:
        wrong.append(f"train: examples depend on each other by {coupled:.0e}")
    if report.batch_norms[1] and not report.refused:
        wrong.append(f"train: {report.batch_norms[1]} batch norms left in silence")
    wrong += learns(report.model, x, "train")
    spread = f"{min(after):.2f} to {max(after):.2f}" if after else ""
    return f"{report.standardized} | {len(after)} | {spread}", wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out")
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    rows = []
    names = arguments.only or [*SMALL, *LARGE]
    started = time.time()
    for entry in names:
        name, _, size = entry.partition("@")
        x = images(4, int(size or 64))
        try:
            preserve, wrong = exactly(name, x, "preserve")
            fold, more = exactly(name, x, "fold")
            train, last = to_train(name, x)
            fold = " | ".join(fold.split(" | ")[1:])
            found = "; ".join([*wrong, *more, *last][:3]) or "right"
            rows.append(f"| {name} | {preserve} | {fold} | {train} | {found} |")
        except Exception as error:
            rows.append(f"| {name} | | | | | | | | | | {type(error).__name__}: {str(error)[:120]} |")
        print(rows[-1], f"{time.time() - started:.0f} s", flush=True)
    versions = ", ".join(f"{n} {importlib.import_module(n).__version__}" for n in ("torch", "timm"))
    right = sum(row.endswith("| right |") for row in rows)
    text = "\n".join([
        "# convert and fold over whole architectures", "",
        f"`python benchmarks/normfree_table.py`: {len(rows)} networks, {right} right in every point. {versions}, Python "
        f"{platform.python_version()}, CPU; 4 images of 64 x 64 pixels where the table of the script says nothing else; one "
        "draw (seed 0). Columns: batch norms; preserve: what became of them, distance in float64, float32 error over the "
        "original's; fold: likewise; train: standardized layers, blocks, the range of their variances.", "",
        "| network | norms | preserve | float64 | float32 | fold | float64 | float32 | layers | blocks | variances | found |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|", *rows, "",
    ])  # fmt: skip
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
