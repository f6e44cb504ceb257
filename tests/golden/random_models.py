#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `gru run` with torch.nn.GRU on random models that no test has seen.

    python tests/golden/random_models.py --gru build/openmp/src/cli/gru --count 40 --threads 1 2 8

Each model has random sizes and a random choice of every feature, torch's initial scale, and is run in float32 and
float64 on every backend named and at every thread count: relative L2 errors of output and h_n against torch's float64
results must be at most 2e-6 and 1e-13 (reset-before, which torch lacks: against the NumPy loop of results.py), and the
results must be the same bits at every thread count. Needs what make.py needs. Exit status 1 if anything is out.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import make
import numpy as np
import results
from cases import Case

BARS = {"float32": 2e-6, "float64": 1e-13}


def random_case(rng, index):
    """Sizes are log-uniform; one model in three is larger."""
    size = lambda high: int(np.exp(rng.uniform(0, np.log(high + 1))))
    flip = lambda probability: bool(rng.random() < probability)
    large = flip(1 / 3)
    T, B, unbatched = size(60), size(12), flip(0.15)
    B = 1 if unbatched else B
    lengths = [int(v) for v in rng.integers(1, T + 1, B)] if flip(0.35) and not unbatched else None
    return Case(
        f"random{index}",
        "",
        T=T,
        B=B,
        I=size(300 if large else 40),
        H=size(300 if large else 70),
        L=int(rng.integers(1, 4)),
        bias=flip(0.8),
        bidirectional=flip(0.5),
        batch_first=flip(0.5),
        unbatched=unbatched,
        h0=flip(0.6),
        lengths=lengths,
        reset_before=flip(0.15),
        prefix=["", "encoder.gru."][flip(0.3)],
        foreign=flip(0.3),
        weights_dtype=["F32", "F64", "F16", "BF16"][int(rng.choice(4, p=[0.4, 0.3, 0.15, 0.15]))],
        x_dtype=["float32", "float64"][flip(0.3)],
    )


def run_program(program, case, folder, backend, dtype, threads):
    """output and h_n of `gru run`, as bytes-comparable arrays."""
    command = [
        program,
        "run",
        "--weights",
        folder / "weights.safetensors",
        "--input",
        folder / "x.npy",
        "--backend",
        backend,
        "--dtype",
        dtype,
        "--output",
        folder / "y.npy",
        "--hn",
        folder / "hn.npy",
    ]
    command += ["--h0", folder / "h0.npy"] if case.h0 else []
    command += ["--lengths", folder / "lengths.npy"] if case.lengths else []
    command += ["--batch-first"] if case.batch_first else []
    command += ["--reset-before"] if case.reset_before else []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_PROC_BIND": "false"}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexited {done.returncode}: {done.stderr}")
    return np.load(folder / "y.npy"), np.load(folder / "hn.npy")


def relative_error(got, want):
    return float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))


def check(case, program, backends, threads, rng):
    """Worst error as a share of its bar; a list of what is out."""
    weights = make.make_weights(case, rng)
    x, h0 = make.make_data(case, rng)
    output, h_n = (results.run_loop if case.reset_before else results.run_torch)(case, weights, x, h0)
    want = make.in_layout(case, output), h_n[:, 0] if case.unbatched else h_n
    worst, wrong = 0.0, []
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        make.write_inputs(case, folder, weights, x, h0, rng)
        for backend in backends:
            for dtype, bar in BARS.items():
                first = None
                for count in threads:
                    got = run_program(program, case, folder, backend, dtype, count)
                    for name, mine, right in zip(("output", "h_n"), got, want):
                        error = relative_error(mine, right) if mine.shape == right.shape else float("inf")
                        worst = max(worst, error / bar)
                        if not error <= bar:
                            wrong.append(f"{backend} {dtype} {count} threads: {name} {mine.shape}: error {error:.3g}")
                    first = first or got
                    if any(a.tobytes() != b.tobytes() for a, b in zip(first, got)):
                        wrong.append(f"{backend} {dtype}: {count} threads give other bits than {threads[0]}")
    return worst, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gru", required=True, metavar="PROGRAM")
    parser.add_argument("--count", type=int, default=40, help="models (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", nargs="+", default=["kokkos", "eigen"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 8])
    args = parser.parse_args()
    failures, worst = 0, 0.0
    for index in range(args.count):
        rng = np.random.default_rng([args.seed, index])
        case = random_case(rng, index)
        share, wrong = check(case, args.gru, args.backends, args.threads, rng)
        worst = max(worst, share)
        failures += bool(wrong)
        for line in wrong:
            print(f"seed {args.seed}, model {index}: {case}\n  {line}")
    print(f"{args.count} models, {failures} out; the largest error is {worst:.3f} of its bar")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
