# SPDX-License-Identifier: Apache-2.0
"""gru: one gated recurrent unit, on whatever is there: CPUs, NVIDIA GPUs; NumPy, CuPy, torch.

    weights = gru.load_weights("model.safetensors")        # torch.nn.GRU's state_dict
    output, h_n = gru.forward(weights, x)                  # x (T, B, I), of any kind of array

`gru.torch` holds torch.nn.GRU's drop-in, `gru.jax` the GRU as an XLA call; they are imported when they are asked for.
"""

import importlib
import types

from gru._core import Config, Error, Weights
from gru._core import version as __version__
from gru._plan import Plan, forward, tune
from gru._runtime import devices, info
from gru._weights import load_weights, weights

__all__ = ["Config", "Error", "Plan", "Weights", "devices", "forward", "info", "load_weights", "tune", "weights"]


def __getattr__(name: str) -> types.ModuleType:
    if name in ("jax", "torch"):
        return importlib.import_module(f"gru.{name}")
    raise AttributeError(f"module 'gru' has no attribute {name!r}")
