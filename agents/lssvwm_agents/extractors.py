"""What stands in front of Stable-Baselines3 policies, by names that a saved policy can hold."""

from __future__ import annotations

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

SIDES = ((8, 40), (4, 20))
"""(side of a patch, least side of an image), in pixels, the first that fits."""
FURTHEST = 10.0
LEAST_DEVIATION = 0.01


class PatchFeatures(BaseFeaturesExtractor):
    """One vector per patch of an image, a 3x3 convolution over patches, a linear layer; other parts as they are.

    A tile of MiniGrid's partial view (8 pixels) is a patch, so that what lies on it is one matrix product away. For
    RGB pictures of 56x56 pixels on one core, a gradient takes an eighth of the time of Stable-Baselines3's `NatureCNN`.

    Args:
        observation_space: an image (C, H, W), or a Dict with images and Boxes of other shapes, which are flattened.
        features_dim: of all images together.

    Raises:
        ValueError: if no patch fits an image.
    """

    def __init__(self, observation_space: gym.Space, features_dim: int = 128) -> None:
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"image": observation_space}
        shapes = {key: tuple(part.shape or ()) for key, part in parts.items()}
        images = {key: shape for key, shape in shapes.items() if len(shape) == 3}
        rest = sum(get_flattened_obs_dim(part) for key, part in parts.items() if key not in images)
        super().__init__(observation_space, features_dim * len(images) + rest)
        self.convolutions = nn.ModuleDict({key: _over_patches(shape, features_dim) for key, shape in images.items()})

    def forward(self, observations: Tensor | dict[str, Tensor]) -> Tensor:
        """Features (B, features_dim) of a batch of observations, as Stable-Baselines3 scales them."""
        parts = observations if isinstance(observations, dict) else {"image": observations}
        found = [
            self.convolutions[key](part) if key in self.convolutions else part.flatten(1) for key, part in parts.items()
        ]
        return torch.cat(found, dim=1)


class Standardised(BaseFeaturesExtractor):
    """Numbers minus their means, over their deviations, both fixed and kept with the policy.

    What decides is a small part of a memory's readout: a network tells it from a few minibatches of standardised
    numbers, and needs several times as many raw ones (docs/benchmarks.md, "What PPO on a memory needs").

    Args:
        observation_space: R numbers.
    """

    def __init__(self, observation_space: gym.Space) -> None:
        (size,) = observation_space.shape or ()
        super().__init__(observation_space, size)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))

    def forward(self, observations: Tensor) -> Tensor:
        """(B, R) -> (B, R), at most `FURTHEST` deviations from the mean."""
        return ((observations - self.mean) / self.deviation).clamp(-FURTHEST, FURTHEST)

    def measure(self, observations: Tensor) -> None:
        """Take the moments of observations (M, R)."""
        self.mean.copy_(observations.mean(dim=0))
        self.deviation.copy_(observations.std(dim=0, correction=0) + LEAST_DEVIATION)


EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {"patches": PatchFeatures, "standardised": Standardised}
"""Name -> what it stands for, beside those that Stable-Baselines3 takes by itself."""


def _over_patches(shape: tuple[int, ...], width: int) -> nn.Sequential:
    channels, high, wide = shape
    side = next((s for s, least in SIDES if high % s == wide % s == 0 and min(high, wide) >= least), None)
    if side is None:
        raise ValueError(
            f"No patch fits an image of {high}x{wide} pixels; its sides must be multiples of 4 from 20 on, or of 8. "
            "Use another size (--resize), or the network `nature`."
        )
    return nn.Sequential(
        nn.Conv2d(channels, 16, side, stride=side),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (high // side - 2) * (wide // side - 2), width),
        nn.ReLU(),
    )
