# SPDX-License-Identifier: Apache-2.0
"""Calls that nobody differentiates or traces go past the dispatcher: the same results, messages and parameters anew."""

import pytest
import torch
from torch import nn

import gru.torch
from gru.torch import _call, functional

T, B, I, H = 7, 4, 5, 6


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"batch_first": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_by_the_operators(device, dtype, options):
    module = gru.torch.GRU(I, H, device=device, dtype=dtype, **options)
    x = torch.randn(B, T, I, device=device, dtype=dtype)
    x = x if module.batch_first else x.transpose(0, 1)  # strided
    hx = torch.randn(module.num_layers * (2 if module.bidirectional else 1), B, H, device=device, dtype=dtype)
    for state in (None, hx):
        assert _call.infer(
            x, state, module._weights(), module.num_layers, module.bias, module.bidirectional, module.batch_first, "strict"
        )
        wanted = functional.gru(x, state, module._weights(), **{"batch_first": module.batch_first, **options})
        for got, right in zip(module(x, state), wanted):
            assert torch.equal(got, right)


def test_a_step(device):
    theirs = nn.GRUCell(I, H, device=device, dtype=torch.float64)
    ours = gru.torch.from_torch(theirs)
    x, hx = torch.randn(B, I, device=device, dtype=torch.float64), torch.randn(B, H, device=device, dtype=torch.float64)
    assert _call.infer_step(x, hx, ours._weights(), True, "strict") is not None
    for state in (None, hx):
        torch.testing.assert_close(ours(x, state), theirs(x, state))
    torch.testing.assert_close(ours(x[0], hx[0]), theirs(x[0], hx[0]))
    theirs.weight_hh.data.mul_(0.5)  # bumps no version counter
    torch.testing.assert_close(ours(x, hx), theirs(x, hx))


def test_gradients_and_other_dtypes_take_the_other_way():
    module = gru.torch.GRUCell(I, H)
    x = torch.randn(B, I)
    assert _call.infer_step(x, None, module._weights(), True, "strict") is not None
    assert _call.infer_step(x.bfloat16(), None, module._weights(), True, "strict") is None
    with torch.enable_grad():
        assert _call.infer_step(x, None, module._weights(), True, "strict") is None
        assert module(x).requires_grad


@pytest.mark.parametrize("x, hx", [((T, B, I + 1), None), ((T, B, I), (1, B, H + 1)), ((T, B, I), (1, B + 1, H)), ((0, B, I), None)])
def test_messages_stay_torchs(x, hx):
    theirs = nn.GRU(I, H)
    given = torch.zeros(x), None if hx is None else torch.zeros(hx)
    with pytest.raises((RuntimeError, ValueError)) as wanted:
        theirs(*given)
    with pytest.raises(wanted.type) as got:
        gru.torch.from_torch(theirs)(*given)
    assert str(got.value) == str(wanted.value)


def test_a_mode_that_takes_no_new_weights_is_planned_anew():
    module = gru.torch.GRU(I, H, math="bf16")  # on a processor
    exact = gru.torch.GRU(I, H)
    exact.load_state_dict(module.state_dict())
    x = torch.randn(T, B, I)
    before = module(x)[0]
    torch.testing.assert_close(before, exact(x)[0], atol=2e-2, rtol=0)
    for model in (module, exact):
        model.weight_ih_l0.mul_(0.5)
    torch.testing.assert_close(module(x)[0], exact(x)[0], atol=2e-2, rtol=0)
    assert not torch.equal(module(x)[0], before)
