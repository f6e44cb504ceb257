# SPDX-License-Identifier: Apache-2.0
"""The benchmark cases and what every peer script shares: operations, statistics, the table, the JSON.

bench/cases.cpp is where the cases are defined, with the reason for each; this is the copy for scripts that run without
the program. `gru bench --list --json` prints the source's own list.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import time


@dataclasses.dataclass(frozen=True)
class Case:
    """T steps, B sequences, I inputs, H hidden units, L layers, D directions."""

    name: str
    T: int
    B: int
    I: int
    H: int
    L: int
    D: int

    def flop(self):
        """Floating-point operations of the matrix products (2 a multiply-add), gates not counted."""
        widths = [self.I if layer == 0 else self.H * self.D for layer in range(self.L)]
        return sum(2 * self.T * self.B * self.D * 3 * self.H * (width + self.H) for width in widths)


GPU_CASES = [
    Case("kb39", 512, 10, 128, 256, 6, 1),
    Case("kb41", 512, 10, 128, 256, 6, 2),
    Case("cell", 1, 1, 256, 256, 1, 1),
    Case("speech", 1000, 1, 80, 512, 3, 1),
    Case("db1024", 1500, 1, 1024, 1024, 1, 1),
    Case("db2048", 375, 1, 2048, 2048, 1, 1),
    Case("mid", 256, 32, 512, 512, 2, 2),
    Case("batch256", 128, 256, 512, 512, 2, 1),
    Case("batch1024", 64, 1024, 1024, 1024, 1, 1),
    Case("ensemble", 100, 4096, 16, 32, 1, 1),
]
CPU_CASES = [case for case in GPU_CASES if case.name in ("kb39", "kb41", "cell", "speech")] + [
    Case("batch256-cpu", 64, 256, 512, 512, 1, 1),
    Case("ensemble-cpu", 100, 1024, 16, 32, 1, 1),
]


def choose(cases, names):
    """The cases named, in the table's order; all of them for no names."""
    unknown = set(names or []) - {case.name for case in cases}
    if unknown:
        known = " ".join(case.name for case in cases)
        raise SystemExit(f"no case called {', '.join(sorted(unknown))}; there are: {known}")
    return [case for case in cases if not names or case.name in names]


def parse_shape(text):
    """ "64,16,1024,1024,2,2" as the numbers T, B, I, H, L, D; ends the program if it is not that."""
    numbers = text.split(",")
    if len(numbers) != 6 or not all(n.isascii() and n.isdigit() and int(n) > 0 for n in numbers) or int(numbers[5]) > 2:
        raise SystemExit(
            f"shape '{text}': expected T,B,I,H,L,D, six numbers of at least 1, D 1 or 2, as 64,16,1024,1024,2,2"
        )
    return tuple(map(int, numbers))


def processor():
    """The processor's name as the system gives it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def context(machine, versions):
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"machine": machine, "date": date, "versions": versions}


def result(case, peer, times_ms, **more):
    """One row: the median with its spread, and the rate that the median means."""
    median = statistics.median(times_ms)
    return {
        "case": case.name,
        "peer": peer,
        **more,
        "ms": median,
        "ms_min": min(times_ms),
        "ms_max": max(times_ms),
        "samples": len(times_ms),
        "gflops": case.flop() / median / 1e6,
    }


def row(entry):
    who = " ".join(str(entry[key]) for key in ("peer", "math", "mode") if key in entry)
    threads = f"{entry['threads']:3d}" if "threads" in entry else ""
    return (
        f"{entry['case']:14s} {who:28s} {threads} {entry['ms']:10.4f} ms  [{entry['ms_min']:.4f} .. "
        f"{entry['ms_max']:.4f}]  {entry['gflops']:9.1f} GFLOP/s"
    )


def open_beside(path):
    """What `path` leads to through its links, a file of a new name beside that, and its descriptor; ends the program if there
    is no place for a regular file."""
    try:
        target = pathlib.Path(path).resolve()
        if target.exists() and not target.is_file():
            raise SystemExit(f"{path}: is not a regular file and cannot be replaced; name another path")
        if target.exists() and not os.access(target, os.W_OK):
            raise SystemExit(f"{path}: may not be written; name another path")
        whole = target.with_name(f"{target.name}.{os.getpid()}-{time.monotonic_ns()}.partial")
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if target.exists():
            os.chmod(whole, mode)  # what the umask took
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle are a RuntimeError before Python 3.13
        raise SystemExit(
            f"{path}: cannot be written: {error}; name a file in a folder that exists and may be written"
        ) from None
    return target, whole, descriptor


def check_writable(path):
    """Ends the program if nothing can be written there; for before minutes of measuring. Leaves nothing."""
    if path:
        _, whole, descriptor = open_beside(path)
        os.close(descriptor)
        whole.unlink()


def write_whole(path, text):
    """A file that appears whole or not at all."""
    target, whole, descriptor = open_beside(path)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
        whole.replace(target)
    except OSError as error:
        whole.unlink(missing_ok=True)
        raise SystemExit(f"{path}: could not be written: {error}") from None


def write_json(path, what, results):
    write_whole(path, json.dumps({"context": what, "results": results}, indent=1) + "\n")
