"""Rows that the rules get wrong today, and why. A row that is put right has to leave this list: its test says so."""

_NAN_IS_NOT_ZERO = "UG403 takes a gradient that holds NaN beside zeros for one that is zero"
_NO_LOSS_NO_GRADIENT = "UG104 does not explain the UG403 of a loss without any target"
_CONSTANT_STOPS_GRADIENT = "UG102 explains UG403 only where the gradient ends at the very site that it names"
_TANH = (
    "UG303 fires at 15%, but the gain of 5/3 that it recommends itself puts 21% of tanh's values in the tails"
)

KNOWN: dict[str, str] = {
    "mlp-nan-weight-late": _NAN_IS_NOT_ZERO,
    "mlp-log-of-negative-values": _NAN_IS_NOT_ZERO,
    "mlp-distances-of-all-pairs": _NAN_IS_NOT_ZERO,
    "transformer-plain-standard-normal": _NAN_IS_NOT_ZERO,
    "transformer-exp-overflows": _NAN_IS_NOT_ZERO,
    "autoencoder-log-of-negative-output": _NAN_IS_NOT_ZERO,
    "autoencoder-root-of-exact-zeros": _NAN_IS_NOT_ZERO,
    "transformer-every-target-ignored": _NO_LOSS_NO_GRADIENT,
    "unet-every-pixel-ignored": _NO_LOSS_NO_GRADIENT,
    "rnn-lstm-first-output": _CONSTANT_STOPS_GRADIENT,
    "autoencoder-code-normalized-to-nothing": _CONSTANT_STOPS_GRADIENT,
    "rnn-hidden-standard-normal": "UG303 does not explain the exploding gradient of the same large weights",
    "cnn-group-norm-of-one-pixel": "UG102 takes rounding noise, enlarged by the norm's small eps, for a difference",
    "cnn-pixels-divided-twice": "UG302: one jump, at the first of four layers, passes for a steady trend",
    "cnn-quarter-of-channels-dead": "UG304 excuses units killed by their bias: it takes the biases' spread for chance",
    "mlp-tanh": _TANH,
    "built-in-char_mlp_kaiming": _TANH,
    "built-in-char_mlp_deep": _TANH,
    "trained-char-mlp": _TANH,
}
