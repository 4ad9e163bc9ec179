"""BatchNorm taken out of any network, and what it does there.

audit                what normalization does and costs in this very model
convert              a network with BatchNorm -> one without: to train from scratch, to fine-tune, or to deploy
fold                 everything that inference does not need worked into plain layers
rebuild              the structure of a converted model on a new one, for its state dict
clipping_for         the factor of adaptive gradient clipping that a converted network trains with
convert_layer_norms  a transformer's LayerNorms -> RMSNorm exactly, or fitted pointwise functions
"""

from .audit_report import AuditReport, NormAudit, SizeAudit
from .auditing import audit
from .clipping import clipping_for
from .converting import MODES, convert, fold
from .edits import Edit, rebuild
from .layer_norms import LayerNormReport, NormFit, convert_layer_norms
from .rehearsing import Arm, ShortTraining
from .report import Block, Change, ConversionReport

__all__ = [
    "MODES",
    "Arm",
    "AuditReport",
    "Block",
    "Change",
    "ConversionReport",
    "Edit",
    "LayerNormReport",
    "NormAudit",
    "NormFit",
    "ShortTraining",
    "SizeAudit",
    "audit",
    "clipping_for",
    "convert",
    "convert_layer_norms",
    "fold",
    "rebuild",
]
