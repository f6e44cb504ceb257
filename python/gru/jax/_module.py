# SPDX-License-Identifier: Apache-2.0
"""A GRU's settings and how its parameters begin."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gru.jax._gru import gru, names_of


@dataclasses.dataclass(frozen=True)
class GRU:
    """torch.nn.GRU's settings; it holds no arrays, so it may be closed over by a jitted function.

    layer = gru.jax.GRU(8, 32, num_layers=2, bidirectional=True)
    params = layer.init(jax.random.key(0))      # a pytree for any optimizer
    output, h_n = layer(params, x)
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    batch_first: bool = False
    dropout: float = 0.0
    bidirectional: bool = False
    math: str = "strict"
    recompute: bool = False

    def init(self, key: jax.Array, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
        """New parameters under torch.nn.GRU's names: uniform between -1/sqrt(H) and 1/sqrt(H), as torch begins."""
        names = names_of(self.num_layers, self.bias, self.bidirectional)
        hidden, directions = self.hidden_size, 2 if self.bidirectional else 1
        params = {}
        for name, each in zip(names, jax.random.split(key, len(names))):
            inputs = self.input_size if "_l0" in name else directions * hidden
            shape = {"weight_ih": (3 * hidden, inputs), "weight_hh": (3 * hidden, hidden)}.get(name[:9], (3 * hidden,))
            params[name] = jax.random.uniform(each, shape, dtype, -(hidden**-0.5), hidden**-0.5)
        return params

    def __call__(
        self,
        params: Mapping[str, jax.Array],
        x: jax.Array,
        h0: jax.Array | None = None,
        *,
        lengths: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """output, h_n; see gru.jax.gru. Dropout acts between layers if a key is given (training)."""
        return gru(
            x,
            h0,
            params,
            lengths=lengths,
            batch_first=self.batch_first,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            dropout=0.0 if key is None else self.dropout,
            key=key,
            math=self.math,
            recompute=self.recompute,
        )
