"""A small run of makemore, for the tests that kill it: importable by child processes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from kills import die_on

from unitgain.data.names import EMBEDDED, read_names
from unitgain.recipes import RunFolder, makemore
from unitgain.recipes._settings import as_json


def silent(_: str) -> None:
    pass


def few_names(folder: Path) -> str:
    """A file of 300 names, which load in no time."""
    path = folder / "few.txt"
    path.write_text("\n".join(read_names(EMBEDDED)[:300]))
    return str(path)


def config(names: str, **changes) -> makemore.MakemoreConfig:
    base = makemore.MakemoreConfig(steps=120, drop_at=70, every=20, save_every=25, names=names)
    return replace(base, **changes)


def train(folder: Path | None, settings: makemore.MakemoreConfig, resume: bool = False):
    run = None if folder is None else RunFolder(folder, "makemore", as_json(settings), resume)
    outcome = makemore.train(settings, run, resume=resume, say=silent)
    if run is not None:
        run.finish(replace(outcome, record=None))  # without plots, which take longer than all the rest
    return outcome


def digest(model: torch.nn.Module) -> str:
    """Of every bit of its weights and buffers."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def child(folder: Path, names: str, death: tuple | None, steps: int) -> None:
    torch.set_num_threads(1)
    if death is not None:
        die_on(*death)
    train(folder, config(names, steps=steps), resume=True)
