"""How right the propagation theory is: nodes of public networks at their own initialization, predicted and measured.

    python experiments/propagation.py [--backward] [--unchecked] [--transformers] [--half in-sight|held-out]
                                      [--only NAME ...] [--json FILE] [--out FILE.md]

Each network runs once on white noise and once on images with the statistics of natural ones (amplitude 1/f, channels
correlated), 16 examples of 64 x 64 pixels (MLPs: 256 of 8 x 8; language models: once, 16 rows of 48 random tokens). A
claim is right if the average channel variance is within 10% of the measured one, and the average squared channel mean
within 10% of the second moment. Where theory is silent, or wrong, it begins anew from what is measured, so that every
node's prediction rests on at least one law and at most on all since the last beginning. --unchecked: once more without
the checks, so that everything that has a law is claimed.

--backward: the gradient's mean square at every node, from independent standard normal values at the output, back.

In sight were the networks that were looked at while the laws were written; the others were run when they were done.
--json keeps what has been measured, and measures the rest.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attention_networks
import transposed_networks
from unitgain import graph as graphs
from unitgain._batch import read_batch
from unitgain._run import in_place
from unitgain.graph import BackwardPropagation, Claim, Graph, Propagation, Tracer
from unitgain.targets import load_model

EXAMPLES, SIDE, RIGHT = 16, 64, 0.1
VISION = {"img_size": SIDE}


def mlp(activation: type[nn.Module], init: Callable[..., Any], **given: Any) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(8):
        layer = nn.Linear(3 * 8**2 if i == 0 else 256, 256)
        init(layer.weight, **given)
        layers += [layer, activation()]
    return nn.Sequential(*layers, nn.Linear(256, 10))


OWN: dict[str, Callable[[], nn.Module]] = {
    "mlp relu": lambda: mlp(nn.ReLU, nn.init.kaiming_normal_),
    "mlp tanh": lambda: mlp(nn.Tanh, nn.init.xavier_normal_, gain=5 / 3),
    "mlp gelu": lambda: mlp(nn.GELU, nn.init.orthogonal_),
    "mlp selu": lambda: mlp(nn.SELU, nn.init.normal_, std=256**-0.5),
    "mlp silu": lambda: mlp(nn.SiLU, nn.init.kaiming_uniform_),
}
OWN |= transposed_networks.IN_SIGHT | transposed_networks.HELD_OUT
OWN |= attention_networks.IN_SIGHT | attention_networks.HELD_OUT
IN_SIGHT: dict[str, dict[str, Any]] = {
    "timm:resnet18": {}, "timm:nf_resnet26": {}, "timm:nf_regnet_b0": {}, "timm:mobilenetv2_100": {},
    "timm:vit_tiny_patch16_224": VISION, "timm:convnext_atto": {}, "torchvision:vgg11": {},
    "torchvision:efficientnet_b0": {}, "torchvision:densenet121": {}, "nf_resnet26": {}, "mlp relu": {}, "mlp tanh": {},
    "timm:regnetx_002": {}, "torchvision:mobilenet_v3_small": {}, "timm:seresnext26t_32x4d": {}, "timm:resnetv2_50": {},
    "torchvision:resnet34": {}, "torchvision:squeezenet1_1": {},
    **{name: {} for name in transposed_networks.IN_SIGHT},
    **{name: {} for name in attention_networks.IN_SIGHT},
}  # fmt: skip
HELD_OUT: dict[str, dict[str, Any]] = {
    "timm:resnet50": {}, "torchvision:vgg11_bn": {}, "torchvision:alexnet": {},
    "torchvision:googlenet": {}, "torchvision:shufflenet_v2_x1_0": {},
    "torchvision:mnasnet0_5": {}, "torchvision:regnet_y_400mf": {},
    "timm:nf_seresnet26": {}, "timm:nf_ecaresnet26": {}, "timm:nf_regnet_b1": {},
    "timm:tf_efficientnet_lite0": {}, "timm:ghostnet_100": {}, "timm:repvgg_a0": {},
    "timm:deit_tiny_patch16_224": VISION, "timm:mixer_s32_224": VISION,
    "timm:poolformer_s12": {},
    "timm:dpn48b": {}, "nf_regnet_b0": {},
    "mlp gelu": {}, "mlp selu": {}, "mlp silu": {},
    **{name: {} for name in transposed_networks.HELD_OUT},
    **{name: {} for name in attention_networks.HELD_OUT},
    "timm:swin_tiny_patch4_window7_224": {"img_size": SIDE, "window_size": 4, "depths": [2, 2, 2, 1]},
    "timm:cait_xxs24_224": {"img_size": SIDE, "depth": 6}, "timm:xcit_nano_12_p16_224": VISION,
}  # fmt: skip


def noise(examples: int, side: int) -> Tensor:
    return torch.randn(examples, 3, side, side, generator=torch.Generator().manual_seed(1))


def images(examples: int, side: int) -> Tensor:
    """Amplitude 1/f, as natural images have; three channels that share most of it; each channel brought to 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None].square() + frequency.square()).sqrt()
    radius[0, 0] = radius[0, 1]
    white = torch.randn(examples, 4, side, side, generator=generator)
    pink = torch.fft.ifft2(torch.fft.fft2(white) / radius).real
    x = pink[:, :1] + 0.4 * pink[:, 1:]
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def tokens(examples: int) -> Tensor:
    size = (examples, attention_networks.LENGTH)
    return torch.randint(attention_networks.VOCABULARY, size, generator=torch.Generator().manual_seed(1))


