#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Forward and backward with all gradients: `gru bench --training` beside torch.nn.GRU on the CPU, float32, in turn.

bench/compare.py --training keep starts this. Sequences are shortened (T below), as a training step takes three times a forward.
Everybody runs in a process of its own, pinned to the same cores. Memory: ours is what a step keeps and the plan's workspace;
torch's is how far the process grows in its first step, gradients included.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import cases
import cpu

STEPS = {"kb39": 128, "kb41": 128, "speech": 200, "batch256-cpu": 32, "ensemble-cpu": 100}
SECONDS, SAMPLES = 1.0, 5


def torch_step(case, threads):
    """Medians in milliseconds of forward, backward and both."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    steps = STEPS[case.name]
    gru = torch.nn.GRU(case.I, case.H, case.L, bidirectional=case.D == 2)
    x = torch.randn(steps, case.B, case.I, requires_grad=True)
    h0 = torch.zeros(case.L * case.D, case.B, case.H, requires_grad=True)
    grad = torch.ones(steps, case.B, case.D * case.H)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forward, backward = [], []
    start = time.perf_counter()
    while len(forward) < SAMPLES + 2 or time.perf_counter() - start < SECONDS:
        for tensor in (x, h0, *gru.parameters()):
            tensor.grad = None
        begin = time.perf_counter()
        output, _ = gru(x, h0)
        middle = time.perf_counter()
        output.backward(grad)
        end = time.perf_counter()
        forward.append((middle - begin) * 1e3)
        backward.append((end - middle) * 1e3)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    forward, backward = forward[2:], backward[2:]  # warm by then
    both = [a + b for a, b in zip(forward, backward)]
    return {
        "case": case.name,
        "who": "torch",
        "threads": threads,
        "forward_ms": statistics.median(forward),
        "backward_ms": statistics.median(backward),
        "both_ms": statistics.median(both),
        "both_ms_min": min(both),
        "memory_mb": grown / 1024,
    }


def ours(args, case, threads):
    program = args.build / "src/cli/gru"
    flags = [
        "--seq-len",
        STEPS[case.name],
        "--batch-size",
        case.B,
        "--input-size",
        case.I,
        "--hidden-size",
        case.H,
        "--num-layers",
        case.L,
        "--backend",
        "kokkos",
        "--training",
        args.training,
        "--repeats",
        args.repeats,
        "--min-time",
        args.min_time,
    ]
    flags += ["--bidirectional"] if case.D == 2 else []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        cpu.run_pinned(
            [str(program), "bench", *map(str, flags), "--json", str(path)], threads, stdout=subprocess.DEVNULL
        )
        content = json.loads(path.read_text())
    row = content["results"][0]
    return content["context"], {
        "case": case.name,
        "who": "gru",
        "threads": threads,
        "forward_ms": row["forward_ms_median"],
        "backward_ms": row["backward_ms_median"],
        "both_ms": row["execute_ms_median"],
        "both_ms_min": row["execute_ms_min"],
        "peak_share": row["peak_share"],
        "memory_mb": (row["reserve_bytes"] + row["workspace_bytes"]) * 1e-6,
    }


def compare(args):
    chosen = [case for case in cases.choose(cases.CPU_CASES, args.cases) if case.name in STEPS]
    cases.check_writable(args.json)
    results, stamp = [], {}
    for threads in args.threads:
        print(
            f"\n{threads} {'thread' if threads == 1 else 'threads'}, forward and backward, ours keeps: {args.training}; milliseconds, medians of {args.rounds} rounds"
        )
        print(
            f"{'case':14s}{'T':>5s}{'forward':>10s}{'backward':>10s}{'both':>10s}{'of peak':>9s}{'MB':>8s}"
            f"{'torch: fwd':>12s}{'backward':>10s}{'both':>10s}{'MB':>8s}{'ratio':>7s}{'of least':>10s}"
        )
        for case in chosen:
            rows = {"gru": [], "torch": []}
            for _ in range(args.rounds):
                stamp, row = ours(args, case, threads)
                rows["gru"].append(row)
                line = cpu.run_pinned(
                    [sys.executable, __file__, case.name, str(threads)], threads, stdout=subprocess.PIPE, text=True
                ).stdout
                rows["torch"].append(json.loads(line))
            of = lambda who, key: statistics.median(row[key] for row in rows[who])
            least = [min(row["both_ms_min"] for row in rows[who]) for who in ("torch", "gru")]
            print(
                f"{case.name:14s}{STEPS[case.name]:5d}{of('gru', 'forward_ms'):10.2f}{of('gru', 'backward_ms'):10.2f}"
                f"{of('gru', 'both_ms'):10.2f}{of('gru', 'peak_share'):9.1%}{of('gru', 'memory_mb'):8.1f}"
                f"{of('torch', 'forward_ms'):12.2f}{of('torch', 'backward_ms'):10.2f}{of('torch', 'both_ms'):10.2f}"
                f"{of('torch', 'memory_mb'):8.1f}{of('torch', 'both_ms') / of('gru', 'both_ms'):7.2f}{least[0] / least[1]:10.2f}",
                flush=True,
            )
            results += rows["gru"] + rows["torch"]
    if args.json:
        cases.write_json(args.json, stamp | {"rounds": args.rounds}, results)


if __name__ == "__main__":
    print(json.dumps(torch_step(cases.choose(cases.CPU_CASES, [sys.argv[1]])[0], int(sys.argv[2]))))
