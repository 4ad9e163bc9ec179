"""unitgain inside other people's loops and tools. Each file loads its library when it is first used.

watching.py      watch: a Probe whose numbers go to a logger, and findings as they appear
loggers.py       where they go: Weights & Biases, TensorBoard, MLflow, Trackio, a function
numbers.py       a record's sampled step as the few numbers that are logged
judging.py       when a run's record is judged while it grows, and what is new
lightning.py     UnitGain, AGC: callbacks of Lightning
transformers.py  UnitGainCallback of Hugging Face's Trainer
logs.py          read_log: what other programs logged, as a Record for the rules about loss curves
wandb_file.py    the file of an offline run
fastai.py        UnitGainCallback, AGCCallback of fastai
"""

from .logs import is_log, read_log
from .watching import FindingsError, Watch, watch

__all__ = ["FindingsError", "Watch", "is_log", "read_log", "watch"]
