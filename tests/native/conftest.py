"""Kernels, without which the tests of this folder have nothing to test."""

from __future__ import annotations

import pytest
import torch

from lssvwm_rl.native.library import Kernels, load_kernels


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    loaded = load_kernels()
    if loaded is None:
        pytest.skip("there is no C++ compiler")
    return loaded


@pytest.fixture
def threads():
    """Sets torch's number of threads, and puts it back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
