"""Stable-Baselines3 training inside the dream, and the same on real images as the baseline to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from lssvwm_agents.policies import save_policy
from lssvwm_envs.dream.config import End
from lssvwm_envs.make import make_image_env
from lssvwm_envs.sb3 import DreamVecEnv, GymVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.files import check_new
from lssvwm_rl.progress import Update
from lssvwm_rl.spaces import image_key
from lssvwm_rl.training.cpu import tune_process


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
    """PPO inside the dream, on the readout of its memory."""

    num_envs: int = 128
    """Dreams that run together; a network call for many rows costs little more than for few."""
    rollout_steps: int = 32
    """Steps per dream between updates."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's and of the value function's layers."""
    context_length: int = 1
    """Real frames observed before each dream: 1 starts dreams where real episodes start."""
    start: str | float = "first"
    """Where in real episodes dreams begin: first, anywhere, or the share that begins anywhere."""
    contexts: str | None = None
    """Store of the real episodes; by default the held-out ones that come with the checkpoint."""
    end: End = "threshold"
    """Dreams end where that is more likely than not, or the end is drawn (sample)."""
    horizon: int = 64
    """Dreams are cut after so many steps."""
    denoise_steps: int = 4
    """Network passes per dreamt frame. With 1, what is not known is a blur instead of a guess, which agents exploit."""
    device: str = "cpu"
    """Where the world model runs."""
    engine: str = "auto"
    """What runs it: auto, torch, compiled, native or native-bf16."""
    doubt_limit: float | None = None
    """Doubt in (0, 1] at which a dream is cut, for example 0.99; by default none is."""
    doubt_penalty: float = 0.0
    """Times the doubt in [0, 1] of each frame, it is subtracted from the reward."""


IMAGE_PPO = PPOConfig(num_envs=8, rollout_steps=128, batch_size=512)
"""Of the baseline on real images."""


def train_in_dream(
    checkpoint: str,
    config: DreamTrainConfig | None = None,
    out: str | Path | None = None,
    progress: Update | None = None,
) -> PPO:
    """Train a policy that reads the world model's memory, without touching a real environment.

    Args:
        checkpoint: name or folder of the world model.
        config: `DreamTrainConfig()` if None.
        out: new folder for the trained policy (`save_policy`).
        progress: called with (dreamt steps, all of them, mean return of recent dreams).

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint is unusable, or there is no such engine.
    """
    config = config or DreamTrainConfig()
    if out is not None:
        check_new(out)
    tune_process()
    envs = DreamVecEnv(
        checkpoint,
        num_envs=config.num_envs,
        seed=config.seed,
        observation="memory",
        context_length=config.context_length,
        start=config.start,
        contexts=config.contexts,
        end=config.end,
        horizon=config.horizon,
        denoise_steps=config.denoise_steps,
        device=config.device,
        engine=config.engine,
        doubt_limit=config.doubt_limit,
        doubt_penalty=config.doubt_penalty,
    )
    model = _train("MlpPolicy", envs, config, progress, net_arch=list(config.hidden))
    if out is not None:
        save_policy(model, out, checkpoint=checkpoint)
    return model


def train_on_images(env_id: str, config: PPOConfig = IMAGE_PPO, progress: Update | None = None) -> PPO:
    """The baseline: PPO with a convolutional policy on the real environment's images, without memory.

    Raises:
        ValueError: if the environment has no image observation.
        gymnasium.error.Error: if there is no such environment.
    """
    envs = _real_envs(env_id, config.num_envs)
    policy = "CnnPolicy" if image_key(envs.single_observation_space) is None else "MultiInputPolicy"
    return _train(policy, GymVecEnv(envs, config.seed), config, progress)


def train_on_memory(env_id: str, checkpoint: str, config: PPOConfig = IMAGE_PPO, progress: Update | None = None) -> PPO:
    """PPO with an MLP, which has no memory of its own, on the readout of a memory of the real environment.

    Raises:
        ValueError: if the environment's frames or actions are not the world model's.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    envs = VectorMemoryObservation(_real_envs(env_id, config.num_envs), checkpoint)
    return _train("MlpPolicy", GymVecEnv(envs, config.seed), config, progress)


def _real_envs(env_id: str, num_envs: int) -> VectorEnv:
    makers = [lambda: make_image_env(env_id) for _ in range(num_envs)]
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


def _train(policy: str, envs: VecEnv, config: PPOConfig, progress: Update | None, **policy_kwargs: Any) -> PPO:
    try:
        model = PPO(
            policy,
            VecMonitor(envs),
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
        show = None if progress is None else _ShowProgress(progress, config.total_steps)
        return model.learn(config.total_steps, show)
    finally:
        envs.close()


class _ShowProgress(BaseCallback):
    def __init__(self, update: Update, total: int) -> None:
        super().__init__()
        self._update, self._total = update, total

    def _on_step(self) -> bool:
        recent = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean = np.mean(recent) if recent else np.nan  # before the first episode has ended
        self._update(self.num_timesteps, self._total, note=f"return {mean:.3f}")
        return True
