#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the gradients of golden cases: what autograd gives for torch.nn.GRU in float64.

    python gradients.py            # rewrites gradients/ beside this file
    python gradients.py --check    # recomputes and compares, writes nothing

Needs torch, numpy and safetensors. Weights and inputs are those of the cases themselves (make.py). For each case a folder:

    grad_output.npy, grad_h_n.npy   what flows back, float64 and exact in float32; NaN in the padding of grad_output
    gradients.safetensors           x, h0 where the case has one, and the parameters, float64

The gradients are those of sum(output * grad_output) + sum(h_n * grad_h_n). Reset-before, which torch does not have, is a loop
over its equation under autograd; the same loop must agree with torch.nn.GRU in the other cases.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = pathlib.Path(__file__).resolve().parent
CASES = [
    "unit",
    "plain",
    "initial_state",
    "three_layers",
    "no_bias",
    "bidirectional_layers_no_bias",
    "batch_first",
    "unbatched",
    "lengths",
    "lengths_bidirectional_layers",
    "reset_before",
    "reset_before_lengths",
]


def loop(case, weights, x, h0, lengths):
    """x (T, B, I), h0 (L*D, B, H): every equation by hand."""
    directions = 2 if case["bidirectional"] else 1
    steps, batch, _ = x.shape
    last = []
    for layer in range(case["num_layers"]):
        outputs = []
        for d in range(directions):
            suffix = f"_l{layer}" + ("_reverse" if d else "")
            w_i, w_h = weights["weight_ih" + suffix], weights["weight_hh" + suffix]
            zero = w_i.new_zeros(len(w_i))
            b_i, b_h = weights.get("bias_ih" + suffix, zero), weights.get("bias_hh" + suffix, zero)
            h, out = h0[layer * directions + d], [None] * steps
            for t in reversed(range(steps)) if d else range(steps):
                i_r, i_z, i_n = (x[t] @ w_i.T + b_i).chunk(3, 1)
                if case["reset_before"]:
                    w_r, w_z, w_n = w_h.chunk(3)
                    b_r, b_z, b_n = b_h.chunk(3)
                    r, z = torch.sigmoid(i_r + h @ w_r.T + b_r), torch.sigmoid(i_z + h @ w_z.T + b_z)
                    n = torch.tanh(i_n + (r * h) @ w_n.T + b_n)
                else:
                    h_r, h_z, h_n = (h @ w_h.T + b_h).chunk(3, 1)
                    r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
                    n = torch.tanh(i_n + r * h_n)
                valid = (t < lengths)[:, None]
                fresh = (1 - z) * n + z * h
                out[t] = torch.where(valid, fresh, torch.zeros_like(h))
                h = torch.where(valid, fresh, h)
            outputs.append(torch.stack(out))
            last.append(h)
        x = torch.cat(outputs, 2)
    return x, torch.stack(last)


def library(case, weights, x, h0, lengths):
    gru = torch.nn.GRU(
        case["input_size"],
        case["hidden_size"],
        case["num_layers"],
        bias=case["bias"],
        bidirectional=case["bidirectional"],
        dtype=torch.float64,
    )
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, h_n = torch.func.functional_call(gru, weights, (packed, h0))
    return pad_packed_sequence(output, total_length=len(x))[0], h_n


def gradients(case, folder):
    rng = np.random.default_rng([ord(c) for c in case["name"]])
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    stored = load_file(folder / "weights.safetensors")
    leaf = lambda a: torch.tensor(np.asarray(a, np.float64), requires_grad=True)
    weights = {name.removeprefix(case["prefix"]): leaf(value) for name, value in stored.items()}
    x = np.load(folder / "x.npy").astype(np.float64)
    h0 = np.load(folder / "h0.npy").astype(np.float64) if case["h0"] else None
    lengths = np.load(folder / "lengths.npy").astype(np.int64) if case["lengths"] is not None else None
    grad_output = draw(np.load(folder / "output.npy").shape)
    grad_h_n = draw(np.load(folder / "h_n.npy").shape)

    def canonical(a):  # a batch in the middle
        if case["unbatched"]:
            return a[:, None]
        return a.swapaxes(0, 1) if case["batch_first"] else a

    clean = canonical(x)
    steps, batch, _ = clean.shape
    ends = np.full(batch, steps) if lengths is None else lengths
    padding = np.arange(steps)[:, None] >= ends
    states = case["num_layers"] * (2 if case["bidirectional"] else 1)
    state = np.zeros((states, batch, case["hidden_size"])) if h0 is None else h0[:, None] if case["unbatched"] else h0
    results = []
    for compute in (loop, library):
        if compute is library and case["reset_before"]:
            continue
        at = leaf(np.where(padding[..., None], 0, clean))
        from_state = leaf(state)
        output, h_n = compute(case, weights, at, from_state, torch.tensor(ends))
        flows = torch.tensor(np.where(padding[..., None], 0, canonical(grad_output)))
        into_state = torch.tensor(grad_h_n[:, None] if case["unbatched"] else grad_h_n)
        names = ["x", "h0", *weights]
        found = torch.autograd.grad(
            (output * flows).sum() + (h_n * into_state).sum(), [at, from_state, *weights.values()]
        )
        results.append({name: g.numpy() for name, g in zip(names, found)})
    for name, value in results[-1].items():
        error = np.abs(value - results[0][name]).max()
        assert error <= 1e-12 * max(1, np.abs(value).max()), (case["name"], name, error)
    found = results[-1]
    if case["unbatched"]:
        found["x"], found["h0"] = found["x"][:, 0], found["h0"][:, 0]
    elif case["batch_first"]:
        found["x"] = found["x"].swapaxes(0, 1)
    if lengths is not None:
        view = canonical(grad_output)
        view[padding] = np.nan  # reaches nothing
    return grad_output, grad_h_n, {name: np.ascontiguousarray(g) for name, g in found.items()}


def main():
    check = "--check" in sys.argv
    cases = {case["name"]: case for case in json.loads((HERE / "golden.json").read_text())["cases"]}
    for name in CASES:
        grad_output, grad_h_n, found = gradients(cases[name], HERE / name)
        folder = HERE / "gradients" / name
        if check:
            stored = load_file(folder / "gradients.safetensors")
            worst = max(np.abs(stored[key] - value).max() for key, value in found.items())
            assert set(stored) == set(found) and worst <= 1e-12, (name, worst)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "grad_output.npy", grad_output)
            np.save(folder / "grad_h_n.npy", grad_h_n)
            save_file(found, folder / "gradients.safetensors")
        print(f"{name}: {len(found)} gradients")


if __name__ == "__main__":
    main()
