"""A site in the making: what is known of a place before its record is written."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .. import stats
from . import functions, modules
from .dataflow import Origin, union
from .functions import Activation

_MOST_CHANNELS = 64


def unique_name(label: str, path: str, paths: Container[str]) -> str:
    """A site's name: its label, or where that is another module's path too, the label and whose site it is. So no
    two of a model's inputs and activations have one name. path: of the module that it belongs to; paths: all.

    >>> unique_name("input", "", {"fc"}), unique_name("input", "", {"input", "fc"}), unique_name("fc", "fc", {"fc"})
    ('input', 'input (of the model)', 'fc')
    >>> unique_name("fc#2", "fc", {"fc", "fc#2"})
    'fc#2 (of fc)'
    """
    return f"{label} (of {path or 'the model'})" if label != path and label in paths else label


@dataclass
class Draft:
    """The fields are those of record.Site; `sources` are the sites that this one was computed from."""

    name: str
    path: str
    call: int
    position: int
    module: str
    shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
    batch_axis: int | None
    function: Activation | None = None
    sources: tuple[str, ...] = ()
    selected: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def of_module(self) -> bool:
        """Whether it is a module's output, not a function's or an attached tensor."""
        return "parameters" in self.attributes

    @classmethod
    def of_tensor(
        cls,
        name: str,
        tensor: Tensor,
        *,
        position: int,
        path: str,
        call: int,
        role: str,
        leaf: bool,
        module: nn.Module | None,
        type_name: str,
        examples: int | None,
        sources: tuple[Origin, ...],
        producer: Draft | None,
        function: Activation | None,
        subtracts_mean: str | None,
        selected: bool,
    ) -> Draft:
        """The site of a module's output (or, with module None, of a function's)."""
        if module is not None and leaf:
            function = functions.of_module(module)
            subtracts_mean = modules.subtracts_mean(module)
        shape = tuple(tensor.shape)
        inherited = (
            producer.channel_axis if producer is not None and len(producer.shape) == len(shape) else None
        )
        draft = cls(
            name=name, path=path, call=call, position=position,
            module=type_name or (type(module).__name__ if module is not None else "Tensor"),
            shape=shape, dtype=str(tensor.dtype).removeprefix("torch."),
            channel_axis=modules.channel_axis(module if leaf else None, shape, inherited),
            batch_axis=modules.batch_axis(module, shape, examples),
            function=function, sources=union(sources), selected=selected,
        )  # fmt: skip
        attributes = draft.attributes
        attributes.update(path=path, call=call, role=role, leaf=leaf)
        attributes["inputs"] = list(union(o for o in sources if o.direct))
        attributes["sources"] = list(draft.sources)
        if function is not None:
            attributes["function"] = function.name
            if function.bounds != (None, None):
                attributes["bounds"] = list(function.bounds)
        if subtracts_mean is not None:
            attributes["subtracts_mean"] = subtracts_mean
        if module is not None:
            own = [n for n, _ in module.named_parameters(recurse=not modules.measured_children(module))]
            attributes["parameters"] = [f"{path}.{n}" if path else n for n in own]
        if draft.batch_axis is not None:
            attributes["batch_axis"] = draft.batch_axis
        return draft

    @classmethod
    def of_input(cls, name: str, tensor: Tensor, channel_axis: int | None) -> Draft:
        integer = not tensor.is_floating_point()
        draft = cls(
            name=name, path="", call=1, position=0, module="Tensor", shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            channel_axis=None if integer else channel_axis, batch_axis=0 if tensor.dim() else None,
        )  # fmt: skip
        draft.attributes["integer"] = integer
        if not integer:
            draft.attributes.update(_describe_input(tensor, channel_axis))
        return draft


def _describe_input(tensor: Tensor, channel_axis: int | None) -> dict[str, Any]:
    """What a prescription for an input needs: its channels' scales, whether it is a mask, which examples are bad."""
    bad = ~torch.isfinite(tensor)
    asked = {"binary": ((tensor == 0) | (tensor == 1)).all(), "bad": bad.any()}
    if channel_axis is not None and tensor.shape[channel_axis] <= _MOST_CHANNELS:
        by_channel = torch.where(bad, 0.0, tensor).movedim(channel_axis, 0).flatten(1)
        by_channel = by_channel if tensor.device.type == "mps" else by_channel.double()
        asked |= {"channel_mean": by_channel.mean(1), "channel_std": by_channel.std(1, correction=0)}
    told = dict(zip(asked, stats.fetch(list(asked.values()))))
    found: dict[str, Any] = {"binary": bool(told["binary"])}
    if told["bad"] and tensor.dim():
        of_example = bad.reshape(tensor.shape[0], -1).any(1).cpu()
        found["bad_examples"] = of_example.nonzero().flatten()[:20].tolist()
    for name in ("channel_mean", "channel_std"):
        if name in told:
            found[name] = [round(v, 6) for v in told[name].tolist()]
    return found


def mark_residual_ends(drafts: Mapping[str, Draft], sums: list[tuple[Origin, Origin]]) -> None:
    """Marks the site whose tensor was added to a skip connection as "branch".

    Of two tensors that were added, the branch is the one with more sites behind it, provided that both descend
    from a common site (embeddings of token and position, which do not, are no residual connection).
    """
    ancestors: dict[str, frozenset[str]] = {}
    depth: dict[str, int] = {}
    for name, draft in drafts.items():  # in execution order: sources come before
        known = [s for s in draft.sources if s in ancestors or s not in drafts]
        ancestors[name] = frozenset(known).union(*(ancestors.get(s, frozenset()) for s in known))
        depth[name] = 1 + max((depth.get(s, 0) for s in known), default=0)
    for first, second in sums:
        lineage = [
            frozenset(o.sites).union(*(ancestors.get(s, frozenset()) for s in o.sites))
            for o in (first, second)
        ]
        if not lineage[0] & lineage[1]:
            continue
        branch = max((first, second), key=lambda o: max(depth.get(s, 0) for s in o.sites))
        if len(branch.sites) == 1 and branch.sites[0] in drafts:
            attributes = drafts[branch.sites[0]].attributes
            if attributes.setdefault("block", "branch") == "branch" and not branch.direct:
                attributes["scaled"] = True  # x + 0.1 * branch(x): what was added is not what was measured
