#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""KernelBench level 3, problems 39 to 42, stated anew: nn.GRU eager, torch.compile and in a CUDA graph, and gru.torch.

    python bench/kernelbench.py [39 40 41 42] [--device cuda] [--seconds 0.5] [--json out.json]

Each problem is a GRU over x (512, 10, 128) with h0, 256 units, 6 layers; 41 and 42 in both directions; 39 and 41
return the
output, 40 and 42 the last states. Times are medians in ms: forward in inference, and forward with all gradients of the
returned
tensor's sum. A CUDA graph of nn.GRU holds its whole forward, or forward and backward. Strict float32 everywhere: TF32
is off.
gru.Plan packs the weights once; gru.torch reads the parameters anew in each call.
The last line is the largest difference of the results from nn.GRU's in float64.
"""

import argparse
import json
import statistics
import sys
import time

import torch
from torch import nn

import gru.torch

STEPS, BATCH, INPUTS, HIDDEN, LAYERS = 512, 10, 128, 256, 6
PROBLEMS = {
    39: ("GRU", False, 0),
    40: ("GRUHidden", False, 1),
    41: ("GRUBidirectional", True, 0),
    42: ("GRUBidirectionalHidden", True, 1),
}


class Model(nn.Module):
    """A problem in KernelBench's form: forward(x, h0) returns one tensor."""

    def __init__(self, kind, bidirectional, returned):
        super().__init__()
        self.gru = kind(INPUTS, HIDDEN, LAYERS, bias=True, batch_first=False, dropout=0.0, bidirectional=bidirectional)
        self.returned = returned

    def forward(self, x, h0):
        return self.gru(x, h0)[self.returned]


def get_inputs(bidirectional, device):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(STEPS, BATCH, INPUTS, generator=generator)
    h0 = torch.randn(LAYERS * (2 if bidirectional else 1), BATCH, HIDDEN, generator=generator)
    return x.to(device), h0.to(device)


def forward_of(model, x, h0):
    def call():
        with torch.no_grad():
            return model(x, h0)

    return call


def plan_of(model, x, h0):
    """gru.Plan: the weights are packed once, for a model that is not trained any more."""
    state = {name: value.cpu() for name, value in model.gru.state_dict().items()}
    plan = gru.Plan(gru.weights(state), batch_size=BATCH, seq_len=STEPS, device=str(x.device))
    return lambda: plan(x, h0)[model.returned]


def both_of(model, x, h0):
    x = x.clone().requires_grad_()

    def call():
        model.zero_grad(set_to_none=False)
        model(x, h0).sum().backward()

    return call


def in_graph(call):
    """The call in a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def milliseconds(call, device, seconds):
    """The median of a call's times. On a GPU: between events around five calls in a row, as a loop of a user's runs
    them."""
    for _ in range(3):
        call()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        if device.type == "cuda":
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            for _ in range(5):
                call()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) / 5)
        else:
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(problem, device, seconds, compile_too):
    name, bidirectional, returned = PROBLEMS[problem]
    torch.manual_seed(0)
    theirs = Model(nn.GRU, bidirectional, returned).to(device)
    ours = Model(gru.torch.GRU, bidirectional, returned).to(device)
    ours.load_state_dict(theirs.state_dict())
    x, h0 = get_inputs(bidirectional, device)
    exact = Model(nn.GRU, bidirectional, returned).double()
    exact.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        difference = (ours(x, h0).cpu().double() - exact(x.cpu().double(), h0.cpu().double())).abs().max().item()

    rows = {}
    for way, of in (("forward", forward_of), ("forward + backward", both_of)):
        subjects = {"nn.GRU eager": lambda: of(theirs, x, h0)}
        if compile_too:
            subjects["nn.GRU torch.compile"] = lambda: of(torch.compile(theirs), x, h0)
        if device.type == "cuda":
            subjects["nn.GRU CUDA graph"] = lambda: in_graph(of(theirs, x, h0))
        subjects["gru.torch eager"] = lambda: of(ours, x, h0)
        if device.type == "cuda":
            subjects["gru.torch CUDA graph"] = lambda: in_graph(of(ours, x, h0))
        if of is forward_of:
            subjects["gru.Plan"] = lambda: plan_of(ours, x, h0)
        rows[way] = {}
        for subject, make in subjects.items():
            try:
                rows[way][subject] = milliseconds(make(), device, seconds)
            except Exception as error:  # a peer that can't is a row that says so
                print(f"{problem} {way} {subject}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        base = rows[way]["nn.GRU eager"]
        for subject, time_ in rows[way].items():
            print(f"{problem} {name:24} {way:20} {subject:22} {time_:9.3f} ms  {base / time_:6.2f}x")
    print(f"{problem} {name:24} largest difference from nn.GRU in float64: {difference:.1e}", flush=True)
    return {"times_ms": rows, "difference": difference}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("problems", nargs="*", type=int, default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each number")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", help="also write the numbers there")
    arguments = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device(arguments.device)
    report = {
        problem: measure(problem, device, arguments.seconds, not arguments.no_compile) for problem in arguments.problems
    }
    if arguments.json:
        about = {"torch": torch.__version__, "gru": gru.info()}
        about["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"about": about, "problems": report}, file, indent=1)


if __name__ == "__main__":
    main()
