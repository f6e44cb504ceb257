#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the golden cases: inputs, weights and the float64 results of the real torch.nn.GRU.

    python make.py            # rewrites every case folder and golden.json beside this file
    python make.py --check    # recomputes everything and compares with what is stored; writes nothing

Needs torch, numpy, safetensors, onnx and onnxruntime (versions used: see golden.json and README.md).
Every number comes from one seeded NumPy generator per case, so that a rerun writes the same inputs whatever the torch
version; results may then differ in the last digits only.

Shapes, in torch.nn.GRU's words: T steps, B sequences, I inputs, H hidden units, L layers, D directions.
    x        (T, B, I), or (B, T, I) with batch_first, or (T, I) unbatched
    h0, h_n  (L*D, B, H) whatever batch_first says, or (L*D, H) unbatched
    lengths  (B)
    output   (T, B, D*H), or (B, T, D*H), or (T, D*H)
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
import zlib

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

HERE = pathlib.Path(__file__).resolve().parent
TORCH_DTYPE = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclasses.dataclass
class Case:
    """One configuration; the defaults are torch.nn.GRU's."""

    name: str
    about: str
    T: int
    B: int
    I: int
    H: int
    L: int = 1
    bias: bool = True
    bidirectional: bool = False
    batch_first: bool = False
    unbatched: bool = False
    h0: bool = False
    lengths: list | None = None
    lengths_dtype: str = "int64"
    reset_before: bool = False
    prefix: str = ""
    cell_names: bool = False  # GRUCell's names: no layer suffix
    foreign: bool = False  # tensors that are not ours stand beside the weights
    weights_dtype: str = "F32"
    x_dtype: str = "float32"
    x_scale: float = 1.0
    fortran_order: bool = False
    non_finite: bool = False  # a NaN and an Inf among the valid inputs

    @property
    def D(self):
        return 2 if self.bidirectional else 1


CASES = [
    Case("unit", "the smallest model there is: every size is 1", T=1, B=1, I=1, H=1, h0=True),
    Case("plain", "one layer, one direction, no initial state", T=7, B=3, I=4, H=8),
    Case("initial_state", "sizes that divide no tile, with h0", T=9, B=2, I=5, H=7, h0=True),
    Case("aligned", "sizes that are multiples of usual tiles", T=4, B=8, I=16, H=32, h0=True),
    Case("two_layers", "a hidden size one above a multiple of 32", T=5, B=2, I=3, H=33, L=2, h0=True),
    Case("three_layers", "a deeper stack, no initial state", T=8, B=3, I=6, H=5, L=3),
    Case("no_bias", "bias=False", T=6, B=3, I=5, H=7, bias=False),
    Case("bidirectional", "both directions", T=7, B=3, I=5, H=7, bidirectional=True),
    Case("bidirectional_layers_no_bias", "everything at once but bias", T=6, B=2, I=4, H=6, L=2, bias=False,
         bidirectional=True, h0=True),
    Case("batch_first", "batch_first transposes x and output, never h0 and h_n", T=6, B=3, I=4, H=5, L=2,
         bidirectional=True, batch_first=True, h0=True),
    Case("unbatched", "x (T, I) and h0 (L*D, H)", T=6, B=1, I=4, H=5, L=2, bidirectional=True, unbatched=True, h0=True),
    Case("unbatched_batch_first", "batch_first says nothing about an unbatched x", T=5, B=1, I=3, H=4, batch_first=True,
         unbatched=True),
    Case("lengths", "variable length, unsorted, one full and one of a single step", T=8, B=4, I=5, H=7,
         lengths=[3, 8, 1, 6], h0=True),
    Case("lengths_bidirectional_layers", "the longest sequence is shorter than T; the reverse direction starts at each "
         "row's own end", T=10, B=5, I=4, H=6, L=2, bidirectional=True, batch_first=True, lengths=[4, 1, 9, 9, 2],
         lengths_dtype="int32", h0=True),
    Case("non_finite", "a NaN and an Inf in valid places reach what they must and nothing else", T=6, B=3, I=4, H=5, L=2,
         non_finite=True),
    Case("saturated", "gates far in their flat ends", T=6, B=3, I=4, H=6, x_scale=100.0, h0=True),
    Case("long", "many steps: errors have time to grow", T=200, B=1, I=2, H=6, h0=True),
    Case("cell_names", "a GRUCell's state_dict: weight_ih without a layer suffix", T=1, B=4, I=5, H=7, h0=True,
         cell_names=True),
    Case("reset_before", "the reset gate before the product (ONNX linear_before_reset=0)", T=7, B=3, I=5, H=7, h0=True,
         reset_before=True),
    Case("reset_before_lengths", "the same with two layers, two directions and variable length", T=6, B=3, I=4, H=5, L=2,
         bidirectional=True, lengths=[6, 1, 4], h0=True, reset_before=True),
    Case("state_dict", "a whole model's state_dict: a prefix, and tensors of other types beside ours", T=5, B=2, I=4, H=6,
         L=2, prefix="encoder.gru.", foreign=True),
    Case("weights_float16", "weights stored as float16", T=6, B=2, I=5, H=7, weights_dtype="F16", h0=True),
    Case("weights_bfloat16", "weights stored as bfloat16", T=6, B=2, I=5, H=7, weights_dtype="BF16", h0=True),
    Case("weights_float64", "weights, x and h0 stored as float64, x in Fortran order", T=6, B=2, I=5, H=7,
         weights_dtype="F64", x_dtype="float64", fortran_order=True, h0=True),
]


