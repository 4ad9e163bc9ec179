"""Synthetic Records: what a Probe would write for an MLP, a large ResNet, a training, and a hostile model."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unitgain.record import ATOMS, LOG2_HIGH, LOG2_LOW, SIGNED_BINS, Record, pack_map
from unitgain.rules import Diagnosis, Finding

sys.path.insert(0, str(Path(__file__).parents[1] / "_base"))  # browser.py

HOSTILE = "<script>alert(1)</script>"
VERY_LONG = "encoder." + ".".join(f"stage{i}" for i in range(40)) + ".conv"


def histograms(values: np.ndarray) -> list[tuple[str, float, float, np.ndarray]]:
    atoms = [int((values == atom).sum()) for atom in ATOMS]
    others = values[~np.isin(values, ATOMS)]
    high = 2.0 ** np.ceil(np.log2(max(float(np.abs(values).max()), 1e-12)))
    low = -high if (values < 0).any() else 0.0
    signed, _ = np.histogram(others, bins=SIGNED_BINS, range=(low, high))
    magnitudes = np.abs(values)
    logs = np.log2(magnitudes[magnitudes > 0])
    log2, _ = np.histogram(np.clip(logs, LOG2_LOW, LOG2_HIGH - 1e-3), bins=64, range=(LOG2_LOW, LOG2_HIGH))
    both = np.concatenate([signed, atoms])
    return [("signed", low, high, both), ("log2", float(LOG2_LOW), float(LOG2_HIGH), log2)]


def statistics(values: np.ndarray, **more: float) -> dict[str, float]:
    return {
        "count": float(values.size),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "rms": float(np.sqrt((values**2).mean())),
        "min": float(values.min()),
        "max": float(values.max()),
        "absmax": float(np.abs(values).max()),
        "zero": float((values == 0).mean()),
        "nonfinite": 0.0,
        **more,
    }


class Builder:
    """Adds layers one after another, each drawn from a scaled normal and its function."""

    def __init__(self, steps: int = 1, mode: str = "check", seed: int = 0, samples: int = 400):
        self.record, self.steps = Record(), steps
        self.random, self.samples = np.random.default_rng(seed), samples
        self.position = 0
        self.record.set_meta("facts", {"mode": mode, "model": {"class": "Net", "parameters": {"all": 11897}}})

    def tensor(self, kind, name, draw, stats=None, hist=True, **site):
        added = self.record.add_site(kind, name, position=self.position, **site)
        for step in range(self.steps):
            values = draw(step)
            self.record.add_scalars(
                step, {added.id: statistics(values, **(stats(values, step) if stats else {}))}
            )
            if hist:
                self.record.add_histograms([(step, added.id, *h) for h in histograms(values)])

    def normal(self, scale):
        return lambda step: self.random.normal(0, scale(step) if callable(scale) else scale, self.samples)

    def input(self, name="input", shape=(32, 3, 28, 28), scale=1.0):
        self.tensor("input", name, self.normal(scale), module="Tensor", shape=shape)

    def layer(
        self,
        name,
        module,
        scale,
        gradient,
        *,
        function=None,
        weight=None,
        shape=(32, 100),
        role="linear",
        ratio=-2.4,
        update=-3.0,
    ):
        """One activation with its gradient and, if weight is a scale, its parameter, gradient and update."""
        self.position += 1
        normal = self.normal(scale)
        shaped = {None: lambda v: v, "tanh": np.tanh, "relu": lambda v: np.maximum(v, 0)}[function]

        def more(values, step):
            found = {"cosine": 0.1, "spread": 0.9}
            if function == "tanh":
                found["saturated"] = float((np.abs(values) > 0.97).mean())
            if function:
                found |= {"units": 100.0, "dead": 40.0 if name.endswith("sick") else 0.0}
            return found

        attributes = {
            "role": "activation" if function else role,
            "function": function,
            "leaf": True,
            "path": name,
            "parameters": [f"{name}.weight"] if weight else [],
        }
        site = {"module": module, "shape": shape, "channel_axis": 1}
        self.tensor("activation", name, lambda s: shaped(normal(s)), more, attributes=attributes, **site)
        self.tensor("gradient", name, self.normal(gradient), attributes=attributes, **site)
        if weight:
            parameter = {
                "module": module,
                "shape": (100, 100),
                "attributes": {
                    "path": name,
                    "role": "weight",
                    "trainable": True,
                    "fan_in": 100,
                    "site": name,
                },
            }
            noise = self.random.normal(0, 0.2, self.steps)
            self.tensor("parameter", f"{name}.weight", self.normal(weight), **parameter)
            self.tensor(
                "parameter_gradient",
                f"{name}.weight",
                self.normal(weight * 10**ratio),
                lambda v, s: {"ratio": ratio + noise[s]},
                **parameter,
            )
            self.tensor(
                "update",
                f"{name}.weight",
                self.normal(weight * 10**update),
                lambda v, s: {"ratio": update + noise[s]},
                hist=False,
                **parameter,
            )

    def saturation_map(self, site, scale):
        values = np.tanh(self.random.normal(0, scale, (32, 200)))
        values[:, 17] = 1.0  # one unit stuck in its tail
        self.record.set_meta(
            "saturation_maps",
            {**self.record.meta.get("saturation_maps", {}), site: pack_map(np.abs(values) > 0.97)},
        )


def tanh_mlp(depth=5, steps=1, growth=1.6, mode="check"):
    """The makemore kind of network, its pre-activations too large when growth > 1."""
    build = Builder(steps, mode, samples=2000)
    build.input(shape=(32, 30))
    for i in range(depth):
        scale = growth ** (depth - i) if growth > 1 else 1.0
        build.layer(
            f"layers.{2 * i}", "Linear", scale, 1e-3 * 1.3**i, weight=0.1 * scale, ratio=-2.2 + 0.1 * i
        )
        build.layer(f"layers.{2 * i + 1}", "Tanh", scale, 1e-3 * 1.3**i, function="tanh")
        build.saturation_map(f"layers.{2 * i + 1}", scale)
    build.layer("head", "Linear", 10.0 if growth > 1 else 0.3, 4e-3, weight=1.0, shape=(32, 27))
    for step in range(steps):
        build.record.log(step, loss=3.3 + 24 * 0.9**step)
    return build.record


def resnet(sites=300, steps=1):
    build = Builder(steps, samples=200)
    build.input(shape=(8, 3, 224, 224))
    kinds = [("conv", "Conv2d", None), ("bn", "BatchNorm2d", None), ("act", "ReLU", "relu")]
    for i in range(sites - 1):
        part, module, function = kinds[i % 3]
        name = f"layer{1 + 4 * i // sites}.{i // 9 % 6}.{part}{1 + i // 3 % 3}" + (
            f"_{i}" if i >= 216 else ""
        )
        if name in {s.name for s in build.record.sites("activation")}:
            name += f"_{i}"
        build.layer(
            name + ("_sick" if i == 137 else ""),
            module,
            0.6 + 0.4 * np.sin(i / 9) ** 2,
            1e-4 * 1.01**i,
            function=function,
            weight=0.05 if part == "conv" else None,
            shape=(8, 64, 56, 56),
            ratio=-3 + 0.5 * np.sin(i / 20),
        )
    return build.record


def training(steps=40, depth=8):
    """A training in which the first layers die."""
    build = Builder(steps, "training", samples=800)
    build.input()
    for i in range(depth):
        build.layer(
            f"conv{i + 1}",
            "Conv2d",
            lambda s, i=i: 1.0 + s / 20 * (i == 2),
            1e-3,
            weight=0.1,
            shape=(512, 8, 14, 14),
            update=-3 + 0.15 * i,
        )
        build.layer(
            f"relu{i + 1}",
            "ReLU",
            lambda s, i=i: max(1.0 - s / 30, 1e-4) if i < 2 else 1.0,
            1e-3,
            function="relu",
            shape=(512, 8, 14, 14),
        )
    for step in range(steps):
        build.record.log(step, loss=2.3 * 0.95**step, lr=0.1)
    return build.record


def hostile():
    """Names and numbers that break careless reports: markup, controls, wide and endless names, NaN, zero."""
    build = Builder()
    build.record.set_meta("facts", {"model": {"class": HOSTILE}, "mode": "check"})
    build.input("input[<b>]")
    for name in (
        HOSTILE,
        "[red]alarm[/red]",
        "\x1b[31mred",
        "a\nb",
        "层" * 60,
        VERY_LONG,
        "</script><!--",
        "{{x}}",
    ):
        build.layer(name, "[bold]<i>", 1.0, 1e-3, weight=0.1)
    for i, row in enumerate(
        (
            {},
            {"mean": float("nan"), "nonfinite": 1.0},
            {"std": 0.0, "rms": 0.0, "mean": 0.0},
            {"std": float("inf"), "rms": float("inf")},
            {"std": 1e-30, "rms": 1e-30},
        )
    ):
        site = build.record.add_site("activation", f"odd{i}", position=90 + i, module="Odd", shape=())
        build.record.add_scalars(0, {site.id: row})
    return build.record


def sick(site="layers.1"):
    return Diagnosis(
        findings=(
            Finding(
                "UG101",
                "confident-at-init",
                "error",
                None,
                "the loss starts at 27.88; a network that knows nothing has 3.30 (27 classes)",
                {"loss": 27.8817, "expected_loss": 3.2958, "factor": 8.46, "classes": 27},
                "The logits are far from zero before anything was learned (rms 10.1), so the network is "
                "confidently wrong and the first steps only shrink the last layer.",
                "Multiply the last layer's weight by 0.01 and set its bias to zero.",
                "The first loss falls to about 3.30 and the hockey stick in the loss curve goes away.",
                "Run the check again: UG101 is gone and the loss is within 20% of ln(27).",
                True,
                ("The head's gradient:data ratio is 12 times that of its peers.",),
            ),
            Finding(
                "UG303",
                "saturated",
                "error",
                site,
                f"{site}: 68% of tanh's outputs are in its flat tails",
                {
                    "saturated": 0.68,
                    "limit": 0.15,
                    "sites": [f"layers.{i}" for i in range(1, 10, 2)],
                    "gain": float("nan"),
                },
                "The pre-activations have a standard deviation of 10, where tanh passes almost no gradient.",
                "Initialize the weight with standard deviation (5/3)/sqrt(fan_in) = 0.30.",
                "Saturation falls below 5%, the gradient reaches the embedding.",
                "The histogram is no longer two spikes.",
                True,
            ),
            Finding(
                "UG601",
                "redundant-bias",
                "info",
                "layers.0",
                "layers.0: its bias does nothing",
                {},
                "",
                "Remove it.",
            ),
        ),
        verdict="sick: it starts confidently wrong, and its tanh layers are saturated",
        status="sick",
        first_action="Multiply the last layer's weight by 0.01 and set its bias to zero.",
        abstained={"UG501": "no optimizer step was rehearsed; pass steps=10"},
    )


def healthy():
    return Diagnosis(
        (), "healthy: activations and gradients keep their scale over 300 sites", "healthy", "", {}
    )


def hostile_diagnosis():
    finding = Finding(
        "UG301",
        HOSTILE,
        "warning",
        HOSTILE,
        f"{HOSTILE} [red]x[/red] \x1b[31m",
        {HOSTILE: HOSTILE, "nan": float("nan")},
        HOSTILE,
        "[bold]do",
        "</script>",
        "\u2028",
        False,
        (HOSTILE,),
    )
    return Diagnosis((finding,), f"sick: {HOSTILE} [red]", "sick", f"[red]{HOSTILE}", {"UG1": HOSTILE})


@pytest.fixture(scope="session")
def make():
    """The factories: make.tanh_mlp(), make.resnet(), make.training(), make.hostile(), make.sick(), ..."""
    names = ("Builder", "tanh_mlp", "resnet", "training", "hostile", "sick", "healthy", "hostile_diagnosis")
    return SimpleNamespace(**{name: globals()[name] for name in names}, HOSTILE=HOSTILE, VERY_LONG=VERY_LONG)


@pytest.fixture(scope="session")
def large(make):
    return make.resnet(300)
