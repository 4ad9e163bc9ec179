"""Drawing functions: each takes a Record, or a Report or Probe that has one, and returns a matplotlib Figure.

    figure = ug.plots.stats_over_depth(report)
    figure.savefig("depth.png")

matplotlib loads when the first one is called.
"""

from ._activation import activation
from ._agc import agc
from ._atlas import atlas
from ._blocks import blocks
from ._compare import before_after, runs
from ._depth import gradient_ratio, stats_over_depth
from ._distribution import color_dim, dead_chart, histograms, ridges, saturation_map
from ._landscape import landscape
from ._lecture import lecture
from ._spp import spp
from ._theory import theory_over_depth
from ._time import stats_over_time, update_ratio
from ._training import lr_sweep, training
from ._whatif import whatif

__all__ = [
    "activation",
    "agc",
    "atlas",
    "before_after",
    "blocks",
    "color_dim",
    "dead_chart",
    "gradient_ratio",
    "histograms",
    "landscape",
    "lecture",
    "ridges",
    "runs",
    "saturation_map",
    "spp",
    "stats_over_depth",
    "stats_over_time",
    "theory_over_depth",
    "training",
    "update_ratio",
    "whatif",
]
