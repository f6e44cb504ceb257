#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sweeps shapes on one GPU: gru as a user gets it (backend auto) against every algorithm of cuDNN.

    python bench/sweep.py map --build build/h100 --json map.json --svg map.svg
    python bench/sweep.py steps --math tf32                      single steps
    python bench/sweep.py lengths                                lengths uniform in 1..T, cuDNN on sorted, packed rows
    python bench/sweep.py --shapes 64,16,1024,1024,2,2 2,7,33,100,1,1
    python bench/sweep.py --random 100 --seed 7                  shapes that nobody chose
    python bench/sweep.py map --part 1/4 --json 1.json           a quarter of it; later: --from 1.json 2.json 3.json 4.json
    python bench/sweep.py map --from map.json --against old.json where ours changed by more than 3 %
    python bench/sweep.py --random 50 --seed 3 --larger-plan      ours on a plan for 2 T and 4 B beside its own plan

A shape is T,B,I,H,L,D: steps, batch, inputs, hidden units, layers, directions. Both sides are timed directly and from a CUDA
graph in one process (gru_peer_cudnn), and the shorter counts. x is cuDNN's best time over ours, at the same precision. What
we compute is checked on two rows of the batch against the host's float64 backend. cuDNN's algorithms that take 1.5 times the
best at their first execution are not timed further.
"""

import argparse
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))
import cases  # noqa: E402
import heat_map  # noqa: E402

LIMITS = {
    "fp32": 2e-6,
    "tf32x3": 2e-6,
    "tf32": 2e-3,
    "fp16": 5e-3,
    "bf16": 4e-2,
}  # of the relative L2 error at torch's initial scale


def map_shapes():
    """The map: one layer and direction, and two of each; T = 64, I = H."""
    batches = {64: (1, 4, 16, 32, 64, 128, 256, 1024), 1536: (1, 4, 16, 32, 64, 128)}
    shapes = [
        (64, b, h, h, 1, 1) for h in (64, 128, 192, 256, 384, 512, 768, 1024, 1536) for b in batches.get(h, batches[64])
    ]
    return shapes + [(64, b, h, h, 2, 2) for h in (128, 256, 512, 800, 1024) for b in ((1, 8, 16, 64, 256))]


def step_shapes():
    return [(1, b, h, h, 1, 1) for h in (128, 256, 512, 1024) for b in (1, 16, 64, 256, 1024, 4096, 32768)]


def length_shapes():
    return [(c.T, c.B, c.I, c.H, c.L, c.D) for c in cases.GPU_CASES if c.T > 1]


def named_shapes():
    return [(c.T, c.B, c.I, c.H, c.L, c.D) for c in cases.GPU_CASES]


GRIDS = {"map": map_shapes, "steps": step_shapes, "lengths": length_shapes, "named": named_shapes}


def random_shapes(count, seed):
    """Log-uniform sizes, no multiples of anything; I often not H; at most 40 TFLOP and 2 GiB of output."""
    draw = random.Random(seed)
    log = lambda low, high: round(math.exp(draw.uniform(math.log(low), math.log(high))))
    shapes = []
    while len(shapes) < count:
        hidden = log(16, 1600)
        shape = (
            log(1, 2000),
            log(1, 2048),
            hidden if draw.random() < 0.4 else log(8, 1600),
            hidden,
            draw.choice((1, 1, 1, 2, 2, 3, 4)),
            draw.choice((1, 1, 2)),
        )
        case = cases.Case("", *shape)
        if case.flop() < 5e11 and shape[0] * shape[1] * hidden * shape[5] < 2**28:
            shapes.append(shape)
    return shapes


def part_of(shapes, part):
    if not part:
        return shapes
    at, of = (int(number) for number in part.split("/"))
    if not 1 <= at <= of:
        raise SystemExit(f"--part {part}: expected I/N with 1 <= I <= N")
    return shapes[at - 1 :: of]


def measure(args, shapes, lengths):
    program = args.build / "bench/gru_peer_cudnn"
    if not program.exists():
        sys.exit(
            f"{program} is not there; configure a CUDA preset where cuDNN is installed, build, or name the folder with --build"
        )
    command = [
        str(program),
        "--no-floors",
        "--check",
        "rows",
        "--samples",
        str(args.samples),
        "--budget-ms",
        str(args.budget_ms),
        "--give-up",
        "1.5",
        "--chain",
        str(args.chain),
    ]
    command += ["--backend", args.backend] if args.backend != "all" else []
    command += ["--lengths"] if lengths else []
    command += ["--ours"] if args.ours else []
    command += ["--larger-plan"] if args.larger_plan else []
    command += ["--tensors-of-16-bits"] if args.tensors_of_16_bits else []
    command += ["--device-profile", args.device_profile] if args.device_profile else []
    command += ["--seconds", str(args.seconds)] if args.seconds else []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "sweep.json"
        command += ["--json", str(path), "--math", *args.math, "--shapes", *(",".join(map(str, s)) for s in shapes)]
        subprocess.run(command, check=True, stdout=None if args.verbose else subprocess.DEVNULL)
        return json.loads(path.read_text())


def compare(document):
    """(shape, math) to a line: ours, cuDNN's best, x, error, backend, reason; in the order of measuring."""
    lines = {}
    for row in document["results"]:
        key = row["case"], row.get("math")
        line = lines.setdefault(key, {"ours": None, "peer": None, "refused": None})
        if "refused" in row:
            if row["peer"] == "gru":
                line["refused"] = row["refused"]
            continue
        side = "ours" if row["peer"] == "gru" else "peer"
        if line[side] is None or row["ms"] < line[side]["ms"]:
            line[side] = row
    for (case, kind), line in lines.items():
        if kind == "tf32x3" and line["peer"] is None:  # cuDNN has no such mode: its float32 is of that accuracy
            line["peer"] = lines.get((case, "fp32"), line)["peer"]
    return lines