# ---- inputs ---------------------------------------------------------------------------------------------------------

def suffixes(case):
    """(layer, direction, suffix of the tensor names), in the order of h0's rows."""
    return [(l, d, f"_l{l}" + ("_reverse" if d else "")) for l in range(case.L) for d in range(case.D)]


def make_weights(case, rng):
    """name -> float64 values that the stored type holds exactly; uniform in +-1/sqrt(H), as torch initialises."""
    bound = 1 / np.sqrt(case.H)
    weights = {}
    for layer, _, suffix in suffixes(case):
        width = case.I if layer == 0 else case.H * case.D
        shapes = {"weight_ih": (3 * case.H, width), "weight_hh": (3 * case.H, case.H)}
        if case.bias:
            shapes |= {"bias_ih": (3 * case.H,), "bias_hh": (3 * case.H,)}
        for name, shape in shapes.items():
            values = torch.from_numpy(rng.uniform(-bound, bound, shape)).to(TORCH_DTYPE[case.weights_dtype])
            weights[name + suffix] = values.to(torch.float64).numpy()
    return weights


def make_data(case, rng):
    """x (T, B, I), h0 (L*D, B, H) or None, both float64 holding values of the stored type."""
    x = (case.x_scale * rng.standard_normal((case.T, case.B, case.I))).astype(case.x_dtype).astype(np.float64)
    if case.non_finite:
        x[2, 0, 1] = np.nan  # sequence 0: NaN from step 2 on
        x[3, 1, 0] = np.inf  # sequence 1: saturates its gates at step 3, finite again; sequence 2 stays untouched
    h0 = rng.uniform(-1, 1, (case.L * case.D, case.B, case.H)).astype(case.x_dtype).astype(np.float64) if case.h0 else None
    return x, h0


def foreign_tensors(rng):
    """What else may lie in a state_dict, none of it a GRU's: other types, a scalar, an empty tensor."""
    return {
        "embedding.weight": torch.from_numpy(rng.standard_normal((6, 4)).astype(np.float32)),
        "encoder.norm.num_batches_tracked": torch.tensor(17, dtype=torch.int64),
        "encoder.mask": torch.tensor([True, False, True]),
        "head.weight": torch.from_numpy(rng.standard_normal((3, 6))).to(torch.float16),
        "head.scale": torch.tensor([0.5, 2.0, 1.0]).to(torch.float8_e4m3fn),
        "head.codes": torch.arange(5, dtype=torch.uint8),
        "head.unused": torch.empty((0, 6), dtype=torch.bfloat16),
        "tail.bias_ih_l0_scale": torch.tensor([1.0, 2.0], dtype=torch.float64),
    }


# ---- results --------------------------------------------------------------------------------------------------------

def run_torch(case, weights, x, h0):
    """output (T, B, D*H) and h_n (L*D, B, H) of torch.nn.GRU in float64, fed the way its documentation says."""
    gru = torch.nn.GRU(case.I, case.H, case.L, bias=case.bias, batch_first=case.batch_first,
                       bidirectional=case.bidirectional).double()
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
                    layer_out[t, b, d * case.H:(d + 1) * case.H] = h
                h_n[layer * case.D + d, b] = h
        layer_in = layer_out
    return layer_in, h_n


def run_onnxruntime(case, weights, x, h0):
    """A second opinion in float32: one ONNX GRU node a layer on ONNX Runtime; ONNX orders the gates z, r, n."""
    H, D = case.H, case.D
    reorder = lambda v: np.concatenate([v[H:2 * H], v[:H], v[2 * H:]])
    initial = np.zeros((case.L * D, case.B, H)) if h0 is None else h0
    zero = np.zeros(3 * H)
    nodes, constants, current = [], [], "x"
    for layer in range(case.L):
        stacks = {"W": [], "R": [], "B": []}
        for _, d, suffix in [s for s in suffixes(case) if s[0] == layer]:
            stacks["W"].append(reorder(weights["weight_ih" + suffix]))
            stacks["R"].append(reorder(weights["weight_hh" + suffix]))
            stacks["B"].append(np.concatenate([reorder(weights.get(k + suffix, zero)) for k in ("bias_ih", "bias_hh")]))
        stacks["H"] = initial[layer * D:(layer + 1) * D]
        for key, value in stacks.items():
            constants.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), f"{key}{layer}"))
        nodes.append(onnx.helper.make_node(
            "GRU", [current, f"W{layer}", f"R{layer}", f"B{layer}", "lengths", f"H{layer}"], [f"Y{layer}", f"hn{layer}"],
            hidden_size=H, direction="bidirectional" if D == 2 else "forward",
            linear_before_reset=0 if case.reset_before else 1))
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


