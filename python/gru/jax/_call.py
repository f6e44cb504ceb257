# SPDX-License-Identifier: Apache-2.0
"""The XLA calls gru_forward and gru_backward, and what JAX must know of them: shapes, gradients, vmap.

Data flows x, h0, lengths, weights -> output, h_n (and a reserve, which the backward reads). All of it is row-major.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gru import _core, _reserve
from gru.jax import _reference


class Settings(NamedTuple):
    """What is known when a program is traced."""

    num_layers: int
    bias: bool
    bidirectional: bool
    batch_first: bool
    math: str
    training: str


@functools.cache
def _register():
    handlers = _core.xla_calls()
    for name in ("forward", "backward"):
        jax.ffi.register_ffi_target(f"gru_{name}", handlers[f"{name}_cpu"], platform="cpu")
        if _core.cuda:
            jax.ffi.register_ffi_target(f"gru_{name}", handlers[f"{name}_cuda"], platform="CUDA")


def _call(name, results, settings, h0, lengths, arguments):
    """The XLA call; under vmap it runs once for each example."""
    _register()
    numbers = {name: np.int64(getattr(settings, name)) for name in Settings._fields[:4]}
    numbers |= {"has_h0": np.int64(h0 is not None), "has_lengths": np.int64(lengths is not None)}
    optional = [value for value in (h0, lengths) if value is not None]
    x, weights, more = arguments
    call = jax.ffi.ffi_call(f"gru_{name}", results, vmap_method="sequential")
    return call(x, *weights, *optional, *more, **numbers, math=settings.math, training=settings.training)


def _shapes(settings, x, weights):
    """output, h_n, and the reserve if there is to be one."""
    steps, batch = (x.shape[1], x.shape[0]) if settings.batch_first else x.shape[:2]
    directions, hidden = 2 if settings.bidirectional else 1, weights[1].shape[1]
    rows = settings.num_layers * directions
    results = [
        jax.ShapeDtypeStruct((*x.shape[:2], directions * hidden), x.dtype),
        jax.ShapeDtypeStruct((rows, batch, hidden), x.dtype),
    ]
    if settings.training != "none":
        words = _reserve.words(steps, batch, hidden, rows, settings.training, x.dtype == jnp.float64)
        results.append(jax.ShapeDtypeStruct((words,), jnp.int32))
    return results


def _forward(settings, x, h0, lengths, weights):
    results = _shapes(settings, x, weights)
    if 0 in x.shape[:2]:
        return [jnp.zeros(result.shape, result.dtype) for result in results]
    return _call("forward", results, settings, h0, lengths, (x, weights, []))


# ---- inference: examples of vmap become rows of the batch, as long as they share the weights


@functools.lru_cache(maxsize=None)
def _inference(settings):
    settings = settings._replace(training="none")

    @jax.custom_batching.custom_vmap
    def run(x, h0, lengths, weights):
        return tuple(_forward(settings, x, h0, lengths, weights))

    @run.def_vmap
    def rule(size, batched, x, h0, lengths, weights):
        results = (True, True)
        if any(jax.tree.leaves(batched[3])):
            given = (x, h0, lengths, weights)
            at = lambda i: jax.tree.map(lambda value, mapped: value[i] if mapped else value, given, tuple(batched))
            return jax.lax.map(lambda i: run(*at(i)), jnp.arange(size)), results

        def fold(value, is_batched, axis):
            """(N, ..., B, ...) as (..., N * B, ...); axis is B's place without N."""
            if value is None:
                return None
            value = value if is_batched else jnp.broadcast_to(value, (size, *value.shape))
            value = jnp.moveaxis(value, 0, axis)
            folded = value.shape[axis] * value.shape[axis + 1]  # not -1: there may be no examples
            return value.reshape(*value.shape[:axis], folded, *value.shape[axis + 2 :])

        def unfold(value, axis):
            value = value.reshape(*value.shape[:axis], size, batch, *value.shape[axis + 1 :])
            return jnp.moveaxis(value, axis, 0)

        rows = 0 if settings.batch_first else 1
        batch = x.shape[rows + (1 if batched[0] else 0)]
        output, h_n = run(fold(x, batched[0], rows), fold(h0, batched[1], 1), fold(lengths, batched[2], 0), weights)
        return (unfold(output, rows), unfold(h_n, 1)), results

    return run


# ---- training


@functools.lru_cache(maxsize=None)
def _backward(settings):
    """Gradients of x, h0 and the weights; they can be differentiated once more."""

    def results(x, weights):
        shape = _shapes(settings, x, weights)[1]
        like = lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype)
        return [like(x), shape, *map(like, weights)]

    @jax.custom_vjp
    def run(x, h0, lengths, weights, output, reserve, grad_output, grad_h_n):
        wanted = results(x, weights)
        if 0 in x.shape[:2]:
            grads = [jnp.zeros(value.shape, value.dtype) for value in wanted]
        else:
            more = [output, reserve, grad_output, grad_h_n]
            grads = _call("backward", wanted, settings, h0, lengths, (x, weights, more))
        return grads[0], None if h0 is None else grads[1], list(grads[2:])

    def forward(x, h0, lengths, weights, output, reserve, grad_output, grad_h_n):
        kept = (x, h0, lengths, weights, output, reserve, grad_output, grad_h_n)
        return run(*kept), kept

    def backward(kept, grads):
        x, h0, lengths, weights, output, reserve, grad_output, grad_h_n = kept

        def again(x, h0, weights, grad_output, grad_h_n):
            call = lambda x, h0, weights: _reference.gru(settings, x, h0, lengths, weights)
            return jax.vjp(call, x, h0, weights)[1]((grad_output, grad_h_n))

        found = jax.vjp(again, x, h0, weights, grad_output, grad_h_n)[1](grads)
        # output and reserve are functions of the others, and their part is in those.
        return (*found[:2], _nothing(lengths), found[2], jnp.zeros_like(output), _nothing(reserve), *found[3:])

    run.defvjp(forward, backward)
    return run


def _nothing(integers):
    """The gradient of integers."""
    return None if integers is None else np.zeros(integers.shape, jax.dtypes.float0)


def _gradients(settings, kept, grads):
    """Of a forward that kept these."""
    x, h0, lengths, weights, output, reserve = kept
    grad_x, grad_h0, grad_weights = _backward(settings)(x, h0, lengths, weights, output, reserve, *grads)
    return grad_x, grad_h0, _nothing(lengths), grad_weights


@functools.lru_cache(maxsize=None)
def _keeping(settings):
    """run(x, h0, lengths, weights) -> output, h_n, reserve. Differentiable too, as an outer grad looks into an inner
    one's forward."""

    @jax.custom_vjp
    def run(x, h0, lengths, weights):
        return tuple(_forward(settings, x, h0, lengths, weights))

    def forward(*given):
        output, h_n, reserve = run(*given)
        return (output, h_n, reserve), (*given, output, reserve)

    def backward(kept, grads):
        return _gradients(settings, kept, grads[:2])

    run.defvjp(forward, backward)
    return run


@functools.lru_cache(maxsize=None)
def function(settings):
    """run(x, h0, lengths, weights) -> output, h_n; h0 and lengths may be None. settings.training says what a
    differentiated call keeps."""

    @jax.custom_vjp
    def run(*given):
        return _inference(settings)(*given)

    def forward(*given):
        output, h_n, reserve = _keeping(settings)(*given)
        return (output, h_n), (*given, output, reserve)

    def backward(kept, grads):
        return _gradients(settings, kept, grads)

    run.defvjp(forward, backward)
    return run
