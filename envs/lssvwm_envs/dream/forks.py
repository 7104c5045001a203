"""Forked processes: PyTorch's threads stay behind in the parent, and what waits for them waits for ever."""

from __future__ import annotations

import os
import warnings

import torch

_HOME = os.getpid()  # where this was imported


def stay_able_to_run() -> None:
    """Let PyTorch compute on one thread in a process that was forked, as workers of `AsyncVectorEnv` are.

    It has no other: a fork copies the thread that calls it alone, but PyTorch (OpenMP) would hand work to those that
    the parent had started. A warning says so, once; processes that are spawned have threads of their own.
    """
    if os.getpid() != _HOME and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        what = f"Process {os.getpid()} was forked, which leaves PyTorch's threads behind; it goes on with one thread."
        warnings.warn(what, RuntimeWarning, stacklevel=2)
