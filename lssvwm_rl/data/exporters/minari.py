"""Writes an episode store as a Minari data set: arrays, spaces, seeds, and how its environment is made.

Images are kept as they are, not as JPEG. `importers/minari.py` reads the same back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.importers.minari import DATASET_ID, ORDER, import_minari
from lssvwm_rl.data.observations import observations_of, parts_of_store
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.files import check_new, written_whole
from lssvwm_rl.spaces import space_from_json


def export_minari(
    store: EpisodeStore, dataset_id: str, folder: str | Path, on_episode: Callable[[Episode], None] | None = None
) -> Path:
    """Write a data set, which appears once it is whole.

    An observation is what the store knows it was; of a store that does not, the image, or a Dict of "image" and the
    vectors by their keys.

    Args:
        dataset_id: Minari's, "name-v0" or "group/name-v0".
        folder: where data sets are, see `importers.minari.datasets_folder`.
        on_episode: called after each episode.

    Returns:
        its own folder.

    Raises:
        gymnasium.error.DependencyNotInstalled: without Minari.
        FileExistsError: if there is such a data set.
        ValueError: if that is no id, or the store is empty or broken.
    """
    if not DATASET_ID.fullmatch(dataset_id):
        raise ValueError(f"{dataset_id!r} is no id of a Minari data set; write name-v0 or group/name-v0.")
    if not len(store):
        raise ValueError(f"{store.path} has no episodes; choose another store.")
    version = import_minari().__version__
    target = Path(folder) / dataset_id
    check_new(target)
    from minari.dataset.minari_storage import MinariStorage

    parts = parts_of_store(store.header)
    action_space = space_from_json(store.header.action_space)
    with written_whole(target) as partial:
        partial.mkdir()
        storage = MinariStorage.new(
            partial / "data",
            observation_space=parts.space,
            action_space=action_space,
            env_spec=_env_spec(store),
            jpeg_encoding=False,
        )
        about = {"dataset_id": dataset_id, "minari_version": version, "algorithm_name": store.header.policy}
        storage.update_metadata({**about, ORDER: list(parts.vectors)})
        storage.update_episodes(_buffers(store, on_episode))
    return target


def _buffers(store: EpisodeStore, on_episode: Callable[[Episode], None] | None) -> Iterator[Any]:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    parts, space = parts_of_store(store.header), space_from_json(store.header.action_space)
    for number, episode in enumerate(store):
        ends = np.zeros((2, len(episode)), np.bool_)
        ends[:, -1] = episode.terminated, episode.truncated
        arrays: dict[str, Any] = {
            "observations": observations_of(parts, episode.frames, episode.vectors),
            "actions": episode.actions.astype(space.dtype),
            "rewards": episode.rewards,
            "terminations": ends[0],
            "truncations": ends[1],
        }
        yield EpisodeBuffer(id=number, seed=episode.seed, **arrays)
        if on_episode is not None:
            on_episode(episode)


def _env_spec(store: EpisodeStore) -> EnvSpec | None:
    """How the environment is made, which is not tried here."""
    if store.header.env_spec is None:
        return None
    try:
        return EnvSpec.from_json(store.header.env_spec)
    except Exception as error:  # of many kinds, by what is wrong with the text
        warnings.warn(
            f"What {store.path} says of its environment is no EnvSpec ({error}), and is left out.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
