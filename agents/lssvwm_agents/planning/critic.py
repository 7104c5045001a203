"""What an agent's value function says of memories, for planners that look less far ahead than the task is long."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lssvwm_agents.policies import SavedPolicy, check_reads
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.world_model import WorldModel


def critic_value(saved: SavedPolicy, model: WorldModel) -> Callable[[Memory], Tensor]:
    """Returns to be expected from memories on, (M,), discounted as the agent was trained; a `terminal_value` of
    `WorldModelDynamics`.

    Raises:
        ValueError: if the agent was trained with another world model.
    """
    check_reads(saved, model)

    @torch.no_grad()
    def value(memory: Memory) -> Tensor:
        return saved.policy.predict_values(memory.readout().float())[:, 0]

    return value
