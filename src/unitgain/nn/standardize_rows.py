"""Rows given mean zero and a stated standard deviation, and the gradient, in few passes and few kernels.

Written out because composed from torch's operations it is slow: where weights are many (forward and backward
together take 15 ms for a 512x512x3x3 weight as elementwise operations, 7.2 ms as one training-mode batch norm, which
is what timm does, and 3.5 ms here; one core, float32), and on a GPU, where weights are small and each operation
costs a launch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-30  # of a variance, in float32


def standardize_rows(rows: Tensor, factor: Tensor, eps: float, clamp: bool) -> Tensor:
    """(R, ...), (R,) -> (R, ...): factor_r (rows_r - mean_r) / std_r over all axes but the first; std is biased.

    clamp: std is sqrt(max(N var, eps) / N) for N values in a row; otherwise sqrt(var + eps). Differentiable any
    number of times.
    """
    # compiled, exported or traced code gets operations that the compiler can fuse and every exporter knows
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not _is_plain(rows):
        return _composed(rows, factor, eps, clamp)
    if _on_cpu(rows) or clamp or not rows.numel():
        return _StandardizeRows.apply(rows, factor, eps, clamp)[0]
    return torch.native_batch_norm(_as_channels(rows), factor, None, None, None, True, 0.0, eps)[0].view(
        rows.shape
    )


def _is_plain(rows: Tensor) -> bool:
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    if functorch.is_functorch_wrapped_tensor(rows):  # vmap over weights: a kernel has no axis for that
        return False
    return type(rows) in (Tensor, nn.Parameter) and rows.device.type in ("cpu", "cuda")


def _on_cpu(rows: Tensor) -> bool:
    return rows.device.type == "cpu"


def _as_channels(rows: Tensor) -> Tensor:
    """(1, R, N): one example with a channel for each row, as batch norm sees it."""
    return rows.reshape(1, rows.shape[0], -1)


def _composed(rows: Tensor, factor: Tensor, eps: float, clamp: bool) -> Tensor:
    flat = rows.flatten(1)
    n = flat.shape[1]
    centred = flat - flat.mean(1, keepdim=True)
    squares = centred.square().sum(1, keepdim=True)  # N var
    inverse = (squares.clamp_min(eps) if clamp else squares + n * eps).rsqrt()
    return (centred * (inverse * (factor * n**0.5).unsqueeze(1))).view(rows.shape)


def _largest_inverse(rows: Tensor, eps: float) -> float:
    """1 / std of a row in whose place eps stands."""
    return max(eps * rows.shape[0] / max(rows.numel(), 1), _TINY) ** -0.5


def _grouped(rows: Tensor, factor: Tensor, eps: float, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(result, mean, 1 / std) on a CPU: group norm, each row a group of one channel, reads twice and writes once."""
    count = rows.shape[0]
    flat = rows.reshape(count, -1)  # four axes might be taken for channels_last
    # the clamp is done below; until then rows without any variance must not divide by zero
    result, mean, inverse = torch.native_group_norm(
        flat, factor, None, 1, count, flat.shape[1], count, _TINY if clamp else eps
    )
    mean, inverse = mean.view(count), inverse.view(count)
    if clamp and eps > 0:
        largest = _largest_inverse(rows, eps)
        if float(inverse.max()) > largest:
            clamped = inverse.clamp(max=largest)
            result.mul_((clamped / inverse).unsqueeze(1))
            inverse = clamped
    return result.view(rows.shape), mean, inverse


def _clamped(rows: Tensor, factor: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(result, mean, 1 / std) without asking whether a row is clamped: an accelerator would have to be waited for."""
    channels = _as_channels(rows)
    variance, mean = torch.var_mean(channels, (0, 2), correction=0)
    variance.clamp_min_(_largest_inverse(rows, eps) ** -2)
    result = torch.native_batch_norm(channels, factor, None, mean, variance, False, 0.0, 0.0)[0]
    return result.view(rows.shape), mean, variance.rsqrt_()


class _StandardizeRows(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, factor: Tensor, eps: float, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
        if not rows.numel():
            nothing = rows.new_empty(rows.shape[0])
            return rows.clone(), nothing, nothing.clone()
        return _grouped(rows, factor, eps, clamp) if _on_cpu(rows) else _clamped(rows, factor, eps)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, float, bool], output: tuple[Tensor, ...]
    ) -> None:
        rows, factor, ctx.eps, ctx.clamp = inputs
        _, mean, inverse = output
        ctx.mark_non_differentiable(mean, inverse)
        ctx.set_materialize_grads(False)  # or zeros would be made for these two
        ctx.save_for_backward(rows, factor, mean, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient = gradients[0]
        if gradient is None:
            return None, None, None, None
        rows, factor, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: mean and inverse above have no history
            again = _composed(rows, factor, ctx.eps, ctx.clamp)
            inputs = [t for t, needed in zip((rows, factor), ctx.needs_input_grad) if needed]
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=True))
            of_rows = next(found) if ctx.needs_input_grad[0] else None
            return of_rows, next(found) if ctx.needs_input_grad[1] else None, None, None
        # batch norm's backward pass: one fused pass for all three sums, one for the result
        channels = _as_channels(rows)
        of_rows, of_factor, _ = torch.ops.aten.native_batch_norm_backward(
            _as_channels(gradient),
            channels,
            factor,
            None,
            None,
            mean,
            inverse,
            True,
            0.0,
            [True, True, False],
        )
        if ctx.clamp and ctx.eps > 0:
            # where eps stands in for N var it does not depend on the weights: its term comes off again
            constant = inverse >= _largest_inverse(rows, ctx.eps) * (1 - 1e-6)  # rounding of the root aside
            if not _on_cpu(rows) or bool(constant.any()):
                term = (constant * factor * of_factor).unsqueeze(1)  # (R, 1)
                of_rows = of_rows.addcmul(channels - mean.unsqueeze(1), term, value=1 / ctx.eps)
        return of_rows.view(rows.shape), of_factor, None, None
