"""RealEpisode: an episode of a real environment that is played by hand, and can be stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import gymnasium as gym
import numpy as np

from lssvwm_envs.make import EnvSetup, env_spec_json
from lssvwm_envs.play.controls import for_environment
from lssvwm_envs.play.moments import Moment
from lssvwm_rl.data.collect import stored_episodes
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoints import check_fits
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.spaces import action_layout, image_key, image_of, image_shape, read_vectors, space_to_json, unseen

HUMAN = "human"
"""What a store says of who played."""
SPLIT = "train"
"""Of the worlds that are played: what people play is to be learned from."""


class RealEpisode:
    """Plays an environment, one episode after the other.

    Args:
        setup: what is played.
        config: of the model that watches.
        recorded: keys of the observation or of info that a store keeps as vectors. The model is shown them only if the
            observation holds them all: what was taken from info is not for an agent to know.

    Raises:
        ValueError: if the environment cannot be made, or is not the model's.
        gymnasium.error.Error: if there is no such environment.
    """

    def __init__(self, setup: EnvSetup, config: WorldModelConfig, recorded: tuple[str, ...] = ()):
        self.env: gym.Env = setup.make()
        space = self.env.observation_space
        check_fits(config, image_shape(space), space_to_json(self.env.action_space), "The environment")
        self._key, self._recorded = image_key(space), recorded
        self._shows = bool(config.vector_size and recorded and not unseen(recorded, space))
        self._moments: list[Moment] = []
        self._vectors: list[np.ndarray] = []
        self._seed = 0

    @property
    def is_storable(self) -> bool:
        """Whether it has a step."""
        return len(self._moments) > 1

    def begin(self, seed: int) -> Moment:
        """The first moment in a world, counted inside the split."""
        self._seed = split_seed(SPLIT, seed)
        observation, info = self.env.reset(seed=self._seed)
        self._moments, self._vectors = [], []
        return self._add(observation, info)

    def step(self, action: np.ndarray) -> Moment:
        """The next one."""
        taken = for_environment(action, self.env.action_space)
        observation, reward, terminated, truncated, info = self.env.step(taken)
        return self._add(observation, info, action, float(reward), bool(terminated), bool(truncated))

    def episode(self) -> Episode:
        """What has been played, for a store; cut (truncated) if it has not ended.

        Raises:
            ValueError: if there is no step.
        """
        if not self.is_storable:
            raise ValueError("An episode without a step is not stored; act first.")
        last, later = self._moments[-1], self._moments[1:]
        _, dtype = action_layout(self.env.action_space)
        return Episode(
            frames=np.stack([moment.frame for moment in self._moments]),
            actions=np.stack([np.asarray(moment.action, dtype) for moment in later]),
            rewards=np.array([moment.reward for moment in later], np.float32),
            terminated=last.terminated,
            truncated=not last.terminated,
            vectors=np.stack(self._vectors) if self._recorded else None,
            seed=self._seed,
        )

    def header(self) -> StoreHeader:
        """Of a store of such episodes, as `lssvwm collect` writes it."""
        height, width, channels = image_shape(self.env.observation_space)
        sizes = [len(each) for each in self._parts]
        return StoreHeader(
            frame_shape=(height, width, channels),
            action_space=space_to_json(self.env.action_space),
            vector_keys={key: size for key, size in zip(self._recorded, sizes, strict=True)},
            env_spec=env_spec_json(self.env),
            policy=HUMAN,
            seeds=(self._seed,),
            from_info=unseen(self._recorded, self.env.observation_space),
        )

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _add(
        self,
        observation: Any,
        info: dict[str, Any],
        action: np.ndarray | None = None,
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
    ) -> Moment:
        self._parts = [read_vectors([key], observation, info, 1)[0] for key in self._recorded]
        numbers = np.concatenate(self._parts) if self._parts else np.zeros(0, np.float32)
        total = self._moments[-1].total + reward if self._moments else 0.0
        frame = np.array(image_of(observation, self._key))
        moment = Moment(
            frame,
            "real",
            action,
            reward,
            total,
            terminated=terminated,
            truncated=truncated,
            vectors=numbers if self._shows else None,
        )
        self._moments.append(moment)
        self._vectors.append(numbers)
        return moment


class Recorder:
    """Adds episodes to the store that people play for; sessions share it.

    Args:
        out: folder of the store, made with the first episode.
        log: is told what failed, with names of files that are not for the page.

    Raises:
        ValueError: if other things, or episodes that were not played by hand, are there.
    """

    def __init__(self, out: Path, log: Callable[[str], None] = print):
        self.out, self.added, self._log = out, 0, log
        stored_episodes(out, SPLIT, HUMAN)
        self._lock = Lock()

    def add(self, real: RealEpisode) -> int:
        """Store an episode at once, as a shard of its own: people take a minute for one, and it is not to be lost.

        Shards stay as they are: to put several together, they would have to be replaced by one in a single step, or a
        kill in between would lose or double episodes; and who has the store open reads them still.

        Returns:
            How many episodes the store has now.

        Raises:
            ValueError: if it cannot be stored.
        """
        with self._lock:
            try:
                with EpisodeWriter(self.out, real.header()) as writer:
                    writer.add(real.episode())
                self.added += 1
                return len(EpisodeStore(self.out))
            except (ValueError, OSError) as error:
                self._log(str(error))
                raise ValueError("The real episode could not be stored; the terminal says why.") from error
