# SPDX-License-Identifier: Apache-2.0
"""Weights from a file or from arrays."""

import os
from collections.abc import Mapping
from typing import Any

from gru import _arrays, _core


def load_weights(path: str | os.PathLike[str], *, prefix: str | None = None, reset_after: bool = True) -> _core.Weights:
    """The GRU in a safetensors file; a whole state_dict may be in it.

    prefix: what stands before "weight_ih_l0" in the names ("encoder.gru."); None finds it, and more than one GRU is an
    error that lists them. reset_after: whether r is multiplied after W_hn h + b_hn, as torch.nn.GRU does; no file
    tells.
    """
    return _core.load_weights(path, prefix, reset_after)


def weights(arrays: Mapping[str, Any], *, prefix: str | None = None, reset_after: bool = True) -> _core.Weights:
    """The GRU among arrays of host memory by name, such as a state_dict. The arrays are kept, not copied."""
    named = {}
    for name, array in dict(arrays).items():
        if not isinstance(name, str):
            raise _core.Error(f"gru.weights: expected tensors by name, got the key {name!r}; give a state_dict")
        named[name] = _arrays.resolved(array)
    return _core.weights_from_arrays(named, prefix, reset_after)
