# SPDX-License-Identifier: Apache-2.0
"""opcheck, torch.compile, export, vmap, torch.func: the operators as torch's compilers and transforms see them."""

import pytest
import torch
import torch._dynamo
from torch.library import opcheck

import gru.torch

T, B, I, H = 5, 3, 4, 6


def model(device="cpu", **options):
    return gru.torch.GRU(I, H, device=device, dtype=torch.float64, **options)


def inputs(device="cpu", grad=False):
    return torch.randn(T, B, I, device=device, dtype=torch.float64, requires_grad=grad)


@pytest.fixture(autouse=True)
def filled():
    """What a reserve holds in the room that nobody wrote is compared too: let it be the same each time."""
    torch._dynamo.reset()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


SETTINGS = [
    (1, True, False, False, 0.0, "strict"),
    (2, False, True, True, 0.5, "strict"),
]


@pytest.mark.parametrize("training", ["none", "keep", "remake"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_opcheck_of_forward(device, settings, training):
    layers, bias, bidirectional, batch_first, dropout, math = settings
    if training == "none":
        dropout = 0.0
    module = model(device, num_layers=layers, bias=bias, bidirectional=bidirectional)
    weights = [weight.detach().requires_grad_(training != "none") for weight in module._weights()]
    h0 = torch.randn(
        layers * (2 if bidirectional else 1), T if batch_first else B, H, device=device, dtype=torch.float64
    )
    seed = torch.tensor([3, 4]) if dropout else None
    arguments = (
        inputs(device),
        h0,
        None,
        weights,
        seed,
        layers,
        bias,
        bidirectional,
        batch_first,
        dropout,
        math,
        training,
    )
    tests = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if training != "none":
        tests.append("test_aot_dispatch_dynamic")
    opcheck(torch.ops.gru.forward.default, arguments, test_utils=tests)


@pytest.mark.parametrize("settings", SETTINGS)
def test_opcheck_of_backward(device, settings):
    layers, bias, bidirectional, batch_first, dropout, math = settings
    module = model(device, num_layers=layers, bias=bias, bidirectional=bidirectional)
    weights = [weight.detach() for weight in module._weights()]
    x, seed = inputs(device), torch.tensor([3, 4]) if dropout else None
    rest = (layers, bias, bidirectional, batch_first, dropout, math, "keep")
    output, h_n, reserve = torch.ops.gru.forward(x, None, None, weights, seed, *rest)
    wanted = [True, False, *[True] * len(weights)]
    arguments = (
        torch.randn_like(output),
        torch.randn_like(h_n),
        x,
        None,
        None,
        weights,
        seed,
        output,
        reserve,
        wanted,
        *rest,
    )
    opcheck(
        torch.ops.gru.backward.default,
        arguments,
        test_utils=["test_schema", "test_autograd_registration", "test_faketensor"],
    )


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
def test_compile_fullgraph(device, options, dynamic):
    module = model(device, **options)
    backend = "inductor" if device.startswith("cuda") else "aot_eager"
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=backend)
    for steps in (T, T + 2):
        x = torch.randn(steps, B, I, device=device, dtype=torch.float64)
        for h0 in (None, module(x)[1].detach()):
            results = []
            for call in (module, compiled):
                module.zero_grad()
                given = x.clone().requires_grad_()
                output, h_n = call(given, h0)
                (output.sin().sum() + h_n.sum()).backward()
                gradients = [weight.grad.clone() for weight in module.parameters()]
                results.append([output.detach(), h_n.detach(), given.grad, *gradients])
            torch.testing.assert_close(results[1], results[0])
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), module(x))


def test_compile_with_dropout():
    module = model(num_layers=2, dropout=0.5)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = inputs(grad=True)
    output, _ = compiled(x)
    output.sum().backward()
    assert x.grad.isfinite().all() and module.weight_hh_l0.grad.isfinite().all()


def test_export(device):
    module = model(device, num_layers=2, bidirectional=True)
    x = inputs(device)
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), module(x))
    steps = torch.export.Dim("steps", min=2, max=99)
    exported = torch.export.export(module, (x,), dynamic_shapes={"input": {0: steps}})
    longer = torch.randn(T + 4, B, I, device=device, dtype=torch.float64)
    torch.testing.assert_close(exported.module()(longer), module(longer))


def test_vmap_over_inputs_and_parameters():
    module = model(num_layers=2)
    xs = torch.randn(3, T, B, I, dtype=torch.float64)
    output, h_n = torch.vmap(module)(xs)
    for i in range(3):
        torch.testing.assert_close((output[i], h_n[i]), module(xs[i]))
    modules = [model() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(modules)
    call = lambda p, b, x: torch.func.functional_call(modules[0], (p, b), (x,))[0]
    outputs = torch.vmap(call, in_dims=(0, 0, None))(parameters, buffers, xs[0])
    for one, each in zip(outputs, modules):
        torch.testing.assert_close(one, each(xs[0])[0])


def test_func_grad_and_per_sample_gradients():
    module = model()
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    x = inputs()

    def loss(p, x):
        return torch.func.functional_call(module, p, (x,))[0].sin().sum()

    got = torch.func.grad(loss)(parameters, x)
    loss(dict(module.named_parameters()), x).backward()
    for name, value in module.named_parameters():
        torch.testing.assert_close(got[name], value.grad)
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    torch.testing.assert_close(each["weight_hh_l0"].sum(0), module.weight_hh_l0.grad)


def test_meta_tensors_have_shapes():
    module = gru.torch.GRU(I, H, 2, device="meta")
    output, h_n = module(torch.empty(T, B, I, device="meta"))
    assert output.shape == (T, B, H) and h_n.shape == (2, B, H) and output.is_meta
