# SPDX-License-Identifier: Apache-2.0
"""From torch's modules to ours, sharing their parameters."""

from torch import nn

from gru.torch._modules import GRU, GRUCell


def from_torch(module: nn.GRU | nn.GRUCell, *, math: str = "strict") -> GRU | GRUCell:
    """A gru.torch module with the settings of an nn.GRU or nn.GRUCell and with its very parameters: what trains one
    trains
    the other. Hooks stay with the original. Raises TypeError for any other class, subclasses and parametrized ones
    too."""
    if type(module) is nn.GRU:
        twin: GRU | GRUCell = GRU(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            bias=module.bias,
            batch_first=module.batch_first,
            dropout=0.0,
            bidirectional=module.bidirectional,
            device="meta",
            math=math,
        )
        twin.dropout = module.dropout
    elif type(module) is nn.GRUCell:
        twin = GRUCell(module.input_size, module.hidden_size, module.bias, device="meta", math=math)
    else:
        raise TypeError(
            f"gru.torch.from_torch: expected a torch.nn.GRU or torch.nn.GRUCell itself, got {type(module).__qualname__}; "
            "remove its parametrizations, or make a gru.torch.GRU and load its state_dict"
        )
    names = [name for name, _ in twin.named_parameters()]
    if sorted(names) != sorted(name for name, _ in module.named_parameters()):
        raise TypeError(
            "gru.torch.from_torch: the module's parameters are not those of its class (weight norm?); remove what "
            "replaced them first, convert, and put it back"
        )
    for name in names:
        setattr(twin, name, getattr(module, name))
    return twin.train(module.training)


def convert(model: nn.Module, *, math: str = "strict") -> list[str]:
    """Swaps every torch.nn.GRU and torch.nn.GRUCell within the model, in place, for one of gru.torch that shares its
    parameters, and returns their names. Subclasses and parametrized ones stay as they are. Raises TypeError if the
    model
    itself is one, as it can't be swapped in place: use from_torch."""
    if type(model) in (nn.GRU, nn.GRUCell):
        raise TypeError(
            f"gru.torch.convert: the model itself is a torch.nn.{type(model).__name__}; use gru.torch.from_torch(model)"
        )
    names = []
    twins: dict[nn.Module, nn.Module] = {}
    for owner_name, owner in list(model.named_modules()):
        for name, child in list(owner._modules.items()):
            if type(child) not in (nn.GRU, nn.GRUCell):
                continue
            if child not in twins:
                twins[child] = from_torch(child, math=math)
            setattr(owner, name, twins[child])
            names.append(f"{owner_name}.{name}" if owner_name else name)
    return names
