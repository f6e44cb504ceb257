# SPDX-License-Identifier: Apache-2.0
"""torch brings an OpenMP runtime of its own. Whichever of the two packages comes first, and whichever thread calls, the
results are right; threads do not survive a fork, which is told."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, threading
{imports}
import numpy as np, gru.torch
torch.manual_seed(0)
theirs = torch.nn.GRU(24, 48, 2, bidirectional=True).double()
ours = gru.torch.from_torch(theirs)
plan = gru.Plan(gru.weights(theirs.state_dict()), batch_size=5, seq_len=9, dtype="float64")
big = torch.randn(300, 300)
product = big @ big
failed = []

def work(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(6):
        x = torch.randn(9, 5, 24, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            wanted = theirs(x)[0]
        for got in (ours(x)[0].detach(), torch.from_numpy(plan(x.numpy())[0])):
            if not torch.allclose(got, wanted, rtol=0, atol=1e-12):
                failed.append((got - wanted).abs().max().item())
        if not torch.allclose(big @ big, product, rtol=1e-3, atol=1e-2):  # torch's own threads, in between
            failed.append("torch")
        ours(x)[0].sum().backward()

work(1)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2, 5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failed, failed
pid = os.fork()
if pid == 0:
    try:
        ours(torch.zeros(9, 5, 24, dtype=torch.float64))
        os._exit(1)
    except gru.Error as error:
        os._exit(7 if "fork" in str(error) else 2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
with open("/proc/self/maps") as maps:
    found = {{line.split()[-1] for line in maps if "gomp" in line or "iomp" in line}}
print("right", len(found), *sorted(found))
"""


def command():
    """How this interpreter was started; a private runtime's loader stands before it then."""
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[: words.index("-m")] if "-m" in words else [sys.executable]


@pytest.mark.parametrize("imports", ["import gru, torch", "import torch, gru", "import gru; gru.info(); import torch"])
def test_two_runtimes(imports):
    done = subprocess.run(
        [*command(), "-c", PROGRAM.format(imports=imports)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("right"), done.stdout
