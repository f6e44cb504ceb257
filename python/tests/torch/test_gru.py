# SPDX-License-Identifier: Apache-2.0
"""gru.torch.GRU against torch.nn.GRU in float64, wherever torch's own world can put it."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import gru.torch
from gru.torch import _ops

T, B, I, H = 7, 4, 5, 6


def pair(device="cpu", dtype=torch.float64, **options):
    """nn.GRU and ours with the same parameters."""
    theirs = nn.GRU(I, H, **options).to(device, dtype)
    return theirs, gru.torch.from_torch(theirs)


def close(got, wanted, factor=1.0):
    """Relative L2: 3e-6 in float32, 1e-12 in float64, times a factor."""
    bound = factor * (1e-12 if got.dtype == torch.float64 else 3e-6)
    assert got.shape == wanted.shape
    got = got.to(wanted.dtype)
    assert (got - wanted).norm() <= bound * wanted.norm().clamp_min(1e-30), f"{(got - wanted).norm() / wanted.norm()}"


def compare(theirs, ours, *inputs, factor=1.0):
    """Outputs and all gradients of the two on the same inputs; theirs in float64, and without cuDNN, which has none in eval."""
    results = []
    for module in (copy.deepcopy(theirs).double(), ours):
        module.zero_grad()
        dtype = next(module.parameters()).dtype
        given = [value.detach().to(dtype, copy=True).requires_grad_() for value in inputs]
        with torch.backends.cudnn.flags(enabled=False):
            output, h_n = module(*given)
            (output.sin().sum() + h_n.cos().sum()).backward()
        assert output.dtype == h_n.dtype == dtype
        parameters = [parameter.grad.clone() for parameter in module.parameters()]
        results.append([output.detach(), h_n.detach(), *(value.grad for value in given), *parameters])
    for wanted, got in zip(*results):
        close(got, wanted, factor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"num_layers": 3},
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
    ],
)
def test_results_and_gradients(device, dtype, options):
    theirs, ours = pair(device, dtype, **options)
    x = torch.randn(T, B, I, device=device, dtype=dtype)
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    batch = T if options.get("batch_first") else B
    h0 = torch.randn(layers, batch, H, device=device, dtype=dtype)
    compare(theirs, ours, x, h0)
    compare(theirs, ours, x)


def test_recompute_gives_the_same(device):
    theirs, ours = pair(device, num_layers=2, bidirectional=True)
    ours.recompute = True
    compare(theirs, ours, torch.randn(T, B, I, device=device, dtype=torch.float64))


def test_unbatched(device):
    theirs, ours = pair(device, num_layers=2)
    compare(theirs, ours, torch.randn(T, I, device=device, dtype=torch.float64))
    h0 = torch.randn(2, H, device=device, dtype=torch.float64)
    compare(theirs, ours, torch.randn(T, I, device=device, dtype=torch.float64), h0)


@pytest.mark.parametrize("lengths", [[7, 5, 5, 1], [7, 7, 7, 7], [3, 7, 1, 4]])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences(device, lengths, bidirectional):
    theirs, ours = pair(device, num_layers=2, bidirectional=bidirectional)
    rows = [torch.randn(length, I, device=device, dtype=torch.float64) for length in lengths]
    results = []
    for module in (theirs, ours):
        module.zero_grad()
        given = [row.clone().requires_grad_() for row in rows]
        output, h_n = module(pack_sequence(given, enforce_sorted=False))
        (output.data.sin().sum() + h_n.cos().sum()).backward()
        parameters = [parameter.grad.clone() for parameter in module.parameters()]
        results.append([output.data.detach(), h_n.detach(), *(row.grad for row in given), *parameters])
        assert output.batch_sizes.tolist() == pack_sequence(rows, enforce_sorted=False).batch_sizes.tolist()
    for wanted, got in zip(*results):
        close(got, wanted)


def test_padding_reaches_nothing():
    _, ours = pair()
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 2, 1, 4])
    weights = list(ours.parameters())
    spoilt = x.detach().clone()
    for row, length in enumerate(lengths):
        spoilt[length:, row] = float("nan")
    output, h_n = gru.torch.functional.gru(spoilt, None, weights, lengths=lengths)
    wanted, wanted_h = gru.torch.functional.gru(x, None, weights, lengths=lengths)
    assert torch.equal(output, wanted) and torch.equal(h_n, wanted_h)


def test_evaluation_mode_has_gradients(device):
    theirs, ours = pair(device, num_layers=2, dropout=0.5)
    compare(theirs.eval(), ours.eval(), torch.randn(T, B, I, device=device, dtype=torch.float64))


def test_several_forwards_wait_for_their_backward(device):
    theirs, ours = pair(device)
    xs = [torch.randn(T, B, I, device=device, dtype=torch.float64) for _ in range(3)]
    for module in (theirs, ours):
        module.zero_grad()
        losses = [module(x)[0].sin().sum() for x in xs]
        for loss in reversed(losses):
            loss.backward()
    close(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


def test_dropout_is_the_seeds_and_scales(device):
    ours = gru.torch.GRU(I, H, 2, dropout=0.25, device=device)
    x = torch.randn(T, B, I, device=device)
    torch.manual_seed(5)
    first, _ = ours(x)
    torch.manual_seed(5)
    second, _ = ours(x)
    third, _ = ours(x)
    assert torch.equal(first, second) and not torch.equal(first, third)
    evaluated, _ = ours.eval()(x)
    plain, _ = gru.torch.functional.gru(x, None, list(ours.parameters()), num_layers=2)
    assert torch.equal(evaluated, plain)


def test_dropouts_gradients(device):
    ours = gru.torch.GRU(3, 4, 2, bidirectional=True, dropout=0.5, device=device, dtype=torch.float64)
    x = torch.randn(3, 2, 3, device=device, dtype=torch.float64, requires_grad=True)

    def call(x):
        torch.manual_seed(11)
        return ours(x)

    assert torch.autograd.gradcheck(call, (x,))
    assert torch.autograd.gradgradcheck(call, (x,))


def test_parameters_are_read_anew_each_call(device):
    theirs, ours = pair(device)
    x = torch.randn(T, B, I, device=device, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            close(ours(x)[0], theirs(x)[0])
            theirs.weight_hh_l0.data.mul_(0.5)  # shared with ours, behind autograd's back


def test_training_with_an_optimizer(device):
    theirs, _ = pair(device)
    ours = gru.torch.from_torch(copy.deepcopy(theirs))
    x = torch.randn(T, B, I, device=device, dtype=torch.float64)
    for module in (theirs, ours):
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            module(x)[0].square().sum().backward()
            optimizer.step()
    close(ours.weight_ih_l0, theirs.weight_ih_l0, factor=1e4)


def test_weight_norm_and_functional_call():
    theirs, ours = pair()
    x = torch.randn(T, B, I, dtype=torch.float64)
    wanted = theirs(x)[0]
    normed = nn.utils.parametrizations.weight_norm(copy.deepcopy(ours), "weight_hh_l0")
    output, _ = normed(x)
    close(output, wanted)
    output.sum().backward()
    assert normed.parametrizations.weight_hh_l0.original0.grad is not None
    halved = {name: 0.5 * value for name, value in ours.named_parameters()}
    close(torch.func.functional_call(ours, halved, (x,))[0], torch.func.functional_call(theirs, halved, (x,))[0])


def test_cells(device):
    theirs = nn.GRUCell(I, H, device=device, dtype=torch.float64)
    ours = gru.torch.from_torch(theirs)
    x = torch.randn(B, I, device=device, dtype=torch.float64, requires_grad=True)
    h = torch.randn(B, H, device=device, dtype=torch.float64, requires_grad=True)
    wanted = torch.autograd.grad(theirs(x, h).sin().sum(), [x, h, *theirs.parameters()])
    got = torch.autograd.grad(ours(x, h).sin().sum(), [x, h, *ours.parameters()])
    for one, other in zip(got, wanted):
        close(one, other)
    close(ours(x), theirs(x))
    close(ours(x[0]), theirs(x[0]))


@pytest.mark.parametrize("gradients", [False, True])
def test_dtypes_and_devices_that_differ_are_refused_as_by_torch(gradients):
    others = [torch.float64, torch.float16, torch.bfloat16, torch.int64]
    x, h = torch.randn(T, B, I), torch.randn(1, B, H)
    for kind, x, h in ((nn.GRU, x, h), (nn.GRUCell, x[0], h[0])):
        theirs = kind(I, H).requires_grad_(gradients)
        wrong = [(x, h.to(dtype)) for dtype in others]
        if kind is nn.GRU:  # GRUCell of the meta device is torch's own matter, another dtype of x a ValueError in a GRU
            wrong += [(x, h.to("meta")), (x.to("meta"), None)]
        else:
            wrong += [(x.to(dtype), h) for dtype in others]
        for module in (theirs, gru.torch.from_torch(theirs)):
            for arguments in wrong:
                with pytest.raises(RuntimeError):
                    module(*arguments)


def test_a_cells_state_without_a_batch():
    wrong = (torch.randn(H, I), torch.randn(H)), (torch.randn(I), torch.randn(B, H))
    for x, h in wrong:
        with pytest.raises((RuntimeError, IndexError)):  # on a GPU torch finds it out where it adds the two
            nn.GRUCell(I, H)(x, h)
        with pytest.raises(RuntimeError, match="Expected 2D hidden0"):
            gru.torch.GRUCell(I, H)(x, h)


def test_a_second_gradient_ends_there():
    module = gru.torch.GRU(I, H, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(module(x)[0].pow(2).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="third order"):
        torch.autograd.grad(second.pow(2).sum(), x, retain_graph=True)
    last = torch.autograd.grad(first.pow(2).sum(), x)[0]
    close(last, second)
    assert not last.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_with_the_negative_bit(dtype):
    theirs = nn.GRU(I, H, dtype=dtype).requires_grad_(False)
    ours = gru.torch.from_torch(theirs)
    cell = nn.GRUCell(I, H, dtype=dtype).requires_grad_(False)
    x, h = torch.randn(T, B, I, dtype=dtype), torch.randn(1, B, H, dtype=dtype)
    negated = torch._neg_view(x), torch._neg_view(h)
    for arguments in ((negated[0],), (x, negated[1]), negated):
        plain = [-(-value) for value in arguments]
        assert all(torch.equal(one, other) for one, other in zip(ours(*arguments), ours(*plain)))
        step, plain_step = [value[0] for value in arguments], [value[0] for value in plain]
        assert torch.equal(gru.torch.from_torch(cell)(*step), gru.torch.from_torch(cell)(*plain_step))
    if dtype == torch.float32:
        close(ours(*negated)[0], theirs(*negated)[0])
        weights = gru.weights({name: torch._neg_view(-value) for name, value in theirs.state_dict().items()})
        close(gru.forward(weights, x)[0], theirs(x)[0])


def test_weights_keep_tensors_that_nobody_else_keeps():
    module = nn.GRU(I, H)
    x = torch.randn(T, B, I)
    weights = gru.weights({name: value.clone() for name, value in module.state_dict().items()})
    others = [torch.full_like(value, 9.0) for value in module.state_dict().values() for _ in range(50)]
    close(gru.forward(weights, x)[0], module(x)[0].detach())
    del others


def test_convert_and_from_torch():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(I, I), nn.GRU(I, H, batch_first=True))
            self.cell = nn.GRUCell(H, H)
            self.same = self.encoder[1]

    model = Model()
    before = {name: id(value) for name, value in model.named_parameters()}
    assert sorted(gru.torch.convert(model)) == ["cell", "encoder.1", "same"]
    assert {name: id(value) for name, value in model.named_parameters()} == before
    assert isinstance(model.encoder[1], gru.torch.GRU) and model.same is model.encoder[1]
    assert gru.torch.convert(model) == []
    with pytest.raises(TypeError, match="from_torch"):
        gru.torch.convert(nn.GRU(I, H))
    with pytest.raises(TypeError, match="LSTM"):
        gru.torch.from_torch(nn.LSTM(I, H))


def test_it_is_told_from_a_projection():
    with pytest.raises(ValueError, match="proj_size"):
        gru.torch.GRU(I, H, proj_size=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_modules(device, dtype):
    ours = gru.torch.GRU(I, H, device=device, dtype=dtype)
    x = torch.randn(T, B, I, device=device, dtype=dtype, requires_grad=True)
    output, _ = ours(x)
    wide, _ = copy.deepcopy(ours).float()(x.detach().float())
    assert output.dtype == dtype and torch.equal(output, wide.to(dtype))
    output.sum().backward()
    assert x.grad.dtype == dtype and ours.weight_hh_l0.grad.dtype == dtype


def test_autocast(device):
    kind = device.partition(":")[0]
    theirs, ours = pair(device, torch.float32)
    x = torch.randn(T, B, I, device=device)
    with torch.autocast(kind, dtype=torch.bfloat16 if kind == "cpu" else torch.float16):
        output, _ = ours(x)
        wanted, _ = theirs(x)
        assert output.dtype == wanted.dtype
        lower, _ = ours(nn.functional.linear(x, torch.eye(I, device=device)))  # comes in the lower dtype
    assert (output.float() - wanted.float()).abs().max() < 4e-3  # a few units of float16's last place
    assert lower.isfinite().all()


def test_threads():
    theirs, ours = pair()
    xs = [torch.randn(T, B, I, dtype=torch.float64) for _ in range(6)]
    results = [None] * len(xs)

    def work(index):
        for _ in range(5):
            output = ours(xs[index])[0]
            torch.autograd.grad(output.sum(), ours.weight_hh_l0)
        results[index] = output

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, output in zip(xs, results):
        close(output, theirs(x)[0])


def test_plans_are_kept_with_a_bound():
    gru.torch.clear_plans()
    _, ours = pair()
    made = lambda: gru.torch.plan_cache_info()["made"]
    try:
        gru.torch.set_plan_cache_size(3)
        with torch.no_grad():
            for batch in range(1, 9):
                ours(torch.randn(T, batch, I, dtype=torch.float64))
            assert gru.torch.plan_cache_info()["plans"] == 3
            before = made()
            for steps in range(2, 17):  # lengths of a range share a plan
                ours(torch.randn(steps, 8, I, dtype=torch.float64))
            assert made() == before
            ours(torch.randn(17, 8, I, dtype=torch.float64))
            assert made() == before + 1
    finally:
        gru.torch.set_plan_cache_size(64)


def test_a_backward_whose_plan_is_gone(device):
    theirs, ours = pair(device)
    x = torch.randn(T, B, I, device=device, dtype=torch.float64)
    output = ours(x)[0]
    gru.torch.clear_plans()
    output.sin().sum().backward()
    got = ours.weight_hh_l0.grad.clone()
    ours.zero_grad()
    theirs(x)[0].sin().sum().backward()
    close(got, theirs.weight_hh_l0.grad)


def test_empty_batch():
    _, ours = pair(num_layers=2)
    x = torch.randn(T, 0, I, dtype=torch.float64, requires_grad=True)
    output, h_n = ours(x)
    assert output.shape == (T, 0, H) and h_n.shape == (2, 0, H)
    output.sum().backward()
    assert not ours.weight_hh_l0.grad.any()


def test_the_reserve_holds_what_backends_keep(device):
    for layers, hidden, steps, batch, training in [
        (1, 1, 1, 1, "keep"),
        (3, 33, 5, 7, "keep"),
        (2, 64, 9, 1, "remake"),
    ]:
        x = torch.empty(steps, batch, 3, device=device)
        weights = list(gru.torch.GRU(3, hidden, layers, bidirectional=True, device=device).parameters())
        settings = (layers, True, True, False, 0.0, "strict", training)
        assert gru._core.reserve_bytes(x, weights, settings) <= 4 * _ops.reserve_words(x, weights, settings)


def test_unsorted_packing_of_padded(device):
    theirs, ours = pair(device, batch_first=True)
    x = torch.randn(B, T, I, device=device, dtype=torch.float64)
    packed = pack_padded_sequence(x, torch.tensor([2, 7, 3, 7]), batch_first=True, enforce_sorted=False)
    close(ours(packed)[0].data, theirs(packed)[0].data)
    close(ours(packed)[1], theirs(packed)[1])
