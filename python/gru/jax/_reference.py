# SPDX-License-Identifier: Apache-2.0
"""The GRU in JAX's own operations: for gradients of gradients alone."""

import jax
import jax.numpy as jnp


def _direction(x, h, lengths, weights, reverse):
    """x (T, B, I), h (B, H): output (T, B, H) and the state after each row's last step."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = biases or (0, 0)
    product = lambda a, w: jax.lax.dot_general(
        a, w, (((a.ndim - 1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    runs = (
        jnp.ones((x.shape[0], 1, 1), bool)
        if lengths is None
        else jnp.arange(x.shape[0])[:, None, None] < lengths[:, None]
    )

    def step(h, now):
        inputs, runs = now
        i_r, i_z, i_n = jnp.split(inputs, 3, 1)
        h_r, h_z, h_n = jnp.split(product(h, w_hh) + b_hh, 3, 1)
        n = jnp.tanh(i_n + jax.nn.sigmoid(i_r + h_r) * h_n)
        after = n + jax.nn.sigmoid(i_z + h_z) * (h - n)
        return jnp.where(runs, after, h), jnp.where(runs, after, 0)

    last, output = jax.lax.scan(step, h, (product(x, w_ih) + b_ih, runs), reverse=reverse)
    return output, last


def gru(settings, x, h0, lengths, weights):
    """output, h_n of the same arguments as gru.jax' call takes."""
    each = 4 if settings.bias else 2
    directions = 2 if settings.bidirectional else 1
    x = x.swapaxes(0, 1) if settings.batch_first else x
    if lengths is not None:
        x = jnp.where(jnp.arange(x.shape[0])[:, None, None] < lengths[:, None], x, 0)
    rows = settings.num_layers * directions
    h0 = jnp.zeros((rows, x.shape[1], weights[1].shape[1]), x.dtype) if h0 is None else h0
    states = []
    for layer in range(settings.num_layers):
        cells = range(layer * directions, (layer + 1) * directions)
        results = [
            _direction(x, h0[cell], lengths, weights[each * cell : each * (cell + 1)], cell % directions == 1)
            for cell in cells
        ]
        x = jnp.concatenate([output for output, _ in results], 2)
        states += [last for _, last in results]
    return (x.swapaxes(0, 1) if settings.batch_first else x), jnp.stack(states)
