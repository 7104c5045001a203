"""Coloured noise: random numbers whose neighbours in time resemble each other."""

from __future__ import annotations

import torch
from torch import Tensor


def coloured_noise(out: Tensor, beta: float, generator: torch.Generator) -> Tensor:
    """Fill a tensor with Gaussian noise of a power spectrum of f ** -beta over the steps, of mean 0 and variance 1.

    White noise is filtered in the frequency domain, as in Timmer and Koenig, "On generating power law noise" (1995).
    The lowest frequency, which the constant part has too, is that of one period in all steps. White noise is 0, pink 1,
    red 2. The last step resembles the first one, too, since the filter goes round in a circle.

    Args:
        out: (..., steps, A) float, on the CPU.
        beta: at least 0; with 0 it is `torch.randn`.
        generator: the source of chance.

    Returns:
        `out`.
    """
    out.normal_(generator=generator)
    if beta == 0:
        return out
    steps = out.shape[-2]
    gain = torch.fft.fftfreq(steps, dtype=out.dtype).abs().clamp(min=1 / steps) ** (-beta / 2)
    gain = gain / gain.square().mean().sqrt()  # over both halves of the spectrum, so that the variance stays 1
    spectrum = torch.fft.rfft(out, dim=-2) * gain[: steps // 2 + 1, None]
    return out.copy_(torch.fft.irfft(spectrum, n=steps, dim=-2))
