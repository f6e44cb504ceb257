# SPDX-License-Identifier: Apache-2.0
"""Calls that nobody differentiates or traces go past the dispatcher: the same results, messages and parameters anew."""

import pytest
import torch
from torch import nn

import gru.torch
from gru.torch import _call, functional

T, B, I, H = 7, 4, 5, 6


def directly(module, x, hx=None):
    """What the way past the dispatcher gives, or None."""
    if isinstance(module, gru.torch.GRUCell):
        return _call.cell(module.bias, module.math).step(module, x, hx)
    model = _call.model(module.num_layers, module.bias, module.bidirectional, module.batch_first, module.math)
    return model.forward(module, x, hx)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"batch_first": True}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_as_by_the_operators(device, dtype, options):
    module = gru.torch.GRU(I, H, device=device, dtype=dtype, **options)
    x = torch.randn(B, T, I, device=device, dtype=dtype)
    x = x if module.batch_first else x.transpose(0, 1)  # strided
    hx = torch.randn(module.num_layers * (2 if module.bidirectional else 1), B, H, device=device, dtype=dtype)
    for state in (None, hx):
        assert directly(module, x, state) is not None
        wanted = functional.gru(x, state, module._weights(), **{"batch_first": module.batch_first, **options})
        for got, right in zip(module(x, state), wanted):
            assert torch.equal(got, right)


def test_a_step(device):
    theirs = nn.GRUCell(I, H, device=device, dtype=torch.float64)
    ours = gru.torch.from_torch(theirs)
    x, hx = torch.randn(B, I, device=device, dtype=torch.float64), torch.randn(B, H, device=device, dtype=torch.float64)
    assert directly(ours, x, hx) is not None
    for state in (None, hx):
        torch.testing.assert_close(ours(x, state), theirs(x, state))
    torch.testing.assert_close(ours(x[0], hx[0]), theirs(x[0], hx[0]))
    theirs.weight_hh.data.mul_(0.5)  # bumps no version counter
    torch.testing.assert_close(ours(x, hx), theirs(x, hx))


def test_gradients_and_other_dtypes_take_the_other_way():
    module = gru.torch.GRUCell(I, H)
    x = torch.randn(B, I)
    assert directly(module, x) is not None
    assert directly(module, x.bfloat16()) is None
    with torch.enable_grad():
        assert directly(module, x) is None
        assert module(x).requires_grad
        module.requires_grad_(False)
        assert directly(module, x) is not None
        assert directly(module, x.requires_grad_()) is None
        assert directly(module, x.detach(), torch.randn(B, H, requires_grad=True)) is None


def test_whoever_looks_on_sees_an_operator():
    module = gru.torch.GRUCell(I, H)
    x = torch.randn(B, I)
    wanted = module(x)
    seen = []

    class Functions(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    class Dispatched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    for mode in (Functions, Dispatched):
        seen.clear()
        with mode():
            assert directly(module, x) is None
            assert torch.equal(module(x), wanted)
        assert any("gru" in name for name in seen)
    with torch.autocast("cpu", torch.bfloat16):
        assert directly(module, x) is None
    assert directly(module, x) is not None

    with torch.autograd.forward_ad.dual_level():
        assert directly(module, x) is None
    assert "gru::forward" in str(torch.jit.trace(module, x).inlined_graph)
    assert directly(module.to("meta"), x.to("meta")) is None
    assert module(x.to("meta")).shape == (B, H)
    module.to_empty(device="cpu").reset_parameters()
    wanted = module(x)

    class Own(torch.Tensor):
        pass

    assert directly(module, x.as_subclass(Own)) is None
    assert torch.func.vmap(lambda row: torch.tensor(directly(module, row) is None))(x[None]).all()
    assert torch.equal(torch.compile(module, backend="eager", fullgraph=True)(x), wanted)


def test_results_are_torchs_own(device):
    """They are resized, go to other streams and carry gradients of what comes after, as whatever torch makes."""
    module = gru.torch.GRU(I, H, device=device)
    output, h_n = module(torch.randn(1, B, I, device=device))
    assert output.is_contiguous() and h_n.is_contiguous() and output.data_ptr() != h_n.data_ptr()
    for tensor in (output, h_n):
        assert tensor.device == torch.device(device) and tensor.dtype == torch.float32 and tensor.is_leaf
        tensor.untyped_storage().resize_(4 * tensor.numel() + 64)
        tensor.requires_grad_()
    with torch.inference_mode():
        assert module(torch.randn(1, B, I, device=device))[0].is_inference()


def test_parametrized_and_swapped_weights():
    module = gru.torch.GRUCell(I, H, dtype=torch.float64)
    x = torch.randn(B, I, dtype=torch.float64)
    halved = {name: parameter / 2 for name, parameter in module.named_parameters()}
    twin = gru.torch.GRUCell(I, H, dtype=torch.float64)
    twin.load_state_dict(halved)
    torch.testing.assert_close(torch.func.functional_call(module, halved, (x,)), twin(x))

    class Half(nn.Module):
        def forward(self, weight):
            return weight / 2

    for name in halved:
        nn.utils.parametrize.register_parametrization(module, name, Half())
    assert directly(module, x) is not None
    torch.testing.assert_close(module(x), twin(x))


@pytest.mark.parametrize(
    "x, hx", [((T, B, I + 1), None), ((T, B, I), (1, B, H + 1)), ((T, B, I), (1, B + 1, H)), ((0, B, I), None)]
)
def test_messages_stay_torchs(x, hx):
    theirs = nn.GRU(I, H)
    given = torch.zeros(x), None if hx is None else torch.zeros(hx)
    with pytest.raises((RuntimeError, ValueError)) as wanted:
        theirs(*given)
    with pytest.raises(wanted.type) as got:
        gru.torch.from_torch(theirs)(*given)
    assert str(got.value) == str(wanted.value)


def test_mode_bf16_reads_weights_anew_too():
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
