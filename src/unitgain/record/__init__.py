"""Record: what was measured, in one SQLite file that any SQL tool can read while it is written.

A `Site` is a place where a tensor is measured. A `Record` holds, for every sampled step and site, one row of
statistics and up to two histograms; beside them named metrics (the loss, the learning rate), facts about
the model, the batch and the loss, and findings. Nothing here imports torch: a Record can be read where there is
no model and no training code.

File layout (schema version 2), documented in docs/reference/record.md:

    meta(key, value)                              JSON values
    site(id, kind, name, position, module, shape, channel_axis, dtype, attributes)
    scalar(step, site, count, mean, std, ...)     one column per name in STATISTICS, NULL where undefined
    histogram(step, site, scale, low, high, counts)
    metric(step, name, value)
    finding(code, severity, site, body)

Without a path the database is a private temporary one of SQLite's, which spills to disk: memory stays
flat however long the run is.
"""

from .._base import RecordError
from .comparison import (
    AskedFacts,
    AxisFacts,
    BatchesFacts,
    BrokenFacts,
    ComparisonFacts,
    CrossedFacts,
    DiscardedFacts,
    DoubledFacts,
    DropFacts,
    EncodingFacts,
    EntropyFacts,
    FeatureFacts,
    FurtherFacts,
    LabelFacts,
    LatentFacts,
    LossCallFacts,
    OverflowFacts,
    PlaceFacts,
    ReachFacts,
    ReshapeFacts,
    ScoreFacts,
    TargetValueFacts,
    TermFacts,
    TwiceFacts,
)
from .database import APPLICATION_ID, SCHEMA_VERSION
from .facts import (
    UNKNOWN,
    BatchNormFacts,
    Break,
    ClipFacts,
    CouplingFacts,
    CouplingInMode,
    Facts,
    GradientFacts,
    LossFacts,
    ModelFacts,
    OutputFacts,
    ParameterCount,
    TargetFacts,
    UnitFacts,
    is_blank,
)
from .frame import Frame
from .function import (
    CutFacts,
    DrawFacts,
    EndFacts,
    EvaluationFacts,
    FunctionFacts,
    FutureFacts,
    LeafFacts,
    LinearFacts,
    MaskFacts,
    SharedFacts,
)
from .histogram import (
    ATOMS,
    HISTOGRAM_BINS,
    LOG2_HIGH,
    LOG2_LOW,
    SIGNED_BINS,
    Histogram,
    common_edges,
)
from .loop import (
    AfterFacts,
    DiedFacts,
    GroupFacts,
    LookFacts,
    LoopFacts,
    ModeFacts,
    OptimizerFacts,
    ReusedFacts,
    ShrinkFacts,
)
from .maps import pack_map, unpack_map
from .record import Record
from .sequence import PaddingFacts, ShiftFacts
from .site import KINDS, STATISTICS, Site

__all__ = [
    "APPLICATION_ID",
    "ATOMS",
    "HISTOGRAM_BINS",
    "KINDS",
    "LOG2_HIGH",
    "LOG2_LOW",
    "SCHEMA_VERSION",
    "SIGNED_BINS",
    "STATISTICS",
    "UNKNOWN",
    "AfterFacts",
    "AskedFacts",
    "AxisFacts",
    "BatchNormFacts",
    "BatchesFacts",
    "Break",
    "BrokenFacts",
    "ClipFacts",
    "ComparisonFacts",
    "CouplingFacts",
    "CouplingInMode",
    "CrossedFacts",
    "CutFacts",
    "DiedFacts",
    "DiscardedFacts",
    "DoubledFacts",
    "DrawFacts",
    "DropFacts",
    "EncodingFacts",
    "EndFacts",
    "EntropyFacts",
    "EvaluationFacts",
    "Facts",
    "FeatureFacts",
    "Frame",
    "FunctionFacts",
    "FurtherFacts",
    "FutureFacts",
    "GradientFacts",
    "GroupFacts",
    "Histogram",
    "LabelFacts",
    "LatentFacts",
    "LeafFacts",
    "LinearFacts",
    "LookFacts",
    "LoopFacts",
    "LossCallFacts",
    "LossFacts",
    "MaskFacts",
    "ModeFacts",
    "ModelFacts",
    "OptimizerFacts",
    "OutputFacts",
    "OverflowFacts",
    "PaddingFacts",
    "ParameterCount",
    "PlaceFacts",
    "ReachFacts",
    "Record",
    "RecordError",
    "ReshapeFacts",
    "ReusedFacts",
    "ScoreFacts",
    "SharedFacts",
    "ShiftFacts",
    "ShrinkFacts",
    "Site",
    "TargetFacts",
    "TargetValueFacts",
    "TermFacts",
    "TwiceFacts",
    "UnitFacts",
    "common_edges",
    "is_blank",
    "pack_map",
    "unpack_map",
]
