# SPDX-License-Identifier: Apache-2.0
"""The library's dropout masks in torch's operations: Philox4x32-10, as src/gru/detail/philox.hpp states it."""

import math

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def _split(product_of: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of a 32-bit constant times 32-bit words, in int64 without overflow."""
    low, high = product_of & 0xFFFF, product_of >> 16
    small = word * low  # below 2^48
    large = word * high + (small >> 16)
    return large >> 16, ((large & 0xFFFF) << 16) | (small & 0xFFFF)


def _words(key: int, index: Tensor, offset: int) -> Tensor:
    """Four random words for each 64-bit index: (n, 4)."""
    k0, k1 = key & _LOW, key >> 32 & _LOW
    c = [index & _LOW, index >> 32, torch.full_like(index, offset & _LOW), torch.full_like(index, offset >> 32 & _LOW)]
    for _ in range(10):
        a_high, a_low = _split(0xD2511F53, c[0])
        b_high, b_low = _split(0xCD9E8D57, c[2])
        c = [b_high ^ c[1] ^ k0, b_low, a_high ^ c[3] ^ k1, a_low]
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return torch.stack(c, 1)


def masks(
    x: Tensor, seed: Tensor, probability: float, num_layers: int, features: int, batch_first: bool
) -> list[Tensor]:
    """What each inner layer's output (T, B, D*H) is multiplied by: 0 or 1 / (1 - p)."""
    steps, batch = (x.size(1), x.size(0)) if batch_first else (x.size(0), x.size(1))
    key, offset = seed.tolist()
    size = steps * batch * features
    threshold = math.ceil(probability * 2**24)
    scale = 1 / (1 - probability) if probability < 1 else 0.0
    result = []
    for layer in range(num_layers - 1):
        index = torch.arange(size, dtype=torch.int64, device=x.device) + layer * size
        first = index // 4
        word = _words(key, first, offset).gather(1, (index % 4).unsqueeze(1)).squeeze(1)
        kept = (word >> 8) >= threshold
        result.append((kept.to(x.dtype) * scale).view(steps, batch, features))
    return result
