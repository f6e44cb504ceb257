# SPDX-License-Identifier: Apache-2.0
"""What the real torch.nn.GRU computed (tests/golden), through Python."""

import json

import numpy as np
import pytest
from reference import close

import gru

SATURATED = {"saturated", "non_finite"}  # not at the scale that the bound is made for; the C++ tests have theirs


def cases(golden):
    return [case for case in json.loads((golden / "golden.json").read_text())["cases"] if case["name"] not in SATURATED]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_golden_case(golden, dtype):
    tried = 0
    for case in cases(golden):
        folder = golden / case["name"]
        weights = gru.load_weights(folder / "weights.safetensors", reset_after=not case["reset_before"])
        load = lambda name: np.load(folder / f"{name}.npy")
        x = load("x").astype(dtype)
        h0 = load("h0").astype(dtype) if case["h0"] else None
        lengths = load("lengths") if case["lengths"] is not None else None
        output, h_n = gru.forward(weights, x, h0, lengths, batch_first=case["batch_first"])
        assert output.dtype == h_n.dtype == np.dtype(dtype)
        if case["max_abs_x"] < 10:
            close(output, load("output"), dtype)
            close(h_n, load("h_n"), dtype)
            tried += 1
    assert tried > 15


def test_digits(examples):
    """The demo's model: a batch_first bidirectional GRU of two layers, and a head in NumPy."""
    weights = gru.load_weights(examples / "digits" / "weights.safetensors")
    x, labels = (np.load(examples / "digits" / f"{name}.npy") for name in ("x", "labels"))
    plan = gru.Plan(weights, batch_size=len(x), seq_len=8, batch_first=True)
    _, h_n = plan(x)
    assert h_n.shape == (4, len(x), 32)
    assert len(labels) == len(x)
