# SPDX-License-Identifier: Apache-2.0
"""What only a GPU has: streams, CUDA graphs, several devices."""

import pytest
import torch

import gru.torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
T, B, I, H = 9, 4, 5, 32


def model(**options):
    return gru.torch.GRU(I, H, device="cuda", **options)


def test_every_stream_gets_its_own_order():
    module = model(num_layers=2)
    x = torch.randn(T, B, I, device="cuda")
    wanted, _ = module(x)
    streams = [torch.cuda.Stream() for _ in range(3)]
    torch.cuda.synchronize()
    results = []
    for _ in range(5):
        for stream in streams:
            with torch.cuda.stream(stream):
                results.append(module(x)[0])
    torch.cuda.synchronize()
    for output in results:
        torch.testing.assert_close(output, wanted)


def test_graph_of_a_forward():
    module = model(num_layers=2).eval()
    x = torch.randn(T, B, I, device="cuda")
    with torch.no_grad():
        module(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output, h_n = module(x)
        for _ in range(3):
            x.normal_()
            with torch.no_grad():
                module.weight_hh_l0.mul_(0.9)
            graph.replay()
            torch.testing.assert_close((output, h_n), module(x))


def test_graph_of_a_training_step():
    module = model(num_layers=2)
    x = torch.randn(T, B, I, device="cuda")

    def step():
        module.zero_grad(set_to_none=False)
        module(x)[0].sin().sum().backward()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    x.normal_()
    graph.replay()
    got = module.weight_hh_l0.grad.clone()
    step()
    torch.testing.assert_close(got, module.weight_hh_l0.grad)


def test_no_synchronisation_in_a_call():
    module = model(num_layers=2)
    x = torch.randn(T, B, I, device="cuda")
    module(x)[0].sum().backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(x)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
