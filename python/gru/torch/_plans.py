# SPDX-License-Identifier: Apache-2.0
"""Plans by shape: made when they are first needed, kept with a bound, never used by two calls at once."""

import collections
import contextlib
import threading
from typing import Any, NamedTuple

import torch

from gru import _core


class Spec(NamedTuple):
    """All that fixes a plan. Equal specs make equal plans, and one may read what another kept for a backward."""

    device: str
    dtype: str
    math: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    seq_len: int
    batch_size: int
    batch_first: bool
    training: str
    dropout: float


class _Entry:
    """A plan and the stream that it worked on last (0: the default stream, or a host)."""

    __slots__ = ("plan", "spec", "stream")

    def __init__(self, plan: Any, spec: Spec, stream: int):
        self.plan = plan
        self.spec = spec
        self.stream = stream


class _Cache:
    def __init__(self, bound: int):
        self.bound = bound
        self.lock = threading.Lock()
        self.free: collections.OrderedDict[Spec, list[_Entry]] = collections.OrderedDict()  # least lately used first
        self.kept = 0
        self.captured: dict[tuple[int, Spec], _Entry] = {}  # plans that a CUDA graph holds
        self.made = 0

    def take(self, spec: Spec, stream: int) -> _Entry:
        with self.lock:
            entries = self.free.get(spec)
            if entries:
                # One that worked on this stream last needs no waiting.
                index = next((i for i, entry in enumerate(entries) if entry.stream == stream), len(entries) - 1)
                entry = entries.pop(index)
                self.kept -= 1
                if not entries:
                    del self.free[spec]
                return entry
            self.made += 1
        return _Entry(_core.Plan.make_for(*spec), spec, stream)

    def give(self, entry: _Entry) -> None:
        dropped = []
        with self.lock:
            self.free.setdefault(entry.spec, []).append(entry)
            self.free.move_to_end(entry.spec)
            self.kept += 1
            while self.kept > self.bound:
                oldest = next(iter(self.free))
                dropped.append(self.free[oldest].pop(0))
                self.kept -= 1
                if not self.free[oldest]:
                    del self.free[oldest]
        for entry in dropped:
            entry.plan.wait()  # its memory may still be in use on the device

    def for_capture(self, capture: int, spec: Spec) -> _Entry:
        with self.lock:
            entry = self.captured.get((capture, spec))
        if entry is None:
            entry = self.take(spec, -1)
            with self.lock:
                self.captured[capture, spec] = entry
        return entry


_cache = _Cache(64)


@contextlib.contextmanager
def _nothing():
    yield


def run(spec: Spec, like: torch.Tensor, call: str, *arguments: Any) -> None:
    """plan.<call>(*arguments) on a plan of this spec, on like's device and its current stream."""
    if like.is_cuda:
        _run_cuda(spec, like, call, arguments)
        return
    entry = _cache.take(spec, 0)
    try:
        getattr(entry.plan, call)(*arguments)
    finally:
        _cache.give(entry)


def _run_cuda(spec: Spec, like: torch.Tensor, call: str, arguments: tuple[Any, ...]) -> None:
    stream = torch.cuda.current_stream(like.device)
    number = stream.cuda_stream
    if torch.cuda.is_current_stream_capturing():
        # A graph replays into the plan's memory whenever it likes: the plan is the graph's from here on.
        entry = _cache.for_capture(_core.capture_id(number), spec)
        getattr(entry.plan, call)(*arguments, number)
        return
    entry = _cache.take(spec, number)
    try:
        if entry.stream != number:
            stream.wait_stream(torch.cuda.ExternalStream(entry.stream, like.device))
            entry.stream = number
        getattr(entry.plan, call)(*arguments, number)
    finally:
        _cache.give(entry)


def reserve_bytes(spec: Spec) -> int:
    """What a forward of this spec keeps for its backward."""
    entry = _cache.take(spec, 0)
    try:
        return entry.plan.reserve_bytes
    finally:
        _cache.give(entry)


def set_plan_cache_size(plans: int) -> None:
    """How many plans are kept when nobody uses them (64 at first)."""
    if plans < 0:
        raise ValueError(f"gru.torch.set_plan_cache_size: expected a number >= 0, got {plans}")
    with _cache.lock:
        _cache.bound = plans
    clear_plans() if plans == 0 else None


def plan_cache_info() -> dict[str, int]:
    """plans kept now, the bound, how many were made so far, and how many belong to CUDA graphs."""
    with _cache.lock:
        return {"plans": _cache.kept, "bound": _cache.bound, "made": _cache.made, "captured": len(_cache.captured)}


def clear_plans(*, captured: bool = False) -> None:
    """Drops the plans that nobody uses; with captured=True also those of CUDA graphs, which must not be replayed
    then."""
    with _cache.lock:
        entries = [entry for entries in _cache.free.values() for entry in entries]
        _cache.free.clear()
        _cache.kept = 0
        if captured:
            entries += _cache.captured.values()
            _cache.captured.clear()
    for entry in entries:
        entry.plan.wait()
