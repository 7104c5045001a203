"""Per-frame conditioning: noise level, the action that led into the frame, and the frame's vector."""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from lssvwm_rl.spaces import space_from_json

OCTAVES = 4
SAMPLED = 1024  # actions by which the size of a new embedding is measured


class NoiseEmbedding(nn.Module):
    """Noise levels in [0, 1] -> (..., width), by sine features and an MLP."""

    def __init__(self, width: int):
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100.0), width // 2)), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * (width // 2), width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, tau: Tensor) -> Tensor:
        angles = tau[..., None] * self.frequencies
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))


class ActionEmbedding(nn.Module):
    """Actions of a Discrete, MultiDiscrete or one-dimensional Box space -> (..., width); a learned null for none.

    Args:
        action_space: as `lssvwm_rl.spaces.space_to_json` writes it.
        width: of the embedding.
        linear: whether numbers of a Box are embedded linearly.
    """

    def __init__(self, action_space: dict[str, Any], width: int, linear: bool = False):
        super().__init__()
        space = space_from_json(action_space)
        self.centre: Tensor
        self.half_range: Tensor
        self.firsts: Tensor
        self.null = nn.Parameter(torch.zeros(width))
        self.continuous = isinstance(space, spaces.Box)
        if isinstance(space, spaces.Box):
            bounded = space.bounded_below & space.bounded_above
            low, high = (torch.tensor(bound.astype("float32")) for bound in (space.low, space.high))
            inside = torch.tensor(bounded)
            self.register_buffer("centre", torch.where(inside, (low + high) / 2, 0.0), persistent=False)
            self.register_buffer("half_range", torch.where(inside, (high - low) / 2, 1.0), persistent=False)
            self.embed: nn.Module = nn.Linear(len(low), width) if linear else _embed_numbers(len(low), width)
        else:
            sizes, starts = (
                (space.nvec.tolist(), space.start.tolist())
                if isinstance(space, spaces.MultiDiscrete)
                else ([int(space.n)], [int(space.start)])
                if isinstance(space, spaces.Discrete)
                else ([], [])
            )
            # One table for all components: component i uses the rows from firsts[i] on.
            firsts = [sum(sizes[:i]) - start for i, start in enumerate(starts)]
            self.register_buffer("firsts", torch.tensor(firsts), persistent=False)
            self.embed = nn.Embedding(sum(sizes), width)

    def forward(self, actions: Tensor, none: Tensor) -> Tensor:
        """Embed.

        Args:
            actions: (B, T) int64 for Discrete, (B, T, A) else.
            none: (B, T) bool, True where no action led into the frame; the entry of `actions` there is ignored.
        """
        if self.continuous:
            embedded = self.embed((actions.to(self.centre.dtype) - self.centre) / self.half_range)
        else:
            components = actions if actions.ndim == none.ndim + 1 else actions[..., None]
            valid = torch.where(none[..., None], -self.firsts + 0 * components, components) + self.firsts
            embedded = self.embed(valid).sum(dim=-2)
        return torch.where(none[..., None], self.null, embedded)


@torch.no_grad()
def _embed_numbers(size: int, width: int) -> nn.Sequential:
    """An MLP of `size` numbers in [-1, 1] that tells actions as far apart as a table of Discrete actions does.

    The entries of such a table have unit variance. PyTorch's default gives what an MLP makes of uniform numbers a
    hundredth of it, and beside the noise level's the action is not heard.
    """
    enter, leave = nn.Linear(size, width), nn.Linear(width, width)
    mlp = nn.Sequential(enter, nn.SiLU(), leave)
    nn.init.normal_(enter.weight, std=math.sqrt(3 / size))  # numbers that are uniform in [-1, 1] vary by 1 / 3
    leave.weight /= mlp(2 * torch.rand(SAMPLED, size) - 1).var(dim=0).mean().sqrt()
    nn.init.zeros_(leave.bias)
    return mlp


class VectorEmbedding(nn.Module):
    """Vectors (..., V) -> (..., width), linear in the numbers and in sines and cosines of them at doubling frequencies.

    What a place looks like changes faster with a pose than smooth functions of it can follow (Tancik et al. 2020,
    arXiv 2006.10739).
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(OCTAVES), persistent=False)
        self.linear = nn.Linear(size * (1 + 2 * OCTAVES), width)

    def forward(self, vectors: Tensor) -> Tensor:
        angles = (vectors[..., None] * self.frequencies).flatten(-2)
        return self.linear(torch.cat([vectors, angles.sin(), angles.cos()], dim=-1))
