# SPDX-License-Identifier: Apache-2.0
"""DistributedDataParallel: the gradients of two processes are those of one with the whole batch. gloo on CPU
processes, which
are spawned, since threads do not survive a fork."""

import os
import subprocess
import sys

import pytest
import torch

PROGRAM = """
import os, sys, torch, torch.distributed as dist, gru.torch
rank, port = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
module = gru.torch.GRU(5, 8, 2, bidirectional=True)
x = torch.randn(6, 4, 5)
whole = torch.autograd.grad(module(x)[0].square().mean(), list(module.parameters()))
ddp = torch.nn.parallel.DistributedDataParallel(module)
ddp(x[:, 2 * rank : 2 * rank + 2])[0].square().mean().backward()
for parameter, wanted in zip(module.parameters(), whole):
    torch.testing.assert_close(parameter.grad, wanted, rtol=2e-5, atol=1e-7)
dist.barrier()
dist.destroy_process_group()
print("equal")
"""


def command():
    """How this interpreter was started; a private runtime's loader stands before it then."""
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[: words.index("-m")] if "-m" in words else [sys.executable]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes():
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [*command(), "-c", PROGRAM, str(rank), str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert all("equal" in text for text in said)
