"""Changes to a model that make its signals flow: each a function (model, batch, ...) -> RemedyReport, in place.

init_                                                                 weights that fit what is around them
lsuv_                                                                 every layer to std 1 on data
center_units_                                                         biases of units whose input is far from zero
scale_head_                                                           first loss of ln(C)
zero_residual_ends_, skip_init_, scale_residual_branches_, fixup_     the scale at which residual branches start
remove_redundant_bias_, recalibrate_, normalize_input_, break_symmetry_, standardize_weights_    small repairs
drop_last_function_, sigmoid_for_softmax_, log_softmax_last_, scale_outputs_     last functions that fit the loss
hold_parameters_                                                      what the optimizer does not hold
set_gain_, exchange_activations_, exchange_norms_                     what `ug.whatif` varies
Snapshot                                                              taking any of them back, exactly (from _run)
REMEDIES, Remedy, Subject                                             what fix tries by itself, by name
"""

from .._run import Snapshot
from .centering import center_units_
from .exchange import ACTIVATION_MODULES, NORM_KINDS, exchange_activations_, exchange_norms_, set_gain_
from .head import scale_head_
from .init import init_
from .lsuv import lsuv_
from .membership import hold_parameters_
from .outputs import (
    AppliesLast,
    ReturnsInput,
    ScalesOutput,
    drop_last_function_,
    log_softmax_last_,
    scale_outputs_,
    sigmoid_for_softmax_,
)
from .registry import REMEDIES, Remedy
from .report import Change, Measured, RemedyReport
from .residual import fixup_, scale_residual_branches_, skip_init_, zero_residual_ends_
from .structure import (
    NormalizeInput,
    break_symmetry_,
    normalize_input_,
    recalibrate_,
    remove_redundant_bias_,
    standardize_weights_,
)
from .subject import State, Subject

__all__ = [
    "ACTIVATION_MODULES",
    "NORM_KINDS",
    "REMEDIES",
    "AppliesLast",
    "Change",
    "Measured",
    "NormalizeInput",
    "Remedy",
    "RemedyReport",
    "ReturnsInput",
    "ScalesOutput",
    "Snapshot",
    "State",
    "Subject",
    "break_symmetry_",
    "center_units_",
    "drop_last_function_",
    "exchange_activations_",
    "exchange_norms_",
    "fixup_",
    "hold_parameters_",
    "init_",
    "log_softmax_last_",
    "lsuv_",
    "normalize_input_",
    "recalibrate_",
    "remove_redundant_bias_",
    "scale_head_",
    "scale_outputs_",
    "scale_residual_branches_",
    "set_gain_",
    "sigmoid_for_softmax_",
    "skip_init_",
    "standardize_weights_",
    "zero_residual_ends_",
]
