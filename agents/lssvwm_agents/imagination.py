"""Stable-Baselines3 training inside the dream, and the same on real images as the baseline to compare with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from lssvwm_agents.policies import check_new, save_policy
from lssvwm_envs.make import make_image_env
from lssvwm_envs.sb3 import DreamVecEnv, GymVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.progress import Update
from lssvwm_rl.spaces import image_key

Progress = Callable[[int, int, float], None]
"""Called with (steps done, all steps, mean return of recent episodes, NaN before the first has ended)."""


@dataclass(frozen=True)
class PPOConfig:
    """PPO's settings, in the units of Stable-Baselines3."""

    total_steps: int = 200_000
    """Environment steps over all environments; rounded up to whole rollouts."""
    num_envs: int = 32
    """Environments stepped together."""
    rollout_steps: int = 64
    """Steps per environment between updates."""
    batch_size: int = 256
    """Minibatch size."""
    epochs: int = 4
    """Passes over each rollout."""
    learning_rate: float = 5e-4
    """Adam's step size."""
    gamma: float = 0.99
    """Discount per step."""
    gae_lambda: float = 0.95
    """Smoothing of advantages."""
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    seed: int = 0
    """Seeds the networks, the environments and the actions."""

    def __post_init__(self) -> None:
        if min(self.total_steps, self.num_envs, self.rollout_steps, self.batch_size, self.epochs) < 1:
            raise ValueError(f"Steps, environments, batch size and epochs must be at least 1, not {self}.")


@dataclass(frozen=True)
class DreamTrainConfig(PPOConfig):
    """PPO inside the dream, reading the memory."""

    num_envs: int = 128
    """Dreams that run together; a network call for many rows costs little more than for few."""
    rollout_steps: int = 32
    """Steps per dream between updates."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's and of the value function's layers."""
    context_length: int = 1
    """Real frames observed before each dream: 1 starts dreams where real episodes start."""
    max_episode_steps: int = 64
    """Dreams are cut after so many steps."""
    denoise_steps: int = 4
    """Network passes per dreamt frame. With 1, what is not known is a blur instead of a guess, which agents exploit."""
    device: str = "cpu"
    """Where the world model runs."""


IMAGE_PPO = PPOConfig(num_envs=8, rollout_steps=128, batch_size=512)
"""Of the baseline on real images."""


def shown_on(bar: Update) -> Progress:
    """What shows the progress of PPO on a bar, with the mean return beside it."""
    return lambda done, total, mean_return: bar(done, total, f"return {mean_return:.3f}")


def train_in_dream(
    checkpoint: str,
    config: DreamTrainConfig | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> PPO:
    """Train a policy that reads the world model's memory, without touching a real environment.

    Args:
        checkpoint: name or folder of the world model.
        out: new folder for the trained policy (`save_policy`).

    Raises:
        ValueError: if `out` exists or the checkpoint is unusable.
        FileNotFoundError: if there is no such checkpoint.
    """
    config = config or DreamTrainConfig()
    if out is not None:
        check_new(Path(out))
    envs = DreamVecEnv(
        checkpoint,
        num_envs=config.num_envs,
        seed=config.seed,
        observation="memory",
        context_length=config.context_length,
        horizon=config.max_episode_steps,
        denoise_steps=config.denoise_steps,
        device=config.device,
    )
    model = _train("MlpPolicy", VecMonitor(envs), config, {"net_arch": list(config.hidden)}, progress)
    if out is not None:
        save_policy(model, out, checkpoint=checkpoint)
    return model


def train_on_images(env_id: str, config: PPOConfig | None = None, progress: Progress | None = None) -> PPO:
    """The baseline: PPO with a convolutional policy on the real environment's images, without memory.

    Raises:
        ValueError: if the environment has no image observation.
        gymnasium.error.Error: if there is no such environment.
    """
    config = config or IMAGE_PPO
    envs = _real_envs(env_id, config.num_envs)
    policy = "CnnPolicy" if image_key(envs.single_observation_space) is None else "MultiInputPolicy"
    return _train(policy, VecMonitor(GymVecEnv(envs, config.seed)), config, {}, progress)


def train_on_memory(
    env_id: str, checkpoint: str, config: PPOConfig | None = None, progress: Progress | None = None
) -> PPO:
    """PPO with an MLP, which has no memory of its own, on what the world model remembers of the real environment.

    Raises:
        ValueError: if the environment's frames or actions are not the world model's.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    config = config or IMAGE_PPO
    envs = VectorMemoryObservation(_real_envs(env_id, config.num_envs), checkpoint)
    return _train("MlpPolicy", VecMonitor(GymVecEnv(envs, config.seed)), config, {}, progress)


def _real_envs(env_id: str, num_envs: int) -> VectorEnv:
    makers = [lambda: make_image_env(env_id) for _ in range(num_envs)]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def _train(
    policy: str, envs: VecEnv, config: PPOConfig, policy_kwargs: dict[str, object], progress: Progress | None
) -> PPO:
    try:
        model = PPO(
            policy,
            envs,
            learning_rate=config.learning_rate,
            n_steps=config.rollout_steps,
            batch_size=min(config.batch_size, config.rollout_steps * config.num_envs),
            n_epochs=config.epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            ent_coef=config.entropy,
            policy_kwargs=policy_kwargs,
            seed=config.seed,
            device="cpu",  # the policy is small: on an accelerator it would wait for copies
        )
        return model.learn(config.total_steps, callback=_ProgressCallback(config.total_steps, progress))
    finally:
        envs.close()


class _ProgressCallback(BaseCallback):
    def __init__(self, total: int, progress: Progress | None) -> None:
        super().__init__()
        self._total = total
        self._progress = progress

    def _on_step(self) -> bool:
        if self._progress is not None:
            recent = [episode["r"] for episode in self.model.ep_info_buffer or ()]
            self._progress(self.num_timesteps, self._total, float(np.mean(recent)) if recent else float("nan"))
        return True
