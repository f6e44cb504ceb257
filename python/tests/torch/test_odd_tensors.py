# SPDX-License-Identifier: Apache-2.0
"""Tensors whose memory does not say what they hold, or whose dtypes differ: read right or refused, never misread."""

import pytest
import torch
from torch import nn

import gru
import gru.torch

T, B, I, H = 5, 3, 4, 6


def negated(tensor):
    """The same numbers, with torch's negative bit: the memory holds the others."""
    return torch._neg_view(-tensor)


@pytest.fixture
def pair():
    theirs = nn.GRU(I, H).requires_grad_(False)
    return theirs, gru.torch.from_torch(theirs)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
@pytest.mark.parametrize("gradients", [False, True])
def test_a_parameter_with_the_negative_bit(pair, name, gradients):
    theirs, ours = pair
    x = torch.randn(T, B, I)
    wanted, _ = theirs(x)
    setattr(ours, name, nn.Parameter(negated(getattr(theirs, name).detach()), requires_grad=gradients))
    assert getattr(ours, name).is_neg()
    torch.testing.assert_close(ours(x)[0].detach(), wanted)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[0], wanted)


def test_a_cells_parameter_with_the_negative_bit():
    theirs = nn.GRUCell(I, H).requires_grad_(False)
    ours = gru.torch.from_torch(theirs)
    x = torch.randn(B, I)
    wanted = theirs(x)
    ours.weight_hh = nn.Parameter(negated(theirs.weight_hh.detach()), requires_grad=False)
    torch.testing.assert_close(ours(x, torch.zeros(B, H)), wanted)
    ours.bias_ih.data = negated(ours.bias_ih.data)
    torch.testing.assert_close(ours(x), wanted)


def test_a_plan_reads_the_negative_bit_and_writes_none(pair):
    theirs, _ = pair
    plan = gru.Plan(gru.weights(theirs.state_dict()), batch_size=B, seq_len=T)
    x, h = torch.randn(T, B, I), torch.randn(1, B, H)
    for got, wanted in zip(plan(negated(x), negated(h)), plan(x, h)):
        assert torch.equal(got, wanted)
    assert torch.equal(plan.step(negated(x[0]), negated(h)), plan.step(x[0], h))
    assert torch.equal(gru.forward(gru.weights(theirs.state_dict()), negated(x))[0], plan(x)[0])
    output, h_n = negated(torch.zeros(T, B, H)), negated(torch.zeros(1, B, H))
    for call in (
        lambda: plan(x, output=output),
        lambda: plan(x, h_n=h_n),
        lambda: plan.step(x[0], h, out=h_n),
    ):
        with pytest.raises(gru.Error, match="negative bit"):
            call()
    assert not output.any() and not h_n.any()


_FLOATS = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("state", [None, *_FLOATS])
@pytest.mark.parametrize("dtype", _FLOATS)
@pytest.mark.parametrize("gradients", [False, True])
def test_autocast_takes_a_state_of_another_dtype(pair, dtype, state, gradients):
    theirs, ours = pair
    ours.requires_grad_(gradients)  # shared
    x = torch.randn(T, B, I).to(dtype)
    hx = None if state is None else torch.randn(1, B, H).to(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, got = theirs(x, hx), ours(x, hx)
        for one, other in zip(got, wanted):
            assert one.dtype == other.dtype
            assert (one.float() - other.float()).abs().max() < 3e-2  # theirs is rounded to bfloat16 in each step
    if gradients:
        got[0].float().sum().backward()
        assert ours.weight_hh_l0.grad.isfinite().all() and ours.weight_hh_l0.grad.any()


@pytest.mark.parametrize("lengths", [[True, False, True], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize("gradients", [False, True])
def test_lengths_are_integers(pair, lengths, gradients):
    _, ours = pair
    ours.requires_grad_(gradients)
    with pytest.raises(gru.Error, match="lengths: expected .*int32"):
        gru.torch.functional.gru(torch.randn(T, B, I), None, ours._weights(), lengths=torch.tensor(lengths))


def test_what_is_no_tensor_is_refused_as_by_torch(pair):
    theirs, ours = pair
    for argument in (None, [1.0]):
        with pytest.raises((AttributeError, TypeError)) as wanted:
            theirs(argument)
        with pytest.raises(wanted.type) as got:
            ours(argument)
        assert str(got.value) == str(wanted.value)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_tangent_is_refused_and_not_lost(pair, gradients):
    _, ours = pair
    forward_ad = torch.autograd.forward_ad
    x = torch.randn(T, B, I)
    with torch.set_grad_enabled(gradients), forward_ad.dual_level():
        assert ours(x)[0].shape == (T, B, H)
        with pytest.raises(RuntimeError, match="forward-mode derivatives are not there"):
            ours(forward_ad.make_dual(x, x))
        with pytest.raises(RuntimeError, match="forward-mode derivatives are not there"):
            ours(x, forward_ad.make_dual(torch.zeros(1, B, H), torch.ones(1, B, H)))
