# SPDX-License-Identifier: Apache-2.0
"""What torch must know of the operators beside what they compute: gradients, gradients of gradients, vmap, torch.func."""

import torch

from gru.torch import _ops, _reference


def _forward_context(ctx, inputs, output):
    x, h0, lengths, weights, seed, *settings = inputs
    output, _, reserve = output
    ctx.save_for_backward(x, h0, lengths, seed, output, reserve, *weights)
    ctx.settings = settings
    ctx.mark_non_differentiable(reserve)
    ctx.set_materialize_grads(False)


def _forward_gradients(ctx, grad_output, grad_h_n, _):
    x, h0, lengths, seed, output, reserve, *weights = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [needs[0], needs[1], *needs[3]]
    none = (None,) * (1 + len(ctx.settings))
    if grad_output is None and grad_h_n is None:
        return None, None, None, [None] * len(weights), *none
    given = iter(
        _backward_op(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *ctx.settings)
    )
    grads = [next(given) if want else None for want in wanted]
    return grads[0], grads[1], None, grads[2:], *none


def _backward_context(ctx, inputs, output):
    grad_output, grad_h_n, x, h0, lengths, weights, seed, _, _, wanted, *settings = inputs
    ctx.save_for_backward(grad_output, grad_h_n, x, h0, lengths, seed, *weights)
    ctx.wanted = wanted
    ctx.settings = settings


class _Last(torch.autograd.Function):
    """The first `count` values, which whoever differentiates them is refused: else a part of the gradient would be missing.
    The others are what they depend on."""

    generate_vmap_rule = True

    @staticmethod
    def forward(count, *values):
        return tuple(value.clone() for value in values[:count])

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "gru.torch: gradients of a third order are not there: expected at most two derivatives of a GRU, one more is "
            "asked; compute it with torch.nn.GRU, which reads the same state_dict"
        )


def _second_gradients(ctx, grads, weight_needs):
    """The GRU once more in differentiable operations, differentiated twice: gradients of grad_output, grad_h_n, x, h0, weights."""
    grad_output, grad_h_n, x, h0, lengths, seed, *weights = ctx.saved_tensors
    needs = [*ctx.needs_input_grad[:4], *weight_needs]
    results = _reference.second_gradients(
        grad_output, grad_h_n, x, h0, lengths, weights, seed, ctx.wanted, grads, needs, ctx.settings
    )
    found = [result.detach() for result in results if result is not None]
    sources = [value for value in (grad_output, grad_h_n, x, h0, *weights, *grads) if value is not None]
    given = iter(_Last.apply(len(found), *found, *sources))
    return [None if result is None else next(given) for result in results]


def _backward_gradients(ctx, grads):
    """Double backward."""
    results = _second_gradients(ctx, grads, ctx.needs_input_grad[5])
    none = (None,) * (4 + len(ctx.settings))
    return *results[:4], None, results[4:], *none


torch.library.register_autograd("gru::forward", _forward_gradients, setup_context=_forward_context, lib=_ops.library)
torch.library.register_autograd("gru::backward", _backward_gradients, setup_context=_backward_context, lib=_ops.library)


# ---- vmap


def _at(value, dim, index):
    return value if value is None or dim is None else value.select(dim, index)


def _forward_vmap(info, in_dims, x, h0, lengths, weights, seed, *settings):
    x_dim, h0_dim, lengths_dim, weights_dims, seed_dim, *_ = in_dims
    results = [
        forward_op(
            _at(x, x_dim, i),
            _at(h0, h0_dim, i),
            _at(lengths, lengths_dim, i),
            [_at(weight, dim, i) for weight, dim in zip(weights, weights_dims or [None] * len(weights))],
            _at(seed, seed_dim, i),
            *settings,
        )
        for i in range(info.batch_size)
    ]
    return tuple(torch.stack(parts) for parts in zip(*results)), (0, 0, 0)


