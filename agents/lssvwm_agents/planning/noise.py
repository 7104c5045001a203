"""Coloured noise: random numbers whose neighbours in time resemble each other."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured_noise(shape: tuple[int, ...], beta: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise with a power spectrum of f ** -beta over the steps, of mean 0 and variance 1.

    White noise is filtered in the frequency domain, as in Timmer and Koenig, "On generating power law noise" (1995).
    The lowest frequency, which the constant part has too, is that of one period in all steps. White noise is 0, pink 1,
    red 2. The last step resembles the first one, too, since the filter goes round in a circle.

    Args:
        shape: (..., steps, A).
        beta: at least 0; with 0 it is `torch.randn`.
        generator: of the CPU, the source of chance.

    Returns:
        float32 of that shape.
    """
    white = torch.randn(shape, generator=generator)
    if beta == 0:
        return white
    steps = shape[-2]
    gain = torch.fft.fftfreq(steps).abs().clamp(min=1 / steps) ** (-beta / 2)
    gain = gain / gain.square().mean().sqrt()  # over both halves of the spectrum, so that the variance stays 1
    spectrum = torch.fft.rfft(white, dim=-2) * gain[: steps // 2 + 1, None]
    return torch.fft.irfft(spectrum, n=steps, dim=-2)
