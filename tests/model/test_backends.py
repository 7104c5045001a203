"""Which scan backend is used, and what is said where the kernels cannot run."""

from __future__ import annotations

import sys

import pytest
import torch

from lssvwm_rl.model import backends
from lssvwm_rl.model.backends import load_mamba, resolve_backend
from lssvwm_rl.model.scan import mamba

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def no_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    load_mamba.cache_clear()
    backends._resolve.cache_clear()
    yield
    backends._resolve.cache_clear()


@pytest.fixture
def no_package(monkeypatch):
    """A CUDA device, and no mamba-ssm."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "mamba_ssm.ops.triton.selective_state_update", None)


def test_the_cpu_uses_its_kernels_unless_asked_otherwise():
    assert resolve_backend("auto", CPU) == resolve_backend("native", CPU) == "native"
    assert resolve_backend("torch", CPU) == "torch"


def test_cuda_uses_torch_on_request_and_without_the_package(no_package):
    assert resolve_backend("auto", CUDA) == resolve_backend("torch", CUDA) == "torch"


def test_an_unknown_backend_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="'cudnn' does not exist; choose one of auto, torch, native, mamba"):
        resolve_backend("cudnn", CPU)


def test_mamba_on_the_cpu_says_what_to_do():
    with pytest.raises(RuntimeError, match="'mamba' cannot run on cpu; use a CUDA device or backend 'torch'"):
        resolve_backend("mamba", CPU)


def test_mamba_without_the_package_names_the_extra(no_package):
    with pytest.raises(RuntimeError, match=r'mamba-ssm .*pip install "lssvwm-rl\[cuda\]"'):
        resolve_backend("mamba", CUDA)


@pytest.mark.parametrize("length", [1, 3])
def test_a_scan_without_a_cuda_device_says_so(monkeypatch, length):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    x, dt, state = torch.zeros(1, length, 2, 4), torch.zeros(1, length, 2), torch.zeros(1, 2, 4, 5)
    B = C = torch.zeros(1, length, 5)
    with pytest.raises(RuntimeError, match="needs a CUDA device and finds none"):
        mamba.chunked_scan(x, dt, -torch.ones(2), B, C, state)
