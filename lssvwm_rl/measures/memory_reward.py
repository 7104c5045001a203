"""Does the model remember? The reward of an episode's last step, predicted with memory and with memory wiped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lssvwm_rl.data.clips import Batch, clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.predict import observe_batch
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.progress import Update


@dataclass(frozen=True)
class MemoryReward:
    """Accuracies of telling success from failure at the last step, and how many episodes they are from."""

    accuracy: float
    wiped: float
    episodes: int


def memory_reward_accuracy(
    model: WorldModel, episodes: Sequence[Episode], batch_size: int = 32, progress: Update | None = None
) -> MemoryReward:
    """Whether the last step's reward is above zero, as predicted from memory and from the last frame alone.

    In MiniGrid-Memory the last frame shows the object that was reached; whether that is a success depends on the object
    at the other end of the world, seen long before. Predictions above half the mean reward of successful episodes count
    as success. The wiped model loses its memory (states, window, readout) just before it observes the last frame.

    Args:
        episodes: whole terminated episodes, in which what must be remembered was seen; half of them successes, so that
            chance is 0.5.
        progress: called with (episodes, all of them).

    Raises:
        ValueError: if there is no successful or no failed episode among them.
    """
    success = torch.tensor([float(e.rewards[-1]) > 0 for e in episodes])
    if not success.any() or success.all():
        raise ValueError("Memory accuracy needs successful and failed episodes; give it some of both.")
    threshold = float(torch.tensor([float(e.rewards[-1]) for e in episodes])[success].mean()) / 2
    remembered, wiped = [], []
    for batch, last in _batches(episodes, batch_size, model.device):
        rows = torch.arange(len(last), device=model.device)
        frames, actions = batch.frames[rows, last][:, None], batch.actions[rows, last][:, None]
        _, prediction = observe_batch(model, batch)
        remembered.append(prediction.reward[rows, last])
        vectors = None if batch.vectors is None else batch.vectors[rows, last][:, None]
        _, prediction = model.observe(model.initial_memory(len(last)), frames, actions, vectors)
        wiped.append(prediction.reward[:, 0])
        if progress is not None:
            progress(sum(map(len, wiped)), len(episodes))
    correct = [((torch.cat(rewards).cpu() > threshold) == success).float().mean() for rewards in (remembered, wiped)]
    return MemoryReward(float(correct[0]), float(correct[1]), len(episodes))


def _batches(
    episodes: Sequence[Episode], batch_size: int, device: torch.device
) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Batches of whole episodes and the index of each one's last frame."""
    for start in range(0, len(episodes), batch_size):
        group = episodes[start : start + batch_size]
        batch = clip_batch(group, max(len(e) for e in group) + 1)
        yield batch.to(device), batch.mask.sum(dim=1).to(device) - 1
