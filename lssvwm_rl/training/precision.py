"""The precision of a training: what "auto" means on this machine."""

from __future__ import annotations

import torch

from lssvwm_rl.model.rates import bf16_pays


def resolve_precision(precision: str, accelerator: str) -> str:
    """Lightning Fabric's name of a precision; for "auto" bf16-mixed where that is faster, else 32-true.

    A run's config.yaml keeps "auto", and a session on another machine chooses anew: weights and optimizer are fp32
    either way, and whoever asks for "auto" wants what is fast where the run goes on.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if bf16_pays(device_of(accelerator)) else "32-true"


def device_of(accelerator: str) -> torch.device:
    """Kind of the devices that an accelerator of Lightning Fabric's ("auto", "gpu", "cpu", ...) means here."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found if accelerator != "cpu" and found is not None else torch.device("cpu")
