#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's nn.GRU and ONNX Runtime's GRU on the CPU cases, float32, pinned to a given number of cores.

    python bench/peers/cpu.py --threads 1 2 --json peers_cpu.json
    python bench/peers/cpu.py --threads 1 --cases kb39 cell

Each thread count runs in a process of its own that may use exactly that many cores (one hardware thread of each where
the system says which belong together). Times are medians of at least 7 calls after warm-up; input, initial state and
weights are ready before. bench/compare.py puts `gru bench` and oneDNN beside them. Needs torch, numpy, onnx, onnxruntime.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import cases

PEERS = ("torch", "onnxruntime")
SAMPLES, SECONDS = 7, 1.0  # at least so many calls, and calls for about so long


def cores():
    """One allowed hardware thread of every core, in order."""
    chosen, taken = [], set()
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text().strip() if siblings.exists() else str(cpu)
        if core not in taken:
            taken.add(core)
            chosen.append(cpu)
    return chosen


def run_pinned(command, threads, bind=True, **options):
    """Runs command in a process that may use the first `threads` cores; bind fixes each OpenMP thread to one of them.

    ONNX Runtime has threads of its own, which would inherit the single core that OpenMP binds the main thread to.
    """
    chosen = set(cores()[:threads])
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if bind:
        environment |= {"OMP_PROC_BIND": "close", "OMP_PLACES": "threads"}
    return subprocess.run(
        command, env=environment, check=True, preexec_fn=lambda: os.sched_setaffinity(0, chosen), **options
    )


# ---- in the pinned process ------------------------------------------------------------------------------------------


def timed(call):
    """Milliseconds of each call: two warm-ups, then at least SAMPLES calls and about SECONDS in all."""
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    times = []
    for _ in range(max(SAMPLES, min(2000, int(SECONDS / max(once, 1e-9))))):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def onnx_model(case, state_dict):
    """One ONNX GRU node a layer with torch's weights: gate order z, r, n instead of r, z, n; linear_before_reset=1.

    Y (T, D, B, H) becomes the next layer's (T, B, D*H) by a transpose and a reshape, as torch's exporter does it.
    """
    import numpy as np
    import onnx

    reorder = lambda v: np.concatenate([v[case.H : 2 * case.H], v[: case.H], v[2 * case.H :]])
    nodes, constants, current = [], [], "x"
    constant = lambda name, value: constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    constant("shape", np.array([case.T, case.B, case.D * case.H], np.int64))
    for layer in range(case.L):
        suffixes = [f"_l{layer}" + ("_reverse" if d else "") for d in range(case.D)]
        tensors = lambda name: [reorder(state_dict[name + suffix].numpy()) for suffix in suffixes]
        constant(f"W{layer}", np.stack(tensors("weight_ih")))
        constant(f"R{layer}", np.stack(tensors("weight_hh")))
        constant(f"B{layer}", np.concatenate([np.stack(tensors("bias_ih")), np.stack(tensors("bias_hh"))], axis=1))
        constant(f"rows{layer}", np.arange(layer * case.D, (layer + 1) * case.D, dtype=np.int64))
        nodes += [
            onnx.helper.make_node("Gather", ["h0", f"rows{layer}"], [f"h0_{layer}"], axis=0),
            onnx.helper.make_node(
                "GRU",
                [current, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h0_{layer}"],
                [f"Y{layer}", f"hn{layer}"],
                hidden_size=case.H,
                linear_before_reset=1,
                direction="bidirectional" if case.D == 2 else "forward",
            ),
            onnx.helper.make_node("Transpose", [f"Y{layer}"], [f"P{layer}"], perm=[0, 2, 1, 3]),
            onnx.helper.make_node("Reshape", [f"P{layer}", "shape"], [f"y{layer}"]),
        ]
        current = f"y{layer}"
    nodes.append(onnx.helper.make_node("Concat", [f"hn{layer}" for layer in range(case.L)], ["h_n"], axis=0))
    value = lambda name, shape=None: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    inputs = [value("x", [case.T, case.B, case.I]), value("h0", [case.L * case.D, case.B, case.H])]
    graph = onnx.helper.make_graph(nodes, case.name, inputs, [value(current), value("h_n")], constants)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8
    ).SerializeToString()


def measure(peer, names, threads):
    """Yields one row for each case, in this process."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    for case in cases.choose(cases.CPU_CASES, names):
        torch.manual_seed(0)
        gru = torch.nn.GRU(case.I, case.H, case.L, bidirectional=case.D == 2).eval()
        x, h0 = torch.randn(case.T, case.B, case.I), torch.randn(case.L * case.D, case.B, case.H)
        if peer == "torch":
            with torch.inference_mode():
                times = timed(lambda: gru(x, h0))
        else:
            times = timed(onnxruntime_call(case, gru, x, h0, threads))
        yield cases.result(case, peer, times, threads=threads)


def onnxruntime_call(case, gru, x, h0, threads):
    """What to time for ONNX Runtime, once it has agreed with torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        onnx_model(case, gru.state_dict()), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x.numpy(), "h0": h0.numpy()}
    if not abs(gru(x, h0)[0].numpy() - session.run(None, feed)[0]).max() < 1e-4:
        sys.exit(f"{case.name}: ONNX Runtime computes something else than PyTorch")
    return lambda: session.run(None, feed)


# ---- in the process that was started --------------------------------------------------------------------------------


def peer_results(peer, names, threads):
    command = [sys.executable, __file__, "--inside", peer, "--threads", str(threads)]
    command += ["--cases", *names] if names else []
    lines = run_pinned(command, threads, bind=peer == "torch", stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def versions():
    import importlib.metadata

    return {"python": sys.version.split()[0]} | {p: importlib.metadata.version(p) for p in ("torch", "onnxruntime")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    available = len(cores())
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, min(2, available), available}))
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--inside", choices=PEERS, help=argparse.SUPPRESS)  # the pinned process: rows on stdout
    args = parser.parse_args()
    cases.choose(cases.CPU_CASES, args.cases)
    if args.inside:
        for entry in measure(args.inside, args.cases, args.threads[0]):
            print(json.dumps(entry), flush=True)
        return
    too_many = [n for n in args.threads if not 1 <= n <= available]
    if too_many:
        parser.error(f"--threads {too_many[0]}: this process may use 1 to {available} cores")

    cases.check_writable(args.json)
    machine = f"{cases.processor()}, {available} cores"
    results = []
    print(machine, versions())
    for threads in args.threads:
        peers = [entry for peer in PEERS for entry in peer_results(peer, args.cases, threads)]
        order = [case.name for case in cases.CPU_CASES]
        for entry in sorted(peers, key=lambda entry: order.index(entry["case"])):
            print(cases.row(entry))
        results += peers
    if args.json:
        cases.write_json(args.json, cases.context(machine, versions()), results)


if __name__ == "__main__":
    main()
