"""What real episodes teach a policy before its first dream: implicit Q-learning on the readouts of their memories."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import Space
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from torch import Tensor, nn
from torch.nn import functional as F

from lssvwm_agents.remembering import readouts
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.progress import Update
from lssvwm_rl.spaces import first_action, space_from_json

ROWS = 128  # episodes whose memories are formed side by side
MOST_WEIGHT = 20.0  # of one action in the loss of the policy


@dataclass(frozen=True)
class OfflineConfig:
    """Implicit Q-learning (Kostrikov et al. 2021) of a new policy."""

    updates: int = 0
    """Gradient steps on real episodes; with 0 a policy knows nothing before its first dream."""
    batch_size: int = 512
    """Real steps per gradient step."""
    learning_rate: float = 3e-4
    """AdamW's step size."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    expectile: float = 0.8
    """Of the action values that a state is worth; 0.5 is their mean, 1 the largest that the data holds."""
    sharpness: float = 2.0
    """Actions count exp(sharpness times their advantage, in deviations of the batch's advantages)."""
    target_rate: float = 0.005
    """Share of the action values' weights that their slow copies take over per gradient step."""

    def __post_init__(self) -> None:
        if self.updates < 0 or self.batch_size < 2:
            raise ValueError(f"Offline updates must be at least 0, of at least 2 steps, not {self}.")
        if not 0 < self.expectile < 1:
            raise ValueError(f"The expectile must lie between 0 and 1, not be {self.expectile}.")


@dataclass(frozen=True)
class RealSteps:
    """N real frames as policies read them, episode after episode, and what was done there."""

    readouts: Tensor
    """(N, R') float32, of the memory after each frame."""
    actions: Tensor
    """(N[, A]), taken at each frame and counted from 0; anything at the last frame of an episode."""
    rewards: Tensor
    """(N,) float32, received for them."""
    ended: Tensor
    """(N,) bool, whether they terminated the episode."""
    acted: Tensor
    """(M,) int64, the frames at which something was done: all but the last ones."""


def real_steps(engine: Engine, store: EpisodeStore) -> RealSteps:
    """All frames of a store, read with the memory of everything before them in their episodes."""
    begins = np.concatenate([[0], np.cumsum(store.lengths + 1)])
    space = space_from_json(store.header.action_space)
    some = store[0].actions
    found = torch.empty(int(begins[-1]), engine.model.readout_size)
    actions = np.zeros((len(found), *some.shape[1:]), some.dtype)
    rewards, ended, last = np.zeros(len(found), np.float32), np.zeros(len(found), bool), np.zeros(len(found), bool)
    order = np.argsort(store.lengths, kind="stable")  # those of like length side by side
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS].tolist()
        episodes = [store[i] for i in rows]
        memories = readouts(engine, episodes, store.header.from_info)
        for i, episode, read in zip(rows, episodes, memories, strict=True):
            begin, n = int(begins[i]), len(episode)
            found[begin : begin + n + 1] = read
            actions[begin : begin + n] = episode.actions - first_action(space)
            rewards[begin : begin + n] = episode.rewards
            ended[begin + n - 1], last[begin + n] = episode.terminated, True
    acted = torch.from_numpy(np.flatnonzero(~last))
    return RealSteps(found, torch.from_numpy(actions), torch.from_numpy(rewards), torch.from_numpy(ended), acted)


def learn_offline(
    policy: ActorCriticPolicy,
    steps: RealSteps,
    config: OfflineConfig,
    gamma: float,
    seed: int,
    progress: Update | None = None,
) -> None:
    """Teach a policy, and its value function, what the best of the recorded actions were, in place.

    No action is valued that was not taken, so nothing is believed of what the data does not show: the value function
    is an expectile of the values of recorded actions, and the policy imitates those that were better than that.

    Args:
        policy: on readouts.
        steps: real ones.
        gamma: discount per step.
        seed: of the draws of steps.
        progress: called with (updates, all of them).
    """
    rng = np.random.default_rng(seed)
    values = nn.ModuleList(_action_values(policy) for _ in range(2))
    slow = copy.deepcopy(values).requires_grad_(False)
    learnt = [*policy.parameters(), *values.parameters()]
    optimizer = torch.optim.AdamW(learnt, config.learning_rate, weight_decay=config.weight_decay)
    for update in range(config.updates):
        chosen = steps.acted[torch.from_numpy(rng.integers(len(steps.acted), size=config.batch_size))]
        loss = _loss(policy, values, slow, steps, chosen, config, gamma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for copied, weight in zip(slow.parameters(), values.parameters(), strict=True):
                copied.lerp_(weight, config.target_rate)
        if progress is not None:
            progress(update + 1, config.updates, note="from real episodes")


def _action_values(policy: ActorCriticPolicy) -> nn.Module:
    size = policy.features_dim + get_flattened_obs_dim(policy.action_space)
    return nn.Sequential(nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))


def _loss(
    policy: ActorCriticPolicy,
    values: nn.ModuleList,
    slow: nn.ModuleList,
    steps: RealSteps,
    chosen: Tensor,
    config: OfflineConfig,
    gamma: float,
) -> Tensor:
    """Of the action values, the value function and the policy together; they share no weights."""
    read, actions = steps.readouts[chosen], steps.actions[chosen]
    value, log_prob, _ = policy.evaluate_actions(read, actions)
    pairs = torch.cat([_features(policy, read), _encoded(actions, policy.action_space)], dim=1)
    with torch.no_grad():
        after = policy.predict_values(steps.readouts[chosen + 1]).squeeze(1)
        target = steps.rewards[chosen] + gamma * after * ~steps.ended[chosen]
        best = torch.minimum(*(each(pairs).squeeze(1) for each in slow))
    of_actions = sum((F.mse_loss(each(pairs).squeeze(1), target) for each in values), torch.zeros(()))
    advantage = best - value.squeeze(1)
    side = torch.where(advantage > 0, config.expectile, 1 - config.expectile)
    of_value = (side * advantage**2).mean()
    advantage = advantage.detach()
    weight = (config.sharpness * advantage / (advantage.std() + 1e-6)).exp().clamp(max=MOST_WEIGHT)
    return of_actions + of_value - (weight * log_prob).mean()


def _features(policy: ActorCriticPolicy, read: Tensor) -> Tensor:
    features = policy.extract_features(read, policy.vf_features_extractor)
    assert isinstance(features, Tensor)
    return features


def _encoded(actions: Tensor, space: Space) -> Tensor:
    """(n, A') float32: one of several things as zeros and a one, other numbers as they are."""
    encoded = preprocess_obs(actions, space)
    assert isinstance(encoded, Tensor)
    return encoded.flatten(1)
