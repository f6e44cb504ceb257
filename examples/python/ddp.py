#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the classifier of digits.py in several processes, each with its part of every batch.

    torchrun --nproc-per-node=2 examples/python/ddp.py          # NCCL with a GPU for each process, gloo on CPUs

DistributedDataParallel sums the gradients while the backward pass still runs. The processes' parameters stay equal, and
the gradients are those of one process with the whole batch. On CPUs, give each process its share of the threads
(OMP_NUM_THREADS); start processes by torchrun or "spawn", since threads do not survive a fork.
"""

import argparse
import os

import numpy as np
import torch
import torch.distributed as dist
from digits import DATA, Classifier
from torch import nn

import gru.torch


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, processes = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(0)  # the same beginning and the same order of batches everywhere
    x = torch.from_numpy(np.load(DATA / "x.npy")).to(device)
    labels = torch.from_numpy(np.load(DATA / "labels.npy")).to(device)
    model = nn.parallel.DistributedDataParallel(Classifier(gru.torch.GRU).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(arguments.epochs):
        for batch in torch.randperm(300).split(60):
            mine = batch[rank::processes]
            loss = nn.functional.cross_entropy(model(x[mine]), labels[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model.module(x[300:]).argmax(1) == labels[300:]).float().mean()
    first = next(model.parameters()).detach().clone()
    dist.broadcast(first, 0)
    assert torch.equal(first, next(model.parameters())), "the processes' parameters went apart"
    if rank == 0:
        print(f"{processes} processes on {arguments.device}: {100 * accuracy.item():.1f} % of 60 unseen digits")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
