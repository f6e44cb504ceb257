# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import sys

import pytest

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # plans need memory beside XLA's
os.environ.setdefault("JAX_ENABLE_X64", "true")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "numpy"))  # reference.py


def pytest_generate_tests(metafunc):
    """Each kind of device that this JAX has; the tests skip themselves where there is no JAX."""
    if "device" in metafunc.fixturenames:
        import jax

        metafunc.parametrize("device", sorted({jax.default_backend(), "cpu"}), indirect=True)


@pytest.fixture
def device(request):
    import jax

    found = jax.devices(request.param)[0]
    with jax.default_device(found):
        yield found
