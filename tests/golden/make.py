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
from cases import CASES, suffixes
from results import compute, condition, error_in_16_bits, expect_close
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
TORCH_DTYPE = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


# ---- inputs ---------------------------------------------------------------------------------------------------------


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
    h0 = (
        rng.uniform(-1, 1, (case.L * case.D, case.B, case.H)).astype(case.x_dtype).astype(np.float64)
        if case.h0
        else None
    )
    if case.torch_in:
        x, h0 = (torch.from_numpy(v).to(getattr(torch, case.torch_in)).double().numpy() for v in (x, h0))
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


# ---- files ----------------------------------------------------------------------------------------------------------


def in_layout(case, v):
    """(T, B, ...) as the case's x and output lie in their files."""
    return v[:, 0] if case.unbatched else v.transpose(1, 0, 2) if case.batch_first else v


def store(path, v, dtype, order="C"):
    np.save(path, np.asarray(v, dtype, order=order))


def write_inputs(case, folder, weights, x, h0, rng):
    """What a program that computes the case reads."""
    stored = {
        case.prefix + (k.removesuffix("_l0") if case.cell_names else k): torch.from_numpy(v).to(
            TORCH_DTYPE[case.weights_dtype]
        )
        for k, v in weights.items()
    }
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
    own = {}
    if case.torch_in:
        own = {"torch_in": case.torch_in, "torch_error": error_in_16_bits(case, weights, x, h0, output, h_n)}
    return {
        "name": case.name,
        "about": case.about,
        "seq_len": case.T,
        "batch_size": case.B,
        "input_size": case.I,
        "hidden_size": case.H,
        "num_layers": case.L,
        "bias": case.bias,
        "bidirectional": case.bidirectional,
        "batch_first": case.batch_first,
        "unbatched": case.unbatched,
        "reset_before": case.reset_before,
        "h0": case.h0,
        "lengths": case.lengths,
        "prefix": case.prefix,
        "weights_dtype": case.weights_dtype,
        "x_dtype": case.x_dtype,
        "non_finite": case.non_finite,
        "source": "NumPy loop, agrees with ONNX Runtime" if case.reset_before else "torch.nn.GRU",
        "max_abs_x": float(np.max(np.abs(finite))),
        "max_abs_output": float(np.nanmax(np.abs(output))),
        "condition": condition(case, weights, finite, h0),
    } | own


def write_all(root):
    index = {
        "about": "float64 results of torch.nn.GRU; see README.md. Made by make.py: do not edit.",
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
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
        for old in json.loads((HERE / "golden.json").read_text())["cases"]:
            shutil.rmtree(HERE / old["name"], ignore_errors=True)
        shutil.copytree(fresh, HERE, dirs_exist_ok=True)
    files = [p for p in HERE.rglob("*") if p.suffix in (".npy", ".safetensors", ".json")]
    print(f"wrote {len(CASES)} cases, {sum(p.stat().st_size for p in files)} bytes in {len(files)} files")


if __name__ == "__main__":
    main()
