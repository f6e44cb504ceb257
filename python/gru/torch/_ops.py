# SPDX-License-Identifier: Apache-2.0
"""The operators gru::forward and gru::backward, and what torch must know of them: shapes, gradients, vmap.

    forward   x, h0?, lengths?, weights[], seed? -> output, h_n, reserve
    backward  grad_output?, grad_h_n?, and all of the forward's -> grad_x?, grad_h0?, grad_weights[]

x is (T, B, I), or (B, T, I) with batch_first. The reserve belongs to the call: several forwards may wait for their
backward.
seed (2) int64 of host memory holds dropout's seed and offset.
"""

import torch
from torch import Tensor

from gru.torch import _plans, _reference
from gru.torch._plans import Spec

_library = torch.library.Library("gru", "FRAGMENT")
_SETTINGS = "int num_layers, bool bias, bool bidirectional, bool batch_first, float dropout, str math, str training"
_library.define(
    f"forward(Tensor x, Tensor? h0, Tensor? lengths, Tensor[] weights, Tensor? seed, {_SETTINGS}) "
    "-> (Tensor output, Tensor h_n, Tensor reserve)",
    tags=[torch.Tag.pt2_compliant_tag],
)
_library.define(
    "backward(Tensor? grad_output, Tensor? grad_h_n, Tensor x, Tensor? h0, Tensor? lengths, Tensor[] weights, "
    f"Tensor? seed, Tensor output, Tensor reserve, bool[] wanted, {_SETTINGS}) -> Tensor[]",
    tags=[torch.Tag.pt2_compliant_tag],
)


def _spec(x: Tensor, weights: list[Tensor], settings: tuple) -> Spec:
    num_layers, bias, bidirectional, batch_first, dropout, math, training = settings
    first, second = x.shape[0], x.shape[1]
    steps, batch = (second, first) if batch_first else (first, second)
    device = x.device
    return Spec(
        f"cuda:{device.index}" if device.type == "cuda" else device.type,
        "float64" if x.dtype == torch.float64 else "float32",
        math,
        x.shape[2],
        weights[1].shape[1],
        num_layers,
        bias,
        bidirectional,
        max(steps, 1),
        max(batch, 1),
        batch_first,
        training,
        dropout,
    )


def _reserve_words(spec: Spec) -> int:
    """Room, in words of 32 bits, for what a backend keeps, as a formula that torch.compile can read: each layer's
    states, with
    one step before and one after, and in "keep" the four gate values of each unit and step. On a host it may be in
    double."""
    states = (spec.seq_len + 2) * spec.num_layers
    gates = 4 * spec.seq_len * spec.num_layers if spec.training == "keep" else 0
    units = spec.batch_size * spec.hidden_size * (2 if spec.bidirectional else 1)
    words = 2 if spec.dtype == "float64" or spec.device == "cpu" else 1
    return ((states + gates) * units + 1024) * words


def _seed(seed: Tensor | None) -> tuple[int, int]:
    if seed is None:
        return 0, 0
    first, second = seed.tolist()
    return first, second


def _forward(x, h0, lengths, weights, seed, *settings):
    spec = _spec(x, weights, settings)
    weights = [weight if weight.is_contiguous() else weight.contiguous() for weight in weights]
    directions = 2 if spec.bidirectional else 1
    batch = x.shape[0 if spec.batch_first else 1]
    output = x.new_empty(x.shape[0], x.shape[1], directions * spec.hidden_size)
    h_n = x.new_empty(spec.num_layers * directions, batch, spec.hidden_size)
    training = spec.training != "none"
    reserve = x.new_empty(_reserve_words(spec) if training else 0, dtype=torch.int32)
    if x.numel() == 0 and output.numel() == 0 and h_n.numel() == 0:
        return output, h_n, reserve
    _plans.run(spec, x, "run", x, h0, lengths, weights, output, h_n, reserve if training else None, *_seed(seed))
    return output, h_n, reserve


