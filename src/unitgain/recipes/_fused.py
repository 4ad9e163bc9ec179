"""FusedStep: SGD on a character MLP with its backward pass written out by hand, some four times as fast as autograd.

A step of this network is 40 small kernels, and autograd spends more time between them than in them. Here they run one
after the other into buffers that are made once (fresh ones would be page faults at every step). The gradient of the
loss is softmax minus one-hot; a weight is updated by the matrix product that makes its gradient (addmm_), the
embedding by index_add_.

    B examples per batch, S steps, T characters of context, E features of each, V characters

Equal to autograd and torch.optim.SGD up to rounding (tests/recipes/test_fused.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._base import InputError
from ..models import CharMLP, UnbiasedBatchNorm1d


class FusedStep:
    """Trains a CharMLP in place, with batches of one size.

    >>> import unitgain as ug
    >>> model = ug.models.create("char_mlp_batchnorm")
    >>> x, y = torch.randint(27, (10, 32, 3)), torch.randint(27, (10, 32))
    >>> FusedStep(model, batch_size=32).run(x, y, lr=0.1).shape
    torch.Size([10])

    Raises InputError for another model, and with a norm for batches of one example.
    """

    def __init__(self, model: CharMLP, batch_size: int):
        if not isinstance(model, CharMLP):
            raise InputError(f"FusedStep(model=...): made for a CharMLP, got {type(model).__name__}")
        embedding = model.get_submodule("embedding")
        assert isinstance(embedding, nn.Embedding)
        self.batch_size = batch_size
        self._embedding = embedding.weight.detach()
        self._layers: list[_Layer] = []
        for module in model.children():
            if isinstance(module, nn.Linear):
                self._layers.append(_Layer(module, batch_size))
            elif isinstance(module, nn.BatchNorm1d):
                self._layers[-1].norm = _Norm(module, self._layers[-1])
            elif isinstance(module, nn.Tanh):
                self._layers[-1].tanh = True
        self._minus = self._embedding.new_full((batch_size, 1), -1.0)

    @torch.no_grad()
    def run(self, x: Tensor, y: Tensor, lr: float) -> Tensor:
        """One step of SGD for each batch: x (S, B, T) and y (S, B) int64 -> losses (S,), each before its step."""
        steps, size = y.shape
        assert size == self.batch_size, (size, self.batch_size)
        picked = self._minus.new_empty(steps, size, 1)  # log-probabilities of the targets
        norms = [layer.norm for layer in self._layers if layer.norm is not None]
        for norm in norms:
            norm.begin()
        for one in zip(
            x.reshape(steps, size * x.shape[2]).unbind(0),
            y.reshape(steps, size, 1).unbind(0),
            picked.unbind(0),
        ):
            self._step(*one, -lr / size)
        for norm in norms:
            norm.end(steps)
        return -picked.mean((1, 2))

    def _step(self, x: Tensor, y: Tensor, picked: Tensor, k: float) -> None:
        """x (B * T,), y and picked (B, 1). k: minus the learning rate, over B: gradients here are sums over B."""
        h = self._embedding.index_select(0, x).view(len(y), -1)  # (B, T * E)
        for layer in self._layers:
            h = layer.forward(h)
        log_p = torch.log_softmax(h, 1)  # (B, V)
        torch.gather(log_p, 1, y, out=picked)
        d = log_p.exp_().scatter_add_(1, y, self._minus)  # the summed loss's gradient for the logits
        for layer in reversed(self._layers):
            d = layer.backward(d, k)
        self._embedding.index_add_(0, x, d.view(len(x), -1), alpha=k)


class _Layer:
    """Linear, then a norm or none, then tanh or nothing: (B, in) -> (B, out)."""

    def __init__(self, linear: nn.Linear, batch_size: int):
        self.weight = linear.weight.detach()  # (out, in)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.norm: _Norm | None = None
        self.tanh = False
        wide, narrow = linear.out_features, linear.in_features
        self.transposed = self.weight.t()
        # pre-activation, output, gradient for the pre-activation, scratch; gradient for the input
        self.z, self.out, self.d, self.scratch = self.weight.new_empty(4, batch_size, wide).unbind(0)
        self.below = self.weight.new_empty(batch_size, narrow)
        self.z_t, self.d_t, self.scratch_t = self.z.t(), self.d.t(), self.scratch.t()
        self.ones = self.weight.new_ones(batch_size)
        self.one = torch.ones_like(self.z)
        self.into = self.below

    def forward(self, h: Tensor) -> Tensor:
        self.into = h
        if self.bias is None:
            torch.mm(h, self.transposed, out=self.z)
        else:
            torch.addmm(self.bias, h, self.transposed, out=self.z)
        h = self.z if self.norm is None else self.norm.forward()
        return torch.tanh(h, out=self.out) if self.tanh else h

    def backward(self, d: Tensor, k: float) -> Tensor:
        """Takes the gradient for what forward gave, updates the parameters, gives that for what forward took."""
        if self.tanh:  # d (1 - tanh^2), the bracket first: it is exact where tanh is close to 1
            torch.addcmul(self.one, self.out, self.out, value=-1, out=self.scratch)
            d = torch.mul(d, self.scratch, out=self.d)
        if self.norm is not None:
            d = self.norm.backward(d, k)
        d_t = self.d_t if d is self.d else d.t()
        torch.mm(d, self.weight, out=self.below)
        self.weight.addmm_(d_t, self.into, alpha=k)
        if self.bias is not None:
            self.bias.addmv_(d_t, self.ones, alpha=k)
        return self.below


class _Norm:
    """gain (z - mean) / std + shift, std with divisor n: B - 1 for the lecture's, B for torch's (which adds eps).

    With x the standardized z and d the gradient for the output, that for z is
    gain / std (d - sum(d) / B - x sum(d x) / n), sums over the batch.
    """

    def __init__(self, module: nn.BatchNorm1d, layer: _Layer):
        size, wide = layer.z.shape
        if size < 2:
            raise InputError("FusedStep(batch_size=1): the model has a BatchNorm; give at least 2 examples")
        assert module.running_mean is not None
        assert module.running_var is not None
        assert module.momentum is not None
        self.module, self.layer = module, layer
        self.gain, self.shift = module.weight.detach(), module.bias.detach()
        self.running_mean, self.running_var = module.running_mean, module.running_var
        self.momentum, self.eps, self.size = module.momentum, module.eps, size
        # the lecture's averages the std, torch's the variance
        self.running_std = module.running_std if isinstance(module, UnbiasedBatchNorm1d) else None
        self.n = size if self.running_std is None else size - 1
        self.x, self.out = layer.z.new_empty(2, size, wide).unbind(0)
        self.mean, self.inverse, self.d_mean, self.d_gain = layer.z.new_empty(4, wide).unbind(0)
        self.each = layer.z.new_full((size,), 1 / size)
        self.each_n = layer.z.new_full((size,), 1 / self.n)

    def begin(self) -> None:
        if isinstance(self.module, UnbiasedBatchNorm1d):
            self.module.follow_running_var()

    def end(self, steps: int) -> None:
        if self.running_std is not None:
            torch.square(self.running_std, out=self.running_var)
        assert self.module.num_batches_tracked is not None
        self.module.num_batches_tracked.add_(steps)

    def forward(self) -> Tensor:
        layer = self.layer
        torch.mv(layer.z_t, self.each, out=self.mean)
        x = torch.sub(layer.z, self.mean, out=self.x)
        torch.mul(x, x, out=layer.scratch)
        variance = torch.mv(layer.scratch_t, self.each_n)
        torch.rsqrt(variance + self.eps if self.eps else variance, out=self.inverse)
        x.mul_(self.inverse)
        self.running_mean.lerp_(self.mean, self.momentum)
        if self.running_std is not None:
            self.running_std.lerp_(self.inverse.reciprocal(), self.momentum)
        else:
            self.running_var.lerp_(variance.mul_(self.size / (self.size - 1)), self.momentum)
        return torch.addcmul(self.shift, x, self.gain, out=self.out)

    def backward(self, d: Tensor, k: float) -> Tensor:
        x, layer = self.x, self.layer
        torch.mul(d, x, out=layer.scratch)
        torch.mv(layer.scratch_t, layer.ones, out=self.d_gain)
        torch.mv(layer.d_t if d is layer.d else d.t(), self.each, out=self.d_mean)
        torch.addcmul(self.d_mean, x, self.d_gain, value=1 / self.n, out=layer.scratch)
        below = torch.sub(d, layer.scratch, out=layer.d).mul_(self.inverse.mul_(self.gain))
        self.gain.add_(self.d_gain, alpha=k)
        self.shift.add_(self.d_mean, alpha=k * self.size)
        return below
