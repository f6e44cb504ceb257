#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a GPU's counters say of the kernels of a case: Nsight Compute (ncu) on `gru bench`, a row a kernel.

    python bench/counters.py --build build/h100 kb39 batch1024 --math tf32
    python bench/counters.py --build build/h100 --backend cuda-per-step batch256 --json counters.json
    python bench/counters.py --csv saved.csv                    a table of what ncu --page raw --csv printed earlier

Each kernel runs several times, alone and with cold caches, so the time is no benchmark's; the shares of peak, the
occupancy and the reasons for which warps wait are what this is for. Kernels of one name and grid are one row, their
means. Shares are per cent of what the unit can do in the kernel's time. The clocks stay as they are.
"""

import argparse
import collections
import csv
import io
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

SECTIONS = (
    "SpeedOfLight",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
    "Occupancy",
    "LaunchStats",
    "WarpStateStats",
)
# A figure and the metrics that give it: the first that ncu reports, as generations of GPUs name them differently.
FIGURES = {
    "us": ("gpu__time_duration.sum",),
    "registers": ("launch__registers_per_thread",),
    "warps %": ("sm__warps_active.avg.pct_of_peak_sustained_active",),
    "issue %": (
        "sm__inst_issued.avg.pct_of_peak_sustained_active",
        "sm__instruction_throughput.avg.pct_of_peak_sustained_active",
    ),
    "tensor %": (
        "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_tensor.avg.pct_of_peak_sustained_active",
    ),
    "fma %": (
        "sm__pipe_fma_cycles_active.avg.pct_of_peak_sustained_active",
        "sm__inst_executed_pipe_fma.avg.pct_of_peak_sustained_active",
    ),
    "L2 %": ("lts__t_sectors.avg.pct_of_peak_sustained_elapsed", "lts__throughput.avg.pct_of_peak_sustained_elapsed"),
    "DRAM %": (
        "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
        "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    ),
}
STALL, STALL_END = "smsp__average_warps_issue_stalled_", "_per_issue_active.ratio"
# To microseconds; ncu states the unit of each column.
TIMES = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3, "s": 1e6, "second": 1e6}


def number(text):
    """ncu's figures as a number; None for n/a and words."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def parse(text):
    """ncu --page raw --csv as a dict a launch: its name, grid, figures and stalls (warps that wait per issue)."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise SystemExit("counters: no table of ncu's in its output; it ended with:\n" + "\n".join(lines[-12:]))
    table = list(csv.reader(io.StringIO("\n".join(lines[start:]))))
    if len(table) < 3:
        raise SystemExit("counters: ncu saw no kernel; does the case run on this GPU? (gru bench says why not)")
    heads, units = table[0], dict(zip(table[0], table[1], strict=False))
    launches = []
    for cells in table[2:]:
        if len(cells) != len(heads):
            continue  # what the program printed between
        row = dict(zip(heads, cells, strict=True))
        launch = {
            "kernel": row.get("Kernel Name", "?"),
            "grid": row.get("Grid Size", ""),
            "block": row.get("Block Size", ""),
            "figures": {},
            "stalls": {},
        }
        for figure, metrics in FIGURES.items():
            found = next((metric for metric in metrics if number(row.get(metric, "")) is not None), None)
            if found is not None:
                scale = TIMES.get(units.get(found, ""), 1.0) if figure == "us" else 1.0
                launch["figures"][figure] = number(row[found]) * scale
        for metric, value in row.items():
            if metric.startswith(STALL) and metric.endswith(STALL_END) and number(value) is not None:
                launch["stalls"][metric[len(STALL) : -len(STALL_END)]] = number(value)
        launches.append(launch)
    return launches


def mean_rows(launches):
    """One row for each kernel and grid, in order of the time they take together."""
    groups = collections.defaultdict(list)
    for launch in launches:
        groups[launch["kernel"], launch["grid"], launch["block"]].append(launch)

    def mean(group, part):
        keys = dict.fromkeys(key for launch in group for key in launch[part])
        return {key: statistics.fmean(launch[part][key] for launch in group if key in launch[part]) for key in keys}

    rows = [
        {
            "kernel": key[0],
            "grid": key[1],
            "block": key[2],
            "launches": len(group),
            "figures": mean(group, "figures"),
            "stalls": mean(group, "stalls"),
        }
        for key, group in groups.items()
    ]
    return sorted(rows, key=lambda row: -row["launches"] * row["figures"].get("us", 0.0))


def short_name(kernel):
    """A kernel's name without its return type, namespaces of ours and arguments."""
    name = kernel.removeprefix("void ").split("(")[0]
    return name.replace("gru::cuda::", "")


def print_table(title, rows):
    print(f"\n{title}\n\n| kernel | grid | block | launches | {' | '.join(FIGURES)} | waits for |")
    print("|---" * (len(FIGURES) + 5) + "|")
    for row in rows:
        shown = [f"{row['figures'][figure]:.4g}" if figure in row["figures"] else "" for figure in FIGURES]
        # "selected" is a warp that issues: no wait.
        waits = sorted(((value, name) for name, value in row["stalls"].items() if name != "selected"), reverse=True)[:3]
        where = f"`{short_name(row['kernel'])}` | {row['grid']} | {row['block']} | {row['launches']}"
        print(f"| {where} | {' | '.join(shown)} | {', '.join(f'{name} {value:.1f}' for value, name in waits)} |")


def measure(args, case):
    """ncu's output for one case."""
    ncu = shutil.which("ncu")
    if ncu is None:
        raise SystemExit("counters: ncu is not on the PATH; it comes with the CUDA Toolkit (Nsight Compute)")
    command = [
        ncu,
        "--clock-control",
        "none",
        "--page",
        "raw",
        "--csv",
        "--launch-skip",
        str(args.skip),
        "--launch-count",
        str(args.launches),
        "--kernel-name-base",
        "demangled",
    ]
    for section in SECTIONS:
        command += ["--section", section]
    if args.kernel:
        command += ["--kernel-name", f"regex:{args.kernel}"]
    command += [
        str(args.build / "src" / "cli" / "gru"),
        "bench",
        case,
        "--device",
        "cuda",
        "--repeats",
        "1",
        "--min-time",
        "0",
        "--backend",
        args.backend,
        "--math",
        args.math,
        "--dtype",
        args.dtype,
    ]
    command += ["--device-profile", args.device_profile] if args.device_profile else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"counters: {' '.join(command)}\nended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
        )
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="names of cases (gru bench --list)")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build/h100"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--math", default="strict")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device-profile", default="", help="plan as if the GPU were this one")
    parser.add_argument("--kernel", default="", help="only kernels whose name matches this regular expression")
    parser.add_argument("--skip", type=int, default=0, help="launches before the first one that is measured")
    parser.add_argument("--launches", type=int, default=12, help="launches to measure a case")
    parser.add_argument("--csv", type=pathlib.Path, help="read ncu's table from here and run nothing")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows here, too")
    args = parser.parse_args()
    if bool(args.csv) == bool(args.cases):
        parser.error("name cases to measure, or a table with --csv")
    results = {}
    for name in [str(args.csv)] if args.csv else args.cases:
        results[name] = mean_rows(parse(args.csv.read_text() if args.csv else measure(args, name)))
        print_table(name, results[name])
    if args.json:
        args.json.write_text(json.dumps({"math": args.math, "dtype": args.dtype, "rows": results}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
