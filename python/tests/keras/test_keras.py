# SPDX-License-Identifier: Apache-2.0
"""Keras' own tests of its GRU layer (they lie in Keras' wheel) on the torch backend, with gru.torch in the place of the
backend's fused GRU. What torch.nn.GRU has not, the layer computes by its own loop: masks, reset_after=False, other
activations, recurrent dropout."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
keras = pytest.importorskip("keras", reason="Keras is not installed")
import gru.torch

backend = pytest.importorskip("keras.src.backend")
gru_test = pytest.importorskip("keras.src.layers.rnn.gru_test", reason="this Keras brings no tests")

calls = []


def from_keras(kernel, recurrent_kernel, bias):
    """Keras' arrays (gates z, r, h; kernels transposed; two rows of bias) in torch's order and names."""

    def turned(value):
        z, r, h = value.chunk(3, dim=-1)
        return torch.cat([r, z, h], dim=-1)

    weights = [turned(kernel).T, turned(recurrent_kernel).T]
    return weights if bias is None else [*weights, *turned(bias).unbind(0)]


def fused(
    inputs, initial_state, mask, kernel, recurrent_kernel, bias, activation, recurrent_activation, return_sequences=False,
    go_backwards=False, unroll=False, reset_after=True,
):  # fmt: skip
    """What Keras calls a backend's GRU: (B, T, I) and (B, H) to the last output, all outputs and [the state]."""
    activations = keras.activations.tanh, keras.activations.sigmoid
    if mask is not None or not reset_after or (activation, recurrent_activation) != activations:
        raise NotImplementedError  # the layer loops then
    value = lambda tensor: backend.convert_to_tensor(tensor)
    inputs = value(inputs)
    weights = from_keras(value(kernel), value(recurrent_kernel), None if bias is None else value(bias))
    output, state = gru.torch.functional.gru(
        inputs.flip(1) if go_backwards else inputs,
        value(initial_state).unsqueeze(0),
        weights,
        bias=bias is not None,
        batch_first=True,
    )
    calls.append(inputs.shape)
    return state[0], output if return_sequences else output[:, -1:], [state[0]]


def refused(*arguments, **more):
    raise NotImplementedError


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    monkeypatch.setattr(backend, "gru", fused)
    # On a GPU both directions are one cuDNN call, unless that says no.
    monkeypatch.setattr(backend, "bidirectional_gru", refused, raising=False)


class TestKeras(gru_test.GRUTest):
    """Every test of Keras' file but the one that asks whether cuDNN was called."""

    test_torch_cudnn_dispatch_fires = None


def test_the_same_weights_give_the_same_results(monkeypatch):
    """A layer's own loop against ours: both directions, gradients too."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 7, 4)).astype("float32")
    layer = keras.layers.Bidirectional(keras.layers.GRU(5, return_sequences=True))
    layer.build(x.shape)
    layer.set_weights([rng.standard_normal(value.shape).astype("float32") / 3 for value in layer.get_weights()])

    def results():
        layer.zero_grad()
        given = torch.from_numpy(x).requires_grad_()
        output = layer(given)
        output.sin().sum().backward()
        return [output.detach(), given.grad, *(value.value.grad.clone() for value in layer.trainable_weights)]

    before = len(calls)
    got = results()
    assert len(calls) == before + 2

    monkeypatch.setattr(backend, "gru", refused)
    wanted = results()
    assert len(calls) == before + 2
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
