# SPDX-License-Identifier: Apache-2.0
"""A GRU made ready to run, for every kind of array."""

import os
from typing import Any

from gru import _arrays, _core


class Plan:
    """A GRU made ready to run: a backend was chosen, the weights are packed, all memory is there.

    batch_size (B) and seq_len (T) are the largest that a call may bring. Arrays of a call lie on the plan's device and
    have
    its dtype; nothing is copied. Calls release the GIL; one plan serves one call at a time, others wait.

        plan = gru.Plan(weights, batch_size=10, seq_len=512)
        output, h_n = plan(x)                      # x (T, B, I), or (T, I)
        h = plan.step(x_t, h)                      # one step of a stream: x_t (B, I), h (L, B, H)

    weights: what gru.load_weights or gru.weights gave; copied. device: "cpu", "cuda", "cuda:1", or "auto". dtype:
    "float32"
    or "float64". math: "strict", or a faster one that the device has ("tf32", ...). backend: a name from gru.devices(),
    or "auto": the first that can; `why` tells. tuning: how "auto" chooses, "never" (by estimates), "cache" (as gru.tune
    measured before) or "now" (measured here if it was not); tuning_cache: the file for that, see gru.tune.
    """

    def __init__(
        self,
        weights: _core.Weights,
        *,
        batch_size: int = 1,
        seq_len: int = 1,
        batch_first: bool = False,
        device: str = "cpu",
        dtype: str = "float32",
        math: str = "strict",
        backend: str = "auto",
        tuning: str = "never",
        tuning_cache: str | os.PathLike[str] = "",
    ):
        self._plan = _core.Plan.make(
            weights,
            str(device),
            batch_size,
            seq_len,
            batch_first,
            dtype,
            math,
            backend,
            tuning,
            os.fspath(tuning_cache),
        )

    def __call__(
        self,
        x: Any,
        h0: Any = None,
        lengths: Any = None,
        *,
        output: Any = None,
        h_n: Any = None,
        stream: Any = None,
    ) -> tuple[Any, Any]:
        """output, h_n = GRU(x, h0, lengths), as torch.nn.GRU gives them for the same layout.

        x (T, B, I), (B, T, I) with batch_first, or (T, I); h0 and h_n (L*D, B, H); lengths (B) of int32 or int64.
        output and h_n are the caller's arrays, or new ones of x's kind. On a GPU the call only launches, on `stream`,
        or on the one that x's framework works on.
        """
        x, h0 = _arrays.resolved(_arrays.as_input(x)), _arrays.resolved(h0)
        config = self._plan.config
        features = config.num_directions * config.hidden_size
        rows = config.num_layers * config.num_directions
        if len(x.shape) not in (2, 3):
            raise _core.Error(f"gru.Plan: x: expected (T, B, I) or (T, I), got an array of shape {tuple(x.shape)}")
        if output is None:
            output = _arrays.empty(x, (*x.shape[:-1], features))
        else:
            _arrays.require_resolved(output, "gru.Plan: output")
        if h_n is None:
            batch = () if len(x.shape) == 2 else (x.shape[0 if self._plan.batch_first else 1],)
            h_n = _arrays.empty(x, (rows, *batch, config.hidden_size))
        else:
            _arrays.require_resolved(h_n, "gru.Plan: h_n")
        self._plan.execute(x, output, h_n, h0, lengths, _arrays.stream_pointer(stream, x))
        return output, h_n

    def step(self, x: Any, h: Any, *, out: Any = None, stream: Any = None) -> Any:
        """One step of a stream: the states after it, (L, B, H); the last layer's are the step's output.

        x (B, I) or (I); h (L, B, H) or (L, H), the states before. out must not overlap h: keep two and swap them.
        """
        x, h = _arrays.resolved(_arrays.as_input(x)), _arrays.resolved(h)
        if out is None:
            config = self._plan.config
            out = _arrays.empty(x, (config.num_layers, *x.shape[:-1], config.hidden_size))
        else:
            _arrays.require_resolved(out, "gru.Plan.step: out")
        self._plan.step(x, h, out, _arrays.stream_pointer(stream, x))
        return out

    def wait(self) -> None:
        """Waits for what was launched; raises gru.Error if the device reports one."""
        self._plan.wait()

    @property
    def config(self) -> _core.Config:
        """What the weights fix."""
        return self._plan.config

    @property
    def device(self) -> str:
        """ "cpu" or "cuda:<n>"."""
        return self._plan.device

    @property
    def backend(self) -> str:
        """The chosen backend's name."""
        return self._plan.backend

    @property
    def why(self) -> str:
        """Why this backend, and why not each of the others."""
        return self._plan.why

    @property
    def workspace_bytes(self) -> int:
        """Memory that this plan holds beside the packed weights."""
        return self._plan.workspace_bytes

    def __repr__(self) -> str:
        plan = self._plan
        return (
            f"gru.Plan({plan.config!r}, batch_size={plan.batch_size}, seq_len={plan.seq_len}, batch_first={plan.batch_first}, "
            f"device={plan.device!r}, dtype={plan.dtype!r}, math={plan.math!r}, backend={plan.backend!r})"
        )


def forward(
    weights: _core.Weights,
    x: Any,
    h0: Any = None,
    lengths: Any = None,
    *,
    batch_first: bool = False,
    math: str = "strict",
    backend: str = "auto",
    stream: Any = None,
) -> tuple[Any, Any]:
    """One-shot: plan where x lies, run, wait. Returns output and h_n, of x's kind. Keep a Plan to run more than
    once."""
    x = _arrays.as_input(x)
    if len(x.shape) not in (2, 3):
        raise _core.Error(f"gru.forward: x: expected (T, B, I) or (T, I), got an array of shape {tuple(x.shape)}")
    steps, batch = (x.shape[0], 1) if len(x.shape) == 2 else (x.shape[:2] if not batch_first else x.shape[1::-1])
    plan = Plan(
        weights,
        batch_size=max(int(batch), 1),
        seq_len=max(int(steps), 1),
        batch_first=batch_first,
        device=_arrays.device_name(x),
        dtype=_arrays.dtype_name(x),
        math=math,
        backend=backend,
    )
    results = plan(x, h0, lengths, stream=stream)
    plan.wait()
    return results


def tune(
    weights: _core.Weights,
    *,
    batch_size: int = 1,
    seq_len: int = 1,
    batch_first: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
    math: str = "strict",
    tuning_cache: str | os.PathLike[str] = "",
) -> dict[str, Any]:
    """Measures a few arrangements for this shape and keeps the fastest in a file, for gru.Plan(..., tuning="cache").

    Returns what was found: backend, arrangement, seconds, what the estimates alone choose ("estimated"), the file, and
    all tries. tuning_cache: the file; else $GRU_TUNE_CACHE, else gru/tune.json in $XDG_CACHE_HOME or ~/.cache.
    """
    return _core.tune(weights, str(device), batch_size, seq_len, batch_first, dtype, math, os.fspath(tuning_cache))
