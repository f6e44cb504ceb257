# SPDX-License-Identifier: Apache-2.0
"""Arrays of any kind and layout: what is read, what is written, what comes back."""

import array

import numpy as np
import pytest
from reference import close, random_arrays
from reference import gru as reference

import gru

T, B, I, H = 5, 3, 4, 6


@pytest.fixture
def model():
    return random_arrays(np.random.default_rng(1), I, H, layers=2, directions=2)


@pytest.fixture
def x():
    return np.random.default_rng(2).standard_normal((T, B, I))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_results_are_new_arrays_of_the_callers_kind(model, x, dtype):
    output, h_n = gru.forward(gru.weights(model), x.astype(dtype))
    assert type(output) is np.ndarray and output.dtype == dtype and output.shape == (T, B, 2 * H)
    assert type(h_n) is np.ndarray and h_n.dtype == dtype and h_n.shape == (4, B, H)
    wanted = reference(model, x.astype(dtype))
    close(output, wanted[0], dtype)
    close(h_n, wanted[1], dtype)


def test_any_strides_without_a_copy(model, x):
    wide = np.full((2 * T, B, I + 3), np.nan)
    wide[::2, :, :I] = x
    given = wide[::2, :, :I]
    room = np.full((B, 2 * H, T), np.nan).transpose(2, 0, 1)
    plan = gru.Plan(gru.weights(model), batch_size=B, seq_len=T, dtype="float64")
    output, h_n = plan(given, output=room)
    assert output is room
    wanted = reference(model, x)
    close(output, wanted[0], np.float64)
    close(h_n, wanted[1], np.float64)


def test_reversed_time_is_a_view(model, x):
    output, _ = gru.forward(gru.weights(model), x[::-1])
    close(output, reference(model, x[::-1])[0], np.float64)


def test_initial_state_lengths_and_smaller_calls(model, x):
    plan = gru.Plan(gru.weights(model), batch_size=B + 4, seq_len=T + 9, dtype="float64")
    h0 = np.random.default_rng(3).standard_normal((4, B, H))
    for lengths in (np.array([5, 1, 3]), np.array([5, 1, 3], np.int32)):
        output, h_n = plan(x, h0, lengths)
        wanted = reference(model, x, h0, lengths)
        close(output, wanted[0], np.float64)
        close(h_n, wanted[1], np.float64)
        assert not output[1:, 1].any()


def test_unbatched_and_batch_first(model, x):
    weights = gru.weights(model)
    wanted = reference(model, x)
    output, h_n = gru.forward(weights, x[:, 0])
    assert output.shape == (T, 2 * H) and h_n.shape == (4, H)
    close(output, wanted[0][:, 0], np.float64)
    output, h_n = gru.forward(weights, np.ascontiguousarray(x.swapaxes(0, 1)), batch_first=True)
    close(output, wanted[0].swapaxes(0, 1), np.float64)
    close(h_n, wanted[1], np.float64)


def test_steps_give_what_the_sequence_gives(x):
    model = random_arrays(np.random.default_rng(4), I, H, layers=2)
    weights = gru.weights(model)
    plan = gru.Plan(weights, batch_size=B, dtype="float64")
    h = np.zeros((2, B, H))
    for t in range(T):
        h = plan.step(x[t], h)
        close(h[-1], reference(model, x[: t + 1])[0][-1], np.float64)
    single = plan.step(x[0, 0], np.zeros((2, H)))
    close(single, reference(model, x[:1, :1])[1][:, 0], np.float64)


def test_an_empty_batch_gives_empty_results(model):
    output, h_n = gru.forward(gru.weights(model), np.zeros((T, 0, I), np.float32))
    assert output.shape == (T, 0, 2 * H) and h_n.shape == (4, 0, H)


def test_what_only_has_the_buffer_protocol(model):
    class Samples:  # DLPack and nothing else
        def __init__(self, values):
            self.values = values

        def __dlpack__(self, **how):
            return self.values.__dlpack__(**how)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    x = np.random.default_rng(5).standard_normal((T, I))
    wanted = reference(model, x[:, None])[0][:, 0]
    flat = array.array("d", x.ravel())
    output, _ = gru.forward(gru.weights(model), memoryview(flat).cast("B").cast("d", (T, I)))
    close(output, wanted, np.float64)
    output, _ = gru.forward(gru.weights(model), Samples(x))
    close(output, wanted, np.float64)


def test_weights_are_kept_and_not_copied(model):
    weights = gru.weights(model)
    state = weights.state_dict()
    assert sorted(state) == sorted(model)
    for name, values in model.items():
        assert np.shares_memory(state[name], values)
        assert not state[name].flags.writeable
    del model, weights
    assert all(np.isfinite(values).all() for values in state.values())


def test_weights_with_a_prefix_and_a_cells_names():
    model = random_arrays(np.random.default_rng(6), I, H)
    x = np.random.default_rng(7).standard_normal((1, B, I))
    wanted = reference(model, x)[0]
    within = {f"encoder.gru.{name}": values for name, values in model.items()} | {"head.weight": np.zeros((2, 2))}
    close(gru.forward(gru.weights(within), x)[0], wanted, np.float64)
    close(gru.forward(gru.weights(within, prefix="encoder.gru"), x)[0], wanted, np.float64)
    cell = {name.removesuffix("_l0"): values for name, values in model.items()}
    close(gru.forward(gru.weights(cell), x)[0], wanted, np.float64)


def test_float16_weights_are_read_as_they_are():
    model = {name: values.astype(np.float16) for name, values in random_arrays(np.random.default_rng(8), I, H).items()}
    x = np.random.default_rng(9).standard_normal((T, B, I))
    close(gru.forward(gru.weights(model), x)[0], reference(model, x)[0], np.float64)
