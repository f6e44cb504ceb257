# SPDX-License-Identifier: Apache-2.0
"""Threads, forks, the end of the interpreter."""

import subprocess
import sys
import threading
import time

import numpy as np
from reference import close, random_arrays
from reference import gru as reference

import gru


def run(program):
    """The program in a Python like this one: (status, what it said)."""
    done = subprocess.run([*PYTHON, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def command():
    """How this interpreter was started; a private runtime's loader stands before it then."""
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[: words.index("-m")] if "-m" in words else [sys.executable]


PYTHON = command()
PRELUDE = """
import gru, numpy as np
rng = np.random.default_rng(0)
arrays = {"weight_ih_l0": rng.random((12, 3)), "weight_hh_l0": rng.random((12, 4))}
plan = gru.Plan(gru.weights(arrays), batch_size=2, seq_len=5)
x = np.ones((5, 2, 3), np.float32)
"""


def test_threads_share_a_plan_and_have_their_own():
    model = random_arrays(np.random.default_rng(1), 4, 8)
    weights = gru.weights(model)
    shared = gru.Plan(weights, batch_size=3, seq_len=6, dtype="float64")
    inputs = [np.random.default_rng(seed).standard_normal((6, 3, 4)) for seed in range(8)]
    results = [None] * len(inputs)

    def work(index):
        plan = shared if index % 2 else gru.Plan(weights, batch_size=3, seq_len=6, dtype="float64")
        for _ in range(20):
            results[index] = plan(inputs[index])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, output in zip(inputs, results):
        close(output, reference(model, x)[0], np.float64)


def test_the_gil_is_released():
    weights = gru.weights(random_arrays(np.random.default_rng(2), 64, 256))
    plan = gru.Plan(weights, batch_size=16, seq_len=400)
    x = np.zeros((400, 16, 64), np.float32)
    plan(x)
    seen = []
    running = threading.Event()

    def work():
        running.set()
        start = time.perf_counter()
        plan(x)
        seen.append((start, time.perf_counter()))

    thread = threading.Thread(target=work)
    ticks = []
    thread.start()
    running.wait()
    while thread.is_alive():
        ticks.append(time.perf_counter())
        time.sleep(0)
    ((start, end),) = seen
    assert any(start < tick < end for tick in ticks)


def test_plans_that_live_until_the_end():
    status, said = run(PRELUDE + "keep = plan\nprint(plan(x)[0].shape)")
    assert (status, said.strip()) == (0, "(5, 2, 4)")


def test_a_process_that_never_plans():
    status, said = run("import gru; print(gru.__version__)")
    assert (status, said.strip()) == (0, gru.__version__)


def test_a_call_after_the_end_is_an_error():
    status, said = run(
        "import atexit\nimport gru as late\n"
        + PRELUDE.replace("import gru, ", "import gru, gc, ")
        + "gru._core.shut_down()\ntry:\n  plan(x)\nexcept gru.Error as error: print(error)"
    )
    assert status == 0 and "ending" in said


def test_a_fork_is_told_and_does_not_hang():
    status, said = run(
        PRELUDE
        + """
import os
pid = os.fork()
if pid == 0:
    try:
        plan(x)
        os._exit(1)
    except gru.Error as error:
        os._exit(7 if "fork" in str(error) else 2)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), plan(x)[0].shape)
"""
    )
    assert (status, said.strip()) == (0, "7 (5, 2, 4)")


def test_a_first_plan_after_the_fork_works():
    status, said = run(
        "import gru, os\npid = os.fork()\nif pid == 0:\n"
        + "".join("    " + line + "\n" for line in PRELUDE.strip().splitlines())
        + "    os._exit(0 if plan(x)[0].shape == (5, 2, 4) else 3)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert (status, said.strip()) == (0, "0")


def test_info():
    info = gru.info()
    assert info["version"] == gru.__version__
    (cpu,) = [device for device in info["devices"] if device["name"] == "cpu"]
    assert "kokkos" in cpu["backends"] and cpu["concurrency"] >= 1


def test_tuning_is_kept_and_used(tmp_path):
    weights = gru.weights(random_arrays(np.random.default_rng(4), 8, 16))
    file = tmp_path / "tune.json"
    found = gru.tune(weights, batch_size=2, seq_len=4, tuning_cache=file)
    assert found["backend"] in gru.info()["devices"][-1]["backends"]
    assert all(tried["outcome"] for tried in found["tries"])
    plan = gru.Plan(weights, batch_size=2, seq_len=4, tuning="cache", tuning_cache=file)
    assert plan.backend == found["backend"]
    assert file.exists() == bool(found["file"])


def test_a_plan_says_what_it_is():
    plan = gru.Plan(gru.weights(random_arrays(np.random.default_rng(3), 2, 3)))
    assert plan.backend in plan.why
    assert plan.device == "cpu" and plan.workspace_bytes >= 0
    assert "I=2 H=3" in repr(plan)
    assert plan.config.hidden_size == 3
