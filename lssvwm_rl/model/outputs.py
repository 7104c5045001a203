"""What a world model says."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lssvwm_rl.model.heads import expected_reward
from lssvwm_rl.model.memory import Memory


class Prediction(NamedTuple):
    """Read from committed frames."""

    rewards: Tensor  # (B, T, 2) float32: if the episode goes on, and if it ended with the frame
    terminated: Tensor  # (B, T) float32 probability
    features: Tensor  # (B, T, R) float32 in [-1, 1]

    @property
    def reward(self) -> Tensor:
        """(B, T) float32, expected: both `rewards`, each with the probability of its case."""
        return expected_reward(self.rewards, self.terminated)


class Imagined(NamedTuple):
    """One dreamt step."""

    frame: Tensor  # (B, H, W, C) uint8
    vector: Tensor | None  # (B, V) float32
    rewards: Tensor  # (B, 2) float32: if the episode goes on, and if it ended with the frame
    terminated: Tensor  # (B,) float32 probability
    memory: Memory
    doubt: Tensor
    """(B,) float32, how far the last denoising pass moved the predicted frame: the root mean square, over tokens and
    their width, of W x - W x', with W the weight of `patch_in`, x the committed patches and x' the clean patches that
    the pass before the last one predicted. 0 where there was one pass, which says nothing. Its scale is the model's and
    the number of passes', see `doubt.DoubtScale`."""

    @property
    def reward(self) -> Tensor:
        """(B,) float32, expected: both `rewards`, each with the probability of its case."""
        return expected_reward(self.rewards, self.terminated)
