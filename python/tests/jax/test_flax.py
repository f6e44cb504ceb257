# SPDX-License-Identifier: Apache-2.0
"""flax' GRUCell (linen and nnx) under a scan, with the same weights."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")
import jax.numpy as jnp

import gru.jax

linen = pytest.importorskip("flax.linen", reason="flax is not installed")
nnx = pytest.importorskip("flax.nnx", reason="flax is not installed")
pytestmark = pytest.mark.usefixtures("device")
T, B, I, H = 7, 3, 4, 6


def linen_cell():
    """flax.linen's: r, z, n apart, kernels transposed, W_hr and W_hz without biases."""
    cell = linen.GRUCell(H, param_dtype=jnp.float64, dtype=jnp.float64, bias_init=jax.random.normal)
    kept = cell.init(jax.random.key(1), jnp.zeros((B, H)), jnp.zeros((B, I)))["params"]
    kept = jax.tree.map(lambda value: value.astype(jnp.float64), kept)
    join = lambda part, kind, gates: jnp.concatenate([kept[f"{part}{gate}"][kind].T for gate in gates])
    params = {
        "weight_ih_l0": join("i", "kernel", "rzn"),
        "weight_hh_l0": join("h", "kernel", "rzn"),
        "bias_ih_l0": join("i", "bias", "rzn"),
        "bias_hh_l0": jnp.concatenate([jnp.zeros(2 * H), kept["hn"]["bias"]]),
    }
    return params, lambda h, x: cell.apply({"params": kept}, h, x)


def nnx_cell():
    """flax.nnx': dense_i with r, z, n in one; dense_h without a bias."""
    cell = nnx.GRUCell(I, H, param_dtype=jnp.float64, dtype=jnp.float64, rngs=nnx.Rngs(2), bias_init=jax.random.normal)
    params = {
        "weight_ih_l0": cell.dense_i.kernel[...].T,
        "weight_hh_l0": cell.dense_h.kernel[...].T,
        "bias_ih_l0": cell.dense_i.bias[...],
        "bias_hh_l0": jnp.zeros(3 * H),
    }
    return params, cell


@pytest.mark.parametrize("make", [linen_cell, nnx_cell])
def test_a_cell_under_scan(make):
    params, cell = make()
    rng = np.random.default_rng(0)
    x, h0 = rng.standard_normal((T, B, I)), rng.standard_normal((B, H))

    def theirs(x, h0):
        last, output = jax.lax.scan(cell, h0, x)
        return output, last

    def ours(x, h0):
        output, h_n = gru.jax.gru(x, h0[None], params)
        return output, h_n[0]

    with jax.default_matmul_precision("highest"):
        for got, wanted in zip(ours(x, h0), theirs(x, h0), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)
        total = lambda f: jax.grad(lambda x, h0: jnp.sin(f(x, h0)[0]).sum(), (0, 1))(x, h0)
        for got, wanted in zip(total(ours), total(theirs), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
