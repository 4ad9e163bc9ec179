"""Changes to a model that make its signals flow: each a function (model, batch, ...) -> RemedyReport, in place.

init_                                                                 weights that fit what is around them
lsuv_                                                                 every layer to std 1 on data
scale_head_                                                           first loss of ln(C)
zero_residual_ends_, skip_init_, scale_residual_branches_, fixup_     how loud residual branches start
remove_redundant_bias_, recalibrate_, normalize_input_, break_symmetry_    small repairs
Snapshot                                                              taking any of them back, exactly (from _run)
"""

from .._run import Snapshot
from .head import scale_head_
from .init import init_
from .lsuv import lsuv_
from .report import Change, Measured, RemedyReport
from .residual import fixup_, scale_residual_branches_, skip_init_, zero_residual_ends_
from .structure import NormalizeInput, break_symmetry_, normalize_input_, recalibrate_, remove_redundant_bias_

__all__ = [
    "Change",
    "Measured",
    "NormalizeInput",
    "RemedyReport",
    "Snapshot",
    "break_symmetry_",
    "fixup_",
    "init_",
    "lsuv_",
    "normalize_input_",
    "recalibrate_",
    "remove_redundant_bias_",
    "scale_head_",
    "scale_residual_branches_",
    "skip_init_",
    "zero_residual_ends_",
]
