"""convert and fold over whole architectures: what becomes of each BatchNorm, and whether it is right.

    python benchmarks/normfree_table.py --out results.md [--only NAME ...]

For each network of timm and torchvision: batch norms, counted where torch computes them; what `preserve` made of
them, the distance of its outputs from the original's (rms, relative, in float64 and evaluation mode), in float32 the
distance from the original's float64 output over the original's own; the same for `fold`; for `train` the standardized
layers and the range of the channel variance at the ends of blocks, on Fashion-MNIST images, enlarged and repeated to
three channels. Weights are drawn anew, with gains of both signs and running statistics of two batches. Where a figure
is not what it should be the row says so.
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

SMALL = """
resnet18 torchvision:resnet18 resnet50 resnext26ts seresnet18 ecaresnet26t wide_resnet50_2 resnetv2_50 densenet121
torchvision:densenet121 dpn68 mixnet_s repvgg_a0 mobileone_s0 mobilenetv2_050 mobilenetv3_small_100
torchvision:mobilenet_v3_small efficientnet_b0 tf_efficientnet_b0 torchvision:efficientnet_b0 ghostnet_100 regnety_002
regnetx_002 torchvision:regnet_y_400mf skresnet18 res2net50_26w_4s resnest14d hrnet_w18_small dla34
torchvision:shufflenet_v2_x0_5 torchvision:googlenet torchvision:mnasnet0_5 vovnet39a ese_vovnet19b_dw cspresnet50
cspdarknet53 gernet_s rexnet_100 hardcorenas_a lcnet_050 tinynet_e fbnetc_100 selecsls42b fastvit_t8 mobilevit_xxs
nf_resnet26 convnext_atto resnetv2_50d_gn xception41 torchvision:vgg11_bn
"""
LARGE = """
botnet26t_256@256 levit_128s@224 efficientformer_l1@224 torchvision:inception_v3@299 inception_resnet_v2@96
vit_tiny_patch16_224@224
"""
NETWORKS = [n if ":" in n else f"timm:{n}" for n in (SMALL + LARGE).split()]


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


def exactly(name: str, x: Tensor) -> tuple[str, list[str]]:
    """preserve and fold of a trained network."""
    model = trained(network(name), x)
    wide = copy.deepcopy(model).double()
    truth, own_classes = outputs(wide, x.double()), classes(model)
    own = distance(outputs(model, x), truth)
    cells, wrong = [], []
    for mode in ("preserve", "fold"):
        report = convert(wide, x.double(), mode, copy=mode == "preserve")
        off = distance(outputs(report.model, x.double()), truth)
        counts = Counter(c.how for c in report.changes)
        cells += [" ".join(f"{n} {how}" for how, n in counts.items()) or "nothing", f"{off:.0e}"]
        if off > 1e-9:
            wrong.append(f"{mode}: {off:.0e} off in float64")
        if report.batch_norms[1] and not report.refused:
            wrong.append(f"{mode}: {report.batch_norms[1]} batch norms left in silence")
        if mode == "fold" and (ours := {*report.classes_left} - own_classes):
            wrong.append(f"fold: left {', '.join(ours)}")
    report = convert(model, x, "preserve")
    here = distance(outputs(model, x), truth)
    if here > 2 * own:
        wrong.append(f"preserve: in float32 {here / own:.1f}x the original's error")
    if convert(model, x, "preserve").edits:
        wrong.append("preserve: a second conversion changed something")
    wrong += learns(model, x[:1], "preserve")
    cells.insert(2, f"{here / max(own, 1e-12):.2f}")
    return " | ".join([str(report.batch_norms[0]), *cells]), wrong


def classes(model: nn.Module) -> set[str]:
    return {type(m).__name__ for m in model.modules() if type(m).__module__.startswith("unitgain")}


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
    judged = report.blocks if report.standardized else []
    wrong = [f"train: variance {b.after:.2f} at {b.name}" for b in judged if not 0.5 <= b.after <= 2]
    coupled = report.coupling[1]
    if coupled is not None and coupled > 1e-4 and not report.refused:
        wrong.append(f"train: examples depend on each other by {coupled:.0e}")
    if report.batch_norms[1] and not report.refused:
        wrong.append(f"train: {report.batch_norms[1]} batch norms left in silence")
    wrong += learns(report.model, x, "train")
    spread = f"{min(after):.2f} to {max(after):.2f}" if after else ""
    return f"{report.standardized} | {len(after)} | {spread}", wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="convert and fold over whole architectures")
    parser.add_argument("--out")
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    rows = []
    names = arguments.only or NETWORKS
    started = time.time()
    for entry in names:
        name, _, size = entry.partition("@")
        x = images(4, int(size or 64))
        try:
            kept, wrong = exactly(name, x)
            train, more = to_train(name, x)
            found = "; ".join([*wrong, *more][:3]) or "right"
            rows.append(f"| {name} | {kept} | {train} | {found} |")
        except Exception as error:
            rows.append(f"| {name} | | | | | | | | | {type(error).__name__}: {str(error)[:120]} |")
        print(rows[-1], f"{time.time() - started:.0f} s", flush=True)
    versions = ", ".join(f"{n} {importlib.import_module(n).__version__}" for n in ("torch", "timm"))
    right = sum(row.endswith("| right |") for row in rows)
    head = (
        f"`python benchmarks/normfree_table.py`: {len(rows)} networks, {right} right in every point. {versions}, "
        f"Python {platform.python_version()}, CPU; four images of 64 x 64 pixels, or as large as the script says; one "
        "draw (seed 0). Columns: batch norms; preserve: what became of them, distance in float64, float32 error over "
        "the original's; fold: likewise; train: standardized layers, blocks, the range of their variances."
    )
    columns = "network | norms | preserve | float64 | float32 | fold | float64 | layers | blocks | variances"
    lines = [
        "# convert and fold over whole architectures",
        "",
        head,
        "",
        f"| {columns} | found |",
        "|---" * 11 + "|",
    ]
    text = "\n".join([*lines, *rows, ""])
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
