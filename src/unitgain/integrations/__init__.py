"""unitgain inside other people's loops and tools. Each file loads its library when it is first used.

watching.py       watch: a Probe whose numbers go to a logger, and findings as they appear
loggers.py        where they go: Weights & Biases, TensorBoard, MLflow, Trackio, a function
numbers.py        a sampled step as the few numbers that are logged
guarding.py       what callbacks do with an error of ours
judging.py        when a run's record is judged while it grows, and what is new
lightning.py      UnitGain, AGC: callbacks of Lightning
transformers.py   UnitGainCallback of Hugging Face's Trainer
fastai.py         UnitGainCallback, AGCCallback of fastai
logs.py           read_log: what other programs logged, as a Record for the rules about loss curves
wandb_file.py     the file of an offline run
pytest_plugin.py  the fixture `unitgain`
mcp.py            a server for agents

The names below load when they are used: pytest imports this package in every project where unitgain is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .logs import is_log, read_log
    from .mcp import serve
    from .watching import FindingsError, Watch, watch

__all__ = ["FindingsError", "Watch", "is_log", "read_log", "serve", "watch"]

_HOMES = {
    "FindingsError": "watching",
    "Watch": "watching",
    "is_log": "logs",
    "read_log": "logs",
    "serve": "mcp",
    "watch": "watching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
