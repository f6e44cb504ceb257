# SPDX-License-Identifier: Apache-2.0
"""GRU and GRUCell: torch's own bases give signature, parameters, initialisation, pickling and messages."""

from typing import Any

from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn.modules.rnn import RNNBase, RNNCellBase
from torch.nn.utils.rnn import PackedSequence

from gru.torch import _call, functional


class GRU(RNNBase):
    """torch.nn.GRU, computed by the library; see torch.nn.GRU for arguments, shapes and parameters.

    Two arguments more, by name alone: `math` ("strict", or a faster mode that the device has, such as "tf32") and
    `recompute` (in training, keep a quarter of the memory and make the gates again in the backward pass).

    It is no subclass of torch.nn.GRU, since torch.compile refuses those; gru.torch.from_torch(module) makes one that
    shares an
    nn.GRU's parameters, and either loads the other's state_dict.
    """

    math: str
    recompute: bool

    def __init__(self, *args: Any, math: str = "strict", recompute: bool = False, **kwargs: Any):
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)
        self.math = math
        self.recompute = recompute

    def flatten_parameters(self) -> None:
        """Does nothing: parameters are read where they lie."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("math", "strict")
        self.__dict__.setdefault("recompute", False)

    def _weights(self) -> list[Tensor]:
        # By name and anew: parametrizations, functional_call and FSDP put other tensors there.
        return [getattr(self, name) for name in self._flat_weights_names]

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """output, h_n, as torch.nn.GRU.forward gives them; input is a tensor or a PackedSequence."""
        if not is_compiling() and (self.dropout == 0 or not self.training):
            model = _call.model(self.num_layers, self.bias, self.bidirectional, self.batch_first, self.math)
            results = model.forward(self, input, hx)
            if results is not None:
                return results
        weights = self._weights()
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, weights)
        if input.dim() not in (2, 3):
            raise ValueError(f"GRU: Expected input to be 2D or 3D, got {input.dim()}D instead")
        batched = input.dim() == 3
        if hx is not None and hx.dim() != input.dim():
            kind = "batched 3-D" if batched else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx should also be {input.dim()}-D but got {hx.dim()}-D tensor")
        batch_dim = 0 if self.batch_first else 1
        if not batched:
            input = input.unsqueeze(batch_dim)
            hx = None if hx is None else hx.unsqueeze(1)
        self._check(input, hx, weights, None)
        if input.size(1 - batch_dim) == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        output, h_n = self._call(input, hx, weights)
        if not batched:
            return output.squeeze(batch_dim), h_n.squeeze(1)
        return output, h_n

    def _check(self, input: Tensor, hx: Tensor | None, weights: list[Tensor], batch_sizes: Tensor | None) -> None:
        if input.dtype != weights[0].dtype and not functional.under_autocast(input):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weights[0].dtype}). "
                f"Convert input: input.to({weights[0].dtype}), or convert model: model.to({input.dtype})"
            )
        if batch_sizes is not None and input.dim() != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}"
            )
        if hx is not None:
            self.check_hidden_size(hx, self.get_expected_hidden_size(input, batch_sizes))

    def _call(
        self,
        input: Tensor,
        hx: Tensor | None,
        weights: list[Tensor],
        lengths: Tensor | None = None,
        batch_first: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        return functional.gru(
            input,
            hx,
            weights,
            num_layers=self.num_layers,
            bias=self.bias,
            bidirectional=self.bidirectional,
            batch_first=self.batch_first if batch_first is None else batch_first,
            dropout=self.dropout if self.training else 0.0,
            lengths=lengths,
            math=self.math,
            recompute=self.recompute,
        )

    def _forward_packed(
        self, packed: PackedSequence, hx: Tensor | None, weights: list[Tensor]
    ) -> tuple[PackedSequence, Tensor]:
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        hx = None if hx is None else self.permute_hidden(hx, sorted_indices)
        self._check(data, hx, weights, batch_sizes)
        padded, lengths, rows = functional.unpack(data, batch_sizes)
        output, h_n = self._call(padded, hx, weights, lengths, batch_first=False)
        output = output.flatten(0, 1) if rows is None else output.flatten(0, 1).index_select(0, rows)
        return (
            PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices),
            self.permute_hidden(h_n, unsorted_indices),
        )

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.math != "strict":
            text += f", math={self.math!r}"
        if self.recompute:
            text += ", recompute=True"
        return text


class GRUCell(RNNCellBase):
    """torch.nn.GRUCell, computed by the library; see torch.nn.GRUCell for arguments, shapes and parameters."""

    math: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        math: str = "strict",
    ):
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)
        self.math = math

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("math", "strict")

    def _weights(self) -> list[Tensor]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if self.bias else ("weight_ih", "weight_hh")
        return [getattr(self, name) for name in names]

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state (B, H) or (H), from input (B, I) or (I) and the state before (zeros if not given)."""
        if not is_compiling():
            after = _call.cell(self.bias, self.math).step(self, input, hx)
            if after is not None:
                return after
        weights = self._weights()
        if input.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if hx is not None and hx.dim() not in (1, 2):
            raise ValueError(f"GRUCell: Expected hidden to be 1D or 2D, got {hx.dim()}D instead")
        batched = input.dim() == 2
        result = functional.gru_cell(
            input if batched else input.unsqueeze(0),
            hx if batched or hx is None else hx.unsqueeze(0),
            weights,
            bias=self.bias,
            math=self.math,
        )
        return result if batched else result.squeeze(0)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.math == "strict" else f", math={self.math!r}")


nn_modules = {nn.GRU: GRU, nn.GRUCell: GRUCell}
