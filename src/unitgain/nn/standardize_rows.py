"""Rows given mean zero and a stated norm, and the gradient, in as few passes over the weights as possible.

Written out because composed from torch's operations it is slow where weights are many: forward and backward
together take 7.2 ms for a 512x512x3x3 weight as one training-mode batch norm (what timm does), 15 ms as
elementwise operations, and 3.5 ms here (one core, float32).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_TINY = 1e-30  # of a variance, in float32


def standardize_rows(rows: Tensor, scale: Tensor, eps: float, clamp: bool) -> Tensor:
    """(R, N), (R,) -> (R, N): scale_r (rows_r - mean_r) / (sqrt(N) std_r), std biased and guarded by eps.

    clamp: N std^2 is max(N var, eps); otherwise std^2 is var + eps. Differentiable any number of times.
    """
    plain = type(rows) in (Tensor, nn.Parameter) and rows.device.type in ("cpu", "cuda")
    # compiled, exported or traced code gets operations that the compiler can fuse and every exporter knows
    if plain and not torch.compiler.is_compiling() and not torch.jit.is_tracing():
        return _StandardizeRows.apply(rows, scale, eps, clamp)[0]
    return _composed(rows, scale, eps, clamp)


def _composed(rows: Tensor, scale: Tensor, eps: float, clamp: bool) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    squares = centred.square().sum(1, keepdim=True)
    return centred * (_inverse(squares, rows.shape[1], eps, clamp) * scale.unsqueeze(1))


def _inverse(squares: Tensor, n: int, eps: float, clamp: bool) -> Tensor:
    """1 / (sqrt(N) std) from N var."""
    return (squares.clamp_min(eps) if clamp else squares + n * eps).rsqrt()


def _one_pass(rows: Tensor, scale: Tensor, eps: float, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(result, mean, 1 / (sqrt(N) std)): group norm, each row a group of one channel, reads twice and writes once."""
    count, n = rows.shape
    root = n**0.5
    # the clamp is done below; until then rows without any variance must not divide by zero
    guard = _TINY if clamp else eps
    result, mean, inverse = torch.native_group_norm(
        rows.contiguous(), scale / root, None, 1, count, n, count, guard
    )
    mean, inverse = mean.view(count, 1), inverse.view(count, 1) / root
    if clamp and eps > 0:
        largest = eps**-0.5
        if float(inverse.max()) > largest:
            clamped = inverse.clamp(max=largest)
            result.mul_(clamped / inverse)
            inverse = clamped
    return result, mean, inverse


class _StandardizeRows(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, scale: Tensor, eps: float, clamp: bool) -> tuple[Tensor, Tensor, Tensor]:
        if rows.device.type == "cpu" and rows.numel():
            return _one_pass(rows, scale, eps, clamp)
        mean = rows.mean(1, keepdim=True)  # (R, 1)
        centred = rows - mean  # subtracted before squaring: a mean far from 0 would make the variance inexact
        norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        inverse = _inverse(norm.square(), rows.shape[1], eps, clamp)
        return centred.mul_(inverse * scale.unsqueeze(1)), mean, inverse

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, float, bool], output: tuple[Tensor, ...]
    ) -> None:
        rows, scale, ctx.eps, ctx.clamp = inputs
        _, mean, inverse = output
        ctx.mark_non_differentiable(mean, inverse)
        ctx.save_for_backward(rows, scale, mean, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        gradient = gradients[0]
        rows, scale, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: mean and inverse above have no history
            again = _composed(rows, scale, ctx.eps, ctx.clamp)
            inputs = [t for t, needed in zip((rows, scale), ctx.needs_input_grad) if needed]
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=True))
            of_rows = next(found) if ctx.needs_input_grad[0] else None
            return of_rows, next(found) if ctx.needs_input_grad[1] else None, None, None
        root = rows.shape[1] ** 0.5
        # batch norm's backward pass, rows taken for channels: one fused pass for all three sums, one for the result
        of_rows, of_scale, _ = torch.ops.aten.native_batch_norm_backward(
            gradient.unsqueeze(0), rows.unsqueeze(0), scale / root, None, None,
            mean.squeeze(1), (inverse * root).squeeze(1), True, 0.0, [True, True, False],
        )  # fmt: skip
        of_rows, of_scale = of_rows.squeeze(0), of_scale / root
        if ctx.clamp and ctx.eps > 0:
            # where eps replaces N var, it does not depend on the weights: that term is subtracted again
            constant = inverse >= ctx.eps**-0.5 * (1 - 1e-6)  # rounding of the square root aside
            if rows.device.type != "cpu" or bool(constant.any()):
                factor = torch.where(constant, (scale * of_scale).unsqueeze(1) * inverse.square(), 0.0)
                of_rows = of_rows + (rows - mean) * factor
        return of_rows, of_scale, None, None