def _backward_vmap(
    info, in_dims, grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings
):
    dims = in_dims
    results = [
        _backward_op(
            _at(grad_output, dims[0], i),
            _at(grad_h_n, dims[1], i),
            _at(x, dims[2], i),
            _at(h0, dims[3], i),
            _at(lengths, dims[4], i),
            [_at(weight, dim, i) for weight, dim in zip(weights, dims[5] or [None] * len(weights))],
            _at(seed, dims[6], i),
            _at(output, dims[7], i),
            _at(reserve, dims[8], i),
            wanted,
            *settings,
        )
        for i in range(info.batch_size)
    ]
    stacked = [torch.stack(parts) for parts in zip(*results)]
    return stacked, [0] * len(stacked)


torch.library.register_vmap("gru::forward", _forward_vmap, lib=_ops.library)
torch.library.register_vmap("gru::backward", _backward_vmap, lib=_ops.library)


# ---- transforms of torch.func
# They take autograd.Functions, not the gradients of a library's operator. Each level of a transform runs these once
# more.


class _ForwardFunction(torch.autograd.Function):
    @staticmethod
    def forward(x, h0, lengths, seed, settings, *weights):
        return torch.ops.gru.forward(x, h0, lengths, list(weights), seed, *settings)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, h0, lengths, seed, settings, *weights = inputs
        _forward_context(ctx, (x, h0, lengths, weights, seed, *settings), output)

    @staticmethod
    def backward(ctx, grad_output, grad_h_n, _):
        x, h0, lengths, seed, output, reserve, *weights = ctx.saved_tensors
        needs = ctx.needs_input_grad
        wanted = [needs[0], needs[1], *needs[5:]]
        given = iter(
            _backward_op(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *ctx.settings)
        )
        grads = [next(given) if want else None for want in wanted]
        return grads[0], grads[1], None, None, None, *grads[2:]

    @staticmethod
    def vmap(info, in_dims, x, h0, lengths, seed, settings, *weights):
        dims = (*in_dims[:3], list(in_dims[5:]), in_dims[3])
        return _forward_vmap(info, dims, x, h0, lengths, list(weights), seed, *settings)


class _BackwardFunction(torch.autograd.Function):
    @staticmethod
    def forward(grad_output, grad_h_n, x, h0, lengths, seed, output, reserve, wanted, settings, *weights):
        return tuple(
            torch.ops.gru.backward(
                grad_output, grad_h_n, x, h0, lengths, list(weights), seed, output, reserve, wanted, *settings
            )
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        grad_output, grad_h_n, x, h0, lengths, seed, _, _, wanted, settings, *weights = inputs
        _backward_context(
            ctx, (grad_output, grad_h_n, x, h0, lengths, weights, seed, None, None, wanted, *settings), output
        )

    @staticmethod
    def backward(ctx, *grads):
        results = _second_gradients(ctx, grads, ctx.needs_input_grad[10:])
        return *results[:4], *[None] * 6, *results[4:]

    @staticmethod
    def vmap(info, in_dims, grad_output, grad_h_n, x, h0, lengths, seed, output, reserve, wanted, settings, *weights):
        dims = (*in_dims[:5], list(in_dims[10:]), in_dims[5], *in_dims[6:8])
        results, out_dims = _backward_vmap(
            info, dims, grad_output, grad_h_n, x, h0, lengths, list(weights), seed, output, reserve, wanted, *settings
        )
        return tuple(results), tuple(out_dims)


def transformed() -> bool:
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def forward_op(x, h0, lengths, weights, seed, *settings):
    if transformed():
        return _ForwardFunction.apply(x, h0, lengths, seed, settings, *weights)
    return torch.ops.gru.forward(x, h0, lengths, weights, seed, *settings)


def _backward_op(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    if transformed():
        return _BackwardFunction.apply(
            grad_output, grad_h_n, x, h0, lengths, seed, output, reserve, wanted, settings, *weights
        )
    return torch.ops.gru.backward(
        grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings
    )
