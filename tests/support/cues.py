"""Worlds in which memory is needed, and engines that remember or do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lssvwm_rl.data.store import Episode
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Prediction
from lssvwm_rl.model.world_model import WorldModel

STEPS, SHOWN_AGAIN = 14, 10
RED, BLUE, GREY, WHITE = ((255, 0, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255))
STAY, SHOW, END = 0, 1, 2  # actions


def cue_episode(red: bool, again: bool = True, paid: bool = True) -> Episode:
    """Red or blue, then grey; frame 10 shows the colour again if `again`; the last one is white, and red pays 1 then if
    `paid`."""
    frames = np.full((STEPS + 1, 16, 16, 3), GREY, np.uint8)
    actions, rewards = np.full(STEPS, STAY, np.int64), np.zeros(STEPS, np.float32)
    frames[0], frames[STEPS], actions[-1] = RED if red else BLUE, WHITE, END
    if again:
        frames[SHOWN_AGAIN], actions[SHOWN_AGAIN - 1] = frames[0], SHOW
    rewards[-1] = red and paid
    return Episode(frames, actions, rewards, terminated=True, truncated=False)


def cue_episodes(count: int = 16, again: bool = True, paid: bool = True) -> list[Episode]:
    """Red and blue ones by turns."""
    return [cue_episode(i % 2 == 0, again, paid) for i in range(count)]


class CueEngine:
    """Knows the rules of the cue world. The colour of the first frame that it sees it keeps in the features if it
    `remembers`; a colour that it does not know is half of each, and grey.

    Args:
        model: whose shapes memories have.
        remembers: whether it keeps the colour.
    """

    name = "torch"

    def __init__(self, model: WorldModel, remembers: bool):
        self.model, self.remembers = model, remembers

    def draw(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self.model.draw_noise(generators)

    def imagine(self, *_: object, **__: object):
        raise AssertionError("what is checked are predictions, of which none is committed")

    def observe(
        self, memory: Memory, frames: Tensor, actions: Tensor, vectors: Tensor | None = None
    ) -> tuple[Memory, Prediction]:
        colours = frames[:, 0, 0, 0].long()
        red, blue = ((colours == torch.tensor(c)).all(dim=1).float() for c in (RED, BLUE))
        cue = torch.where(memory.frames == 0, red - blue, memory.features[:, 0]) * self.remembers
        features = torch.zeros_like(memory.features).index_copy(1, torch.tensor([0]), cue[:, None])
        last = (frames[:, :, 0, 0] == 255).all(dim=-1).float()
        rewards = (last * (cue[:, None] + 1) / 2)[..., None].expand(-1, -1, 2)
        prediction = Prediction(rewards, last, features[:, None].expand(-1, frames.shape[1], -1))
        return dataclasses.replace(memory, features=features, frames=memory.frames + frames.shape[1]), prediction

    def denoise(
        self, memory: Memory, action: Tensor, noise: object, denoise_steps: int = 4, vector: Tensor | None = None
    ) -> Tensor:
        colours = torch.tensor([GREY] * len(action))
        colours[action == END] = torch.tensor(WHITE)
        for sign, colour in ((1, RED), (-1, BLUE)):
            colours[(action == SHOW) & (memory.features[:, 0] == sign)] = torch.tensor(colour)
        return colours[:, None, None].expand(-1, 16, 16, 3).to(torch.uint8)
