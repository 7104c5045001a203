"""Settings of this process that a CPU needs to be fast; they change no results beyond 1e-38."""

from __future__ import annotations

import ctypes
import sys

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_LARGEST = 32 * 1024**2  # bytes; glibc refuses more


def tune_process() -> None:
    """Keep freed memory in the process, and count numbers below 1e-38 as zero.

    By default glibc gives every large tensor back to the system when it is freed, and the next one is paid for again,
    page by page: 12 to 17 % of a training step. Where there is no glibc, nothing is changed.
    """
    torch.set_flush_denormal(True)
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
