# SPDX-License-Identifier: Apache-2.0
"""A GRU as a function of JAX arrays."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gru import _core
from gru.jax import _call

_HALVES = (jnp.float16, jnp.bfloat16)


def _error(what: str) -> _core.Error:
    return _core.Error(f"gru.jax.gru: {what}")


def names_of(num_layers: int, bias: bool, bidirectional: bool) -> list[str]:
    """torch.nn.GRU's names in its order."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
    suffixes = ("", "_reverse")[: 2 if bidirectional else 1]
    return [f"{kind}_l{layer}{suffix}" for layer in range(num_layers) for suffix in suffixes for kind in kinds]


def _check(names: list[str], params: Mapping[str, Any], x: Any, h0: Any, lengths: Any, batch_first: bool) -> None:
    """Shapes and dtypes, before XLA sees them."""
    if sorted(names) != sorted(params):
        raise _error(f"params: expected the names {', '.join(names)}, got {', '.join(map(str, params))}")
    bidirectional = any(name.endswith("_reverse") for name in names)
    directions = 2 if bidirectional else 1
    first = params["weight_hh_l0"]
    if jnp.ndim(first) != 2 or first.shape[0] != 3 * first.shape[1]:
        raise _error(f"params: weight_hh_l0: expected the shape (3H, H), got {jnp.shape(first)}")
    hidden = first.shape[1]
    for name in names:
        inputs = x.shape[-1] if "_l0" in name else directions * hidden
        shape = {"weight_ih": (3 * hidden, inputs), "weight_hh": (3 * hidden, hidden)}.get(name[:9], (3 * hidden,))
        if jnp.shape(params[name]) != shape:
            raise _error(f"params: {name}: expected the shape {shape}, got {jnp.shape(params[name])}")
    batch = x.shape[0 if batch_first else 1]
    rows = sum(name.startswith("weight_hh") for name in names)
    if h0 is not None and jnp.shape(h0) != (rows, batch, hidden):
        raise _error(f"h0: expected the shape {(rows, batch, hidden)}, got {jnp.shape(h0)}")
    if lengths is not None and (
        jnp.shape(lengths) != (batch,) or jnp.result_type(lengths) not in (jnp.int32, jnp.int64)
    ):
        raise _error(
            f"lengths: expected {batch} of int32 or int64, got {jnp.result_type(lengths)} of shape {jnp.shape(lengths)}"
        )


def gru(
    x: jax.Array,
    h0: jax.Array | None,
    params: Mapping[str, jax.Array],
    *,
    lengths: jax.Array | None = None,
    batch_first: bool = False,
    num_layers: int | None = None,
    bidirectional: bool | None = None,
    dropout: float = 0.0,
    key: jax.Array | None = None,
    math: str = "strict",
    recompute: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """output, h_n = GRU(x, h0), as torch.nn.GRU gives them.

    x (T, B, I), (B, T, I) with batch_first, or (T, I); h0 (L*D, B, H), (L*D, H) for a single sequence, or None for zeros.
    params: arrays under torch.nn.GRU's names ("weight_ih_l0" (3H, I), "weight_hh_l0" (3H, H), "bias_ih_l0" (3H), ...,
    "..._l1", "..._l0_reverse"), of x's dtype; biases may be missing together. num_layers and bidirectional are read from
    the names; what is given here must agree. lengths (B), int32 or int64: rows end there, output is 0 from then on.
    dropout: the probability between layers, with `key`; 0 in evaluation. math: "strict", or a faster mode that the device
    has. recompute: a differentiated call keeps little and makes the gates again in the backward pass.

    float16 and bfloat16 arrays are computed in float32 and rounded at the end. Raises gru.Error for shapes that do not fit.
    """
    if jnp.ndim(x) not in (2, 3):
        raise _error(f"x: expected (T, B, I), (B, T, I) with batch_first, or (T, I), got the shape {jnp.shape(x)}")
    if jnp.ndim(x) == 2:
        if lengths is not None:
            raise _error("lengths: a single sequence ends where it ends; slice it")
        output, h_n = gru(
            x[:, None], None if h0 is None else h0[:, None], params, num_layers=num_layers, bidirectional=bidirectional,
            dropout=dropout, key=key, math=math, recompute=recompute,
        )  # fmt: skip
        return output[:, 0], h_n[:, 0]
    layers = sum(name.startswith("weight_hh_l") and not name.endswith("_reverse") for name in params)
    both = "weight_hh_l0_reverse" in params
    if layers == 0:
        raise _error(f"params: expected torch.nn.GRU's names, such as weight_ih_l0, got {', '.join(map(str, params))}")
    for name, given, found in (("num_layers", num_layers, layers), ("bidirectional", bidirectional, both)):
        if given is not None and given != found:
            raise _error(f"{name}: the names of params say {found}, got {given}")
    names = names_of(layers, "bias_ih_l0" in params, both)
    _check(names, params, x, h0, lengths, batch_first)

    dtype = jnp.result_type(x)
    kinds = {str(dtype), *(str(jnp.result_type(params[name])) for name in names)}
    kinds |= set() if h0 is None else {str(jnp.result_type(h0))}
    if len(kinds) != 1 or dtype not in (jnp.float32, jnp.float64, *_HALVES):
        raise _error(
            f"expected x, h0 and params of one of float32, float64, float16, bfloat16, got {', '.join(sorted(kinds))}"
        )
    wide = (lambda value: value.astype(jnp.float32)) if dtype in _HALVES else jnp.asarray
    weights = [wide(params[name]) for name in names]
    x, h0 = wide(x), None if h0 is None else wide(h0)
    lengths = None if lengths is None else jnp.asarray(lengths)

    run = lambda layers, x, h0, weights: _call.function(
        _call.Settings(layers, "bias_ih_l0" in params, both, batch_first, math, "remake" if recompute else "keep")
    )(x, h0, lengths, weights)
    if dropout == 0 or layers == 1:
        output, h_n = run(layers, x, h0, weights)
    else:
        output, h_n = _with_dropout(run, layers, 2 if both else 1, x, h0, weights, dropout, key)
    return output.astype(dtype), h_n.astype(dtype)


def _with_dropout(run, layers, directions, x, h0, weights, dropout, key):
    """Layer by layer, as JAX draws the masks in between."""
    if not 0 <= dropout <= 1:
        raise _error(f"dropout: expected a probability in [0, 1], got {dropout}")
    if key is None:
        raise _error("dropout: expected a key (jax.random.key), got None; pass dropout=0 in evaluation")
    each = len(weights) // layers
    states = []
    for layer, layer_key in enumerate(jax.random.split(key, layers)):
        start = None if h0 is None else h0[directions * layer : directions * (layer + 1)]
        x, state = run(1, x, start, weights[each * layer : each * (layer + 1)])
        states.append(state)
        if layer + 1 < layers:
            kept = jax.random.bernoulli(layer_key, 1 - dropout, x.shape)
            x = jnp.where(kept, x / (1 - dropout) if dropout < 1 else 0, 0)
    return x, jnp.concatenate(states)
