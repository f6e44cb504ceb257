#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's nn.GRU on one GPU: strict float32, TF32, float16 and bfloat16, eager and replayed from a CUDA graph.

    python bench/peers/torch_gpu.py --json peers_torch_gpu.json
    python bench/peers/torch_gpu.py --cases kb41 cell --samples 31
    python bench/peers/torch_gpu.py --training                       forward, backward and both, with peak memory

Every time is between two CUDA events on the stream that does the work, a median of 15 after warm-up, inputs and weights
on the device before. Eager times contain the host's launches whenever the GPU waits for them; the graph's do not. For the
cell of one step a single replay would mostly measure the events, so one sample is 1000 replays in one stream, each
starting when the one before has ended; handing the new state on is not charged. A graph that does nothing worth
mentioning is timed both ways beside it: the floor. Needs torch with CUDA.
"""

import argparse
import statistics
import sys

import cases

WARMUPS, CHAIN = 3, 1000


def import_torch():
    try:
        import torch
    except ImportError:
        sys.exit("torch is not installed: pip install torch")
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device: this script measures one GPU")
    return torch


torch = import_torch()


def timed(call, samples, repeats=1):
    """Milliseconds a call: the time of `repeats` calls between two events, divided by them."""
    for _ in range(WARMUPS):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(samples):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop) / repeats)
    return times


def capture(work):
    """(graph, result) of work(), which must touch static tensors only; warmed up on a side stream as capture wants it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph, result


def set_tf32(allowed):
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def models(case):
    """(math, model, x, h0) for each precision, all with the same weights and inputs."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(case.I, case.H, case.L, bidirectional=case.D == 2).cuda().eval()
    x = torch.randn(case.T, case.B, case.I, device="cuda")
    h0 = torch.randn(case.L * case.D, case.B, case.H, device="cuda")
    found = [("fp32", gru, x, h0), ("tf32", gru, x, h0)]
    for math, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        half = torch.nn.GRU(case.I, case.H, case.L, bidirectional=case.D == 2).cuda().to(dtype).eval()
        half.load_state_dict(gru.state_dict())
        half.flatten_parameters()
        found.append((math, half, x.to(dtype), h0.to(dtype)))
    return found


def relative_error(got, reference):
    return ((got.double() - reference).norm() / reference.norm()).item()


def measure(case, samples):
    """Yields a row for each precision and mode."""
    repeats = CHAIN if case.T == 1 else 1
    reference = None
    for math, gru, x, h0 in models(case):
        set_tf32(math == "tf32")

        def work():
            return gru(x, h0)[0]

        def row(mode, output, times):
            return cases.result(
                case, "torch", times, math=math, mode=mode, error_to_fp32=relative_error(output, reference)
            )

        output = work()
        reference = output.double() if reference is None else reference
        yield row("eager", output, timed(work, samples, repeats))
        graph, output = capture(work)
        times = timed(graph.replay, samples, repeats)
        yield row("graph", output, times)  # the graph's own output: it did compute
    set_tf32(False)


def measure_training(case, samples):
    """Yields a row for each precision and mode: forward, backward and both, gradients of x, h0 and all parameters; the memory
    is what PyTorch allocated at most in eager steps, tensors and parameters included."""
    for math, model, x, h0 in models(case):
        set_tf32(math == "tf32")
        torch.cuda.empty_cache()
        model.train()
        x, h0 = x.clone().requires_grad_(), h0.clone().requires_grad_()
        grad = torch.randn(case.T, case.B, case.D * case.H, device="cuda", dtype=x.dtype)
        wanted = [x, h0, *model.parameters()]

        def forward():
            return model(x, h0)[0]

        def both():
            return torch.autograd.grad(forward(), wanted, grad)

        both()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both()
        torch.cuda.synchronize()
        own = sum(t.numel() * t.element_size() for t in (*wanted, grad))
        memory = (torch.cuda.max_memory_allocated() - before + own) * 1e-6

        def row(mode, forward_times, both_times):
            entry = cases.result(case, "torch", both_times, math=math, mode=mode, memory_mb=memory)
            entry["forward_ms"] = statistics.median(forward_times)
            entry["backward_ms"] = entry["ms"] - entry["forward_ms"]
            return entry

        yield row("eager", timed(forward, samples), timed(both, samples))
        one, _ = capture(forward)
        forward_times = timed(one.replay, samples)
        del one
        graph, _ = capture(both)
        yield row("graph", forward_times, timed(graph.replay, samples))
        del graph
    set_tf32(False)


def empty_graph(samples):
    """What a graph of one tiny kernel takes alone and in a chain: the floor under every graph time."""
    word = torch.zeros(1, device="cuda")
    graph, _ = capture(lambda: word.add_(1))
    return [
        cases.result(EMPTY, "empty graph", timed(graph.replay, samples, repeats), mode=mode)
        for mode, repeats in (("alone", 1), ("chain", CHAIN))
    ]


EMPTY = cases.Case("empty", 1, 1, 0, 0, 0, 1)


def print_summary(results):
    """One line a case: eager and graph for each precision, milliseconds."""
    columns = [(math, mode) for math in ("fp32", "tf32", "fp16", "bf16") for mode in ("eager", "graph")]
    print("\n" + f"{'ms':14s}" + "".join(f"{math + ' ' + mode:>14s}" for math, mode in columns))
    for name in dict.fromkeys(entry["case"] for entry in results if "math" in entry):
        times = {(e.get("math"), e["mode"]): e["ms"] for e in results if e["case"] == name}
        print(f"{name:14s}" + "".join(f"{times[c]:14.4f}" for c in columns))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument(
        "--shapes", nargs="+", default=[], metavar="T,B,I,H,L,D", help="other shapes, named by their numbers"
    )
    parser.add_argument("--samples", type=int, default=15, help="timings a median is taken of (default 15)")
    parser.add_argument("--training", action="store_true", help="forward and backward")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    args = parser.parse_args()
    if args.samples < 1:
        parser.error("--samples must be at least 1")
    wanted = cases.choose(cases.GPU_CASES, args.cases) if args.cases or not args.shapes else []
    wanted += [cases.Case(text, *cases.parse_shape(text)) for text in args.shapes]
    cases.check_writable(args.json)

    machine = f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).multi_processor_count} SMs"
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    print(machine, versions, flush=True)
    results = []
    if args.training:
        for case in wanted:
            for entry in measure_training(case, args.samples):
                results.append(entry)
                print(cases.row(entry), f" forward {entry['forward_ms']:.4f}, {entry['memory_mb']:.0f} MB", flush=True)
        if args.json:
            cases.write_json(args.json, cases.context(machine, versions), results)
        return
    with torch.no_grad():
        for entry in empty_graph(args.samples):
            results.append(entry)
            print(cases.row(entry), flush=True)
        for case in wanted:
            for entry in measure(case, args.samples):
                results.append(entry)
                print(cases.row(entry), f" error {entry['error_to_fp32']:.1e}", flush=True)
    print_summary(results)
    if args.json:
        cases.write_json(args.json, cases.context(machine, versions), results)


if __name__ == "__main__":
    main()
