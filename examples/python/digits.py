#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a classifier of handwritten digits with torch, and with gru.torch by changing one line.

    python examples/python/digits.py             # gru.torch.GRU
    python examples/python/digits.py --torch     # torch.nn.GRU: the same accuracy, to compare the time with

An image is 8 rows of 8 pixels: a sequence of 8 steps with 8 inputs (examples/digits has 360 of them). 300 train, 60
test. The
weights go to digits.safetensors if safetensors is installed; C++ reads that by gru::load_weights, Python by
gru.load_weights.
"""

import argparse
import pathlib
import time

import numpy as np
import torch
from torch import nn

import gru.torch

DATA = pathlib.Path(__file__).resolve().parents[1] / "digits"


class Classifier(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.gru = kind(8, 32, num_layers=2, batch_first=True, bidirectional=True)  # the line that changes
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        _, h_n = self.gru(x)
        return self.head(torch.cat([h_n[-2], h_n[-1]], dim=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", action="store_true", help="use torch.nn.GRU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    x = torch.from_numpy(np.load(DATA / "x.npy")).to(arguments.device)
    labels = torch.from_numpy(np.load(DATA / "labels.npy")).to(arguments.device)
    model = Classifier(nn.GRU if arguments.torch else gru.torch.GRU).to(arguments.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    start = time.perf_counter()
    for epoch in range(arguments.epochs):
        for batch in torch.randperm(300).split(50):
            loss = nn.functional.cross_entropy(model(x[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"\repoch {epoch + 1}/{arguments.epochs}, loss {loss.item():.4f}", end="", flush=True)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        accuracy = (model(x[300:]).argmax(1) == labels[300:]).float().mean().item()
    print(f"\n{type(model.gru).__module__}: {100 * accuracy:.1f} % of 60 unseen digits, {seconds:.2f} s of training")
    try:
        from safetensors.torch import save_file
    except ImportError:
        return
    save_file(model.state_dict(), "digits.safetensors")


if __name__ == "__main__":
    main()
