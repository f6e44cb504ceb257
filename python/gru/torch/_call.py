# SPDX-License-Identifier: Apache-2.0
"""The way in: through the dispatcher only if somebody needs to see it."""

import torch
from torch import Tensor

from gru.torch import _ops
from gru.torch._gradients import forward_op, transformed


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
