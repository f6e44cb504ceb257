# SPDX-License-Identifier: Apache-2.0
"""The plans that calls made and left: by shape, with a bound. The module gru._core keeps them, for every framework."""

from gru import _core


def set_plan_cache_size(plans: int) -> None:
    """How many plans are kept when nobody uses them (64 at first)."""
    if plans < 0:
        raise ValueError(f"gru.torch.set_plan_cache_size: expected a number >= 0, got {plans}")
    _core.set_plan_cache_size(plans)


def plan_cache_info() -> dict[str, int]:
    """plans kept now, the bound, how many were made so far, and how many belong to CUDA graphs."""
    return _core.plan_cache_info()


def clear_plans(*, captured: bool = False) -> None:
    """Drops the plans that nobody uses; with captured=True also those of CUDA graphs, which must not be replayed
    then."""
    _core.clear_plans(captured)
