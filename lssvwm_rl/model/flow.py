"""Flow matching with x-prediction: noising, noise levels, loss weight, Euler sampler.

A frame x at noise level tau is x_tau = (1 - tau) x + tau eps, with tau = 0 clean and tau = 1 pure noise. Its velocity
is eps - x = (x_tau - x) / tau (Lipman et al. 2023, arXiv 2210.02747). The network predicts x, which keeps large patches
trainable (Li & He 2025, arXiv 2511.13720).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def add_noise(x: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """x_tau for frames x of any shape (*tau.shape, ...)."""
    return torch.lerp(x, noise, tau.view(*tau.shape, *[1] * (x.ndim - tau.ndim)))


def shift_tau(tau: Tensor, shift: float) -> Tensor:
    """shift * tau / (1 + (shift - 1) * tau)."""
    return shift * tau / (1 + (shift - 1) * tau)


def euler_sample(denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int, shift: float) -> Tensor:
    """Integrate the flow from noise to a clean frame.

    Args:
        denoise: (x_tau, tau (B,)) -> predicted clean x.
        noise: (B, ...) standard normal.
        steps: Euler steps, at least 1.
        shift: of the schedule, as in training.

    Raises:
        ValueError: for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"denoise_steps must be at least 1, got {steps}.")
    schedule = shift_tau(torch.linspace(1, 0, steps + 1, device=noise.device), shift).tolist()
    x = noise
    for start, end in zip(schedule[:-1], schedule[1:], strict=True):
        tau = x.new_full((len(x),), start)
        x = euler_step(x, denoise(x, tau), tau, x.new_full((len(x),), end))
    return x


def euler_step(x: Tensor, predicted: Tensor, tau: Tensor, after: Tensor) -> Tensor:
    """From noise level tau to `after`, (*tau.shape, ...), along the velocity that the predicted clean frame gives."""
    ratio = ((after - tau) / tau).view(*tau.shape, *[1] * (x.ndim - tau.ndim))
    return x + ratio * (x - predicted)


FINEST = 3  # index of the schedule with 2 ** 3 = 8 steps


def steps_index(steps: int) -> int:
    """Index of the schedule that a number of denoising steps uses: 0, 1, 2, 3 from 1, 2, 4, 8 steps on."""
    return min(FINEST, max(steps, 1).bit_length() - 1)
