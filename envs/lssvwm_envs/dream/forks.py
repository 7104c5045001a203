"""Forked processes: PyTorch's threads stay behind in the parent, and what waits for them waits for ever."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from multiprocessing.process import BaseProcess

import torch

_HOME = os.getpid()  # where this was imported


def stay_able_to_run() -> None:
    """Let PyTorch compute on one thread in a process that was forked, as workers of `AsyncVectorEnv` are.

    It has no other: a fork copies the thread that calls it alone, but PyTorch (OpenMP) would hand work to those that
    the parent had started. A warning says so, once; processes that are spawned have threads of their own.
    """
    if was_forked() and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        what = f"Process {os.getpid()} was forked, which leaves PyTorch's threads behind; it goes on with one thread."
        warnings.warn(what, RuntimeWarning, stacklevel=2)


def was_forked() -> bool:
    """Whether this process is a copy of one that may have had threads: since this module was imported, or, if only the
    copy has imported it (as workers of Stable-Baselines3's `SubprocVecEnv` do), as `multiprocessing` says."""
    if os.getpid() != _HOME:
        return True
    if multiprocessing.parent_process() is None:
        return False
    process: BaseProcess = multiprocessing.current_process()
    method = getattr(process, "_start_method", None)  # of a context's class; None for the default's
    return (method or multiprocessing.get_start_method(allow_none=True)) == "fork"
