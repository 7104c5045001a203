"""Stable-Baselines3 PPO policies that can be kept, saved without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
)

from lssvwm_agents.extractors import EXTRACTORS
from lssvwm_agents.recurrent import lstm_kwargs, recurrent_policies
from lssvwm_agents.stacking import stacked
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import setup_of_checkpoint, setup_of_spec
from lssvwm_rl.checked_text import check_texts, write_checked
from lssvwm_rl.files import check_new, written_whole
from lssvwm_rl.model.checkpoint_files import ENV_FILE
from lssvwm_rl.model.checkpoint_tensors import check_finite, has_checksum, load_tensors, save_tensors
from lssvwm_rl.model.checkpoints import fingerprint, load_world_model
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.spaces import space_from_json, space_to_json
from lssvwm_rl.training.run_folder import steps_of_data

FORMAT_VERSION = 1
CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"
POLICY_CLASSES: dict[str, type[ActorCriticPolicy]] = {
    "MlpPolicy": ActorCriticPolicy,
    "CnnPolicy": ActorCriticCnnPolicy,
    "MultiInputPolicy": MultiInputActorCriticPolicy,
}
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "Tanh": torch.nn.Tanh,
    "ReLU": torch.nn.ReLU,
    "SiLU": torch.nn.SiLU,
    "GELU": torch.nn.GELU,
    "ELU": torch.nn.ELU,
}


@dataclass(frozen=True)
class TrainingCost:
    """What it took to train a policy; None for what is not known."""

    real_steps: int | None = None
    """Steps of the real environment, those of the data of the world model that it was trained with included."""
    dreamt_steps: int | None = None
    """Steps inside a world model."""
    seconds: float | None = None
    """Wall time, without that of the world model."""


@dataclass(frozen=True)
class SavedPolicy:
    """A policy that came from a folder, with what was written down about it."""

    policy: ActorCriticPolicy
    algorithm: str
    checkpoint: str | None
    """World model whose memory the policy reads, or None if it reads images."""
    env_id: str | None
    """Environment it was trained for or in, if known."""
    fingerprint: str | None = None
    """`checkpoints.fingerprint`, exported, of the world model whose memory it reads; None if it reads none, and in
    policies of earlier versions."""
    stack: int = 1
    """How many of the last observations it reads at once, see `stacking.stacked`."""
    cost: TrainingCost = TrainingCost()
    """What it took to train it."""

    @property
    def observation_space(self) -> gym.Space:
        """Of one observation; images are channels-first, as Stable-Baselines3 keeps them."""
        return self.policy.observation_space

    @property
    def action_space(self) -> gym.Space:
        """Of one action."""
        return self.policy.action_space

    @property
    def memory_kind(self) -> Literal["memory", "both"]:
        """What one that reads a memory sees of it: that alone, or the image as well."""
        return "both" if isinstance(self.observation_space, spaces.Dict) else "memory"

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """As Stable-Baselines3's `predict`; channels-last images are transposed, single observations stacked, and of a
        dict only the keys are read that there were in training."""
        if isinstance(observation, dict) and isinstance(self.observation_space, spaces.Dict):
            observation = {key: observation[key] for key in self.observation_space}
        if self.stack == 1:
            return self.policy.predict(observation, state, episode_start, deterministic)
        last, inner = (None, None) if state is None else state
        last = stacked(observation, last, episode_start, self.stack)
        actions, inner = self.policy.predict(last, inner, episode_start, deterministic)
        return actions, (last, inner)


def save_policy(
    model: OnPolicyAlgorithm,
    folder: str | Path,
    checkpoint: str | None = None,
    env_id: str | None = None,
    stack: int = 1,
    cost: TrainingCost | None = None,
) -> Path:
    """Write a policy of PPO or RecurrentPPO as `policy.safetensors` and `policy.json` into a new folder.

    It appears whole or not at all.

    Args:
        checkpoint: the world model whose memory the policy reads.
        env_id: the environment it belongs to.
        stack: how many of the last observations it reads at once (`stacking.stacked`).
        cost: what it took to train it.

    Raises:
        FileExistsError: if the folder exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the policy holds parts that cannot be rebuilt from JSON.
    """
    folder = Path(folder)
    check_new(folder)
    policy = model.policy
    classes = POLICY_CLASSES if lstm_kwargs(policy) is None else recurrent_policies()
    names = [name for name, cls in classes.items() if type(policy) is cls]
    if not names or policy.activation_fn.__name__ not in ACTIVATIONS or policy.use_sde:
        raise ValueError(
            f"A {type(policy).__name__} with activation {policy.activation_fn.__name__} cannot be saved; use one of "
            f"{', '.join(classes)} without gSDE and one of {', '.join(ACTIVATIONS)}."
        )
    config = {
        "format_version": FORMAT_VERSION,
        "algorithm": type(model).__name__,
        "policy": names[0],
        "observation_space": _space_to_json(policy.observation_space),
        "action_space": space_to_json(policy.action_space),
        "policy_kwargs": _policy_kwargs(policy),
        "checkpoint": checkpoint,
        "env_id": env_id,
        "fingerprint": None if checkpoint is None else fingerprint(load_world_model(checkpoint), exported=True),
        "stack": stack,
        **asdict(cost or TrainingCost()),
    }
    text = json.dumps(config, indent=2)
    with written_whole(folder) as partial:
        partial.mkdir()
        # Shared feature extractors appear under several names; save_model writes each tensor once.
        save_model(policy, str(partial / "unchecked"))
        tensors, metadata = load_tensors(partial / "unchecked")
        save_tensors(tensors, partial / WEIGHTS_FILE, metadata)
        (partial / "unchecked").unlink()
        write_checked(partial / CONFIG_FILE, text + "\n")
    return folder


def set_cost(folder: str | Path, cost: TrainingCost) -> None:
    """Write down what a saved policy took, in place of what its folder says.

    Raises:
        FileNotFoundError: if the folder holds no policy.
        ValueError: if it cannot be read.
    """
    load_policy(folder)
    path = Path(folder) / CONFIG_FILE
    config = {**json.loads(path.read_text()), **asdict(cost)}
    write_checked(path, json.dumps(config, indent=2) + "\n")


def load_policy(folder: str | Path, device: str = "cpu") -> SavedPolicy:
    """Read what `save_policy` wrote.

    Raises:
        FileNotFoundError: if the folder holds no policy.
        ValueError: if its files do not belong together, have changed since or come from a newer version.
        gymnasium.error.DependencyNotInstalled: if it is recurrent and sb3-contrib is missing.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"No policy at {folder} ({name} is missing); make one with `lssvwm agent train`.")
    try:
        check_policy_texts(folder)
        config = json.loads((folder / CONFIG_FILE).read_text())
        if config["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {config['format_version']} is not {FORMAT_VERSION}")
        kwargs = dict(config["policy_kwargs"])
        kwargs["activation_fn"] = ACTIVATIONS[kwargs["activation_fn"]]
        if "features_extractor_class" in kwargs:
            kwargs["features_extractor_class"] = EXTRACTORS[kwargs["features_extractor_class"]]
        name = config["policy"]
        policy = (POLICY_CLASSES if name in POLICY_CLASSES else recurrent_policies())[name](
            _space_from_json(config["observation_space"]),
            space_from_json(config["action_space"]),
            _no_schedule,
            **kwargs,
        )
        check_finite(load_tensors(folder / WEIGHTS_FILE)[0])
        load_model(policy, str(folder / WEIGHTS_FILE))
        loaded = SavedPolicy(policy.to(device), config["algorithm"], config["checkpoint"], config["env_id"])
        cost = TrainingCost(**{field.name: config.get(field.name) for field in fields(TrainingCost)})
        loaded = replace(loaded, fingerprint=config.get("fingerprint"), stack=config.get("stack", 1), cost=cost)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The policy at {folder} cannot be read ({_first_line(error)}); train it again.") from error
    policy.set_training_mode(False)
    return loaded


