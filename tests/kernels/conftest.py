"""The real kernels of mamba-ssm: on the GPU if there is one, else on the CPU through Triton's interpreter."""

from __future__ import annotations

import contextlib
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch

# The ordinary suite runs without mamba-ssm.
collect_ignore_glob = [] if find_spec("mamba_ssm") else ["test_*.py"]


@pytest.fixture(scope="session")
def device():
    with pytest.MonkeyPatch.context() as patch:
        if not find_spec("selective_scan_cuda"):
            # The package imports this compiled module of Mamba-1, which the kernels of Mamba-2 do not use.
            patch.setitem(sys.modules, "selective_scan_cuda", ModuleType("selective_scan_cuda"))
        if torch.cuda.is_available():
            patch.setenv("TRITON_F32_DEFAULT", "ieee")  # TF32 would hide errors below 1e-3
        else:
            patch.setenv("TRITON_INTERPRET", "1")
            patch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
            # As many as split the heads among programs in some tests and not in others.
            patch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=8))
        # Read on import, this leaves every kernel its cheapest tile size instead of trying them all out; the kernels
        # themselves are then to run as they do for users.
        patch.setenv("MAMBA_DETERMINISTIC", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it picks by size
            from mamba_ssm.utils import determinism
        determinism.set_deterministic_mode(False)
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
