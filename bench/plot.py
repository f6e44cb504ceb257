#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plots results of `gru bench --json` and of the peer scripts: bars per case and backend, and rates over threads.

    gru bench --json ours.json
    python bench/peers/cpu.py --threads 1 2 --json peers.json
    python bench/plot.py ours.json                                          ours.svg: one panel a case, milliseconds
    python bench/plot.py ours.json peers.json --out cpu.svg                 the same with peers
    python bench/plot.py ours*.json peers.json --scaling --out scaling.svg  GFLOP/s over threads
    python bench/plot.py gpu.json cpu.json --speedup --out speedup.svg      ours against the best peer, from compare_gpu.py and compare.py

Rows of the same case, backend and thread count (rounds, repeated runs) become one: the median of their medians, the
extremes of all. Files are put together as they are given: only files from one machine and one sitting make a fair picture, and files from
different machines are refused unless --mixed. Needs matplotlib.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import statistics
import sys

import matplotlib

matplotlib.use("Agg")  # a file is written; no display is needed
import matplotlib.pyplot as plt

# A colour-blind-safe set (Okabe and Ito); backends take them in order of appearance, the same in every panel.
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442"]
COLUMNS = 3


@dataclasses.dataclass(frozen=True)
class Measurement:
    case: str
    who: str  # backend or peer, with what distinguishes it from others of the same name
    threads: int | None
    ms: float
    ms_min: float
    ms_max: float
    gflops: float
    peak_gflops: float | None  # the FMA peak measured in the same run


def read_measurement(entry):
    """One entry of either JSON format; a wrong one is a KeyError or TypeError."""
    if "peer" in entry:
        who = " ".join(str(entry[key]) for key in ("peer", "math", "mode") if key in entry)
        times, peak = (entry["ms"], entry["ms_min"], entry["ms_max"]), None
    else:
        who = " ".join(
            [entry["backend"]]
            + [
                entry[key]
                for key, usual in (("dtype", "float32"), ("math", "strict"))
                if entry.get(key, usual) != usual
            ]
        )
        times = entry["execute_ms_median"], entry["execute_ms_min"], entry["execute_ms_max"]
        peak = entry.get("peak_gflops")
    return Measurement(entry["case"], who, entry.get("threads"), *times, entry["gflops"], peak)


def merged(measurements):
    """One measurement for each case, backend and thread count, in order of appearance."""
    groups = {}
    for m in measurements:
        groups.setdefault((m.case, m.who, m.threads), []).append(m)
    return [
        Measurement(
            *key,
            statistics.median(m.ms for m in group),
            min(m.ms_min for m in group),
            max(m.ms_max for m in group),
            statistics.median(m.gflops for m in group),
            max((m.peak_gflops for m in group if m.peak_gflops), default=None),
        )
        for key, group in groups.items()
    ]


def machine_names(context):
    """What a file says about where it was measured: the processor, and each device of `gru bench`."""
    if "machine" in context:  # a peer script: "name, 16 cores"
        return {context["machine"].split(",")[0]}
    return {context["cpu"]} | {device["name"] for device in context.get("devices", []) if "name" in device}


