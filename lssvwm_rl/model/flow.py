"""Flow matching with x-prediction: noising, noise levels, loss weight, Euler sampler.

A frame x at noise level tau is x_tau = (1 - tau) x + tau eps, with tau = 0 clean and tau = 1 pure noise. Its velocity
is eps - x = (x_tau - x) / tau (Lipman et al. 2023, arXiv 2210.02747). The network predicts x, which keeps large patches
trainable (Li & He 2025, arXiv 2511.13720).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lssvwm_rl.model.precision import at_least_fp32

Noise = Sequence[torch.Generator] | Tensor
"""One generator per row, or what `WorldModel.draw_noise` made of them, which several calls may share."""


def add_noise(x: Tensor, noise: Tensor, tau: Tensor) -> Tensor:
    """x_tau for frames x of any shape (*tau.shape, ...)."""
    return torch.lerp(x, noise, tau.view(*tau.shape, *[1] * (x.ndim - tau.ndim)))


def shift_tau(tau: Tensor, shift: float) -> Tensor:
    """shift * tau / (1 + (shift - 1) * tau)."""
    return shift * tau / (1 + (shift - 1) * tau)


def noise_levels(steps: int, shift: float) -> list[float]:
    """The steps + 1 noise levels of the Euler sampler, from 1 to 0.

    Raises:
        ValueError: for steps below 1.
    """
    if steps < 1:
        raise ValueError(f"denoise_steps must be at least 1, got {steps}.")
    return shift_tau(torch.linspace(1, 0, steps + 1), shift).tolist()


def euler_sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    steps: int,
    shift: float,
    embed: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Integrate the flow from noise to a clean frame.

    Args:
        denoise: (x_tau, tau (B,)) -> predicted clean x.
        noise: (B, ...) standard normal.
        steps: Euler steps, at least 1.
        shift: of the schedule, as in training.
        embed: a linear map of x. With it the flow runs in the space of embedded frames: there the noise is given and
            `denoise` takes x_tau, but what it predicts is x itself, as is the result.

    Raises:
        ValueError: for steps below 1.
    """
    schedule = noise_levels(steps, shift)
    x = predicted = noise
    for start, end in zip(schedule[:-1], schedule[1:], strict=True):
        tau = x.new_full((len(x),), start)
        predicted = denoise(x, tau)
        x = euler_step(x, predicted if embed is None else embed(predicted), tau, x.new_full((len(x),), end))
    return x if embed is None else predicted  # the last step goes all the way to what is predicted


def euler_step(x: Tensor, predicted: Tensor, tau: Tensor, after: Tensor) -> Tensor:
    """From noise level tau to `after`, (*tau.shape, ...), along the velocity that the predicted clean frame gives."""
    ratio = ((after - tau) / tau).view(*tau.shape, *[1] * (x.ndim - tau.ndim))
    return x + ratio * (x - predicted)


def movement(moved: Tensor) -> Tensor:
    """How far rows (B, ...) moved by so much: the root mean square, (B,), in at least fp32."""
    return at_least_fp32(moved).flatten(1).pow(2).mean(dim=1).sqrt()


def embedded_noise(weight: Tensor) -> Tensor:
    """(r, D) that gives numbers (..., r) of standard normal noise the distribution that pixel noise has after a linear
    map, of weight W (D, pixels).

    r is the smaller of the two sizes. With at most as many pixels as D it is W^T, and the noise is that of pixels. Else
    it is the transposed Cholesky factor of the covariance W W^T. Gradients pass through it.
    """
    width, pixels = weight.shape
    if pixels <= width:
        return weight.t()
    with torch.autocast(weight.device.type, enabled=False):
        exact = weight.float() if weight.device.type == "mps" else weight.double()
        covariance = exact @ exact.t()
        # A covariance has no factor once rounding makes an eigenvalue negative that is next to nothing.
        least = 1e-9 if exact.dtype == torch.float64 else 1e-6
        covariance = covariance + least * covariance.diagonal().mean() * torch.eye(width).to(covariance)
        return torch.linalg.cholesky(covariance).t().to(weight.dtype)


FINEST = 3  # index of the schedule with 2 ** 3 = 8 steps


def steps_index(steps: int) -> int:
    """Index of the schedule that a number of denoising steps uses: 0, 1, 2, 3 from 1, 2, 4, 8 steps on."""
    return min(FINEST, max(steps, 1).bit_length() - 1)
