# SPDX-License-Identifier: Apache-2.0
"""gru.jax against NumPy in float64, and its gradients against those of a lax.scan that is written here."""

import numpy as np
import pytest
from reference import close, random_arrays
from reference import gru as reference

jax = pytest.importorskip("jax", reason="JAX is not installed")
import jax.numpy as jnp
from jax.test_util import check_grads

import gru
import gru.jax

pytestmark = pytest.mark.usefixtures("device")
T, B, I, H = 6, 3, 4, 5


def scan(x, h0, params):
    """One layer in one direction in JAX's operations, straight from torch's equations."""
    w_ih, w_hh, b_ih, b_hh = (params[f"{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def step(h, x_t):
        i, g = x_t @ w_ih.T + b_ih, h @ w_hh.T + b_hh
        r, z = (jax.nn.sigmoid(i[:, a : a + H] + g[:, a : a + H]) for a in (0, H))
        h = (1 - z) * jnp.tanh(i[:, 2 * H :] + r * g[:, 2 * H :]) + z * h
        return h, h

    last, output = jax.lax.scan(step, h0[0], x)
    return output, last[None]


def problem(layers=1, directions=1, bias=True, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    arrays = random_arrays(rng, I, H, layers, directions, bias)
    params = {name: jnp.asarray(value, dtype) for name, value in arrays.items()}
    x = rng.standard_normal((T, B, I)).astype(dtype)
    h0 = rng.standard_normal((layers * directions, B, H)).astype(dtype)
    return arrays, params, x, h0


def distance(got, wanted):
    """Relative L2 over all leaves."""
    pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True))
    assert all(one.shape == other.shape and one.dtype == other.dtype for one, other in pairs)
    norm = sum(np.linalg.norm(np.asarray(other, np.float64)) for _, other in pairs)
    return (
        sum(np.linalg.norm(np.asarray(one, np.float64) - np.asarray(other, np.float64)) for one, other in pairs) / norm
    )


def loss(results):
    output, h_n = results
    return jnp.sin(output).sum() + jnp.cos(h_n).sum()


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [(1, 1, True), (1, 1, False), (3, 1, True), (2, 2, True)])
def test_results(options, dtype, jit):
    arrays, params, x, h0 = problem(*options, dtype)
    call = jax.jit(gru.jax.gru) if jit else gru.jax.gru
    for start in (h0, None):
        output, h_n = call(x, start, params)
        assert isinstance(output, jax.Array) and output.dtype == dtype
        wanted = reference(arrays, x, start)
        close(np.asarray(output), wanted[0], dtype)
        close(np.asarray(h_n), wanted[1], dtype)


def test_layouts_and_lengths():
    arrays, params, x, h0 = problem(2, 2)
    wanted = reference(arrays, x, h0)
    output, h_n = gru.jax.gru(x.swapaxes(0, 1), h0, params, batch_first=True)
    close(np.asarray(output).swapaxes(0, 1), wanted[0], "float64")
    output, h_n = gru.jax.gru(x[:, 0], h0[:, 0], params)
    close(np.asarray(output), wanted[0][:, 0], "float64")
    close(np.asarray(h_n), wanted[1][:, 0], "float64")
    for lengths in (np.array([6, 1, 3]), np.array([2, 6, 0], np.int32)):
        output, h_n = jax.jit(gru.jax.gru)(x, h0, params, lengths=lengths)
        wanted = reference(arrays, x, h0, lengths)
        close(np.asarray(output), wanted[0], "float64")
        close(np.asarray(h_n), wanted[1], "float64")


