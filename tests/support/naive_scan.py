"""The selective scan written out, one token after the other: the reference of every backend."""

from __future__ import annotations

import torch


def naive(x, dt, A, B, C, state):
    outputs = []
    for t in range(x.shape[1]):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        state = decay * state + dt[:, t, :, None, None] * x[:, t, :, :, None] * B[:, t, None, None, :]
        outputs.append((state * C[:, t, None, None, :]).sum(-1))
    return torch.stack(outputs, 1), state
