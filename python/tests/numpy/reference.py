# SPDX-License-Identifier: Apache-2.0
"""A GRU written a second time, in NumPy and float64, straight from the equations of torch.nn.GRU."""

import numpy as np


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def random_arrays(rng, inputs, hidden, layers=1, directions=1, bias=True):
    """A state_dict of torch.nn.GRU at its initial scale."""
    scale = hidden**-0.5
    arrays = {}
    for layer in range(layers):
        width = inputs if layer == 0 else directions * hidden
        for suffix in ("", "_reverse")[:directions]:
            shapes = {"weight_ih": (3 * hidden, width), "weight_hh": (3 * hidden, hidden)}
            if bias:
                shapes |= {"bias_ih": (3 * hidden,), "bias_hh": (3 * hidden,)}
            for kind, shape in shapes.items():
                arrays[f"{kind}_l{layer}{suffix}"] = rng.uniform(-scale, scale, shape)
    return arrays


def gru(arrays, x, h0=None, lengths=None):
    """x (T, B, I), h0 (L*D, B, H), lengths (B): output (T, B, D*H), h_n (L*D, B, H), in float64."""
    directions = 2 if "weight_ih_l0_reverse" in arrays else 1
    layers = sum(name.startswith("weight_hh") for name in arrays) // directions
    hidden = arrays["weight_hh_l0"].shape[1]
    steps, batch = x.shape[:2]
    lengths = np.full(batch, steps) if lengths is None else lengths
    h0 = np.zeros((layers * directions, batch, hidden)) if h0 is None else h0
    h_n = np.empty((layers * directions, batch, hidden))
    below = np.asarray(x, np.float64)
    for layer in range(layers):
        output = np.zeros((steps, batch, directions * hidden))
        for d in range(directions):
            name = f"l{layer}" + ("_reverse" if d else "")
            w_ih, w_hh = (np.asarray(arrays[f"{kind}_{name}"], np.float64) for kind in ("weight_ih", "weight_hh"))
            b_ih, b_hh = (np.asarray(arrays.get(f"{kind}_{name}", 0.0), np.float64) for kind in ("bias_ih", "bias_hh"))
            for row in range(batch):
                h = np.asarray(h0[layer * directions + d, row], np.float64)
                order = range(lengths[row])
                for t in reversed(order) if d else order:
                    i = w_ih @ below[t, row] + b_ih
                    g = w_hh @ h + b_hh
                    r, z = sigmoid(i[:hidden] + g[:hidden]), sigmoid((i + g)[hidden : 2 * hidden])
                    n = np.tanh(i[2 * hidden :] + r * g[2 * hidden :])
                    h = n + z * (h - n)
                    output[t, row, d * hidden : (d + 1) * hidden] = h
                h_n[layer * directions + d, row] = h
        below = output
    return below, h_n


def close(got, wanted, dtype):
    """The bound of the golden tests at torch's initial scale in relative L2: 2e-6 (float32, and a rounding more in float16), 1e-13."""
    bound = {np.float16: 2e-6 + 2**-11, np.float32: 2e-6, np.float64: 1e-13}[np.dtype(dtype).type]
    wanted = np.asarray(wanted, np.float64)
    error = np.linalg.norm(np.asarray(got, np.float64) - wanted)
    assert got.shape == wanted.shape
    assert error <= bound * max(np.linalg.norm(wanted), np.finfo(dtype).tiny), (
        f"relative L2 error {error / np.linalg.norm(wanted)}"
    )
