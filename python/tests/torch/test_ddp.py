# SPDX-License-Identifier: Apache-2.0
"""DistributedDataParallel: the gradients of two processes are those of one with the whole batch. gloo on CPU processes,
which are new ones, since threads do not survive a fork; NCCL where there are two GPUs."""

import os
import pathlib
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import os, sys, torch, torch.distributed as dist, gru.torch
rank, meeting, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
device = torch.device(f"cuda:{rank}" if kind == "nccl" else "cpu")
if kind == "nccl": torch.cuda.set_device(device)
dist.init_process_group(kind, init_method=f"file://{meeting}", rank=rank, world_size=2)
torch.manual_seed(0)
module = gru.torch.GRU(5, 8, 2, bidirectional=True).to(device)
x = torch.randn(6, 4, 5).to(device)
whole = torch.autograd.grad(module(x)[0].square().mean(), list(module.parameters()))
ddp = torch.nn.parallel.DistributedDataParallel(module)
for _ in range(2):  # the second time the buckets are rebuilt
    ddp.zero_grad()
    ddp(x[:, 2 * rank : 2 * rank + 2])[0].square().mean().backward()
    for parameter, wanted in zip(module.parameters(), whole):
        torch.testing.assert_close(parameter.grad, wanted, rtol=2e-5, atol=1e-7)
dist.barrier()
dist.destroy_process_group()
print("equal")
"""
EXAMPLE = pathlib.Path(__file__).resolve().parents[3] / "examples" / "python" / "ddp.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def command():
    """How this interpreter was started; a private runtime's loader stands before it then."""
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[: words.index("-m")] if "-m" in words else [sys.executable]


@pytest.mark.parametrize("kind", ["gloo", "nccl"])
def test_two_processes(kind, tmp_path):
    if not getattr(torch.distributed, f"is_{kind}_available")():
        pytest.skip(f"this torch has no {kind}")
    if kind == "nccl" and torch.cuda.device_count() < 2:
        pytest.skip("NCCL between two processes needs two GPUs")
    processes = [
        subprocess.Popen(
            [*command(), "-c", PROGRAM, str(rank), str(tmp_path / "meeting"), kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert all("equal" in text for text in said), said


def test_the_example_under_torchrun(tmp_path):
    python = tmp_path / "python"  # torchrun starts one program, by its path
    python.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in command()) + ' "$@"\n')
    python.chmod(0o755)
    words = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command(), *words, str(EXAMPLE), "--device=cpu", "--epochs=12"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=ENVIRONMENT | {"PYTHON_EXEC": str(python)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes on cpu" in done.stdout
    assert float(done.stdout.partition(":")[2].split()[0]) > 60  # percent; chance is 10