def ratio(line):
    return line["peer"]["ms"] / line["ours"]["ms"] if line["ours"] and line["peer"] else None


def print_table(document):
    context = document["context"]
    print(
        f"{context.get('date', '')}  commit {context.get('commit', '-')}  {context.get('versions', {})}  "
        f"{context.get('devices', '')} {context.get('profile', '')}{' lengths' if context.get('lengths') else ''}"
    )
    print(
        f"{'T,B,I,H,L,D':24} {'math':6} {'ours ms':>9} {'cuDNN':>9} {'x':>6}  {'plan ms':>7} {'error':>8}  backend, cuDNN's best"
    )
    lines = compare(document)
    if context.get("cases_left_out"):
        print(f"{context['cases_left_out']} shapes left out, time was up")
    for (case, kind), line in lines.items():
        ours, peer, x = line["ours"], line["peer"], ratio(line)
        if ours is None:
            print(f"{case:24} {kind:6} refused: {line['refused']}")
            continue
        wrong = "error" in ours and not ours["error"] <= LIMITS[kind]
        print(
            f"{case:24} {kind:6} {ours['ms']:9.4f} {peer['ms'] if peer else float('nan'):9.4f} "
            f"{x if x else float('nan'):6.2f}{'*' if x and x < 1 else ' '} {ours.get('plan_ms', 0):7.1f} "
            f"{ours.get('error', float('nan')):8.1e}{' WRONG' if wrong else ''}  {ours['backend']} {ours['mode']}, "
            f"{peer['algorithm'] + ' ' + peer['mode'] if peer else '-'}"
        )
    for kind in dict.fromkeys(kind for _, kind in lines):
        ratios = [x for (_, k), line in lines.items() if k == kind and (x := ratio(line))]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            print(
                f"{kind}: {len(ratios)} shapes, geometric mean {mean:.2f}, least {min(ratios):.2f}, "
                f"below 1: {sum(x < 1 for x in ratios)}"
            )
    return any(
        "error" in line["ours"] and not line["ours"]["error"] <= LIMITS[kind]
        for (_, kind), line in lines.items()
        if line["ours"]
    )


def print_larger_plans(document):
    """Each shape on its own plan and on the larger one; the ratio of the shorter times."""
    context, pairs = document["context"], {}
    for row in document["results"]:
        pair = pairs.setdefault((row["case"], row["math"]), {})
        side = "larger" if row["larger"] else "own"
        if "refused" in row:
            pair["refused"] = row["refused"]
        elif side not in pair or row["ms"] < pair[side]["ms"]:
            pair[side] = row
    print(
        f"{context.get('date', '')}  commit {context.get('commit', '-')}  {context.get('devices', '')} {context.get('profile', '')}"
        f"{' lengths' if context.get('lengths') else ''}"
    )
    print(
        f"{'T,B,I,H,L,D':24} {'math':6} {'own ms':>9} {'larger':>9} {'ratio':>6}  {'plan ms':>15} {'MB':>7}  own backend, larger plan"
    )
    wrong, ratios = False, []
    for (case, kind), pair in pairs.items():
        if "own" not in pair or "larger" not in pair:
            print(f"{case:24} {kind:6} refused: {pair.get('refused')}")
            continue
        own, larger = pair["own"], pair["larger"]
        ratios.append(larger["ms"] / own["ms"])
        off = any("error" in row and not row["error"] <= LIMITS[kind] for row in (own, larger))
        wrong = wrong or off
        held = larger["why"].split("first to accept")[-1].split("; calls up to ", 1)
        print(
            f"{case:24} {kind:6} {own['ms']:9.4f} {larger['ms']:9.4f} {ratios[-1]:6.2f}{'*' if ratios[-1] > 1.05 else ' '} "
            f"{own['plan_ms']:7.1f} {larger['plan_ms']:7.1f} {larger['workspace_bytes'] / 1e6:7.0f}{' WRONG' if off else ''}  "
            f"{own['backend']} {own['mode']}, {larger['backend']} {larger['mode']}"
            f"{'; up to ' + held[1].split('; cuda-')[0] if len(held) > 1 else ''}"
        )
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(
            f"{len(ratios)} pairs, geometric mean {mean:.3f}, most {max(ratios):.2f}, above 1.05: {sum(r > 1.05 for r in ratios)}"
        )
    return wrong


