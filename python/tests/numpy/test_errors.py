# SPDX-License-Identifier: Apache-2.0
"""Every mistake is a gru.Error that names the argument, what was expected and what came."""

import re
import struct
import sys

import numpy as np
import pytest
from reference import random_arrays

import gru

T, B, I, H = 4, 2, 3, 5
LITTLE = sys.byteorder == "little"


@pytest.fixture(scope="module")
def weights():
    return gru.weights(random_arrays(np.random.default_rng(0), I, H))


@pytest.fixture
def plan(weights):
    return gru.Plan(weights, batch_size=B, seq_len=T)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda plan: plan(zeros(T, B, I + 1)), ["x", "3 features"]),
        (lambda plan: plan(zeros(T, B, I, dtype=np.float64)), ["x", "float32", "float64"]),
        (lambda plan: plan(zeros(T, B, I).astype(np.complex64)), ["x", "float32"]),
        (lambda plan: plan(zeros(T + 1, B, I)), ["x", "seq_len"]),
        (lambda plan: plan(zeros(T, B + 1, I)), ["x", "batch_size"]),
        (lambda plan: plan(zeros(T)), ["x", "(T, B, I)"]),
        (lambda plan: plan(zeros(T, B, I), zeros(1, B, H + 1)), ["h0"]),
        (lambda plan: plan(zeros(T, B, I), lengths=np.array([5, 1])), ["lengths"]),
        (lambda plan: plan(zeros(T, B, I), lengths=np.array([1.0, 2.0])), ["lengths"]),
        (lambda plan: plan(zeros(T, B, I), lengths=np.array([True, False])), ["lengths", "int32"]),
        (lambda plan: plan(zeros(T, B, I, dtype=">f4" if LITTLE else "<f4")), ["x", "f4", "byte order"]),
        (lambda plan: plan(zeros(T, B, I), zeros(1, B, H, dtype=">f4" if LITTLE else "<f4")), ["h0", "byte order"]),
        (
            lambda plan: plan(zeros(T, B, I), lengths=zeros(B, dtype=">i4" if LITTLE else "<i4")),
            ["lengths", "byte order"],
        ),
        (lambda plan: plan(zeros(T, B, I).astype(object)), ["x", "type object"]),
        (lambda plan: plan(zeros(T, B, I), h0="state"), ["h0", "an array", "str"]),
        (lambda plan: plan("sound"), ["array", "str"]),
        (lambda plan: plan.step(zeros(B, I), zeros(2, B, H)), ["h_in"]),
        (lambda plan: plan(zeros(T, B, I), stream="first"), ["stream"]),
    ],
)
def test_calls(plan, call, words):
    with pytest.raises(gru.Error) as error:
        call(plan)
    for word in words:
        assert word in str(error.value)


def test_a_read_only_output_is_refused_and_not_written(plan):
    output = zeros(T, B, H)
    output.flags.writeable = False
    with pytest.raises(gru.Error, match="output.*writable"):
        plan(zeros(T, B, I), output=output)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": -1}, ["batch_size"]),
        ({"dtype": "int32"}, ["int32", "float16"]),
        ({"math": "exact"}, ["exact", "strict"]),
        ({"backend": "abacus"}, ["abacus", "kokkos"]),
        ({"tuning": "always"}, ["always", "never"]),
        ({"device": "tpu"}, ["tpu", "cpu"]),
        ({"device": "cuda:x"}, ["cuda:x"]),
    ],
)
def test_plans(weights, options, words):
    with pytest.raises(gru.Error) as error:
        gru.Plan(weights, **options)
    for word in words:
        assert word in str(error.value)


def test_weights_that_are_none(tmp_path):
    with pytest.raises(gru.Error, match="nothing.safetensors"):
        gru.load_weights(tmp_path / "nothing.safetensors")
    with pytest.raises(gru.Error):
        gru.weights({})
    with pytest.raises(gru.Error, match="the key 3"):
        gru.weights({3: np.zeros(3, np.float32)})
    arrays = random_arrays(np.random.default_rng(0), I, H)
    arrays["weight_hh_l0"] = arrays["weight_hh_l0"][:, 1:]
    with pytest.raises(gru.Error, match="weight_hh_l0"):
        gru.weights(arrays)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_float64_weights_that_float32_does_not_hold(name):
    arrays = random_arrays(np.random.default_rng(0), I, H)
    arrays[name] = arrays[name].astype(np.float64)
    for value in (1e39, -1e300):
        arrays[name].flat[-1] = value
        with pytest.raises(
            gru.Error, match=f"{name}: expected numbers that float32 holds.*{re.escape(format(value, 'g'))}.*float64"
        ):
            gru.Plan(gru.weights(arrays))
        gru.Plan(gru.weights(arrays), dtype="float64")
    for value in (3.4028234e38, np.inf, np.nan):  # the largest of float32, and what it holds too
        arrays[name].flat[-1] = value
        gru.Plan(gru.weights(arrays))


@pytest.mark.parametrize("opening", [b'{"a":', b'{"__metadata__":{"a":[', b"["])
def test_files_that_open_brackets_without_an_end(tmp_path, opening):
    text = opening + opening[-1:] * 2_000_000 if opening[-1:] == b"[" else opening * 500_000
    file, index = tmp_path / "model.safetensors", tmp_path / "model.safetensors.index.json"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    index.write_bytes(b'{"weight_map":' + text)
    for path in (file, index):
        with pytest.raises(gru.Error, match="not a (readable|safetensors)"):
            gru.load_weights(path)


def test_an_error_is_a_value_error():
    assert issubclass(gru.Error, ValueError)
