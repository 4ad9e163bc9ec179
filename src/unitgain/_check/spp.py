"""spp(): the signal propagation plot's numbers, measured on one batch, beside what theory says of the network.

Brock, De and Smith, "Characterizing signal propagation to close the performance gap in unnormalized ResNets" (2021).
At every
block's end the average squared channel mean and the average channel variance, at every branch's end the average
channel variance (before stochastic depth, skip gain and alpha). All variances are biased, as in the authors' code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .._base import InputError, one_line
from .._batch.batch import check_devices, read_batch
from .._run import in_place
from .._version import __version__
from ..probe import modules
from ..probe.parameters import list_parameters, model_facts
from ..record import Record
from ..stats import Partial, finish
from .residual import Sum, Watch
from .spp_theory import predict


def spp(model: nn.Module, batch: Any, *, open_gains: bool = False, to: str | None = None) -> Record:
    """Measures how the signal's mean and variance grow from residual block to block. Changes nothing.

    model       any network with residual sums; they are found while it runs, whatever library it is from
    batch       as for `check`: N(0, 1) noise (`torch.randn(8, 3, 224, 224)`) or real data; targets are not used
    open_gains  measure as if gains that were initialized at zero (of the norm or convolution at the end of a branch,
                skip
                gains) were one: otherwise such branches give nothing, and every block is the identity
    to          path of a new record file

    Runs in evaluation mode (no dropout, no stochastic depth) but for layers with running statistics, which normalize
    by the batch's. Everything is put back, bit for bit. The Record holds sites with
    attributes block = "stem", "block" or "branch", and predictions in meta["spp"]; draw it with `plots.spp`.

    Raises InputError for a batch that does not fit, and for a network without residual sums.

    >>> class Block(nn.Linear):
    ...     def forward(self, x): return x + 0.2 * super().forward(torch.relu(x))
    >>> record = spp(nn.Sequential(Block(8, 8), Block(8, 8), nn.Linear(8, 2)), torch.randn(64, 8))
    >>> [(site.name, site.attributes["block"]) for site in record.sites("activation")]
    [('stem', 'stem'), ('0:branch', 'branch'), ('0', 'block'), ('1:branch', 'branch'), ('1', 'block')]
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    model = getattr(model, "_orig_mod", model)  # of torch.compile: what runs inside cannot be followed there
    read = read_batch(batch).fresh()
    check_devices(read, model)
    kwargs = {k: v for k, v in read.kwargs.items() if k != "labels"}
    watch = Watch(model)
    with in_place(model, batch=batch), torch.no_grad():
        if open_gains:
            _open(model)
        model.eval()
        for module in model.modules():
            if getattr(module, "running_mean", None) is not None:
                module.train()
        try:
            with watch:
                model(*read.args, **kwargs)
        except Exception as error:
            shapes, text = read.describe(), one_line(error)
            raise InputError(
                f"the model raised {type(error).__name__} on inputs of shape {shapes}: {text}"
            ) from error
    if not watch.sums:
        raise InputError(
            f"model: no residual sum x + f(x) was found in this {type(model).__name__}, so there are no blocks to "
            "plot; ug.check measures any network layer by layer"
        )
    record = Record(to)
    record.set_meta("model", type(model).__name__)
    record.set_meta("versions", {"unitgain": __version__, "torch": str(torch.__version__)})
    record.set_meta("facts", {"mode": "check", "model": model_facts(model)})
    _fill(record, watch.stem, watch.sums, open_gains)
    return record


def _open(model: nn.Module) -> None:
    """Gains that are all zero become one."""
    for p in list_parameters(model):
        if _is_gain(p) and not bool((p.tensor != 0).any()):
            p.tensor.fill_(1)


def _is_gain(p: Any) -> bool:
    name = p.name.rpartition(".")[2]
    if not p.tensor.numel() or "bias" in name:
        return False
    of_norm = modules.role(p.owner) == "norm" and name in ("weight", "gain", "gamma", "scale")
    return of_norm or p.tensor.numel() == 1 or any(word in name for word in ("gain", "gamma", "scale"))


def _fill(record: Record, stem: Partial | None, sums: Sequence[Sum], open_gains: bool) -> None:
    places: list[tuple[str, Partial, dict[str, Any], Sum]] = []
    names: list[tuple[str, str]] = []  # of each sum's block and branch
    repeats: Counter[str] = Counter()
    if stem is not None:
        places.append(("stem", stem, {"block": "stem", "path": sums[0].path}, sums[0]))
    for number, found in enumerate(sums):
        base = found.path if found.last and found.path else f"{found.path}:add"
        repeats[base] += 1
        name = base if repeats[base] == 1 else f"{base}#{repeats[base]}"
        names.append((name, f"{name}:branch"))
        shared = {"path": found.path, "call": found.call, "number": number + 1}
        places.append((f"{name}:branch", found.branch, {**shared, "block": "branch", "of": name}, found))
        what = {
            "block": "block",
            "branch": f"{name}:branch",
            "transition": found.transition,
            "after": found.after,
        }
        if found.alpha is not None:
            what["alpha"] = found.alpha
        places.append((name, found.block, {**shared, **what}, found))
    numbers = finish([partial for _, partial, _, _ in places])
    rows = {}
    for position, (name, _, attributes, found) in enumerate(places, start=1):
        axis = found.axis if attributes["block"] != "stem" else None
        site = record.add_site(
            "activation", name, position=position, module=attributes["block"],
            shape=found.shape if axis is not None else (),
            channel_axis=axis, attributes={**attributes, "role": "block", "leaf": False},
        )  # fmt: skip
        rows[site.id] = {key: float(values[position - 1]) for key, values in numbers.items()}
    record.add_scalars(0, rows)
    start = next(iter(rows.values())) if stem is not None else None
    law, expected = predict(sums, start)
    predicted = {}
    for (block, branch), values in zip(names, expected):
        if values.block is not None:
            predicted[block] = {"channel_var": values.block[0], "sq_channel_mean": values.block[1]}
        if values.branch is not None:
            predicted[branch] = {"channel_var": values.branch[0]}
    record.set_meta("spp", {"law": law, "predicted": predicted, "open_gains": open_gains})
    record.commit()
