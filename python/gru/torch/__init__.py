# SPDX-License-Identifier: Apache-2.0
"""torch.nn.GRU's drop-in: the same signature, parameters, names and results, computed by the library.

    from gru.torch import GRU              # instead of torch.nn.GRU
    gru.torch.convert(model)               # swaps every nn.GRU and nn.GRUCell of a model, in place

Works under autograd (twice), autocast, torch.compile(fullgraph=True), torch.export, CUDA graphs, vmap and torch.func.
"""

from gru.torch import functional
from gru.torch._convert import convert, from_torch
from gru.torch._modules import GRU, GRUCell
from gru.torch._plans import clear_plans, plan_cache_info, set_plan_cache_size

__all__ = [
    "GRU",
    "GRUCell",
    "clear_plans",
    "convert",
    "from_torch",
    "functional",
    "plan_cache_info",
    "set_plan_cache_size",
]
