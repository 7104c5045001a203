"""Stable-Baselines3 training inside the dream, if wanted with some rows of the real environment."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from lssvwm_agents.extractors import Standardised
from lssvwm_agents.learning_log import Row, figures_of, keep_no_log, write_rows, write_settings
from lssvwm_agents.offline import OfflineConfig, learn_offline, real_steps
from lssvwm_agents.policies import SavedPolicy, TrainingCost, check_reads, data_steps, load_policy, save_policy
from lssvwm_agents.remembering import standardise
from lssvwm_envs.dream.config import End
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.sb3 import DreamVecEnv, GymVecEnv, JoinedVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.files import check_new
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.progress import Update
from lssvwm_rl.training.cpu import tune_process

SETTINGS_FILE = "training.json"  # beside a policy: how it was trained


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
    entropy: float = 0.03
    """Weight of the entropy bonus. With 0.01 one agent of three did not learn to go back and look."""
    seed: int = 0
    """Seeds the networks, the environments and the actions."""

    def __post_init__(self) -> None:
        least = (self.num_envs, self.rollout_steps, self.batch_size, self.epochs)
        if min(least) < 1 or self.total_steps < self._least_steps():
            raise ValueError(f"Steps, environments, batch size and epochs must be at least 1, not {self}.")

    def _least_steps(self) -> int:
        return 1

    def algorithm_kwargs(self) -> dict[str, Any]:
        """These settings as Stable-Baselines3's PPO and sb3-contrib's RecurrentPPO take them."""
        return {
            "learning_rate": self.learning_rate,
            "n_steps": self.rollout_steps,
            "batch_size": min(self.batch_size, self.rollout_steps * self.num_envs),
            "n_epochs": self.epochs,
            "gamma": self.gamma,
            "gae_lambda": self.gae_lambda,
            "ent_coef": self.entropy,
            "seed": self.seed,
            "device": "cpu",  # the policy is small: on an accelerator it would wait for copies
        }


@dataclass(frozen=True)
class DreamTrainConfig(PPOConfig):
    """PPO inside the dream, on the readout of its memory."""

    num_envs: int = 128
    """Dreams that run together; a network call for many rows costs little more than for few."""
    rollout_steps: int = 32
    """Steps per dream between updates."""
    epochs: int = 10
    """Passes over each rollout: a gradient of so small a policy costs little beside a dreamt step."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the policy's and of the value function's layers."""
    context_length: int = 1
    """Real frames observed before each dream: 1 starts dreams where real episodes start."""
    start: float | str = "first"
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
    temperature: float = 1.0
    """Times the noise of dreamt frames; with 0, a memory and an action always lead to the same frame."""
    real_share: float = 0.0
    """Share of the rows that are real environments instead of dreams, with the world model beside them."""
    offline: OfflineConfig = OfflineConfig()
    """What a new policy learns beforehand from the real episodes that dreams begin in. PPO with the defaults above is
    for policies that know nothing, and unlearns much of it: choose an entropy of 0.001 and a learning rate of 1e-4, or
    no steps at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.real_share < 1:
            raise ValueError(f"The share of real rows must be from 0 to below 1, not {self.real_share}.")

    def _least_steps(self) -> int:
        return 0 if self.offline.updates else 1  # then it may learn from real episodes alone


@dataclass
class Returns:
    """What the last 100 episodes of a training came to, dreamt and real apart; the training fills it in."""

    dreamt: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    """Undiscounted sums of rewards."""
    real: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    """The same, of real rows."""
    real_steps: int = 0
    """Taken in real rows."""

    def note(self) -> str:
        """Mean returns, in words."""
        parts = [f"return {_mean(self.dreamt):.3f}"]
        return ", ".join(parts + ([f"real {_mean(self.real):.3f}"] if self.real_steps else []))


def _mean(values: deque[float]) -> float:
    return float(np.mean(values)) if values else float("nan")  # before the first episode has ended


def train_in_dream(
    checkpoint: str,
    config: DreamTrainConfig | None = None,
    out: str | Path | None = None,
    progress: Update | None = None,
    start: str | Path | None = None,
    real_env: EnvSetup | None = None,
    returns: Returns | None = None,
) -> PPO:
    """Train a policy that reads the world model's memory, without touching a real environment unless one is named.

    Args:
        checkpoint: name or folder of the world model.
        config: `DreamTrainConfig()` if None.
        out: new folder for the trained policy (`save_policy`), with what it cost, its settings (`SETTINGS_FILE`), its
            learning_curve.csv and its events. Of one that goes on with another, only who trained both knows what it
            cost (`policies.set_cost`).
        progress: called with (steps, all of them, mean returns of recent episodes).
        start: folder of a policy that reads a memory of the same size, to go on with.
        real_env: the environment of `config.real_share` of the rows, beside which the world model runs.
        returns: filled in.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint or policy.
        ValueError: if the checkpoint is unusable, there is no such engine, the policy reads another memory, or a share
            of real rows has no environment.
    """
    config = config or DreamTrainConfig()
    real_rows = round(config.real_share * config.num_envs)
    if (real_rows > 0) != (real_env is not None):
        raise ValueError(
            f"A share of {config.real_share:g} of {config.num_envs} rows is {real_rows} real ones, and the environment "
            f"is {None if real_env is None else real_env.env_id}; give both, or neither."
        )
    if out is not None:
        check_new(out)
    tune_process()
    saved = None if start is None else _readable(start, checkpoint)
    rows: list[VecEnv] = [_dreams(checkpoint, config, config.num_envs - real_rows)]
    if real_env is not None:
        rows.append(_real(checkpoint, config, real_env, real_rows))
    returns, began = returns or Returns(), time.perf_counter()
    heard = _Hear(returns, rows[0].num_envs, progress, config.total_steps)
    envs = JoinedVecEnv(rows)
    try:
        watched = VecMonitor(envs)
        model = _reader(watched, checkpoint, config, progress) if saved is None else _goes_on(watched, saved, config)
        if config.total_steps:
            keep_no_log(model)
            model.learn(config.total_steps, heard)
    finally:
        envs.close()
    if out is not None:
        data, seconds = data_steps(checkpoint), time.perf_counter() - began
        real_steps = None if data is None else data + returns.real_steps
        cost = TrainingCost(real_steps, model.num_timesteps - returns.real_steps, seconds)
        save_policy(model, out, checkpoint=checkpoint, cost=cost if start is None else None)
        _write_training(Path(out), {"checkpoint": checkpoint, **asdict(config)}, start, real_env, heard.rows)
    return model


def _write_training(
    out: Path, settings: Mapping[str, Any], begun_with: str | Path | None, env: EnvSetup | None, rows: Sequence[Row]
) -> None:
    """How a policy was trained, and what was measured meanwhile."""
    beyond = _beyond_options(begun_with, env)
    write_checked(out / SETTINGS_FILE, json.dumps({**settings, **beyond}, indent=2, default=str) + "\n")
    if rows:
        write_rows(out, rows)
        write_settings(out, settings, rows[-1])


def _beyond_options(begun_with: str | Path | None, env: EnvSetup | None) -> dict[str, Any]:
    """What else made a policy: the one that it went on with, and the environment of its real rows."""
    made: dict[str, Any] = {"begun_with": None if begun_with is None else str(begun_with), "env": None}
    if env is not None:
        given = {"image": env.image, "resize": env.resize, "seeds": env.seeds}
        made |= {"env": env.env_id, "env_kwargs": dict(env.kwargs), **given}
    return made


def _dreams(checkpoint: str, config: DreamTrainConfig, num_envs: int) -> DreamVecEnv:
    return DreamVecEnv(
        checkpoint,
        num_envs=num_envs,
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
        temperature=config.temperature,
    )


def _real(checkpoint: str, config: DreamTrainConfig, env: EnvSetup, num_envs: int) -> GymVecEnv:
    """Real environments with the memory beside them."""
    envs = SyncVectorEnv([env.make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    return GymVecEnv(VectorMemoryObservation(envs, checkpoint, "memory", config.device), config.seed)


def _readable(start: str | Path, checkpoint: str) -> SavedPolicy:
    saved = load_policy(start)
    check_reads(saved, load_world_model(checkpoint), same_model=False)
    return saved


def _reader(envs: VecEnv, checkpoint: str, config: DreamTrainConfig, progress: Update | None) -> PPO:
    """PPO on readouts, standardised as they are in the episodes that dreams begin in, and taught by these if wanted."""
    kwargs = {"features_extractor_class": Standardised, "net_arch": list(config.hidden)}
    model = PPO("MlpPolicy", envs, policy_kwargs=kwargs, **config.algorithm_kwargs())
    contexts = load_contexts(checkpoint) if config.contexts is None else EpisodeStore(config.contexts)
    engine = shared_engine(checkpoint, config.device, config.engine).engine
    standardise(model.policy, engine, contexts)
    if config.offline.updates:
        taught = real_steps(engine, contexts)
        learn_offline(model.policy, taught, config.offline, config.gamma, config.seed, progress)
    return model


def _goes_on(envs: VecEnv, saved: SavedPolicy, config: DreamTrainConfig) -> PPO:
    """PPO with the layers and weights of a policy, whatever layers new ones have."""
    names = ("net_arch", "activation_fn", "features_extractor_class", "features_extractor_kwargs")
    kwargs = {name: getattr(saved.policy, name) for name in names}
    model = PPO("MlpPolicy", envs, policy_kwargs=kwargs, **config.algorithm_kwargs())
    model.policy.load_state_dict(saved.policy.state_dict())
    return model


class _Hear(BaseCallback):
    """Fills in returns, and tells of the progress; rows from `dreams` on are real."""

    def __init__(self, returns: Returns, dreams: int, update: Update | None, total: int) -> None:
        super().__init__()
        self._returns, self._dreams, self._update, self._total = returns, dreams, update, total
        self.rows: list[Row] = []
        """What there is to tell after every update."""

    def _on_step(self) -> bool:
        for row, info in enumerate(self.locals["infos"]):
            if "episode" in info:
                (self._returns.dreamt if row < self._dreams else self._returns.real).append(info["episode"]["r"])
        self._returns.real_steps += self.training_env.num_envs - self._dreams
        if self._update is not None:
            self._update(self.num_timesteps, self._total, note=self._returns.note())
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps:
            self._tell()

    def _on_training_end(self) -> None:
        self._tell()

    def _tell(self) -> None:
        means = {"dreamt_return": self._returns.dreamt, "real_return": self._returns.real}
        told = {name: float(np.mean(found)) if found else None for name, found in means.items()}
        self.rows.append((self.num_timesteps, figures_of(self.model, **told)))