DATA = {"noise": noise, "images": images}


def propagated(model: nn.Module, x: Tensor, *, checks: bool) -> tuple[Graph, Propagation]:
    """As `ug.spp` runs a model: without dropout, batch norms by the batch's statistics."""
    theory = Propagation(checks=checks)
    tracer = Tracer(model, theory, theory=True)
    with in_place(model), torch.no_grad():
        model.eval()
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.train()
        graphs.run(tracer, read_batch(x, model, "if required").clone())
    return tracer.graph(), theory


def carried_back(model: nn.Module, x: Tensor) -> tuple[Graph, dict[str, Claim]]:
    """As `ug.spp(backward=True)` runs it."""
    theory = BackwardPropagation()
    tracer = Tracer(model, theory, theory=True)
    with in_place(model):
        model.eval()
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.train()
        output = graphs.run(tracer, read_batch(x, model, "if required").clone())
        assert isinstance(output, Tensor)
        (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        theory.predict_back()
    return tracer.graph(), theory.back_by_node


def measure(
    name: str, settings: dict[str, Any], data: str, backward: bool, unchecked: bool = False
) -> dict[str, Any]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        model = OWN[name]() if name in OWN else load_model(name, settings)
        began = time.perf_counter()
        if attention_networks.takes_tokens(model):
            x = tokens(EXAMPLES)
        else:
            x = DATA[data](256, 8) if name.startswith("mlp") else DATA[data](EXAMPLES, SIDE)
        found: dict[str, Any] = {}
        if backward:
            found |= figures(*carried_back(model, x))
        else:
            graph, theory = propagated(model, x, checks=True)
            found |= figures(graph, theory.by_node)
        seconds = time.perf_counter() - began
        if unchecked and not backward:
            graph, free = propagated(model, x, checks=False)
            found["unchecked"] = figures(graph, free.by_node)
    return {"name": name, "data": data, "held_out": name in HELD_OUT, "seconds": round(seconds, 1), **found}


def figures(graph: Graph, by_node: Mapping[str, Claim]) -> dict[str, Any]:
    claims: list[Claim] = [
        c for name, c in by_node.items() if name in graph.nodes and graph[name].kind not in ("input", "block")
    ]
    said = sorted((c for c in claims if c.predicted is not None), key=lambda c: -c.off)
    return {
        "nodes": len(claims), "claimed": len(said), "right": sum(c.off <= RIGHT for c in said),
        "worst": [[c.node, graph[c.node].type, min(c.off, 1e9)] for c in said[:3]],
        "reasons": Counter(c.reason.partition(" (")[0].partition(": chance")[0] for c in claims if c.reason),
    }  # fmt: skip


def _is_transformer(name: str) -> bool:
    parts = ("attention:", "transformers:", "vit_", "deit_", "swin_", "cait_", "xcit_")
    return any(part in name for part in parts)


def page(results: list[dict[str, Any]], backward: bool, *, transformers: bool = False) -> str:
    wanted = [n for n in (*IN_SIGHT, *HELD_OUT) if _is_transformer(n) or not transformers]
    missing = [name for name in wanted if name not in {r["name"] for r in results}]
    free_too = any("unchecked" in r for r in results)
    target = f"propagation-{'backward-' if backward else ''}table"
    target = "propagation-transformers" if transformers else target
    lines = [
        f"# Propagation theory{', gradients' if backward else ''}: predicted and measured, node by node",
        "",
        f"{datetime.date.today()}, torch {torch.__version__}, one CPU thread; `make {target}`. Networks of "
        "timm, torchvision, transformers and unitgain, plain MLPs, small networks with transposed convolutions and "
        "small transformers at their own initialization, seed 0. "
        f"{EXAMPLES} examples of {SIDE} x {SIDE} pixels (MLPs: 256 of 8 x 8): white noise, and images with amplitude "
        f"1/f; language models: {EXAMPLES} rows of {attention_networks.LENGTH} random tokens. "
        + (
            "A gradient of independent standard normal values is put at the output. A claim is right if the gradient's "
            "mean square is within 10% of the measured one. "
            if backward
            else "A claim is right if the average channel variance is within 10% of the measured one and the average "
            "squared channel mean within 10% of the second moment. "
        )
        + "In sight: looked at while the laws were written; held "
        "out: not." + (f" On the list and not run this time: {', '.join(missing)}." if missing else ""),
        "",
        "| half | networks | nodes | claimed | right, of claimed |"
        + (" right without the checks, of all with a law |" if free_too else ""),
        "|---|---|---|---|---|" + ("---|" if free_too else ""),
    ]
    halves = (("in sight", False), ("held out", True), ("both", None))
    for half, later in (*halves, *((f"transformers, {h}", later) for h, later in halves)):
        part = [r for r in results if later is None or r["held_out"] == later]
        if half.startswith("transformers"):
            if transformers:
                break
            part = [r for r in part if _is_transformer(r["name"])]
        if part:
            nodes, claimed, right = (sum(r[k] for r in part) for k in ("nodes", "claimed", "right"))
            free = [r["unchecked"] for r in part if "unchecked" in r]
            share = sum(f["right"] for f in free) / max(sum(f["claimed"] for f in free), 1)
            lines.append(
                f"| {half} | {len({r['name'] for r in part})} | {nodes} | {claimed / nodes:.1%} | "
                f"{right / claimed:.1%} |" + (f" {share:.1%} |" if free else "")
            )
    lines += [
        "",
        "| network | data | nodes | claimed | right | worst claims, off by |",
        "|---|---|---|---|---|---|",
    ]
    for r in sorted(results, key=lambda r: (r["held_out"], r["name"], r["data"])):
        worst = (
            ", ".join(f"{node} {off:.0%}" for node, _, off in r["worst"] if off > RIGHT) or "none beyond 10%"
        )
        later = " (held out)" if r["held_out"] else ""
        lines.append(
            f"| {r['name']}{later} | {r['data']} | {r['nodes']} | {r['claimed'] / r['nodes']:.0%} | "
            f"{r['right'] / max(r['claimed'], 1):.1%} | {worst} |"
        )
    reasons: Counter[str] = Counter()
    for r in results:
        reasons.update(r["reasons"])
    lines += ["", "Why theory was silent, nodes of all networks:", ""]
    lines += [f"- {count}: {reason}" for reason, count in reasons.most_common(20)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--unchecked", action="store_true")
    parser.add_argument("--transformers", action="store_true", help="of the list these alone")
    parser.add_argument("--half", choices=("in-sight", "held-out"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = {
        **(IN_SIGHT if options.half != "held-out" else {}),
        **(HELD_OUT if options.half != "in-sight" else {}),
    }
    results = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    known = {(r["name"], r["data"]) for r in results}
    for name, settings in rows.items():
        of_tokens = name.startswith("transformers:") or name in attention_networks.OF_TOKENS
        for data in ("tokens",) if of_tokens else DATA:
            if (name, data) in known or (options.only and name not in options.only):
                continue
            if options.transformers and not _is_transformer(name):
                continue
            try:
                result = measure(name, settings, data, options.backward, options.unchecked)
            except Exception as error:  # one network that raises must not end the survey
                print(f"{name:34} {data:7} {type(error).__name__}: {str(error)[:200]}", flush=True)
                continue
            results.append(result)
            claimed, right = result["claimed"] / result["nodes"], result["right"] / max(result["claimed"], 1)
            worst = ", ".join(f"{n} {off:.2f}" for n, _, off in result["worst"])
            print(
                f"{name:34} {data:7} {result['nodes']:4} nodes, claimed {claimed:6.1%}, right {right:6.1%}, "
                f"{result['seconds']} s; {worst}",
                flush=True,
            )
            if options.json:
                options.json.write_text(json.dumps(results, indent=1))
    if options.out:
        options.out.write_text(page(results, options.backward, transformers=options.transformers))


if __name__ == "__main__":
    main()
