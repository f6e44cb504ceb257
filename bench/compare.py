#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares `gru bench` with oneDNN, ONNX Runtime and PyTorch on the CPU cases: one table for each thread count.

    python bench/compare.py                                       1, 2 and all cores, programs from build/openmp
    python bench/compare.py --threads 1 --cases cell --rounds 5 --json all.json
    python bench/compare.py --training keep                       forward and backward, beside torch.nn.GRU's

Everybody is pinned to the same cores, float32, and they take turns case by case: a round is ours and each peer once, and a number is
the median of the rounds. A peer that is not there (no gru_peer_onednn was built; no torch or onnxruntime in this Python) is left out, and a
line says so. A share of the FMA peak is the median of the rounds', each of the peak that the same process measured beside
the case: on a virtual machine it may double from one process to the next. The JSON has every round's rows; bench/plot.py reads it.
"""

import argparse
import importlib.util
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))
import cases  # noqa: E402
import cpu  # noqa: E402
import training  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[1]


def rows_of(program, arguments, threads):
    """The JSON of a program that knows --json, run on the first `threads` cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        cpu.run_pinned([str(program), *arguments, "--json", str(path)], threads, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def contestants(build, effort, math):
    """Name -> function(case names, threads) -> JSON; ours first. Says what is left out."""
    found = {}
    gru = build / "src/cli/gru"
    if not gru.exists():
        sys.exit(f"{gru} is not there; build the project or name its build folder with --build")
    found["gru"] = lambda names, threads: rows_of(
        gru, ["bench", *names, "--backend", "kokkos", "--math", math, *effort], threads
    )
    onednn = build / "bench/gru_peer_onednn"
    if onednn.exists():
        found["onednn"] = lambda names, threads: rows_of(onednn, [*names, *effort], threads)
    else:
        print(
            "onednn is left out: gru_peer_onednn was not built (install oneDNN 2, on Debian libdnnl-dev, and configure anew)"
        )
    modules = {"onnxruntime": ("torch", "onnx", "onnxruntime"), "torch": ("torch",)}
    for peer, needed in modules.items():
        missing = [name for name in needed if importlib.util.find_spec(name) is None]
        if missing:
            print(f"{peer} is left out: this Python has no {', '.join(missing)}")
        else:
            found[peer] = lambda names, threads, peer=peer: {"results": cpu.peer_results(peer, names, threads)}
    return found


def milliseconds(row):
    return row["ms"] if "ms" in row else row["execute_ms_median"]


def least(row):
    return row["ms_min"] if "ms_min" in row else row["execute_ms_min"]


def take_turns(everybody, chosen, threads, rounds):
    """(name, case) -> that one's rows, one a round; and ours' context."""
    rows, context = {}, {}
    watched = sys.stderr.isatty()
    for turn, case, who in itertools.product(range(rounds), chosen, everybody):
        if watched:
            print(
                f"\r\033[K{threads} threads, round {turn + 1} of {rounds}: {case.name}, {who}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        content = everybody[who]([case.name], threads)
        context = context or content.get("context", {})
        for row in content["results"]:
            rows.setdefault((who, row["case"]), []).append(row)
    if watched:
        print("\r\033[K", end="", file=sys.stderr)
    return rows, context


def print_table(rows, everybody, chosen, threads):
    """Medians of the rounds. The last column repeats the ratio with everybody's shortest call, which neighbours disturb less."""
    peaks = [row["peak_gflops"] for taken in rows.values() for row in taken if row.get("peak_gflops")]
    peers = [who for who in everybody if who != "gru"]
    math = {row["math"] for taken in rows.values() for row in taken if "math" in row}
    print(
        f"\n{threads} {'thread' if threads == 1 else 'threads'}, ours in math {', '.join(math)}, FMA peak {statistics.median(peaks):.0f} GFLOP/s "
        f"({min(peaks):.0f} to {max(peaks):.0f}); milliseconds"
    )
    print(
        f"{'case':13s}{'gru':>11s}{'GFLOP/s':>9s}{'of peak':>9s}"
        + "".join(f"{who:>13s}" for who in peers)
        + (f"   {'best peer':12s}{'ratio':>7s}{'of least':>10s}" if peers else "")
    )
    for case in chosen:
        median = {who: statistics.median(map(milliseconds, rows[who, case.name])) for who in everybody}
        shortest = {who: min(map(least, rows[who, case.name])) for who in everybody}
        rate = case.flop() / median["gru"] / 1e6
        share = statistics.median(row["peak_share"] for row in rows["gru", case.name])
        line = f"{case.name:13s}{median['gru']:11.4f}{rate:9.1f}{share:9.1%}"
        line += "".join(f"{median[who]:13.4f}" for who in peers)
        if peers:
            best = min(peers, key=median.get)
            fastest = min(shortest[who] for who in peers)
            line += f"   {best:12s}{median[best] / median['gru']:7.2f}{fastest / shortest['gru']:10.2f}"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    available = len(cpu.cores())
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/openmp", metavar="FOLDER")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, min(2, available), available}))
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="all of a CPU's by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--math", default="strict", help="ours; the peers compute in float32 whatever it is")
    parser.add_argument(
        "--min-time", type=float, default=0.25, metavar="SECONDS", help="of calls in each of ours' and oneDNN's repeats"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of ours and oneDNN in a round")
    parser.add_argument("--json", metavar="FILE", help="write the rows of every round there")
    parser.add_argument(
        "--training", choices=("keep", "remake"), help="forward and backward with all gradients; torch alone is a peer"
    )
    args = parser.parse_args()
    wrong = [n for n in args.threads if not 1 <= n <= available]
    if wrong:
        parser.error(f"--threads {wrong[0]}: this process may use 1 to {available} cores")
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: expected at least 1")
    if args.training:
        return training.compare(args)
    chosen = cases.choose(cases.CPU_CASES, args.cases)
    cases.check_writable(args.json)
    everybody = contestants(args.build, ["--repeats", str(args.repeats), "--min-time", str(args.min_time)], args.math)
    results, stamp = [], {}
    for threads in args.threads:
        rows, context = take_turns(everybody, chosen, threads, args.rounds)
        if not stamp:
            stamp = context
            print(
                f"{stamp['cpu']}, {stamp['cores']} cores, {stamp['isa']}; gru {stamp['version']} ({stamp['commit']}), {stamp['date']}"
            )
        print_table(rows, everybody, chosen, threads)
        results += [row for taken in rows.values() for row in taken]
    if args.json:
        cases.write_json(args.json, stamp | {"rounds": args.rounds}, results)


if __name__ == "__main__":
    main()
