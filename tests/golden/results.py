# SPDX-License-Identifier: Apache-2.0
"""The results of a golden case, each computed twice: by torch.nn.GRU, a NumPy loop, torch.nn.GRUCell or ONNX Runtime.

Shapes are those of make.py: x (T, B, I), h0 and h_n (L*D, B, H), output (T, B, D*H).
"""

import sys

import numpy as np
import onnx
import onnxruntime
import torch
from cases import suffixes
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run_torch(case, weights, x, h0):
    """output (T, B, D*H) and h_n (L*D, B, H) of torch.nn.GRU in float64, fed the way its documentation says."""
    gru = torch.nn.GRU(
        case.I, case.H, case.L, bias=case.bias, batch_first=case.batch_first, bidirectional=case.bidirectional
    ).double()
    gru.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    x, h0 = torch.from_numpy(x), None if h0 is None else torch.from_numpy(h0)
    with torch.no_grad():
        if case.unbatched:
            output, h_n = gru(x[:, 0], None if h0 is None else h0[:, 0])
            return output[:, None].numpy(), h_n[:, None].numpy()
        x = x.transpose(0, 1) if case.batch_first else x
        if case.lengths is None:
            output, h_n = gru(x, h0)
        else:
            packed = pack_padded_sequence(x, case.lengths, batch_first=case.batch_first, enforce_sorted=False)
            output, h_n = gru(packed, h0)
            output, _ = pad_packed_sequence(output, batch_first=case.batch_first, total_length=case.T)
        output = output.transpose(0, 1) if case.batch_first else output
    return output.contiguous().numpy(), h_n.numpy()


def error_in_16_bits(case, weights, x, h0, output, h_n):
    """The error of torch.nn.GRU in case.torch_in, whose results are of that type too: relative L2 of both results together."""
    dtype = getattr(torch, case.torch_in)
    gru = torch.nn.GRU(case.I, case.H, case.L, bias=case.bias, bidirectional=case.bidirectional).double()
    gru.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    with torch.no_grad():
        results = gru.to(dtype)(torch.from_numpy(x).to(dtype), torch.from_numpy(h0).to(dtype))
    error = np.concatenate([(got.double().numpy() - want).ravel() for got, want in zip(results, (output, h_n))])
    return float(f"{np.linalg.norm(error) / np.hypot(np.linalg.norm(output), np.linalg.norm(h_n)):.2e}")


def run_cell(weights, x, h0):
    """The same through torch.nn.GRUCell, step by step: (T, B, H) and (1, B, H)."""
    cell = torch.nn.GRUCell(x.shape[2], h0.shape[2]).double()
    cell.load_state_dict({k.removesuffix("_l0"): torch.from_numpy(v) for k, v in weights.items()})
    h, rows = torch.from_numpy(h0[0]), []
    with torch.no_grad():
        for step in torch.from_numpy(x):
            h = cell(step, h)
            rows.append(h)
    return torch.stack(rows).numpy(), h[None].numpy()


def run_loop(case, weights, x, h0):
    """A plain NumPy loop over the equations; reset_before is the only variant that torch lacks.

    r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
    z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))        reset after the product (torch)
    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)        reset before the product (ONNX linear_before_reset=0)
    h = (1 - z) * n + z * h
    """
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    h_n = np.zeros((case.L * case.D, case.B, case.H)) if h0 is None else h0.copy()
    lengths = case.lengths or [case.T] * case.B
    zero = np.zeros(3 * case.H)
    layer_in = x
    for layer in range(case.L):
        layer_out = np.zeros((case.T, case.B, case.D * case.H))
        for d in range(case.D):
            suffix = f"_l{layer}" + ("_reverse" if d else "")
            w_i = np.split(weights["weight_ih" + suffix], 3)
            w_h = np.split(weights["weight_hh" + suffix], 3)
            b_i = np.split(weights.get("bias_ih" + suffix, zero), 3)
            b_h = np.split(weights.get("bias_hh" + suffix, zero), 3)
            for b in range(case.B):
                h = h_n[layer * case.D + d, b]
                steps = range(lengths[b])
                for t in reversed(steps) if d else steps:
                    i = [w @ layer_in[t, b] + bias for w, bias in zip(w_i, b_i)]
                    r = sigmoid(i[0] + w_h[0] @ h + b_h[0])
                    z = sigmoid(i[1] + w_h[1] @ h + b_h[1])
                    hidden = w_h[2] @ (r * h) + b_h[2] if case.reset_before else r * (w_h[2] @ h + b_h[2])
                    n = np.tanh(i[2] + hidden)
                    h = (1 - z) * n + z * h
                    layer_out[t, b, d * case.H : (d + 1) * case.H] = h
                h_n[layer * case.D + d, b] = h
        layer_in = layer_out
    return layer_in, h_n


