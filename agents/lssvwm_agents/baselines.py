"""Agents that learn in the real environment, to compare with: PPO on one image, on the last few, with an LSTM, and on
the memory of a world model that runs beside the environment."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import FilterObservation
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor
from torch.utils.tensorboard import FileWriter

from lssvwm_agents import policies
from lssvwm_agents.extractors import PatchFeatures
from lssvwm_agents.imagination import PPOConfig
from lssvwm_agents.learning_log import Row, figures_of, keep_no_log, write_settings
from lssvwm_agents.policies import TrainingCost, data_steps, save_policy
from lssvwm_agents.recurrent import recurrent_ppo
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import EnvOptions, known_setup, setup_of_checkpoint
from lssvwm_envs.sb3 import GymVecEnv
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.checked_text import read_checked, write_checked
from lssvwm_rl.data.splits import SPLITS, split_seed
from lssvwm_rl.events import write_scalars
from lssvwm_rl.files import is_unused, remove
from lssvwm_rl.model.checkpoint_files import ENV_FILE
from lssvwm_rl.progress import Update
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.curve import Curve
from lssvwm_rl.training.run_folder import load_state, save_state

KINDS = ("images", "frame-stack", "recurrent", "memory", "both")
ON_MEMORY = ("memory", "both")
NETWORKS = ("patches", "nature")
LEAST_NATURE = 36  # pixels per side: its convolutions leave nothing of smaller images
SETTINGS_FILE = "baseline.json"


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(PPOConfig, EnvOptions):
    """PPO in the real environment; the same settings for every kind."""

    env: str
    """Gymnasium id of the environment."""
    kind: Annotated[str, tyro.conf.arg(metavar="|".join(KINDS))] = "images"
    """What the policy reads: one image, the last few, images with an LSTM, the memory of a world model, or that and the
    image."""
    checkpoint: str | None = None
    """For the kinds memory and both, the world model: folder, packaged name or hub id."""
    total_steps: Annotated[int, tyro.conf.arg(name="steps")] = 1_000_000
    """Real steps over all environments; rounded up to whole rollouts."""
    num_envs: int = 16
    """Environments stepped together."""
    rollout_steps: int = 256
    """Steps per environment between updates."""
    batch_size: int = 1024
    """Minibatch size."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    network: Annotated[str, tyro.conf.arg(metavar="|".join(NETWORKS))] = "patches"
    """What reads images: `extractors.PatchFeatures`, which is fast, or Stable-Baselines3's NatureCNN."""
    frames: int = 4
    """Of the kind frame-stack."""
    lstm: int = 128
    """Width of the LSTM, of the kind recurrent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ValueError(f"There is no kind of baseline {self.kind!r}; use one of {', '.join(KINDS)}.")
        if self.network not in NETWORKS:
            raise ValueError(f"There is no network {self.network!r}; use one of {', '.join(NETWORKS)}.")
        if min(self.frames, self.lstm) < 1:
            raise ValueError(f"Frames and width of the LSTM must be at least 1, not {self.frames} and {self.lstm}.")
        if (self.kind in ON_MEMORY) != (self.checkpoint is not None):
            raise ValueError(
                f"The kind {self.kind!r} with the checkpoint {self.checkpoint} does not fit: memory and both need the "
                "checkpoint of a world model, and the other kinds read none."
            )


def train_baseline(
    config: BaselineConfig, out: str | Path | None = None, progress: Update | None = None
) -> OnPolicyAlgorithm:
    """Train in the real environment; called again with the same folder, go on where it was interrupted.

    After every rollout the folder gets weights, optimizer and counter (`trainer/state.pt`) and a row of
    `learning_curve.csv`: step (real ones, without those of a world model's data), return and success, which are means
    over the last 100 episodes, and seconds. At the end it is the folder of a policy (`load_policy`). Environments
    cannot be saved: after an interruption they begin new episodes.

    Args:
        out: new folder, or one of the same settings; only the steps may be more. Nothing is written if None.
        progress: called with (steps, all of them, mean return of recent episodes).

    Returns:
        PPO, or sb3-contrib's RecurrentPPO.

    Raises:
        ValueError: if the folder holds something else, or the environment does not suit the settings.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment, or sb3-contrib is missing.
    """
    state = None if out is None else _previous(Path(out), config)
    tune_process()
    setup = setup_of(config)
    envs = _environments(config, setup)
    try:
        model = _algorithm(config, envs)
        keep_no_log(model)
        spent = 0.0 if state is None else _restore(model, state, config.seed)
        keep = _Keep(None if out is None else Path(out), model, spent, progress, config.total_steps)
        if out is not None:
            write_checked(Path(out) / SETTINGS_FILE, json.dumps(asdict(config), indent=2) + "\n")
        if model.num_timesteps < config.total_steps:
            model.learn(config.total_steps - model.num_timesteps, keep, reset_num_timesteps=False)
        if out is not None:
            _finish(Path(out), model, config, keep.seconds, setup.spec_json())
            if keep.last is not None:
                write_settings(Path(out), asdict(config), keep.last)
        return model
    finally:
        envs.close()


def setup_of(config: BaselineConfig) -> EnvSetup:
    """What the policy learns in: where nothing else is said, as it was for its world model's data.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError, gymnasium.error.Error: as `EnvOptions.setup`.
    """
    checkpoint = config.checkpoint
    known = None if checkpoint is None else known_setup(config.env, partial(setup_of_checkpoint, checkpoint))
    return config.setup(config.env, known, f"the data of {config.checkpoint}")


def _without_texts(setup: EnvSetup) -> gym.Env:
    """The environment, and of a Dict only the keys that Stable-Baselines3 can read."""
    env, known = setup.make(), (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    if not isinstance(env.observation_space, spaces.Dict):
        return env
    keys = [key for key, part in env.observation_space.items() if isinstance(part, known)]
    return FilterObservation(env, keys) if len(keys) < len(env.observation_space) else env


def _environments(config: BaselineConfig, setup: EnvSetup) -> VecEnv:
    make = partial(_without_texts, setup) if config.checkpoint is None else setup.make
    envs: VectorEnv = SyncVectorEnv([make] * config.num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    try:
        if config.checkpoint is not None:
            envs = VectorMemoryObservation(envs, config.checkpoint, "both" if config.kind == "both" else "memory")
    except BaseException:
        envs.close()
        raise
    watched = VecMonitor(GymVecEnv(envs, config.seed))
    return VecFrameStack(watched, config.frames, channels_order="last") if config.kind == "frame-stack" else watched


def _algorithm(config: BaselineConfig, envs: VecEnv) -> OnPolicyAlgorithm:
    settings = config.algorithm_kwargs()
    if config.kind == "memory":
        return PPO("MlpPolicy", envs, **settings)
    parts = envs.observation_space.spaces if isinstance(envs.observation_space, spaces.Dict) else None
    dictionary, every = parts is not None, [envs.observation_space] if parts is None else parts.values()
    shapes = [part.shape or () for part in every]
    small = [shape for shape in shapes if len(shape) == 3 and min(shape[:2]) < LEAST_NATURE]
    if config.network == "nature" and small:
        raise ValueError(
            f"The network nature reads images from {LEAST_NATURE}x{LEAST_NATURE} pixels on, not those of {small[0]}; "
            "use another size (--resize)."
        )
    policy: dict[str, Any] = {}
    if config.network == "patches":
        # A memory is not for one layer to read.
        net = [64, 64] if config.kind == "both" else [64]
        policy = {"features_extractor_class": PatchFeatures, "net_arch": net}
    if config.kind == "recurrent":
        # One LSTM instead of two; it learns from the actor's gradient alone.
        policy |= {"lstm_hidden_size": config.lstm, "shared_lstm": True, "enable_critic_lstm": False}
        name = "MultiInputLstmPolicy" if dictionary else "CnnLstmPolicy"
        return recurrent_ppo()(name, envs, policy_kwargs=policy, **settings)
    return PPO("MultiInputPolicy" if dictionary else "CnnPolicy", envs, policy_kwargs=policy, **settings)


def _previous(out: Path, config: BaselineConfig) -> dict[str, Any] | None:
    """The state in a folder, None if it holds nothing yet; ValueError if it is not of this training."""
    path = out / SETTINGS_FILE
    if not path.is_file():
        if not is_unused(out):
            raise ValueError(f"{out} is not empty and no baseline; choose another --out.")
        return None
    try:
        found = dict(json.loads(read_checked(path)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is broken ({error}); choose another --out.") from error
    for name, ours in _as_json(asdict(config)).items():
        theirs = found[name] if name in found else _as_json(_default(name))
        if name != "total_steps" and theirs != ours:
            raise ValueError(
                f"{out} is a baseline with {name} {theirs}, not {ours}; repeat its command or choose another --out."
            )
    state = load_state(out)
    done = 0 if state is None else state["steps"]
    if done >= config.total_steps + config.num_envs * config.rollout_steps:
        raise ValueError(f"{out} has had {done:,} steps, more than {config.total_steps:,}; choose another --out.")
    return state


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _default(name: str) -> Any:
    """Of a setting that the folder of an older version does not name."""
    (found,) = (f for f in fields(BaselineConfig) if f.name == name)
    return found.default if found.default_factory is MISSING else found.default_factory()


def _restore(model: OnPolicyAlgorithm, state: Mapping[str, Any], seed: int) -> float:
    """Go on from a state; the seconds that were spent."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    model.num_timesteps = state["steps"]
    model.ep_info_buffer = deque(state["episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    # Other worlds and draws than at the beginning, and the same ones whenever it is resumed from here.
    drawn = np.random.default_rng([seed, state["steps"]]).integers(len(SPLITS["train"]) - model.n_envs)
    model.set_random_seed(split_seed("train", int(drawn)))
    return state["seconds"]


class _Keep(BaseCallback):
    """Saves the training whenever an update is done, and tells of the progress."""

    def __init__(
        self, out: Path | None, model: OnPolicyAlgorithm, spent: float, update: Update | None, total: int
    ) -> None:
        super().__init__()
        self.seconds = spent
        """That the training took until the last save."""
        self.last: Row | None = None
        """What was told at the last save."""
        self._events: FileWriter | None = None
        self._out, self._curve = out, None if out is None else Curve(out, model.num_timesteps)
        self._saved, self._since, self._update, self._total = model.num_timesteps, 0.0, update, total

    def _on_training_start(self) -> None:
        self._since = time.perf_counter()

    def _on_rollout_start(self) -> None:
        self._save()

    def _on_step(self) -> bool:
        if self._update is not None:
            self._update(self.num_timesteps, self._total, note=f"return {self._returns().mean():.3f}")
        return True

    def _on_training_end(self) -> None:
        self._save()
        if self._events is not None:
            self._events.close()

    def _returns(self) -> np.ndarray:
        episodes = [float(episode["r"]) for episode in self.model.ep_info_buffer or ()]
        return np.array(episodes or [np.nan])  # before the first episode has ended

    def _save(self) -> None:
        steps, now = self.model.num_timesteps, time.perf_counter()
        if self._out is None or self._curve is None or steps == self._saved:
            return
        self.seconds, self._since, self._saved = self.seconds + now - self._since, now, steps
        returns, policy = self._returns(), self.model.policy
        success = float(np.where(np.isnan(returns), np.nan, returns > 0).mean())
        # First the row: those that come after the state are dropped when it is resumed.
        row: dict[str, float] = {"return": float(returns.mean()), "success": success, "seconds": self.seconds}
        self._curve.add({"step": steps, **row})
        self._curve.keep()
        self.last = steps, figures_of(self.model, **{n: v for n, v in row.items() if np.isfinite(v)})
        if self._events is None:
            self._events = FileWriter(str(self._out))
        write_scalars(self._events, self.last[1], steps)
        self._events.flush()
        state = {
            "policy": policy.state_dict(),
            "optimizer": policy.optimizer.state_dict(),
            "steps": steps,
            "seconds": self.seconds,
            "episodes": [{"r": float(e["r"]), "l": int(e["l"])} for e in self.model.ep_info_buffer or ()],
        }
        save_state(self._out, state)


def _finish(out: Path, model: OnPolicyAlgorithm, config: BaselineConfig, seconds: float, env_spec: str | None) -> None:
    """Make the run folder the folder of a policy, with what its environment was made of; one of fewer steps is
    replaced."""
    if env_spec is not None:
        write_checked(out / ENV_FILE, env_spec)
    real: int | None = model.num_timesteps
    if config.checkpoint is not None and real is not None:
        seen = data_steps(config.checkpoint)
        real = None if seen is None else real + seen
    cost = TrainingCost(real, 0, seconds)
    stack = config.frames if config.kind == "frame-stack" else 1
    whole = out / ".tmp-policy"
    remove(whole)  # of a process that was killed
    save_policy(model, whole, config.checkpoint, config.env, stack, cost)
    os.replace(whole / policies.WEIGHTS_FILE, out / policies.WEIGHTS_FILE)
    # Without this one there is no policy.
    write_checked(out / policies.CONFIG_FILE, (whole / policies.CONFIG_FILE).read_text())
    remove(whole)
