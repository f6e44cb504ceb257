#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares gru's CUDA backends with cuDNN and torch.nn.GRU on one GPU: one command, one table.

    python bench/compare_gpu.py --build build/h100
    python bench/compare_gpu.py --cases kb41 cell --json gpu.json
    python bench/compare_gpu.py --shapes 64,16,1024,1024,2,2     any T,B,I,H,L,D (sweep.py is quicker for many)
    python bench/compare_gpu.py --from cudnn.json torch.json        the table from results that are there already
    python bench/compare_gpu.py --training --cases kb41 mid         forward and backward with all gradients

gru_peer_cudnn times gru and cuDNN (every algorithm and precision, directly and from a CUDA graph) in one process with CUDA
events; peers/torch_gpu.py times nn.GRU beside it, where this Python has torch. A single step is 1000 dependent replays
between two events. Each line of the table is a case in one of our precisions: our best backend, the best peer of the same
precision, the best of any precision, and how many times faster ours is. Floors of the same run: an empty graph's time, and
for each case the time of its chain of state exchanges alone, one sequence, nothing computed.

With --training, gru_peer_training times our training plans (gates kept, and made again) and cuDNN's forward, backward data
and backward weights, and torch_gpu.py nn.GRU with autograd. The error is the largest of all gradients', relative to the
float64 plan's in the same run. Memory is what a step holds at its peak, tensors, weights and gradients included: ours and
cuDNN's by the sizes of what they allocate, PyTorch's as its allocator counts it.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "peers"))
import cases  # noqa: E402

MATHS = ("fp32", "tf32x3", "tf32", "fp16", "bf16")


def measure(build, names, shapes, samples, maths, training):
    """The JSON of our program with cuDNN in it and, where torch is, of torch_gpu.py."""
    program = build / "bench" / ("gru_peer_training" if training else "gru_peer_cudnn")
    if not program.exists():
        sys.exit(
            f"{program} is not there; configure a CUDA preset where cuDNN is installed, build, or name the folder with --build"
        )
    found = []
    with tempfile.TemporaryDirectory() as folder:
        commands = [
            [
                str(program),
                *names,
                "--samples",
                str(samples),
                "--math",
                *maths,
                *(["--shapes", *shapes] if shapes else []),
            ]
        ]
        if importlib.util.find_spec("torch") is None:
            print("torch is left out: this Python does not have it")
        else:
            commands.append(
                [
                    sys.executable,
                    str(HERE / "peers/torch_gpu.py"),
                    "--samples",
                    str(samples),
                    *(["--training"] if training else []),
                    *(["--cases", *names] if names else []),
                    *(["--shapes", *shapes] if shapes else []),
                ]
            )
        for i, command in enumerate(commands):
            path = pathlib.Path(folder) / f"{i}.json"
            subprocess.run([*command, "--json", str(path)], check=True, stdout=subprocess.DEVNULL)
            found.append(json.loads(path.read_text()))
    return found


def best(rows):
    return min(rows, key=lambda row: row["ms"], default=None)


def label(row):
    return " ".join(str(row[key]) for key in ("peer", "algorithm", "math", "mode") if key in row)


def table(results):
    """Lines: case, precision, ours, best peer of the same precision, best peer of any, shortest exchange."""
    timed = [row for row in results if "ms" in row and row["case"] != "empty"]
    lines = []
    for case in dict.fromkeys(row["case"] for row in timed):
        rows = [row for row in timed if row["case"] == case]
        peers = [row for row in rows if row["peer"] not in ("gru", "floor")]
        floor = best([row for row in rows if row["peer"] == "floor"])
        for math in MATHS:
            ours = best([row for row in rows if row["peer"] == "gru" and row["math"] == math])
            if ours is None:
                continue
            same = "fp32" if math == "tf32x3" else math  # whose accuracy it has
            same, anyone = best([row for row in peers if row["math"] == same]), best(peers)
            lines.append((case, math, ours, same, anyone, floor))
    return lines


def print_contexts(documents):
    for document in documents:
        context = document["context"]
        devices = context.get("devices", context.get("machine", ""))
        print(
            f"{context.get('date', '')}  commit {context.get('commit', '-')}  {context.get('versions', {})}  {devices}"
        )


