"""convert and fold over whole architectures: what becomes of each BatchNorm, and whether it is right.

    python benchmarks/normfree_table.py --out results.md [--only NAME ...] [--without-train]

For each network of timm and torchvision, and those of trap_networks.py: batch norms, counted where torch computes them;
what `preserve` made of them, the distance of its outputs from the original's (rms, relative, in float64 and evaluation
mode), in float32 the distance from the original's float64 output over the original's own; whether it trains for 100
steps at batch size 1, a second conversion changes nothing, and its state dict loads into a rebuilt network; the same
for `fold`; for `train` the standardized layers and the range of the channel variance at the ends of blocks, on
Fashion-MNIST images, enlarged and repeated to three channels (trap_networks.py: noise). Weights are drawn anew, with
gains of both signs and running statistics of two batches. Where a figure is not what it should be the row says so.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import platform
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from trap_networks import TRAPS

import unitgain as ug
from unitgain._batch import tensors_in
from unitgain.data import load_fashion_mnist
from unitgain.normfree import clipping_for, convert, rebuild
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
NETWORKS = [n if ":" in n else f"timm:{n}" for n in (SMALL + LARGE).split()] + list(TRAPS)
STEPS = 100  # of training at batch size 1


def images(count: int, size: int) -> Tensor:
    found = load_fashion_mnist().train.images[:count].float().reshape(count, 1, 28, 28)
    large = nn.functional.interpolate(found, size=size, mode="bilinear")
    return ((large - large.mean()) / large.std()).repeat(1, 3, 1, 1)


def network(name: str, size: int) -> tuple[nn.Module, Any, Any]:
    """(the model, a batch as `convert` takes it, arguments of one example)."""
    torch.manual_seed(0)
    if name in TRAPS:
        return TRAPS[name]()
    options: dict[str, Any] = {"num_classes": 10}
    if name.endswith(("inception_v3", "googlenet")):
        options["init_weights"] = True
    x = images(4, size)
    return load_model(name, options), x, x[:1]


def call(model: nn.Module, given: Any) -> Any:
    return model(*given) if isinstance(given, tuple) else model(given)


def wider(given: Any) -> Any:
    if isinstance(given, Tensor):
        return given.double() if given.is_floating_point() else given
    if isinstance(given, dict):
        return {key: wider(value) for key, value in given.items()}
    return type(given)(map(wider, given)) if isinstance(given, (list, tuple)) else given


@torch.no_grad()
def trained(model: nn.Module, given: Any) -> nn.Module:
    """Gains of both signs, biases, and running statistics that were measured; frozen ones are drawn."""
    for module in model.modules():
        mean = getattr(module, "running_mean", None)
        if not isinstance(mean, Tensor) or module.weight is None:
            continue
        module.weight.uniform_(-0.5, 1.5)  # type: ignore[operator, union-attr]
        module.bias.normal_(0, 0.3)  # type: ignore[operator, union-attr]
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3)  # type: ignore[operator, union-attr]
    model.train()
    for _ in range(2):
        call(model, given)
    return model


def outputs(model: nn.Module, given: Any) -> list[Tensor]:
    with torch.no_grad():
        return [t.double() for t in tensors_in(call(model.eval(), given))]


def exactly(name: str, size: int) -> tuple[str, list[str]]:
    """preserve and fold of a trained network."""
    model, x, alone = network(name, size)
    trained(model, x)
    wide, x64 = copy.deepcopy(model).double(), wider(x)
    truth, own_classes = outputs(wide, x64), classes(model)
    own = distance(outputs(model, x), truth)
    cells, wrong = [], []
    for mode in ("preserve", "fold"):
        report = convert(wide, x64, mode, copy=mode == "preserve")
        off = distance(outputs(report.model, x64), truth)
        counts = Counter(c.how for c in report.changes)
        cells += [" ".join(f"{n} {how}" for how, n in counts.items()) or "nothing", f"{off:.0e}"]
        if off > 1e-9:
            wrong.append(f"{mode}: {off:.0e} off in float64")
        if report.batch_norms[1] and not report.refused:
            wrong.append(f"{mode}: {report.batch_norms[1]} batch norms left in silence")
        if mode == "fold" and (ours := {*report.classes_left} - own_classes):
            wrong.append(f"fold: left {', '.join(ours)}")
    report = convert(model, x, "preserve")
    kept = outputs(model, x)
    here = distance(kept, truth)
    if here > 2 * own:
        wrong.append(f"preserve: in float32 {here / own:.1f}x the original's error")
    if convert(model, x, "preserve").edits:
        wrong.append("preserve: a second conversion changed something")
    again = rebuild(network(name, size)[0], report.edits)
    again.load_state_dict(model.state_dict())
    if distance(outputs(again, x), kept) != 0:
        wrong.append("preserve: a rebuilt network with the same state dict differs")
    wrong += learns(model, alone, "preserve", STEPS if not report.refused else 1)
    cells.insert(2, f"{here / max(own, 1e-12):.2f}")
    return " | ".join([str(report.batch_norms[0]), *cells]), wrong


def classes(model: nn.Module) -> set[str]:
    return {type(m).__name__ for m in model.modules() if type(m).__module__.startswith("unitgain")}


def learns(model: nn.Module, given: Any, mode: str, steps: int) -> list[str]:
    """Steps in training mode with AGC. The outputs are pulled to 0: what is
    asked for is that losses and gradients stay finite and the loss does not rise."""
    model.train()
    for module in model.modules():  # one example's loss would be noise
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9)
    ug.optim.AGC(optimizer, model, clipping=clipping_for(1), exclude=())  # heads too: outputs may begin tiny
    sizes: list[Tensor] = []
    losses: list[float] = []
    try:
        for _ in range(steps):
            found = [t for t in tensors_in(call(model, given)) if t.is_floating_point() and t.requires_grad]
            sizes = sizes or [t.detach().square().mean().clamp_min(1e-6) for t in found]
            loss = torch.stack([t.square().mean() / s for t, s in zip(found, sizes)]).mean()
            optimizer.zero_grad()
            loss.backward()
            bad = [
                n
                for n, p in model.named_parameters()
                if p.grad is not None and not bool(p.grad.isfinite().all())
            ]
            if bad:
                return [f"{mode}: gradient of {bad[0]} not finite"]
            optimizer.step()
            losses.append(float(loss))
    except Exception as error:
        return [f"{mode}: {type(error).__name__} in training with one example: {str(error)[:80]}"]
    tail = sum(losses[-10:]) / len(losses[-10:])
    return (
        [f"{mode}: loss {losses[0]:.2g} to {tail:.2g} in {steps} steps"]
        if not tail <= 1.1 * losses[0]
        else []
    )


def to_train(name: str, size: int) -> tuple[str, list[str]]:
    model, x, _ = network(name, size)
    report = convert(model, x)
    after = [b.after for b in report.blocks]
    judged = report.blocks if report.standardized else []
    wrong = [f"train: variance {b.after:.2f} at {b.name}" for b in judged if not 0.5 <= b.after <= 2]
    coupled = report.coupling[1]
    if coupled is not None and coupled > 1e-4 and not report.refused:
        wrong.append(f"train: examples depend on each other by {coupled:.0e}")
    if report.batch_norms[1] and not report.refused:
        wrong.append(f"train: {report.batch_norms[1]} batch norms left in silence")
    wrong += learns(report.model, x, "train", 1)
    spread = f"{min(after):.2f} to {max(after):.2f}" if after else ""
    return f"{report.standardized} | {len(after)} | {spread}", wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="convert and fold over whole architectures")
    parser.add_argument("--out")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--without-train", action="store_true", help="only preserve and fold")
    arguments = parser.parse_args()
    rows = []
    started = time.time()
    for entry in arguments.only or NETWORKS:
        name, _, size = entry.partition("@")
        try:
            kept, wrong = exactly(name, int(size or 64))
            train, more = ("", []) if arguments.without_train else to_train(name, int(size or 64))
            found = "; ".join([*wrong, *more][:3]) or "right"
            rows.append(" | ".join(["| " + name, kept, *([train] if train else []), found]) + " |")
        except Exception as error:
            rows.append(f"| {name} | {type(error).__name__}: {str(error)[:120]} |")
        print(rows[-1], f"{time.time() - started:.0f} s", flush=True)
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "torchvision", "timm"))
    right = sum(row.endswith("| right |") for row in rows)
    head = (
        f"`python benchmarks/normfree_table.py`: {len(rows)} networks, {right} right in every point. {versions}, "
        f"Python {platform.python_version()}, CPU; four images of 64 x 64 pixels, or as large as the script says; one "
        "draw (seed 0). Columns: batch norms; preserve: what became of them, distance in float64, float32 error over "
        "the original's; fold: likewise; train: standardized layers, blocks, the range of their variances."
    )
    columns = "network | norms | preserve | float64 | float32 | fold | float64"
    columns += " | found" if arguments.without_train else " | layers | blocks | variances | found"
    lines = [
        "# convert and fold over whole architectures",
        "",
        head,
        "",
        f"| {columns} |",
        "|---" * len(columns.split(" | ")) + "|",
    ]
    text = "\n".join([*lines, *rows, ""])
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
