# SPDX-License-Identifier: Apache-2.0
"""The operators gru::forward and gru::backward: their schemas, what they compute, and the shapes of it.

    forward   x, h0?, lengths?, weights[], seed? -> output, h_n, reserve
    backward  grad_output?, grad_h_n?, and all of the forward's -> grad_x?, grad_h0?, grad_weights[]

x is (T, B, I), or (B, T, I) with batch_first. The reserve belongs to the call: several forwards may wait for their
backward.
seed (2) int64 of host memory holds dropout's seed and offset.
"""

import torch
from torch import Tensor

from gru import _core, _reserve

library = torch.library.Library("gru", "FRAGMENT")
_SETTINGS = "int num_layers, bool bias, bool bidirectional, bool batch_first, float dropout, str math, str training"
library.define(
    f"forward(Tensor x, Tensor? h0, Tensor? lengths, Tensor[] weights, Tensor? seed, {_SETTINGS}) "
    "-> (Tensor output, Tensor h_n, Tensor reserve)",
    tags=[torch.Tag.pt2_compliant_tag],
)
library.define(
    "backward(Tensor? grad_output, Tensor? grad_h_n, Tensor x, Tensor? h0, Tensor? lengths, Tensor[] weights, "
    f"Tensor? seed, Tensor output, Tensor reserve, bool[] wanted, {_SETTINGS}) -> Tensor[]",
    tags=[torch.Tag.pt2_compliant_tag],
)


def _sizes(x: Tensor, weights: list[Tensor], settings: tuple) -> tuple[int, int, int, int]:
    """T, B, H and the rows of h_n, L*D."""
    first, second = x.shape[0], x.shape[1]
    steps, batch = (second, first) if settings[3] else (first, second)
    return steps, batch, weights[1].shape[1], settings[0] * (2 if settings[2] else 1)


def reserve_words(x: Tensor, weights: list[Tensor], settings: tuple) -> int:
    """Room, in words of 32 bits, for what a backend keeps for the backward."""
    if settings[6] == "none":
        return 0
    wide = x.dtype == torch.float64 or x.device.type == "cpu"  # on a host it may be kept in double
    return _reserve.words(*_sizes(x, weights, settings), settings[6], wide)


def _seed(seed: Tensor | None) -> tuple[int, int]:
    if seed is None:
        return 0, 0
    first, second = seed.tolist()
    return first, second


def _contiguous(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor if tensor.is_contiguous() else tensor.contiguous() for tensor in tensors]


def compute_forward(x, h0, lengths, weights, seed, *settings):
    _, batch, hidden, rows = _sizes(x, weights, settings)
    output = x.new_empty(x.shape[0], x.shape[1], hidden * (2 if settings[2] else 1))
    h_n = x.new_empty(rows, batch, hidden)
    reserve = x.new_empty(reserve_words(x, weights, settings), dtype=torch.int32)
    if x.numel() == 0 and output.numel() == 0 and h_n.numel() == 0:
        return output, h_n, reserve
    kept = None if settings[6] == "none" else reserve
    _core.forward(x, h0, lengths, _contiguous(weights), output, h_n, kept, *_seed(seed), settings)
    return output, h_n, reserve


def _backward(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    _, batch, hidden, rows = _sizes(x, weights, settings)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted[0] else None
    grad_h0 = x.new_empty(rows, batch, hidden) if wanted[1] else None
    grad_weights = [
        torch.empty_like(weight, memory_format=torch.contiguous_format) if want else None
        for weight, want in zip(weights, wanted[2:])
    ]
    if batch == 0:
        for gradient in grad_weights:
            if gradient is not None:
                gradient.zero_()
    else:
        _core.backward(
            x,
            h0,
            lengths,
            _contiguous(weights),
            output,
            reserve,
            grad_output,
            grad_h_n,
            grad_x,
            grad_h0,
            grad_weights,
            *_seed(seed),
            settings,
        )
    return [gradient for gradient in (grad_x, grad_h0, *grad_weights) if gradient is not None]


def _forward_fake(x, h0, lengths, weights, seed, *settings):
    _, batch, hidden, rows = _sizes(x, weights, settings)
    return (
        x.new_empty(x.shape[0], x.shape[1], hidden * (2 if settings[2] else 1)),
        x.new_empty(rows, batch, hidden),
        x.new_empty(reserve_words(x, weights, settings), dtype=torch.int32),
    )


def _backward_fake(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    _, batch, hidden, rows = _sizes(x, weights, settings)
    shapes = [x.shape, (rows, batch, hidden), *(weight.shape for weight in weights)]
    return [x.new_empty(shape) for shape, want in zip(shapes, wanted) if want]


for _key in ("CPU", "CUDA"):
    library.impl("forward", compute_forward, _key)
    library.impl("backward", _backward, _key)
torch.library.register_fake("gru::forward", _forward_fake, lib=library)
torch.library.register_fake("gru::backward", _backward_fake, lib=library)
