# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own ModuleInfo tables of GRU and GRUCell (torch.testing, in torch's wheel), put to ours in the manner of
its
TestModule: sample inputs against the references, error inputs, gradcheck, gradgradcheck, non-contiguous tensors,
pickling,
state_dict, several devices. Nothing is expected to fail; torch itself expects cuDNN's GRU to fail two of these."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

pytest.importorskip("expecttest")
common_modules = pytest.importorskip("torch.testing._internal.common_modules")

import gru.torch

OURS = {"GRU": gru.torch.GRU, "GRUCell": gru.torch.GRUCell}


def info_of(name):
    theirs = getattr(torch.nn, name)
    return next(info for info in common_modules.module_db if info.module_cls is theirs)


def samples(name, device, dtype, requires_grad=False, training=False, packed=False):
    info = info_of(name)
    more = {"with_packed_sequence": True} if packed else {}
    for sample in info.module_inputs_func(info, device, dtype, requires_grad, training, **more):
        yield sample


def build(name, sample, device, dtype, training=False):
    given = sample.constructor_input
    module = OURS[name](*given.args, **given.kwargs, device=device, dtype=dtype)
    return module.train(training)


def flat(results):
    """The tensors in what a module returned."""
    if isinstance(results, torch.Tensor):
        return [results]
    if isinstance(results, PackedSequence):
        return [results.data]
    return [tensor for result in results for tensor in flat(result)]


def changed(value, f):
    """The value with f put to its tensors."""
    if isinstance(value, PackedSequence):
        return value._replace(data=f(value.data))
    return f(value) if isinstance(value, torch.Tensor) else value


names = pytest.mark.parametrize("name", OURS)
trainings = pytest.mark.parametrize("training", [False, True])


@names
@trainings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward(name, training, dtype, device):
    for sample in samples(name, device, dtype, training=training):
        module = build(name, sample, device, dtype, training)
        given = sample.forward_input
        outputs = module(*given.args, **given.kwargs)
        wanted = sample.reference_fn(module, *given.args, **given.kwargs)
        torch.testing.assert_close(flat(outputs), flat(wanted))
        twin = getattr(torch.nn, name)(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        twin.to(device, dtype).load_state_dict(module.state_dict())
        torch.testing.assert_close(flat(outputs), flat(twin(*given.args, **given.kwargs)))


@names
def test_errors(name, device):
    info = info_of(name)
    errors = info.module_error_inputs_func(info, device, torch.float32, False, False)
    assert errors
    for error in errors:
        given = error.module_error_input
        construct = lambda: OURS[name](*given.constructor_input.args, **given.constructor_input.kwargs)
        if error.error_on == common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                construct()
        else:
            module = construct()
            with pytest.raises(error.error_type, match=error.error_regex):
                module(*given.forward_input.args, **given.forward_input.kwargs)


@pytest.mark.parametrize("again", [False, True], ids=["grad", "gradgrad"])
@names
@trainings
def test_gradients(name, training, again, device):
    check = torch.autograd.gradgradcheck if again else torch.autograd.gradcheck
    for sample in samples(name, device, torch.float64, requires_grad=True, training=training, packed=name == "GRU"):
        module = build(name, sample, device, torch.float64, training)
        parameters = tuple(module.parameters())
        given = sample.forward_input.args
        inputs = [value.data if isinstance(value, PackedSequence) else value for value in given]
        kept = next((value for value in given if isinstance(value, PackedSequence)), None)

        def call(*tensors):
            values = list(tensors[: len(inputs)])
            if kept is not None:
                values[0] = kept._replace(data=values[0])
            for parameter, name_ in zip(tensors[len(inputs) :], [name_ for name_, _ in module.named_parameters()]):
                assert parameter is dict(module.named_parameters())[name_]
            return tuple(flat(module(*values)))

        assert check(call, (*inputs, *parameters), fast_mode=True)  # as TestModule does


@names
@trainings
def test_non_contiguous_tensors(name, training, device):
    def spread(tensor):
        wide = torch.repeat_interleave(tensor.detach(), 2, dim=-1)[..., ::2]
        return wide.requires_grad_(tensor.requires_grad)

    for sample in samples(name, device, torch.float64, requires_grad=True, training=training, packed=name == "GRU"):
        module = build(name, sample, device, torch.float64, training)
        given = sample.forward_input.args
        outputs = flat(module(*given))
        seeds = [torch.randn_like(output) for output in outputs]
        torch.autograd.backward(outputs, seeds)
        wanted = [parameter.grad.clone() for parameter in module.parameters()]
        module.zero_grad()
        apart = [changed(value, spread) for value in given]
        again = flat(module(*apart))
        torch.testing.assert_close(again, outputs, rtol=0, atol=0)
        torch.autograd.backward(again, [spread(seed) for seed in seeds])
        torch.testing.assert_close([parameter.grad for parameter in module.parameters()], wanted)
        grads = [value.data.grad if isinstance(value, PackedSequence) else value.grad for value in (*given, *apart)]
        torch.testing.assert_close(grads[len(given) :], grads[: len(given)])


@names
def test_pickle_copy_and_state_dict(name, device):
    for sample in samples(name, device, torch.float32):
        module = build(name, sample, device, torch.float32)
        given = sample.forward_input
        wanted = flat(module(*given.args))
        for other in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            torch.testing.assert_close(flat(other(*given.args)), wanted, rtol=0, atol=0)
            assert repr(other) == repr(module)
        twin = getattr(torch.nn, name)(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        assert list(twin.state_dict()) == list(module.state_dict())
        assert repr(twin) == repr(module)
        module.load_state_dict(twin.state_dict())
        torch.testing.assert_close(flat(module(*given.args)), flat(twin.to(device)(*given.args)))


@names
def test_factory_arguments_and_initialisation(name, device):
    for sample in samples(name, device, torch.float64):
        arguments = sample.constructor_input
        torch.manual_seed(1)
        ours = OURS[name](*arguments.args, **arguments.kwargs, device=device, dtype=torch.float64)
        torch.manual_seed(1)
        theirs = getattr(torch.nn, name)(*arguments.args, **arguments.kwargs, device=device, dtype=torch.float64)
        for mine, wanted in zip(ours.parameters(), theirs.parameters()):
            assert mine.device == wanted.device and mine.dtype == wanted.dtype
            torch.testing.assert_close(mine, wanted, rtol=0, atol=0)


@names
def test_every_move_between_devices_and_dtypes(name, device):
    for sample in samples(name, "cpu", torch.float32):
        module = build(name, sample, "cpu", torch.float32).to(device, torch.float64)
        given = [changed(value, lambda tensor: tensor.to(device, torch.float64)) for value in sample.forward_input.args]
        assert all(output.device == torch.device(device) for output in flat(module(*given)))
