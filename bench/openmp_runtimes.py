#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does torch's OpenMP runtime beside ours cost time? A call of gru.Plan in a process without torch, in one with torch, and in
turn with products of torch's.

    OMP_NUM_THREADS=8 python bench/openmp_runtimes.py

Each line: the median and the least of 200 calls of x (64, 16, 128), H = 256, one layer, in us; and the OpenMP runtimes that
the process has loaded.
"""

import statistics
import subprocess
import sys

PROGRAM = """
import sys, time
torch = None
if {first} == "torch": import torch
import gru, numpy as np
if {first} == "gru": gru.info(); import torch
rng = np.random.default_rng(0)
arrays = {{"weight_ih_l0": rng.random((768, 128)) / 16 - 1 / 32, "weight_hh_l0": rng.random((768, 256)) / 16 - 1 / 32}}
plan = gru.Plan(gru.weights(arrays), batch_size=16, seq_len=64)
x = rng.standard_normal((64, 16, 128)).astype("float32")
big = None if torch is None else torch.randn(256, 256)
times = []
for i in range(250):
    if {between}: big @ big
    start = time.perf_counter()
    plan(x)
    times.append(1e6 * (time.perf_counter() - start))
times = sorted(times[50:])
with open("/proc/self/maps") as maps:
    runtimes = {{line.split()[-1] for line in maps if "gomp" in line or "iomp" in line}}
print(times[len(times) // 2], times[0], *sorted(runtimes))
"""
CASES = {
    "without torch": ("none", False),
    "torch first": ("torch", False),
    "gru first": ("gru", False),
    "torch first, products of torch's in between": ("torch", True),
    "gru first, products of torch's in between": ("gru", True),
}


def main():
    seen = {name: [] for name in CASES}
    for _ in range(3):  # in turn, so that a busy minute of the machine's hits all
        for name, (first, between) in CASES.items():
            program = PROGRAM.format(first=repr(first), between=between)
            words = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout.split()
            seen[name].append((float(words[0]), float(words[1]), words[2:]))
    for name, runs in seen.items():
        median, least = statistics.median(run[0] for run in runs), min(run[1] for run in runs)
        print(f"{name:44} median {median:8.1f} us, least {least:8.1f} us; {' '.join(runs[0][2])}")


if __name__ == "__main__":
    main()