def run_onnxruntime(case, weights, x, h0):
    """A second opinion in float32: one ONNX GRU node a layer on ONNX Runtime; ONNX orders the gates z, r, n."""
    H, D = case.H, case.D
    reorder = lambda v: np.concatenate([v[H : 2 * H], v[:H], v[2 * H :]])
    initial = np.zeros((case.L * D, case.B, H)) if h0 is None else h0
    zero = np.zeros(3 * H)
    nodes, constants, current = [], [], "x"
    for layer in range(case.L):
        stacks = {"W": [], "R": [], "B": []}
        for _, d, suffix in [s for s in suffixes(case) if s[0] == layer]:
            stacks["W"].append(reorder(weights["weight_ih" + suffix]))
            stacks["R"].append(reorder(weights["weight_hh" + suffix]))
            stacks["B"].append(np.concatenate([reorder(weights.get(k + suffix, zero)) for k in ("bias_ih", "bias_hh")]))
        stacks["H"] = initial[layer * D : (layer + 1) * D]
        for key, value in stacks.items():
            constants.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), f"{key}{layer}"))
        nodes.append(
            onnx.helper.make_node(
                "GRU",
                [current, f"W{layer}", f"R{layer}", f"B{layer}", "lengths", f"H{layer}"],
                [f"Y{layer}", f"hn{layer}"],
                hidden_size=H,
                direction="bidirectional" if D == 2 else "forward",
                linear_before_reset=0 if case.reset_before else 1,
            )
        )
        # Y (T, D, B, H) -> (T, B, D*H)
        nodes.append(onnx.helper.make_node("Transpose", [f"Y{layer}"], [f"P{layer}"], perm=[0, 2, 1, 3]))
        nodes.append(onnx.helper.make_node("Reshape", [f"P{layer}", "shape"], [f"y{layer}"]))
        current = f"y{layer}"
    constants.append(onnx.numpy_helper.from_array(np.array([case.T, case.B, D * H], np.int64), "shape"))
    constants.append(onnx.numpy_helper.from_array(np.array(case.lengths or [case.T] * case.B, np.int32), "lengths"))
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    outputs = [current] + [f"hn{layer}" for layer in range(case.L)]
    graph = onnx.helper.make_graph(nodes, case.name, [value("x")], [value(o) for o in outputs], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output, *h_n = session.run(None, {"x": x.astype(np.float32)})
    return output, np.concatenate(h_n)


def expect_close(what, got, want, tolerance):
    if not np.array_equal(np.isnan(got), np.isnan(want)):
        sys.exit(f"{what}: NaN in other places")
    differs = got != want  # equal infinities have no difference to subtract
    worst = float(np.nanmax(np.abs(got[differs] - want[differs]), initial=0.0))
    if worst > tolerance:
        sys.exit(f"{what}: differs by {worst:.3g}, allowed {tolerance:.3g}")


def compute(case, weights, x, h0):
    """The golden result, after a second computation agreed with it."""
    loop = run_loop(case, weights, x, h0)
    if case.reset_before:
        result, checks = loop, {"ONNX Runtime": (run_onnxruntime(case, weights, x, h0), 2e-6)}
    else:
        result, checks = run_torch(case, weights, x, h0), {"the loop": (loop, 1e-13)}
        if case.cell_names:
            checks["GRUCell"] = (run_cell(weights, x, h0), 1e-14)
    for who, (other, tolerance) in checks.items():
        expect_close(f"{case.name}: output against {who}", other[0], result[0], tolerance)
        expect_close(f"{case.name}: h_n against {who}", other[1], result[1], tolerance)
    return result


def condition(case, weights, x, h0):
    """How far results move per unit of relative change in the data, the worst of 8 random sign patterns.

    Rounding every weight, input and state to a type of unit roundoff eps moves results by about eps times this, so it is
    what a tolerance has to be proportional to. "element": the largest change of any result; "l2": ||change|| / ||results||.
    """
    rng, delta = np.random.default_rng(1), 1e-8
    shake = lambda v: v * (1 + delta * rng.choice([-1.0, 1.0], v.shape))
    flat = lambda results: np.concatenate([r.ravel() for r in results])
    base, worst = flat(run_loop(case, weights, x, h0)), {"element": 0.0, "l2": 0.0}
    for _ in range(8):
        shaken = {name: shake(v) for name, v in weights.items()}
        change = flat(run_loop(case, shaken, shake(x), None if h0 is None else shake(h0))) - base
        worst["element"] = max(worst["element"], np.abs(change).max() / delta)
        worst["l2"] = max(worst["l2"], np.linalg.norm(change) / np.linalg.norm(base) / delta)
    # rounded up to two digits: it scales a tolerance, and must not change with the last digit of a library
    return {name: float(f"{1.05 * value:.1e}") for name, value in worst.items()}
