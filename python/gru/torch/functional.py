# SPDX-License-Identifier: Apache-2.0
"""A GRU as a function of its parameters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gru.torch import _call

_HALVES = (torch.float16, torch.bfloat16)


def gru(
    input: Tensor,
    hx: Tensor | None,
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bias: bool = True,
    bidirectional: bool = False,
    batch_first: bool = False,
    dropout: float = 0.0,
    lengths: Tensor | None = None,
    math: str = "strict",
    recompute: bool = False,
) -> tuple[Tensor, Tensor]:
    """output, h_n = GRU(input, hx).

    input (T, B, I), or (B, T, I) with batch_first; hx (L*D, B, H) or None for zeros; weights in nn.GRU's flat order:
    for each
    layer and direction weight_ih (3H, I of the layer), weight_hh (3H, H) and, with bias, bias_ih and bias_hh (3H).
    dropout:
    the probability between layers, applied whenever it is not 0. lengths (B), int32 or int64, on input's device: rows
    end
    there, output is 0 from then on. recompute: keep little and make the gates again in the backward pass.

    float16 and bfloat16 tensors are computed in float32 and rounded at the end; so is everything under autocast.
    Elsewhere a RuntimeError says which of input, hx and weights differ in dtype; everywhere, which lie on two devices.
    """
    _check_alike(input, hx, weights[0])
    result_dtype = input.dtype
    if under_autocast(input):
        result_dtype = _autocast_dtype(input, hx, weights[0])
    dtypes = [input.dtype, weights[0].dtype, input.dtype if hx is None else hx.dtype]
    if input.dtype in _HALVES or result_dtype in _HALVES or dtypes[1:] != [input.dtype, input.dtype]:
        wide = torch.float64 if torch.float64 in dtypes else torch.float32
        input = input.to(wide)
        hx = None if hx is None else hx.to(wide)
        weights = [weight.to(wide) for weight in weights]
    output, h_n = _call.forward(
        input, hx, lengths, list(weights), num_layers, bias, bidirectional, batch_first, float(dropout), math, recompute
    )
    if output.dtype != result_dtype:
        return output.to(result_dtype), h_n.to(result_dtype)
    return output, h_n


def _check_alike(input: Tensor, hx: Tensor | None, weight: Tensor) -> None:
    """torch's errors: one device, one floating dtype. Nothing may be rounded to input's dtype that is none of the model's."""
    if input.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, "
            f"found input tensor at {input.device} and parameter tensor at {weight.device}"
        )
    if hx is not None and hx.device != input.device:
        raise RuntimeError(
            "Input and hidden tensors are not at the same device, "
            f"found input tensor at {input.device} and hidden tensor at {hx.device}"
        )
    autocast = under_autocast(input)
    for name, tensor in (("input", input), ("hx", hx)):
        if tensor is None or tensor.dtype == weight.dtype or (autocast and tensor.is_floating_point()):
            continue
        raise RuntimeError(
            f"{name} has dtype {tensor.dtype}, the weights have {weight.dtype}; they must have the same dtype: "
            f"{name}.to({weight.dtype})"
        )


def gru_cell(
    input: Tensor, hx: Tensor | None, weights: Sequence[Tensor], *, bias: bool = True, math: str = "strict"
) -> Tensor:
    """The next state (B, H) from input (B, I), the state before (B, H) or None for zeros, and weights as in gru()."""
    hidden = weights[1].size(-1)
    if input.size(1) != weights[0].size(1):
        raise RuntimeError(f"input has inconsistent input_size: got {input.size(1)} expected {weights[0].size(1)}")
    if hx is not None:
        if hx.dim() != 2:
            raise RuntimeError(f"Expected 2D hidden0 (batch x hidden_size), but got {hx.dim()}D tensor")
        if input.size(0) != hx.size(0):
            raise RuntimeError(f"Input batch size {input.size(0)} doesn't match hidden0 batch size {hx.size(0)}")
        if hx.size(1) != hidden:
            raise RuntimeError(f"hidden0 has inconsistent hidden_size: got {hx.size(1)}, expected {hidden}")
        hx = hx.unsqueeze(0)
    _, h_n = gru(input.unsqueeze(0), hx, weights, bias=bias, math=math)
    return h_n.squeeze(0)


def unpack(data: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """A PackedSequence's data (rows sorted by step) as (T, B, I), with lengths (B) on its device and where each of its
    rows
    went in (T * B). If all rows are equally long, the data is used where it lies, and lengths and rows are None.

    batch_sizes lies on the host, so nothing waits for the device."""
    steps, batch = batch_sizes.numel(), int(batch_sizes[0])
    if data.size(0) == steps * batch:
        return data.view(steps, batch, data.size(1)), None, None
    ends = batch_sizes.cumsum(0)
    # Row i of step t stands at t * B + i.
    step = torch.repeat_interleave(torch.arange(steps), batch_sizes)
    row = torch.arange(data.size(0)) - (ends - batch_sizes)[step]
    lengths = (batch_sizes.unsqueeze(0) > torch.arange(batch).unsqueeze(1)).sum(1)
    rows = _to(step * batch + row, data.device)
    padded = data.new_zeros(steps * batch, data.size(1)).index_copy(0, rows, data)
    return padded.view(steps, batch, data.size(1)), _to(lengths, data.device), rows


def _to(numbers: Tensor, device: torch.device) -> Tensor:
    return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers


def under_autocast(input: Tensor) -> bool:
    """Whether autocast is on for input's device."""
    return input.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(input.device.type)


def _autocast_dtype(input: Tensor, hx: Tensor | None, weight: Tensor) -> torch.dtype:
    """What nn.GRU returns under autocast: the lower dtype on a GPU; on a host what holds that and the state's, which are
    zeros of input's if it is not given."""
    device = input.device.type
    if torch.float64 in (input.dtype, weight.dtype):
        return input.dtype
    lower = torch.get_autocast_dtype(device)
    if device == "cuda":
        return lower
    return torch.promote_types(lower, input.dtype if hx is None else hx.dtype)
