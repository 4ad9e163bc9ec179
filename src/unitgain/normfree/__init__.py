"""BatchNorm taken out of any network, and what it does there.

convert    a network with BatchNorm -> one without: to train from scratch, to fine-tune, or to deploy
fold       everything that inference does not need worked into plain layers
audit      what normalization does and costs in this very model
rebuild    the structure of a converted model on a new one, for its state dict
"""

from .converting import MODES, convert, fold
from .edits import Edit, rebuild
from .report import Block, Change, ConversionReport

__all__ = ["MODES", "Block", "Change", "ConversionReport", "Edit", "convert", "fold", "rebuild"]
