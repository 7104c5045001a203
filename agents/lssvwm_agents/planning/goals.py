"""Goals as pictures: rewards for planners that grow the more a dreamt frame resembles a wanted one.

    goal = EpisodeStore("data/reacher")[0].frames[-1]  # (H, W, C) uint8, as the model's frames
    policy = planner_policy(model, CEMConfig(horizon=4), reward=pixel_reward(goal, blur=4))

A goal is the same for all rows: a policy that acts in several environments at once seeks one picture in all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lssvwm_agents.planning.dynamics import engine_of
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import action_layout, space_from_json


def pixel_reward(goal: np.ndarray, blur: float = 0.0) -> Callable[[Imagined], Tensor]:
    """Minus the mean squared difference of a dreamt frame and the goal, of pixels in [0, 1].

    What is thin and does not overlap in two pictures differs by the same amount, however near it is. Blurred, it
    overlaps from afar, and a planner is led there.

    Args:
        goal: (H, W, C) uint8.
        blur: standard deviation in pixels of a Gaussian that both pictures are smoothed by; 0 for none.

    Returns:
        A function of a dreamt step that gives (M,), for `WorldModelDynamics` and `planner_policy`. It raises ValueError
        if frames have another shape than the goal.

    Raises:
        ValueError: if the goal is no such picture, or the blur is negative.
    """
    wanted = _picture(goal)
    if not blur >= 0:
        raise ValueError(f"A blur of {blur} pixels is impossible; give 0 for none, or a positive number.")
    over_rows, over_columns = (_smoothing(side, blur) for side in goal.shape[:2])

    def reward(step: Imagined) -> Tensor:
        if step.frame.shape[1:] != wanted.shape:
            raise ValueError(f"The goal {tuple(wanted.shape)} is no frame {tuple(step.frame.shape[1:])}; resize it.")
        dtype, device = step.reward.dtype, step.frame.device
        # Blurring is linear, so the difference is blurred instead of both.
        apart = (step.frame.to(dtype) - wanted.to(device, dtype)) / 255
        if blur:
            apart = torch.einsum("yh,mhwc->mywc", over_rows.to(device, dtype), apart)
            apart = torch.einsum("xw,mywc->myxc", over_columns.to(device, dtype), apart)
        return -apart.square().mean(dim=(1, 2, 3))

    return reward


def feature_reward(
    model: WorldModel | Engine, goal: np.ndarray, memory: Memory | None = None
) -> Callable[[Imagined], Tensor]:
    """Minus the mean squared difference of what the model's heads read from the dreamt and from the goal's frame.

    Only trained features count, which are in [-1, 1]; a reservoir says more of the past than of a frame.

    Args:
        model: or the engine that runs it.
        goal: (H, W, C) uint8, a frame of the model.
        memory: one row, of what was seen before the goal, for example the policy's own; features depend on it so much
            that those of a goal alone say little. Nothing if None.

    Returns:
        As `pixel_reward`.

    Raises:
        ValueError: if the goal is no frame of the model, or the memory has several rows.
    """
    engine = engine_of(model)
    config, device = engine.model.config, engine.model.device
    frame = _picture(goal)
    if tuple(frame.shape) != tuple(config.frame_shape):
        raise ValueError(f"The goal {tuple(frame.shape)} is no frame {tuple(config.frame_shape)}; resize it.")
    memory = engine.model.initial_memory(1) if memory is None else memory
    if memory.batch_size != 1:
        raise ValueError(f"A goal follows one memory, not {memory.batch_size}; select one row of it.")
    shape, dtype = action_layout(space_from_json(config.action_space))
    action = torch.from_numpy(np.zeros((1, 1, *shape), dtype)).to(device)
    after, _ = engine.observe(memory, frame[None, None].to(device), action)
    size = config.feature_size
    wanted = after.features[:, :size]
    return lambda step: -(step.memory.features[:, :size] - wanted).square().mean(dim=1)


def _picture(goal: np.ndarray) -> Tensor:
    if not isinstance(goal, np.ndarray) or goal.dtype != np.uint8 or goal.ndim != 3:
        got = f"{goal.shape} {goal.dtype}" if isinstance(goal, np.ndarray) else type(goal).__name__
        raise ValueError(f"A goal is one picture (H, W, C) uint8, not {got}; give a frame as the environment shows it.")
    return torch.from_numpy(np.ascontiguousarray(goal))


def _smoothing(side: int, deviation: float) -> Tensor:
    """(side, side) float64, whose rows are Gaussians that sum to 1, also at the borders."""
    at = torch.arange(side, dtype=torch.float64)
    return torch.softmax(-0.5 * ((at[:, None] - at) / max(deviation, 1e-3)).square(), dim=1)