def test_degenerate_sizes():
    _, params, x, h0 = problem(2)
    output, h_n = gru.jax.gru(x[:, :0], h0[:, :0], params)
    assert output.shape == (T, 0, H) and h_n.shape == (2, 0, H)
    grads = jax.grad(lambda params: loss(gru.jax.gru(x[:, :0], None, params)))(params)
    assert all(not value.any() for value in grads.values())
    arrays = random_arrays(np.random.default_rng(0), 1, 1)
    one = np.ones((1, 1, 1))
    close(np.asarray(gru.jax.gru(one, None, arrays)[0]), reference(arrays, one)[0], "float64")


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_a_scan(dtype, recompute):
    _, params, x, h0 = problem(dtype=dtype)
    ours = jax.jit(jax.grad(lambda *given: loss(gru.jax.gru(*given, recompute=recompute)), (0, 1, 2)))
    theirs = jax.grad(lambda *given: loss(scan(*given)), (0, 1, 2))
    with jax.default_matmul_precision("highest"):
        wanted = theirs(x, h0, params)
    assert distance(ours(x, h0, params), wanted) < (3e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("options", [(2, 2, True), (3, 1, False)])
def test_gradients_of_layers(options):
    _, params, x, h0 = problem(*options)
    lengths = jnp.array([6, 1, 3])
    check = lambda call, given: check_grads(jax.jit(call), given, order=1, modes=["rev"], rtol=1e-6, atol=1e-8)
    check(gru.jax.gru, (x, h0, params))
    check(lambda x, params: gru.jax.gru(x, None, params, lengths=lengths), (x, params))


def directional(call, given, way):
    """The gradient of the gradient's part along `way`."""
    part = lambda *given: sum(jnp.vdot(g, w) for g, w in zip(jax.grad(call, (0, 1))(*given), way, strict=True))
    return jax.jit(jax.grad(part, (0, 1, 2)))(*given)


def test_gradients_of_gradients():
    _, params, x, h0 = problem()
    rng = np.random.default_rng(7)
    way = rng.standard_normal(x.shape), rng.standard_normal(h0.shape)
    got = directional(lambda *given: loss(gru.jax.gru(*given)), (x, h0, params), way)
    assert distance(got, directional(lambda *given: loss(scan(*given)), (x, h0, params), way)) < 1e-12
    # Layers, both directions and lengths, by a central difference along the same way.
    _, params, x, h0 = problem(2, 2)
    way = rng.standard_normal(x.shape), rng.standard_normal(h0.shape)
    call = lambda *given: loss(gru.jax.gru(*given, lengths=jnp.array([6, 1, 3])))
    second = directional(call, (x, h0, params), way)
    first = jax.jit(jax.grad(call, (0, 1)))
    moved = [first(x + s * 1e-5 * way[0], h0 + s * 1e-5 * way[1], params) for s in (1, -1)]
    # The Hessian is symmetric: along the way, the gradient's change is the gradient of its part.
    for one, up, down in zip(second[:2], *moved, strict=True):
        np.testing.assert_allclose(one, (up - down) / 2e-5, rtol=1e-5, atol=1e-7)


def test_vmap_over_inputs_and_parameters():
    _, params, _, h0 = problem(2, 2)
    xs = np.random.default_rng(3).standard_normal((4, T, B, I))
    close_to = lambda got, wanted: distance(got, wanted) < 1e-12
    every = [gru.jax.gru(x, h0, params) for x in xs]
    wanted = (jnp.stack([output for output, _ in every]), jnp.stack([h_n for _, h_n in every]))
    assert close_to(jax.vmap(lambda x: gru.jax.gru(x, h0, params))(xs), wanted)
    assert close_to(jax.jit(jax.vmap(lambda x: gru.jax.gru(x, h0, params)))(xs), wanted)
    turned = jax.vmap(lambda x: gru.jax.gru(x, h0, params, batch_first=True))(xs.swapaxes(1, 2))
    assert close_to((turned[0].swapaxes(1, 2), turned[1]), wanted)
    twice = jax.vmap(jax.vmap(lambda x: gru.jax.gru(x, None, params)))(xs.reshape(2, 2, T, B, I))
    assert close_to(twice[0].reshape(4, T, B, 2 * H), jax.vmap(lambda x: gru.jax.gru(x, None, params)[0])(xs))
    many = {name: jnp.stack([value, 2 * value]) for name, value in params.items()}
    both = jax.vmap(lambda params: gru.jax.gru(xs[0], h0, params)[0])(many)
    assert close_to(both[1], gru.jax.gru(xs[0], h0, {name: 2 * value for name, value in params.items()})[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_vmap_over_no_examples(batch_first):
    _, params, x, h0 = problem(2, 2)
    x = jnp.asarray(x).swapaxes(0, 1) if batch_first else jnp.asarray(x)
    for state in (None, jnp.asarray(h0)):
        call = lambda x: gru.jax.gru(x, state, params, batch_first=batch_first)
        output, h_n = jax.vmap(call)(jnp.zeros((0, *x.shape), x.dtype))
        wanted = call(x)
        assert output.shape == (0, *wanted[0].shape) and h_n.shape == (0, *wanted[1].shape)


def test_gradients_per_example_and_of_a_vmap():
    _, params, x, h0 = problem(2)
    one = lambda params, x, h0: loss(gru.jax.gru(x[:, None], h0[:, None], params))
    each = jax.jit(jax.vmap(jax.grad(one), in_axes=(None, 1, 1)))(params, x, h0)
    whole = jax.grad(lambda params: loss(gru.jax.gru(x, h0, params)))(params)
    assert distance(jax.tree.map(lambda value: value.sum(0), each), whole) < 1e-12
    summed = jax.grad(lambda params: jax.vmap(one, in_axes=(None, 1, 1))(params, x, h0).sum())(params)
    assert distance(summed, whole) < 1e-12


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    _, params, x, _ = problem(dtype="float32")
    halves = {name: value.astype(dtype) for name, value in params.items()}
    output, _ = gru.jax.gru(jnp.asarray(x, dtype), None, halves)
    wide = {name: value.astype(jnp.float32) for name, value in halves.items()}
    wanted, _ = gru.jax.gru(jnp.asarray(x, dtype).astype(jnp.float32), None, wide)
    assert output.dtype == dtype and (output == wanted.astype(dtype)).all()


def test_the_module_trains():
    layer = gru.jax.GRU(I, H, num_layers=2, bidirectional=True, dropout=0.25)
    params = layer.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (T, B, I), jnp.float32)
    goal = jnp.tanh(x.sum(-1, keepdims=True))

    @jax.jit
    def step(params, key):
        value, grads = jax.value_and_grad(lambda p: ((layer(p, x, key=key)[0] - goal) ** 2).mean())(params)
        return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)

    values = []
    for key in jax.random.split(jax.random.key(2), 40):
        value, params = step(params, key)
        values.append(float(value))
    assert values[-1] < 0.8 * values[0]
    same = [layer(params, x, key=jax.random.key(5))[0] for _ in range(2)]
    assert (same[0] == same[1]).all() and not (same[0] == layer(params, x)[0]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, h0, p: gru.jax.gru(x[..., 1:], h0, p), "weight_ih_l0: expected the shape"),
        (lambda x, h0, p: gru.jax.gru(x, h0[1:], p), "h0: expected the shape"),
        (lambda x, h0, p: gru.jax.gru(x, h0, {}), "torch.nn.GRU's names"),
        (lambda x, h0, p: gru.jax.gru(x, h0, p | {"head": x}), "params: expected the names"),
        (lambda x, h0, p: gru.jax.gru(x.astype("float32"), h0, p), "of one of float32"),
        (lambda x, h0, p: gru.jax.gru(x, h0, p, num_layers=3), "num_layers: the names"),
        (lambda x, h0, p: gru.jax.gru(x, h0, p, lengths=jnp.ones(B)), "lengths: expected"),
        (lambda x, h0, p: gru.jax.gru(x, h0, p, dropout=0.5), "expected a key"),
        (lambda x, h0, p: gru.jax.gru(x[0, 0], h0, p), "x: expected"),
    ],
)
def test_errors_before_the_call(change, words):
    _, params, x, h0 = problem(2)
    with pytest.raises(gru.Error, match=words):
        change(x, h0, params)


def test_errors_of_the_call():
    _, params, x, h0 = problem()
    with pytest.raises(Exception, match="strict"):  # XLA's own type, with the library's words
        jax.block_until_ready(gru.jax.gru(x, h0, params, math="exact"))
