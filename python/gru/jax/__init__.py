# SPDX-License-Identifier: Apache-2.0
"""The fused GRU for JAX: an XLA call with gradients, on CPUs and CUDA, under jit, vmap and grad.

output, h_n = gru.jax.gru(x, h0, params)       # params: torch.nn.GRU's state_dict as a pytree
layer = gru.jax.GRU(8, 32, num_layers=2)       # or a module in the manner of flax.linen
params = layer.init(key)
output, h_n = layer(params, x)
"""

from gru.jax._gru import gru
from gru.jax._module import GRU

__all__ = ["GRU", "gru"]
