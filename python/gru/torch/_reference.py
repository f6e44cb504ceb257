# SPDX-License-Identifier: Apache-2.0
"""The GRU in torch's own differentiable operations: for gradients of gradients alone."""

import torch
from torch import Tensor


def _direction(x: Tensor, h: Tensor, lengths: Tensor | None, weights: list[Tensor], reverse: bool):
    """x (T, B, I), h (B, H): output (T, B, H) and the state after each row's last step."""
    w_ih, w_hh = weights[:2]
    b_ih, b_hh = weights[2:] if len(weights) == 4 else (None, None)
    inputs = torch.nn.functional.linear(x, w_ih, b_ih)
    steps = range(x.size(0))
    outputs: list[Tensor] = [x] * x.size(0)
    for t in reversed(steps) if reverse else steps:
        i_r, i_z, i_n = inputs[t].chunk(3, 1)
        h_r, h_z, h_n = torch.nn.functional.linear(h, w_hh, b_hh).chunk(3, 1)
        n = torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)
        after = n + torch.sigmoid(i_z + h_z) * (h - n)
        if lengths is None:
            h = outputs[t] = after
        else:
            runs = (t < lengths).unsqueeze(1)
            h = torch.where(runs, after, h)
            outputs[t] = torch.where(runs, after, torch.zeros_like(after))
    return torch.stack(outputs), h


def gru(x, h0, lengths, weights, masks, num_layers, bias, bidirectional, batch_first):
    """output, h_n; masks[layer] is what dropout multiplies the output of that layer by."""
    x = x.transpose(0, 1) if batch_first else x
    each = 4 if bias else 2
    directions = 2 if bidirectional else 1
    if lengths is not None:
        x = torch.where(
            (torch.arange(x.size(0), device=x.device)[:, None] < lengths)[..., None], x, torch.zeros_like(x)
        )
    states = []
    for layer in range(num_layers):
        outputs = []
        for d in range(directions):
            cell = layer * directions + d
            output, state = _direction(x, h0[cell], lengths, weights[each * cell : each * (cell + 1)], d == 1)
            outputs.append(output)
            states.append(state)
        x = outputs[0] if directions == 1 else torch.cat(outputs, 2)
        if masks is not None and layer + 1 < num_layers:
            x = x * masks[layer]
    return (x.transpose(0, 1) if batch_first else x), torch.stack(states)


def second_gradients(grad_output, grad_h_n, x, h0, lengths, weights, seed, wanted, grads, needs, settings):
    """Gradients of <grads, backward(...)> with respect to grad_output, grad_h_n, x, h0 and the weights, where
    needed."""
    num_layers, bias, bidirectional, batch_first, dropout, _, _ = settings
    masks = None
    if dropout > 0:
        from gru.torch import _dropout

        masks = _dropout.masks(
            x, seed, dropout, num_layers, weights[1].size(1) * (2 if bidirectional else 1), batch_first
        )
    with torch.enable_grad():
        twin = lambda value, need: None if value is None else value.detach().requires_grad_(need)
        outer = [twin(value, need) for value, need in zip((grad_output, grad_h_n), needs)]
        inner = [twin(value, True) for value in (x, h0, *weights)]
        start = inner[1]
        if start is None:
            batch = x.size(0 if batch_first else 1)
            start = inner[1] = x.new_zeros(
                num_layers * (2 if bidirectional else 1), batch, weights[1].size(1), requires_grad=True
            )
        results = gru(inner[0], start, lengths, inner[2:], masks, num_layers, bias, bidirectional, batch_first)
        pairs = [(result, gradient) for result, gradient in zip(results, outer) if gradient is not None]
        asked = [value for value, want in zip(inner, wanted) if want]
        first = torch.autograd.grad(
            [result for result, _ in pairs],
            asked,
            [gradient for _, gradient in pairs],
            create_graph=True,
            materialize_grads=True,
        )
        sources = [*outer, *inner]
        targets = [value for value, need in zip(sources, needs) if need and value is not None]
        used = [
            (value, gradient) for value, gradient in zip(first, grads) if gradient is not None and value.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [value for value, _ in used],
                targets,
                [gradient for _, gradient in used],
                allow_unused=True,
                create_graph=torch.is_grad_enabled(),
            )
            if used
            else [None] * len(targets)
        )
    return [next(found) if need and value is not None else None for value, need in zip(sources, needs)]
