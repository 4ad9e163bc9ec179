"""One tensor -> its summary, reduced on the tensor's own device.

`summarize` reads a tensor a handful of times with the fastest reductions that torch has and keeps a few small
vectors (`Partial`); `finish` turns many of them into numbers at once. Nothing waits for an accelerator until
`finish`, and no reference to the tensor is kept.

How each statistic is defined is in docs/reference/record.md. How it is computed:

- Sums and sums of squares are taken per channel in float32 (float64 for float64 tensors) and combined in
  float64. The obvious calls are the slow ones on a CPU (std, var_mean, histc, isfinite), so they are not used.
- Variance is mean of squares minus squared mean. When that would cancel (variance below 1/1000 of the mean
  square) the tensor is read again with its mean subtracted; when squares would overflow or underflow, or when
  values are not finite, it is read again in float64. Moments leave non-finite values out.
- On an accelerator these second readings would need to wait, so accumulation is in float64 from the start
  (where the device has it).
- Histograms, and the fractions of zeros of tensors that are not outputs of an activation function, come from
  a sample: runs of 16 values (one cache line), one at a quasi-random place in each of equally long stretches of
  memory. (At a constant distance they would all fall on the same few channels whenever that distance is near
  a multiple of the channels' period.)
- Of sparse and nested tensors the values that they store are measured (stored.py).
- `limit` measures some of the examples only: 16,384 values give a standard deviation to 0.6%, and reading 2
  million at every step would cost more than the convolution that made them.
"""

from .flat import blocks, flat_numbers
from .host import fetch, to_host
from .partial import Partial, Range, finish
from .sample import RUN, places_of_sample, take_examples, take_sample
from .stored import is_plain, shape_of, stored
from .summarize import saturated, summarize
from .together import summarize_many

__all__ = [
    "RUN",
    "Partial",
    "Range",
    "blocks",
    "fetch",
    "finish",
    "flat_numbers",
    "is_plain",
    "places_of_sample",
    "saturated",
    "shape_of",
    "stored",
    "summarize",
    "summarize_many",
    "take_examples",
    "take_sample",
    "to_host",
]
