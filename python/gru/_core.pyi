# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from os import PathLike
from typing import Any

version: str
commit: str
cuda: bool

class Error(ValueError): ...

class Config:
    """What the weights fix, in torch.nn.GRU's words."""

    @property
    def input_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def bias(self) -> bool: ...
    @property
    def bidirectional(self) -> bool: ...
    @property
    def reset_after(self) -> bool: ...
    @property
    def num_directions(self) -> int: ...

class Weights:
    """The weights of a whole GRU, in host memory."""

    @property
    def config(self) -> Config: ...
    def state_dict(self) -> dict[str, Any]: ...

class Plan:
    @staticmethod
    def make(
        weights: Weights,
        device: str,
        batch_size: int,
        seq_len: int,
        batch_first: bool,
        dtype: str,
        math: str,
        backend: str,
        tuning: str,
        tuning_cache: str,
    ) -> Plan: ...
    def execute(
        self, x: Any, output: Any, h_n: Any, h0: Any = None, lengths: Any = None, stream: int | None = None
    ) -> None: ...
    def step(self, x: Any, h_in: Any, h_out: Any, stream: int | None = None) -> None: ...
    def wait(self) -> None: ...
    @property
    def device(self) -> str: ...
    @property
    def config(self) -> Config: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def seq_len(self) -> int: ...
    @property
    def batch_first(self) -> bool: ...
    @property
    def dtype(self) -> str: ...
    @property
    def math(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def workspace_bytes(self) -> int: ...

class Framework:
    def __init__(
        self,
        types: list[type],
        watchers: list[Callable[[], Any]],
        levels: tuple[Any, str],
        gradients: Callable[[], bool],
        empty_host: Callable[..., Any] | None,
        empty_cuda: Callable[..., Any] | None,
    ) -> None: ...

class Model:
    def __init__(
        self,
        framework: Framework,
        names: list[str],
        num_layers: int,
        bias: bool,
        bidirectional: bool,
        batch_first: bool,
        math: str,
    ) -> None: ...
    def forward(self, module: Any, x: Any, h0: Any) -> tuple[Any, Any] | None: ...
    def step(self, module: Any, x: Any, h: Any) -> Any | None: ...

def load_weights(path: str | PathLike[str], prefix: str | None, reset_after: bool) -> Weights: ...
def weights_from_arrays(arrays: dict[str, Any], prefix: str | None, reset_after: bool) -> Weights: ...
def forward(
    x: Any,
    h0: Any,
    lengths: Any,
    weights: list[Any],
    output: Any,
    h_n: Any,
    reserve: Any,
    seed: int,
    offset: int,
    settings: tuple[int, bool, bool, bool, float, str, str],
) -> None: ...
def backward(
    x: Any,
    h0: Any,
    lengths: Any,
    weights: list[Any],
    output: Any,
    reserve: Any,
    grad_output: Any,
    grad_h_n: Any,
    grad_x: Any,
    grad_h0: Any,
    grad_weights: list[Any],
    seed: int,
    offset: int,
    settings: tuple[int, bool, bool, bool, float, str, str],
) -> None: ...
def reserve_bytes(x: Any, weights: list[Any], settings: tuple[int, bool, bool, bool, float, str, str]) -> int: ...
def set_plan_cache_size(plans: int) -> None: ...
def plan_cache_info() -> dict[str, int]: ...
def clear_plans(captured: bool) -> None: ...
def xla_calls() -> dict[str, Any]: ...
def tune(
    weights: Weights,
    device: str,
    batch_size: int,
    seq_len: int,
    batch_first: bool,
    dtype: str,
    math: str,
    tuning_cache: str,
) -> dict[str, Any]: ...
def devices() -> list[dict[str, Any]]: ...
def shut_down() -> None: ...