def print_training_table(documents):
    """A line for each case, precision and way of keeping: our shortest of direct and graph, and the shortest peers."""
    print_contexts(documents)
    timed = [row for document in documents for row in document["results"] if "ms" in row]
    print(
        f"\n{'case':20} {'math':5} {'keeps':7} {'forward':>9} {'backward':>9} {'both ms':>9} {'MB':>7}  {'same ms':>9} {'x':>5}  "
        f"{'any ms':>9} {'x':>5}  {'nn.GRU MB':>9}  {'error':>8}  best peers"
    )
    for case in dict.fromkeys(row["case"] for row in timed):
        rows = [row for row in timed if row["case"] == case]
        peers = [row for row in rows if row["peer"] != "gru"]
        for math, keeps in dict.fromkeys((row["math"], row["training"]) for row in rows if row["peer"] == "gru"):
            ours = best([row for row in rows if row.get("training") == keeps and row["math"] == math])
            same, anyone = best([row for row in peers if row["math"] == math]), best(peers)
            torch = best([row for row in peers if row["peer"] == "torch" and row["math"] == math])
            cell = lambda row: f"{row['ms']:9.3f} {row['ms'] / ours['ms']:5.2f}" if row else f"{'-':>9} {'-':>5}"
            memory = f"{torch['memory_mb']:9.0f}" if torch else f"{'-':>9}"
            names = ", ".join(dict.fromkeys(label(row) for row in (same, anyone) if row))
            print(
                f"{case:20} {math:5} {keeps:7} {ours['forward_ms']:9.3f} {ours['backward_ms']:9.3f} {ours['ms']:9.3f} "
                f"{ours['memory_mb']:7.0f}  {cell(same)}  {cell(anyone)}  {memory}  {ours.get('error', float('nan')):8.1e}  {names}"
            )


def print_table(documents):
    print_contexts(documents)
    results = [row for document in documents for row in document["results"]]
    for row in results:
        if row["case"] == "empty":
            print(f"floor: {row['peer']}, {row['mode']}: {row['ms'] * 1e3:.2f} us")
    print(
        f"\n{'case':20} {'math':6} {'ours ms':>9} {'backend':16} {'same ms':>9} {'x':>5}  {'any ms':>9} {'x':>5}  {'error':>8} {'floor ms':>9}  best peers"
    )
    for case, math, ours, same, anyone, floor in table(results):
        cell = lambda row: (
            (f"{row['ms']:9.4f}", f"{row['ms'] / ours['ms']:5.2f}") if row else (f"{'-':>9}", f"{'-':>5}")
        )
        (same_ms, same_x), (any_ms, any_x) = cell(same), cell(anyone)
        names = ", ".join(dict.fromkeys(label(row) for row in (same, anyone) if row))
        print(
            f"{case:20} {math:6} {ours['ms']:9.4f} {ours['backend']:16} {same_ms} {same_x}  {any_ms} {any_x}  "
            f"{ours.get('error', float('nan')):8.1e} {cell(floor)[0]}  {names}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME", help="all GPU cases by default")
    parser.add_argument(
        "--shapes", nargs="+", default=[], metavar="T,B,I,H,L,D", help="other shapes, named by their numbers"
    )
    parser.add_argument(
        "--build", type=pathlib.Path, default=ROOT / "build/h100", help="build folder (default build/h100)"
    )
    parser.add_argument(
        "--math", nargs="+", default=["fp32", "tf32", "fp16"], choices=MATHS, help="default fp32 tf32 fp16; nn.GRU: all"
    )
    parser.add_argument("--samples", type=int, default=15, help="samples a median is taken of (default 15)")
    parser.add_argument("--training", action="store_true", help="forward and backward with all gradients")
    parser.add_argument("--json", metavar="FILE", help="write everything measured there")
    parser.add_argument("--from", dest="files", nargs="+", metavar="FILE", help="measure nothing, read these")
    args = parser.parse_args()
    if args.samples < 1:
        parser.error("--samples must be at least 1")
    # All that can be wrong is found before anything is measured, and what was measured is shown before it is written.
    cases.choose(cases.GPU_CASES, args.cases)
    for text in args.shapes:
        cases.parse_shape(text)
    cases.check_writable(args.json)
    if args.files:
        documents = [json.loads(pathlib.Path(name).read_text()) for name in args.files]
    else:
        documents = measure(args.build, args.cases, args.shapes, args.samples, args.math, args.training)
    if args.training:
        print_training_table(documents)
    else:
        print_table(documents)
    if args.json:
        cases.write_whole(args.json, json.dumps(documents, indent=1) + "\n")


if __name__ == "__main__":
    main()
