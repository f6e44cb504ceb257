# SPDX-License-Identifier: Apache-2.0
"""The way in: through the dispatcher only if somebody needs to see it."""

import functools
import sys

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gru import _core
from gru.torch import _ops
from gru.torch._gradients import forward_op, transformed


def _empty(device: str):
    """Inductor's way to a new tensor, which leaves out torch's dispatcher; None: this torch has none."""
    return getattr(torch._C._dynamo.guards, f"_empty_strided_{device}", None)


# Each gives something true where it wants to see every operation.
_WATCHERS = [
    torch._C._get_tracing_state,
    torch._C._functorch.peek_interpreter_stack,
    torch._C._len_torch_dispatch_stack,
    torch._C._len_torch_function_stack,
]
_FRAMEWORK = _core.Framework(
    types=[Tensor, torch.nn.Parameter],
    watchers=[*_WATCHERS, torch._C._is_any_autocast_enabled],
    levels=(forward_ad, "_current_level"),
    gradients=torch.is_grad_enabled,
    empty_host=_empty("cpu"),
    empty_cuda=_empty("cuda"),
)


@functools.lru_cache(maxsize=256)
def model(num_layers: int, bias: bool, bidirectional: bool, batch_first: bool, math: str) -> _core.Model:
    """What computes an nn.GRU with such settings in one call of the library: model.forward(module, x, hx) gives output and
    h_n, or None where the call is out of the ordinary: somebody looks on, wants gradients or is wrong."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
    names = [
        sys.intern(f"{kind}_l{layer}{direction}")  # as modules' own names are: found without comparing letters
        for layer in range(num_layers)
        for direction in ("", "_reverse")[: 2 if bidirectional else 1]
        for kind in kinds
    ]
    return _core.Model(_FRAMEWORK, names, num_layers, bool(bias), bool(bidirectional), bool(batch_first), math)


@functools.lru_cache(maxsize=16)
def cell(bias: bool, math: str) -> _core.Model:
    """The same of an nn.GRUCell: cell.step(module, x, hx)."""
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"][: 4 if bias else 2]
    return _core.Model(_FRAMEWORK, names, 1, bool(bias), False, False, math)


def _plain(tensors: list[Tensor]) -> bool:
    """Nobody looks on, and there are numbers: no tracing, no transform, no mode, no tensor subclass, no meta device, no
    bit that says that the numbers in memory are to be negated."""
    return (
        not torch.compiler.is_compiling()
        and not any(watcher() for watcher in _WATCHERS)
        and forward_ad._current_level < 0
        and all(
            type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta and not tensor.is_neg()
            for tensor in tensors
        )
    )


def _refuse_tangents(tensors: list[Tensor]) -> None:
    """Without gradients nobody asks the operators for a jvp, and a tangent would be lost without a word."""
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError(
            "gru.torch: forward-mode derivatives are not there: expected tensors without tangents, got a dual tensor; "
            "use reverse mode, or torch.nn.GRU, which reads the same state_dict"
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
    tensors = [x, *weights] if h0 is None else [x, h0, *weights]
    if forward_ad._current_level >= 0 and not torch.compiler.is_compiling() and not transformed():
        _refuse_tangents(tensors)
    if not needs_gradient and _plain(tensors):
        output, h_n, _ = _ops.compute_forward(x, h0, lengths, weights, seed, *settings)
    else:
        output, h_n, _ = forward_op(x, h0, lengths, weights, seed, *settings)
    return output, h_n