# ---- files ----------------------------------------------------------------------------------------------------------

def in_layout(case, v):
    """(T, B, ...) as the case's x and output lie in their files."""
    return v[:, 0] if case.unbatched else v.transpose(1, 0, 2) if case.batch_first else v


def store(path, v, dtype, order="C"):
    np.save(path, np.asarray(v, dtype, order=order))


def write_inputs(case, folder, weights, x, h0, rng):
    """What a program that computes the case reads."""
    stored = {case.prefix + (k.removesuffix("_l0") if case.cell_names else k):
              torch.from_numpy(v).to(TORCH_DTYPE[case.weights_dtype]) for k, v in weights.items()}
    if case.foreign:
        stored |= foreign_tensors(rng)
    save_file(stored, folder / "weights.safetensors", metadata={"format": "pt"})
    padded = x.copy()
    for b, length in enumerate(case.lengths or []):
        padded[length:, b] = np.nan  # whoever reads padding shows it
    store(folder / "x.npy", in_layout(case, padded), case.x_dtype, "F" if case.fortran_order else "C")
    if h0 is not None:
        store(folder / "h0.npy", h0[:, 0] if case.unbatched else h0, case.x_dtype)
    if case.lengths is not None:
        store(folder / "lengths.npy", case.lengths, case.lengths_dtype)


def write_case(case, root):
    """Writes one case folder under root and returns its entry for golden.json."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    weights = make_weights(case, rng)
    x, h0 = make_data(case, rng)
    output, h_n = compute(case, weights, x, h0)
    folder = root / case.name
    folder.mkdir()
    write_inputs(case, folder, weights, x, h0, rng)
    store(folder / "output.npy", in_layout(case, output), "float64")
    store(folder / "h_n.npy", h_n[:, 0] if case.unbatched else h_n, "float64")

    finite = np.where(np.isfinite(x), x, 0)
    return {
        "name": case.name, "about": case.about,
        "seq_len": case.T, "batch_size": case.B, "input_size": case.I, "hidden_size": case.H, "num_layers": case.L,
        "bias": case.bias, "bidirectional": case.bidirectional, "batch_first": case.batch_first,
        "unbatched": case.unbatched, "reset_before": case.reset_before, "h0": case.h0, "lengths": case.lengths,
        "prefix": case.prefix, "weights_dtype": case.weights_dtype, "x_dtype": case.x_dtype,
        "non_finite": case.non_finite,
        "source": "NumPy loop, agrees with ONNX Runtime" if case.reset_before else "torch.nn.GRU",
        "max_abs_x": float(np.max(np.abs(finite))),
        "max_abs_output": float(np.nanmax(np.abs(output))),
        "condition": condition(case, weights, finite, h0),
    }


def write_all(root):
    index = {
        "about": "float64 results of torch.nn.GRU; see README.md. Made by make.py: do not edit.",
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__,
                     "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "cases": [write_case(case, root) for case in CASES],
    }
    (root / "golden.json").write_text(json.dumps(index, indent=1) + "\n")


def check(fresh):
    """Exits with a message unless the stored files hold what was just computed."""
    for path in sorted(p for p in fresh.rglob("*") if p.suffix in (".npy", ".safetensors")):
        stored = HERE / path.relative_to(fresh)
        if not stored.exists():
            sys.exit(f"{stored} is missing: run make.py")
        if path.suffix == ".npy":
            expect_close(str(stored), np.load(stored), np.load(path), 1e-13 if path.stem in ("output", "h_n") else 0.0)
        elif stored.read_bytes() != path.read_bytes():
            sys.exit(f"{stored} holds other weights")
    print(f"{len(CASES)} cases agree with torch {torch.__version__}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the stored files instead of writing them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary)
        write_all(fresh)
        if args.check:
            check(fresh)
            return
        for old in [p for p in HERE.iterdir() if p.is_dir()]:
            shutil.rmtree(old)
        shutil.copytree(fresh, HERE, dirs_exist_ok=True)
    files = [p for p in HERE.rglob("*") if p.suffix in (".npy", ".safetensors", ".json")]
    print(f"wrote {len(CASES)} cases, {sum(p.stat().st_size for p in files)} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