def check_policy_texts(folder: Path) -> None:
    """`check_texts` of a policy: where its weights have a checksum, policy.json has.

    Raises:
        ValueError: as `check_texts`.
        SafetensorError, OSError: if the weights are no whole safetensors file.
    """
    check_texts(folder, (CONFIG_FILE,) if has_checksum(folder / WEIGHTS_FILE) else ())


def check_reads(saved: SavedPolicy, model: WorldModel, same_model: bool = True, with_image: bool = False) -> None:
    """Raise ValueError unless the policy's observation is the readout of the model's memory.

    Args:
        with_image: whether it may be a Dict of that and of the model's image.
        same_model: whether it has to be the very model that the policy was trained with, as far as that is known: in
            the memory of another one its numbers mean something else.
    """
    height, width, channels = model.config.frame_shape
    memory, image, read = (model.readout_size,), (channels, height, width), saved.observation_space
    if with_image and isinstance(read, spaces.Dict):
        fits = {key: part.shape for key, part in read.items()} == {"image": image, "memory": memory}
    else:
        fits = read.shape == memory
    if not fits:
        raise ValueError(
            f"The policy reads {read}, but the memory has {model.readout_size} numbers, beside images {image}; use the "
            "world model it was trained with, or train it again."
        )
    found = fingerprint(model, exported=True) if same_model and saved.fingerprint is not None else saved.fingerprint
    if found != saved.fingerprint:
        raise ValueError(
            f"The policy was trained with world model {saved.fingerprint} ({saved.checkpoint}), this is {found}; use "
            "that one, or train the policy again."
        )


