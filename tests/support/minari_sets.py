"""Data sets that Minari itself writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

SPEC = EnvSpec("Nowhere/Never-v3", entry_point="nowhere.never:Env", kwargs={"size": 3}, max_episode_steps=7)
ACTIONS = [
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([3, 2]),
    spaces.Box(-1, 2, (2,), np.float32),
    spaces.Box(np.float32([-np.inf, 0]), np.float32([np.inf, 1])),
]
IMAGES = [
    spaces.Box(0, 255, (4, 6, 3), np.uint8),
    spaces.Box(0, 255, (3, 4, 6), np.uint8),
    spaces.Box(0, 255, (4, 6), np.uint8),
]
PARTS: dict[str, spaces.Space] = {
    "vector": spaces.Box(-5, 5, (3,), np.float32),
    "matrix": spaces.Box(0, 9, (2, 3), np.int32),
    "direction": spaces.Discrete(4),
    "choices": spaces.MultiDiscrete([3, 4]),
    "bits": spaces.MultiBinary(3),
    "inner": spaces.Dict({"speed": spaces.Box(-1, 1, (1,), np.float32), "on.off": spaces.Discrete(2)}),
}


def write_dataset(
    folder: Path, observed: spaces.Space, acted: spaces.Space, episodes, spec=SPEC, kind="hdf5", jpeg=False
) -> Path:
    """By Minari itself, without making an environment."""
    folder.mkdir(parents=True)
    storage = MinariStorage.new(folder / "data", observed, acted, spec, kind, jpeg_encoding=jpeg)
    about = {"dataset_id": "me/data-v0", "minari_version": minari.__version__, "algorithm_name": "walker"}
    storage.update_metadata(about)
    storage.update_episodes(episodes)
    return folder


def stacked(samples: list[Any]) -> Any:
    """Arrays in dicts of a list of samples."""
    if isinstance(samples[0], dict):
        return {key: stacked([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack([np.asarray(sample) for sample in samples])


def episode(observed, acted, steps: int, seed: int | None, number: int, ends: tuple[bool, bool]) -> EpisodeBuffer:
    for space in (observed, acted):
        space.seed(1000 * number + steps)
    flags = np.zeros((2, steps), np.bool_)
    flags[:, -1] = ends
    return EpisodeBuffer(
        id=number, seed=seed, observations=stacked([observed.sample() for _ in range(steps + 1)]),
        actions=stacked([acted.sample() for _ in range(steps)]), rewards=np.arange(steps) * 0.25 - 1,
        terminations=flags[0], truncations=flags[1],
    )  # fmt: skip
