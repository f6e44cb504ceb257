# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def golden():
    return pathlib.Path(os.environ.get("GRU_GOLDEN", ROOT / "tests" / "golden"))


@pytest.fixture(scope="session")
def examples():
    return pathlib.Path(os.environ.get("GRU_EXAMPLES", ROOT / "examples"))