def setup_of_policy(folder: str | Path, checkpoint: str | None = None) -> EnvSetup | None:
    """What the environment of a saved policy was made with; None if its folder does not say it.

    Args:
        checkpoint: where the world model is whose memory it reads, if not where it was.

    Raises:
        FileNotFoundError: if there is no such policy or checkpoint.
        ValueError: if what they say cannot be used.
    """
    saved = load_policy(folder)
    path = Path(folder) / ENV_FILE
    if path.is_file():
        return setup_of_spec(path.read_text())
    checkpoint = checkpoint or saved.checkpoint
    return None if checkpoint is None else setup_of_checkpoint(checkpoint)


def data_steps(checkpoint: str | Path) -> int | None:
    """Real steps that a world model was trained on; None if its checkpoint does not say so.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
    """
    try:
        return steps_of_data(checkpoint)
    except ValueError:
        return None


def _policy_kwargs(policy: ActorCriticPolicy) -> dict[str, Any]:
    """What makes a policy again, as JSON values; classes by their names."""
    extractors = [name for name, cls in EXTRACTORS.items() if policy.features_extractor_class is cls]
    return {
        "net_arch": policy.net_arch,
        "activation_fn": policy.activation_fn.__name__,
        "share_features_extractor": policy.share_features_extractor,
        "normalize_images": policy.normalize_images,
        "features_extractor_kwargs": policy.features_extractor_kwargs,
        **({"features_extractor_class": extractors[0]} if extractors else {}),
        **(lstm_kwargs(policy) or {}),
    }


def _no_schedule(progress_remaining: float) -> float:
    return 0.0  # a loaded policy acts, it is not optimised


def _first_line(error: Exception) -> str:
    what = f"{WEIGHTS_FILE}: " if isinstance(error, SafetensorError) else ""  # that of other errors is in them
    return f"{what}{type(error).__name__}: {error}".splitlines()[0]


def _space_to_json(space: gym.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: _space_to_json(part) for key, part in space.spaces.items()}}
    return space_to_json(space)


def _space_from_json(value: dict[str, Any]) -> gym.Space:
    if value["type"] == "Dict":
        return spaces.Dict({key: _space_from_json(part) for key, part in value["spaces"].items()})
    return space_from_json(value)
