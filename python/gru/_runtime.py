# SPDX-License-Identifier: Apache-2.0
"""What this build and this machine offer, and the end of the process."""

import atexit
from typing import Any

from gru import _core

# Plans give their memory back and Kokkos ends, if it was begun here, while the interpreter still stands.
atexit.register(_core.shut_down)


def devices() -> list[dict[str, Any]]:
    """The devices that a plan can be made for: name ("cpu", "cuda:0"), description, backends and sizes."""
    return _core.devices()


def info() -> dict[str, Any]:
    """The version, the commit that the module was built from, whether CUDA kernels are in it, and the devices."""
    return {"version": _core.version, "commit": _core.commit, "cuda": _core.cuda, "devices": devices()}