def print_changes(new, old):
    before = compare(old)
    for key, line in compare(new).items():
        then = before.get(key, {}).get("ours")
        if line["ours"] and then and abs(line["ours"]["ms"] / then["ms"] - 1) > 0.03:
            print(
                f"{key[0]:24} {key[1]:5} {then['ms']:9.4f} -> {line['ours']['ms']:9.4f} ms, {then['ms'] / line['ours']['ms']:.2f}x"
                f"  {then['backend']} -> {line['ours']['backend']}"
            )


def read(paths):
    documents = [json.loads(pathlib.Path(path).read_text()) for path in paths]
    return {"context": documents[0]["context"], "results": [row for d in documents for row in d["results"]]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", nargs="?", choices=GRIDS, help="a set of shapes")
    parser.add_argument("--shapes", nargs="+", default=[], metavar="T,B,I,H,L,D", help="these shapes")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="N random shapes")
    parser.add_argument("--seed", type=int, default=1, help="of the random shapes (default 1)")
    parser.add_argument("--part", metavar="I/N", help="every Nth shape from the Ith on")
    parser.add_argument("--math", nargs="+", default=["fp32", "tf32"], choices=LIMITS, help="default fp32 tf32")
    parser.add_argument(
        "--backend", default="auto", help="ours: a backend by name, or all, the fastest of which counts (default auto)"
    )
    parser.add_argument("--build", type=pathlib.Path, default=HERE.parent / "build/h100", help="default build/h100")
    parser.add_argument("--samples", type=int, default=15, help="at most so many a time (default 15)")
    parser.add_argument(
        "--budget-ms", type=float, default=20, help="of one time's samples; three at least (default 20)"
    )
    parser.add_argument(
        "--seconds", type=float, default=0, help="begin no shape after so many; what was measured is kept"
    )
    parser.add_argument("--device-profile", default="", help="plan ours as if the GPU were this one")
    parser.add_argument("--ours", action="store_true", help="leave cuDNN out")
    parser.add_argument(
        "--tensors-of-16-bits", action="store_true", help="ours too takes and gives them in fp16 and bf16"
    )
    parser.add_argument("--chain", type=int, default=200, help="executions of a single step in a sample (default 200)")
    parser.add_argument(
        "--larger-plan", action="store_true", help="ours alone: on its own plan, and on one for 2 T and 4 B"
    )
    parser.add_argument("--verbose", action="store_true", help="show each time as it is measured")
    parser.add_argument("--json", metavar="FILE", help="write everything measured there")
    parser.add_argument("--svg", metavar="FILE", help="draw a heat map of x there")
    parser.add_argument("--from", dest="files", nargs="+", metavar="FILE", help="measure nothing, read these")
    parser.add_argument("--against", metavar="FILE", help="also show what changed since these results")
    args = parser.parse_args()
    if not (args.grid or args.shapes or args.random or args.files):
        parser.error("name a grid, --shapes, --random or --from")
    return args


def main():
    args = arguments()
    for path in (args.json, args.svg):
        cases.check_writable(path)
    if args.files:
        document = read(args.files)
    else:
        shapes = GRIDS[args.grid]() if args.grid else []
        shapes += [cases.parse_shape(text) for text in args.shapes] + random_shapes(args.random, args.seed)
        document = measure(args, part_of(shapes, args.part), args.grid == "lengths")
    wrong = print_larger_plans(document) if args.larger_plan else print_table(document)
    if args.against:
        print_changes(document, read([args.against]))
    if args.json:
        cases.write_whole(args.json, json.dumps(document, indent=1) + "\n")
    if args.svg:
        cases.write_whole(args.svg, heat_map.draw({key: ratio(line) for key, line in compare(document).items()}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
