# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

# nn.GRU is the reference here, so in whole float32. Before PyTorch's own test tools are imported: they freeze the flags.
torch.backends.cudnn.allow_tf32 = False


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(20261130)
