# SPDX-License-Identifier: Apache-2.0
"""The way in: through the dispatcher only if somebody needs to see it."""

import functools

import torch
from torch import Tensor

from gru import _core
from gru.torch import _ops
from gru.torch._gradients import forward_op, transformed


_KINDS = frozenset((Tensor, torch.nn.Parameter))


@functools.lru_cache(maxsize=256)
def _model(num_layers: int, bias: bool, bidirectional: bool, batch_first: bool, math: str) -> _core.Model:
    return _core.Model(num_layers, bias, bidirectional, batch_first, math)


def _unobserved(x: Tensor, hx: Tensor | None, weights: list[Tensor]) -> bool:
    """Nobody looks on (see _plain), nobody wants gradients, and no autocast changes dtypes."""
    if (
        torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() != 0
        or torch._C._is_any_autocast_enabled()
        or type(x) not in _KINDS
        or not (hx is None or type(hx) in _KINDS)
    ):
        return False
    for weight in weights:
        if type(weight) not in _KINDS:
            return False
    if not torch.is_grad_enabled():
        return True
    if x.requires_grad or (hx is not None and hx.requires_grad):
        return False
    for weight in weights:
        if weight.requires_grad:
            return False
    return True


def infer(
    x: Tensor, hx: Tensor | None, weights: list[Tensor], num_layers: int, bias: bool, bidirectional: bool,
    batch_first: bool, math: str,
) -> tuple[Tensor, Tensor] | None:
    """output, h_n of a batched sequence in one call of the library, or None: the call is out of the ordinary."""
    if x.dim() != 3 or not (hx is None or hx.dim() == 3) or not _unobserved(x, hx, weights):
        return None
    model = _model(num_layers, bias, bidirectional, batch_first, math)
    first, second, _ = x.shape
    hidden = weights[1].size(-1)
    directions = 2 if bidirectional else 1
    output = x.new_empty((first, second, hidden * directions))
    h_n = x.new_empty((num_layers * directions, first if batch_first else second, hidden))
    return (output, h_n) if model.forward(x, hx, weights, output, h_n) else None


def infer_step(x: Tensor, hx: Tensor | None, weights: list[Tensor], bias: bool, math: str) -> Tensor | None:
    """The next state (B, H) of one layer from x (B, I), likewise."""
    if x.dim() != 2 or not (hx is None or hx.dim() == 2) or not _unobserved(x, hx, weights):
        return None
    after = x.new_empty((x.size(0), weights[1].size(-1))) if hx is None else torch.empty_like(hx)
    return after if _model(1, bias, False, False, math).step(x, hx, weights, after) else None


def _plain(tensors: list[Tensor]) -> bool:
    """Nobody looks on: no tracing, no functorch transform, no dispatch mode, no tensor subclass."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)
    )


def forward(
    x: Tensor,
    h0: Tensor | None,
    lengths: Tensor | None,
    weights: list[Tensor],
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
    dropout: float,
    math: str,
    recompute: bool,
) -> tuple[Tensor, Tensor]:
    """output, h_n; through the dispatcher only if somebody needs to see it."""
    if num_layers == 1:
        dropout = 0.0  # it acts between layers
    seed = torch.randint(0, 2**62, (2,), device="cpu") if dropout > 0 else None
    # Within a transform of torch.func, an outer level may want gradients that the inner tensors do not show.
    needs_gradient = torch.is_grad_enabled() and (
        transformed()
        or x.requires_grad
        or (h0 is not None and h0.requires_grad)
        or any(weight.requires_grad for weight in weights)
    )
    training = ("remake" if recompute else "keep") if needs_gradient else "none"
    settings = (num_layers, bias, bidirectional, batch_first, dropout, math, training)
    if not needs_gradient and _plain([x, *weights]):
        output, h_n, _ = _ops.compute_forward(x, h0, lengths, weights, seed, *settings)
    else:
        output, h_n, _ = forward_op(x, h0, lengths, weights, seed, *settings)
    return output, h_n