def read_files(paths, mixed):
    measurements, machines = [], {}
    for path in paths:
        try:
            content = json.loads(pathlib.Path(path).read_text())
            measurements += [read_measurement(entry) for entry in content["results"]]
            machines[path] = machine_names(content["context"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            sys.exit(f"{path}: not a benchmark result ({error!r}); expected the JSON of `gru bench` or a peer script")
    common = set.intersection(*machines.values())
    if not common and not mixed:
        listed = "\n".join(f"  {path}: {', '.join(sorted(names))}" for path, names in machines.items())
        sys.exit(f"these files come from different machines; --mixed plots them all the same:\n{listed}")
    if not measurements:
        sys.exit("nothing to plot: the files hold no results")
    return merged(measurements), ", ".join(sorted(common or set.union(*machines.values())))


def panels(cases, title, width=4.2, height=2.6):
    """A figure with one axes a case; returns (figure, case -> axes)."""
    columns = min(COLUMNS, len(cases))
    rows = math.ceil(len(cases) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows + 0.5), squeeze=False, layout="constrained"
    )
    for unused in axes.flat[len(cases) :]:
        unused.remove()
    figure.suptitle(title, fontsize=10)
    for axis, case in zip(axes.flat, cases):
        axis.set_title(case, fontsize=10, fontweight="bold", loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, dict(zip(cases, axes.flat))


@dataclasses.dataclass(frozen=True)
class Speedup:
    """One bar: how many times faster ours is than the best peer at the same precision."""

    case: str
    series: str
    ours_ms: float
    best_ms: float
    peer: str


def speedups_on_gpu(documents):
    """From compare_gpu.py's JSON: our best backend against the best peer, in each of our precisions."""
    rows = [row for document in documents for row in document["results"] if "ms" in row and row["case"] != "empty"]
    found = []
    for case in in_order(row["case"] for row in rows):
        for precision, series in (("fp32", "strict float32"), ("tf32", "TF32"), ("fp16", "float16")):
            alike = [row for row in rows if row["case"] == case and row["math"] == precision]
            ours = min((row["ms"] for row in alike if row["peer"] == "gru"), default=None)
            best = min(
                (row for row in alike if row["peer"] not in ("gru", "floor")), key=lambda row: row["ms"], default=None
            )
            if ours and best:
                found.append(Speedup(case, series, ours, best["ms"], best["peer"]))
    return found


def speedups_on_cpu(document):
    """From compare.py's JSON: the median of the rounds, for each number of threads."""
    groups = {}
    for m in map(read_measurement, document["results"]):
        groups.setdefault((m.case, m.threads), {}).setdefault(m.who.split()[0], []).append(m.ms)
    found = []
    for (case, threads), times in groups.items():
        medians = {who: statistics.median(ms) for who, ms in times.items()}
        ours = medians.pop("kokkos", None)
        if ours and medians:
            peer = min(medians, key=medians.get)
            found.append(Speedup(case, f"{threads} thread{'s' if threads > 1 else ''}", ours, medians[peer], peer))
    return found


def plot_speedup(paths):
    """Bars from 1: ours against the best peer of the same run, a panel for each file."""
    figure, axes = plt.subplots(1, len(paths), figsize=(5.2 * len(paths), 4.6), squeeze=False, layout="constrained")
    for axis, path in zip(axes.flat, paths):
        try:
            content = json.loads(pathlib.Path(path).read_text())
            on_gpu = isinstance(content, list)
            bars = speedups_on_gpu(content) if on_gpu else speedups_on_cpu(content)
            context = content[0]["context"] if on_gpu else content["context"]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            sys.exit(f"{path}: expected the JSON of compare_gpu.py or compare.py ({error!r})")
        if not bars:
            sys.exit(f"{path}: there is no case with a time of ours and of a peer")
        device = ", ".join(sorted(machine_names(context) - ({context.get("cpu")} if on_gpu else set()))) or context.get(
            "cpu", ""
        )
        cases, series = in_order(b.case for b in bars), in_order(b.series for b in bars)
        height = 0.8 / len(series)
        for b in bars:
            place = cases.index(b.case) + (series.index(b.series) - (len(series) - 1) / 2) * height
            ratio = b.best_ms / b.ours_ms
            axis.barh(
                place,
                ratio,
                height=0.9 * height,
                color=COLOURS[series.index(b.series)],
                label=b.series if b is next(x for x in bars if x.series == b.series) else None,
            )
            axis.annotate(f" {ratio:.2g}x  {b.ours_ms:.3g} ms", (ratio, place), va="center", fontsize=7)
        axis.axvline(1, color="black", linewidth=1)
        axis.set_yticks(range(len(cases)), cases, fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.4 * max(b.best_ms / b.ours_ms for b in bars))
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"{device}, {str(context.get('date', ''))[:10]}", fontsize=9, loc="left")
        axis.set_xlabel("times faster than the best peer at the same precision", fontsize=8)
        axis.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def in_order(values):
    return list(dict.fromkeys(values))


def plot_bars(measurements, machine):
    """Milliseconds (median; the thin line runs from the shortest to the longest), one panel a case, shorter is better."""
    many = len({m.threads for m in measurements if m.threads}) > 1
    label = lambda m: f"{m.who}, {m.threads} thr." if many and m.threads else m.who
    colour = dict(zip(in_order(m.who for m in measurements), COLOURS * len(measurements)))
    figure, axes = panels(in_order(m.case for m in measurements), f"milliseconds, median and range; {machine}")
    for case, axis in axes.items():
        rows = [m for m in measurements if m.case == case]
        end = 1.4 * max(m.ms for m in rows)  # a single slow call may leave the picture, a median never
        for place, m in enumerate(rows):
            axis.barh(place, m.ms, color=colour[m.who], height=0.7)
            axis.plot([m.ms_min, m.ms_max], [place, place], color="black", linewidth=1)
            axis.annotate(
                f" {m.ms:.3g}",
                (max(m.ms, min(m.ms_max, 0.85 * end)), place),
                va="center",
                fontsize=8,
                backgroundcolor="white" if m.ms_max > 0.85 * end else "none",
            )
        axis.set_yticks(range(len(rows)), [label(m) for m in rows])
        axis.invert_yaxis()
        axis.set_xlim(0, end)
    return figure


def plot_scaling(measurements, machine):
    """GFLOP/s over threads, one panel a case; the dashed line is the FMA peak measured in the same runs."""
    measurements = [m for m in measurements if m.threads]
    if len({m.threads for m in measurements}) < 2:
        sys.exit("--scaling needs results for at least two thread counts; run the bench once for each")
    names = in_order(m.who for m in measurements)
    colour = dict(zip(names, COLOURS * len(names)))
    figure, axes = panels(in_order(m.case for m in measurements), f"GFLOP/s over threads; {machine}")
    for case, axis in axes.items():
        rows = sorted((m for m in measurements if m.case == case), key=lambda m: m.threads)
        for who in in_order(m.who for m in rows):
            mine = [m for m in rows if m.who == who]
            axis.plot(
                [m.threads for m in mine], [m.gflops for m in mine], "o-", color=colour[who], label=who, markersize=4
            )
        peaks = {m.threads: m.peak_gflops for m in rows if m.peak_gflops}
        if peaks:
            axis.plot(list(peaks), list(peaks.values()), "--", color="black", linewidth=1, label="FMA peak")
        axis.set_xticks(sorted({m.threads for m in rows}))
        axis.set_ylim(0, 1.08 * max([m.gflops for m in rows] + list(peaks.values())))
        axis.set_xlabel("threads", fontsize=8)
    handles = {label: handle for axis in axes.values() for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(5, len(handles)),
        fontsize=8,
        frameon=False,
    )
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="JSON")
    parser.add_argument(
        "--out", metavar="FILE", help="picture to write: .svg, .png or .pdf (default: the first JSON's name, .svg)"
    )
    parser.add_argument("--scaling", action="store_true", help="rates over threads instead of bars")
    parser.add_argument("--speedup", action="store_true", help="ours against the best peer, one panel a file")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--mixed", action="store_true", help="allow files from different machines")
    args = parser.parse_args()
    if args.speedup:
        return save(plot_speedup(args.files), args.out or "speedup.svg")
    measurements, machine = read_files(args.files, args.mixed)
    if args.cases:
        unknown = set(args.cases) - {m.case for m in measurements}
        if unknown:
            parser.error(f"no results for {', '.join(sorted(unknown))}")
        measurements = [m for m in measurements if m.case in args.cases]
    out = args.out or pathlib.Path(args.files[0]).with_suffix(".svg").name
    save((plot_scaling if args.scaling else plot_bars)(measurements, machine), out)


def save(figure, out):
    """Writes the picture without a date in it, so that the same numbers give the same file."""
    try:
        figure.savefig(out, dpi=150, metadata={"Date": None} if str(out).endswith(".svg") else None)
    except (OSError, ValueError) as error:
        sys.exit(f"{out}: {error}")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