def _backward(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    spec = _spec(x, weights, settings)
    directions = 2 if spec.bidirectional else 1
    weights = [weight if weight.is_contiguous() else weight.contiguous() for weight in weights]
    batch = x.shape[0 if spec.batch_first else 1]
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted[0] else None
    grad_h0 = x.new_empty(spec.num_layers * directions, batch, spec.hidden_size) if wanted[1] else None
    grad_weights = [
        torch.empty_like(weight, memory_format=torch.contiguous_format) if want else None
        for weight, want in zip(weights, wanted[2:])
    ]
    if batch == 0:
        for gradient in grad_weights:
            if gradient is not None:
                gradient.zero_()
    else:
        _plans.run(
            spec,
            x,
            "backward",
            x,
            h0,
            lengths,
            weights,
            output,
            reserve,
            grad_output,
            grad_h_n,
            grad_x,
            grad_h0,
            grad_weights,
            *_seed(seed),
        )
    return [gradient for gradient in (grad_x, grad_h0, *grad_weights) if gradient is not None]


def _forward_fake(x, h0, lengths, weights, seed, *settings):
    spec = _spec(x, weights, settings)
    directions = 2 if spec.bidirectional else 1
    batch = x.shape[0 if spec.batch_first else 1]
    return (
        x.new_empty(x.shape[0], x.shape[1], directions * spec.hidden_size),
        x.new_empty(spec.num_layers * directions, batch, spec.hidden_size),
        x.new_empty(_reserve_words(spec) if spec.training != "none" else 0, dtype=torch.int32),
    )


def _backward_fake(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    spec = _spec(x, weights, settings)
    directions = 2 if spec.bidirectional else 1
    batch = x.shape[0 if spec.batch_first else 1]
    shapes = [x.shape, (spec.num_layers * directions, batch, spec.hidden_size), *(weight.shape for weight in weights)]
    return [x.new_empty(shape) for shape, want in zip(shapes, wanted) if want]


for _key in ("CPU", "CUDA"):
    _library.impl("forward", _forward, _key)
    _library.impl("backward", _backward, _key)
torch.library.register_fake("gru::forward", _forward_fake, lib=_library)
torch.library.register_fake("gru::backward", _backward_fake, lib=_library)


# ---- gradients
# -----------------------------------------------------------------------------------------------------------


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


def _backward_gradients(ctx, grads):
    """Double backward: the GRU once more in differentiable operations, differentiated twice."""
    grad_output, grad_h_n, x, h0, lengths, seed, *weights = ctx.saved_tensors
    needs = ctx.needs_input_grad
    results = _reference.second_gradients(
        grad_output,
        grad_h_n,
        x,
        h0,
        lengths,
        weights,
        seed,
        ctx.wanted,
        grads,
        [needs[0], needs[1], needs[2], needs[3], *needs[5]],
        ctx.settings,
    )
    none = (None,) * (4 + len(ctx.settings))
    return *results[:4], None, results[4:], *none


torch.library.register_autograd("gru::forward", _forward_gradients, setup_context=_forward_context, lib=_library)
torch.library.register_autograd("gru::backward", _backward_gradients, setup_context=_backward_context, lib=_library)


# ---- vmap
# ----------------------------------------------------------------------------------------------------------------


def _at(value, dim, index):
    return value if value is None or dim is None else value.select(dim, index)


def _forward_vmap(info, in_dims, x, h0, lengths, weights, seed, *settings):
    x_dim, h0_dim, lengths_dim, weights_dims, seed_dim, *_ = in_dims
    results = [
        _forward_op(
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


torch.library.register_vmap("gru::forward", _forward_vmap, lib=_library)
torch.library.register_vmap("gru::backward", _backward_vmap, lib=_library)


# ---- transforms of torch.func
# --------------------------------------------------------------------------------------------
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
        grad_output, grad_h_n, x, h0, lengths, seed, *weights = ctx.saved_tensors
        needs = ctx.needs_input_grad
        results = _reference.second_gradients(
            grad_output,
            grad_h_n,
            x,
            h0,
            lengths,
            weights,
            seed,
            ctx.wanted,
            grads,
            [*needs[:4], *needs[10:]],
            ctx.settings,
        )
        return *results[:4], *[None] * 6, *results[4:]

    @staticmethod
    def vmap(info, in_dims, grad_output, grad_h_n, x, h0, lengths, seed, output, reserve, wanted, settings, *weights):
        dims = (*in_dims[:5], list(in_dims[10:]), in_dims[5], *in_dims[6:8])
        results, out_dims = _backward_vmap(
            info, dims, grad_output, grad_h_n, x, h0, lengths, list(weights), seed, output, reserve, wanted, *settings
        )
        return tuple(results), tuple(out_dims)


def _forward_op(x, h0, lengths, weights, seed, *settings):
    if _transformed():
        return _ForwardFunction.apply(x, h0, lengths, seed, settings, *weights)
    return torch.ops.gru.forward(x, h0, lengths, weights, seed, *settings)


def _backward_op(grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings):
    if _transformed():
        return _BackwardFunction.apply(
            grad_output, grad_h_n, x, h0, lengths, seed, output, reserve, wanted, settings, *weights
        )
    return torch.ops.gru.backward(
        grad_output, grad_h_n, x, h0, lengths, weights, seed, output, reserve, wanted, *settings
    )


# ---- the way in
# ----------------------------------------------------------------------------------------------------------


def _transformed() -> bool:
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def _plain(tensors: list[Tensor]) -> bool:
    """Nobody looks on: no tracing, no functorch transform, no dispatch mode, no tensor subclass."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)
    )


def forward(
    x: Tensor,
    h0: Tensor | None,
    lengths: Tensor | None,
    weights: list[Tensor],
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
    dropout: float,
    math: str,
    recompute: bool,
) -> tuple[Tensor, Tensor]:
    """output, h_n; through the dispatcher only if somebody needs to see it."""
    if num_layers == 1:
        dropout = 0.0  # it acts between layers
    seed = torch.randint(0, 2**62, (2,), device="cpu") if dropout > 0 else None
    # Within a transform of torch.func, an outer level may want gradients that the inner tensors do not show.
    needs_gradient = torch.is_grad_enabled() and (
        _transformed()
        or x.requires_grad
        or (h0 is not None and h0.requires_grad)
        or any(weight.requires_grad for weight in weights)
    )
    training = ("remake" if recompute else "keep") if needs_gradient else "none"
    settings = (num_layers, bias, bidirectional, batch_first, dropout, math, training)
    if not needs_gradient and _plain([x, *weights]):
        output, h_n, _ = _forward(x, h0, lengths, weights, seed, *settings)
    else:
        output, h_n, _ = _forward_op(x, h0, lengths, weights, seed, *settings)
    return output, h_n
