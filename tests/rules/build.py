"""A small language for synthetic records: a network described layer by layer, without torch.

    net = Net().input().linear("fc1").act("relu1").linear("fc2", output=True).classifier(10)
    net.diagnose().findings

Every layer goes into the next one unless `inputs=` says otherwise. By default all is healthy:
rms 1, gradients of norm 1 per example, different examples, a loss of ln(C).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unitgain.record import Record
from unitgain.rules import Diagnosis, diagnose

BOUNDS = {"tanh": [-1, 1], "sigmoid": [0, 1], "hardsigmoid": [0, 1], "relu6": [0, 6], "relu": [0, None]}


class Net:
    def __init__(self, examples: int = 64, mode: str = "check", steps: int = 1):
        self.record, self.examples, self.steps = Record(), examples, steps
        self.facts: dict[str, Any] = {"mode": mode}
        self.last: str | None = None
        self.position = 0

    # ---- sites ---------------------------------------------------------------------------------------------

    def put(self, kind: str, name: str, rows: Any, **site: Any) -> None:
        """A site with one row of statistics, or a list of rows for the steps 0, 1, ..."""
        added = self.record.add_site(kind, name, **site)
        for step, row in enumerate(rows if isinstance(rows, list) else [rows] * self.steps):
            self.record.add_scalars(step, {added.id: row})

    def input(self, name: str = "input", shape: Sequence[int] = (3, 8, 8), **stats: Any) -> Net:
        attributes = {
            k: stats.pop(k) for k in ("integer", "channel_mean", "channel_std", "bad_examples") if k in stats
        }
        full = (self.examples, *shape)
        row = {
            "mean": 0.0,
            "std": 1.0,
            "min": -3.0,
            "max": 3.0,
            "nonfinite": 0.0,
            "spread": 1.0,
            "cosine": 0.0,
        }
        row |= {"count": math.prod(full), **stats}
        row.setdefault("rms", math.hypot(row["mean"], row["std"]))
        self.put("input", name, row, position=0, shape=full, channel_axis=1 if len(full) > 1 else None,
                 attributes={"batch_axis": 0, **attributes})  # fmt: skip
        self.last = self.last or name
        return self

    def layer(
        self,
        name: str,
        role: str,
        *,
        shape: Sequence[int] = (32,),
        inputs: Sequence[str] | None = None,
        gradient: float | None = 1.0,
        module: str = "",
        attributes: dict[str, Any] | None = None,
        **stats: Any,
    ) -> Net:
        """gradient: norm per example of the gradient at this output; None: no gradient site."""
        self.position += 1
        full = (self.examples, *shape)
        given = [self.last] if inputs is None and self.last else list(inputs or ())
        about = {"path": name, "role": role, "inputs": given, "batch_axis": 0, **(attributes or {})}
        where = {"position": self.position, "shape": full, "channel_axis": 1}
        common = {**where, "module": module or role, "attributes": about}
        count = math.prod(full)
        row = {"count": count, "mean": 0.0, "std": 1.0, "rms": 1.0, "absmax": 4.0, "min": -4.0, "max": 4.0,
               "zero": 0.0, "nonfinite": 0.0, "spread": 0.9, "cosine": 0.1}  # fmt: skip
        self.put("activation", name, row | stats, **common)
        if gradient is not None:
            rms = gradient / math.sqrt(count / self.examples)
            self.put(
                "gradient",
                name,
                {"rms": rms, "absmax": 4 * rms, "nonfinite": float(gradient != gradient)},
                **common,
            )
        self.last = name
        return self

    def linear(
        self,
        name: str,
        *,
        bias: bool = True,
        weight: dict[str, Any] | None = None,
        output: bool = False,
        **more: Any,
    ) -> Net:
        names = [f"{name}.weight", *([f"{name}.bias"] if bias else [])]
        self.layer(name, "linear", attributes={"parameters": names, "output": output}, **more)
        self.parameter(names[0], shape=(32, 32), role="weight", site=name, **(weight or {}))
        if bias:
            self.parameter(names[1], shape=(32,), role="bias", site=name, **{**(weight or {}), "absmax": 0.0})
        return self

    def act(self, name: str, function: str = "relu", output: bool = False, **more: Any) -> Net:
        attributes = {"function": function, "bounds": BOUNDS.get(function), "output": output}
        unbounded_zero = {"zero": 0.5} if function in ("relu", "relu6") else {}
        return self.layer(
            name, "activation", attributes=attributes, **{"units": 32, "dead": 0, **unbounded_zero, **more}
        )

    def norm(self, name: str, subtracts_mean: str | None = "channel", **more: Any) -> Net:
        return self.layer(name, "norm", attributes={"subtracts_mean": subtracts_mean}, **more)

    def parameter(
        self,
        name: str,
        *,
        shape: Sequence[int] = (32, 32),
        role: str = "weight",
        site: str | None = None,
        trainable: bool = True,
        gradient: float | None = 0.01,
        ratio: float | list[float] | None = None,
        **stats: Any,
    ) -> Net:
        """gradient: its absmax, None for no gradient; ratio: log10(update:data), per step or for all."""
        about = {"path": name.rpartition(".")[0], "role": role, "trainable": trainable, "site": site}
        common = {"position": self.position, "shape": shape, "attributes": about}
        self.put(
            "parameter", name, {"std": 0.2, "rms": 0.2, "absmax": 0.6, "nonfinite": 0.0, **stats}, **common
        )
        if gradient is not None:
            broken = {"nonfinite": 1.0} if math.isnan(gradient) else {"nonfinite": 0.0, "absmax": gradient}
            self.put("parameter_gradient", name, broken, **common)
        if ratio is not None:
            rows = [{"ratio": r} for r in (ratio if isinstance(ratio, list) else [ratio] * self.steps)]
            self.put("update", name, rows, **common)
        return self

    # ---- facts ---------------------------------------------------------------------------------------------

    def fact(self, **facts: Any) -> Net:
        for key, value in facts.items():
            self.facts[key] = {**self.facts.get(key, {}), **value} if isinstance(value, dict) else value
        return self

    def classifier(self, classes: int = 10, loss: float | None = None, **output: Any) -> Net:
        value = math.log(classes) if loss is None else loss
        output = {"site": self.last, "min": -2.0, "max": 2.0, "absmax": 2.0, "rms": 0.5, "spread": 0.9,
                  "examples": self.examples, "zero_head": False, **output}  # fmt: skip
        return self.fact(
            loss={"name": "cross_entropy", "kind": "cross_entropy", "value": value},
            target={"kind": "class_index", "classes": classes, "count": self.examples},
            output=output,
        )

    def diagnose(self, **options: Any) -> Diagnosis:
        self.record.set_meta("facts", self.facts)
        return diagnose(self.record, **options)

    def codes(self, **options: Any) -> list[str]:
        """The codes found; info ones in lower case, so that a test cannot mistake them for alarms."""
        found = self.diagnose(**options).findings
        return [f.code.lower() if f.severity == "info" else f.code for f in found]


def plain(
    depth: int = 8, gain: float = 1.0, back: float = 1.0, function: str = "relu", **options: Any
) -> Net:
    """linear, activation, ..., head: rms multiplied by gain per layer, gradient by back on the way back."""
    net = Net(**options).input()
    for i in range(depth):
        gradient = back ** (depth - 1 - i)
        net.linear(f"fc{i}", rms=gain**i, std=gain**i, gradient=gradient).act(
            f"act{i}", function, rms=gain**i, gradient=gradient
        )
    return net.linear("head", output=True).classifier()
