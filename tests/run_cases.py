# SPDX-License-Identifier: Apache-2.0
"""Runs the test cases of a build, each in a process of its own, several at a time, within a time.

    python3 tests/run_cases.py build/h100 --limit 540 --done done.json

A GPU is often lent for minutes, and ctest runs a program whole or not at all. This runs single cases and says which
passed, were skipped (no check was made), failed or crashed, and were cut. `--done FILE` keeps what passed, so that the
next call goes on with the rest. GRU_TEST_TARGETS and GRU_TEST_CONFIGS are the tests' own and pass through.
`--wrap "compute-sanitizer --error-exitcode 1"` runs every case under another program.

Ends with 0 if every case chosen passed, 1 if one failed, 3 if none failed and some were cut.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_PROGRAMS = [
    "cuda_tests",
    "conformance_tests",
    "golden_tests",
    "training_tests",
    "plan_tools_tests",
    "runtime_face_tests",
]
STATES = ("passed", "skipped", "failed", "cut")
# A case's own limit: a kernel that waits for ever must not take the others' time.
DEFAULT_CASE_LIMIT_S = 300


@dataclass
class Outcome:
    program: str
    case: str
    state: str  # one of STATES
    seconds: float
    asserts: int
    output: str


def cases_of(program):
    """The names of a doctest program's cases, in its order."""
    listed = subprocess.run([program, "--list-test-cases", "--no-colors=1"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if line and not line.startswith(("[doctest]", "===="))]


def escaped(case):
    """A doctest filter that means this case alone: a comma would end it, a backslash would escape."""
    return case.replace("\\", "\\\\").replace(",", "\\,")


def run_case(program, case, wrap, limit_s):
    """Runs one case. A process that outlives the limit is killed with whatever it started."""
    if limit_s <= 0:
        return Outcome(program.name, case, "cut", 0.0, 0, "")
    began = time.monotonic()
    command = [*wrap, str(program), "--no-colors=1", f"--test-case={escaped(case)}"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=program.parent,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
        state = "passed" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        state = "cut"
    ran = re.search(r"test cases:\s*(\d+)", output)
    asserts = re.search(r"assertions:\s*(\d+)", output)
    if state == "passed" and (ran is None or int(ran[1]) == 0):
        state, output = "failed", output + f"\nno case is called '{case}'\n"
    if state == "passed" and int(asserts[1]) == 0:
        state = "skipped"  # no device or no target for it
    return Outcome(program.name, case, state, time.monotonic() - began, int(asserts[1]) if asserts else 0, output)


def load_done(path):
    if path is None or not path.exists():
        return {}
    return {(entry["program"], entry["case"]): entry["seconds"] for entry in json.loads(path.read_text())}


def save_done(path, done):
    entries = [{"program": key[0], "case": key[1], "seconds": round(seconds, 2)} for key, seconds in done.items()]
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(entries, indent=1) + "\n")
    scratch.replace(path)


def chosen_cases(options):
    found = []
    for name in options.programs:
        path = (options.build / "tests" / name).resolve()
        if not path.exists():
            sys.exit(f"run_cases: there is no {path}; build it first, or name others with --programs")
        found += [(path, case) for case in cases_of(path) if fnmatch.fnmatchcase(case, options.cases)]
    return found


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="build folder, e.g. build/h100")
    parser.add_argument("--programs", nargs="+", default=DEFAULT_PROGRAMS, help="test programs under BUILD/tests")
    parser.add_argument("--cases", default="*", help="a pattern that a case's name must match")
    parser.add_argument("--jobs", type=int, default=3, help="processes at a time (3: more only share a GPU's time)")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds for everything")
    parser.add_argument("--case-limit", type=float, default=DEFAULT_CASE_LIMIT_S, help="seconds for one case")
    parser.add_argument("--wrap", default="", help="a command that runs each program, e.g. a sanitizer's")
    parser.add_argument("--done", type=Path, help="JSON file of the cases that passed; they are left out")
    parser.add_argument("--report", type=Path, help="JSON file for every outcome with its output")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse(arguments)
    done = load_done(options.done)
    cases = [case for case in chosen_cases(options) if (case[0].name, case[1]) not in done]
    deadline = time.monotonic() + options.limit
    outcomes = []

    def run(item):
        program, case = item
        return run_case(program, case, shlex.split(options.wrap), min(options.case_limit, deadline - time.monotonic()))

    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(run, cases):
            outcomes.append(outcome)
            print(
                f"{outcome.state:7} {outcome.seconds:7.1f} s {outcome.asserts:9} {outcome.program}: {outcome.case}",
                flush=True,
            )
            if outcome.state == "failed":
                print(outcome.output[-4000:], flush=True)
            if outcome.state == "passed":
                done[(outcome.program, outcome.case)] = outcome.seconds
                if options.done is not None:
                    save_done(options.done, done)
    if options.report is not None:
        options.report.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return summary(options, outcomes)


def summary(options, outcomes):
    """Prints a line for each program; the exit status."""
    for name in options.programs:
        of_program = [outcome for outcome in outcomes if outcome.program == name]
        count = {state: sum(outcome.state == state for outcome in of_program) for state in STATES}
        asserts = sum(outcome.asserts for outcome in of_program)
        print(f"{name}: {asserts} assertions; " + ", ".join(f"{number} {state}" for state, number in count.items()))
    states = {outcome.state for outcome in outcomes}
    return 1 if "failed" in states else 3 if "cut" in states else 0


if __name__ == "__main__":
    sys.exit(main())
