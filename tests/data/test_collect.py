"""A seed and a policy give the episodes that they always gave."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.make import image_envs
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import EpisodeStore

MINIGRID, RECALL, MAZE = "MiniGrid-MemoryS7-v0", "lssvwm/MiniGridRecall-v0", "lssvwm/MemoryMaze-5x5-v0"
SETTINGS = {MINIGRID: {"max_steps": 20}, RECALL: {"max_steps": 20}, MAZE: {"image_size": 16, "max_steps": 30}}
# Made before collection, trials and evaluation had one loop in common.
KNOWN = {
    (MINIGRID, "explore"): "ac057ed5769a8cca",
    (MINIGRID, "random"): "e83defe557ffcbef",
    (RECALL, "explore"): "85c986cd90711860",
    (MAZE, "explore"): "62d9db50f7d3a92a",
    (MAZE, "random"): "4426ca621f193443",
    (MAZE, "walk-back"): "4a746f98628a83b1",
}
OTHER_NAMES = {(MINIGRID, "memory-walker"): "explore", (RECALL, "out-and-back"): "explore", (MAZE, "mixed"): "explore"}


def digest(store: EpisodeStore) -> str:
    """Of all episodes but their vectors, whose rounding may differ between machines."""
    found = hashlib.sha256()
    for episode in store:
        ends = np.array([episode.seed, episode.terminated, episode.truncated], np.int64)
        for array in (episode.frames, episode.actions, episode.rewards, ends):
            found.update(str((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(("env_id", "policy"), [*KNOWN, *OTHER_NAMES], ids=lambda text: text.split("/")[-1])
def test_collected_episodes_are_those_of_before(env_id, policy, tmp_path):
    for episodes in (3, 7):  # the second one goes on
        store = collect(
            image_envs(env_id, **SETTINGS[env_id]), explorer_named(policy), tmp_path / "s", episodes, 3, seed=4,
            vector_keys=("pose",), policy_name=policy,
        )  # fmt: skip
    assert sorted(store.seeds.tolist()) == list(range(4, 11))
    assert digest(store) == KNOWN[env_id, OTHER_NAMES.get((env_id, policy), policy)]


def test_a_full_store_is_left_as_it_is_but_checked(tmp_path):
    def run(env_id: str, **kwargs):
        return collect(image_envs(env_id, **SETTINGS[env_id]), explorer_named("random"), tmp_path / "s", 2, **kwargs)

    before = digest(run(MAZE))
    assert digest(run(MAZE)) == before
    with pytest.raises(ValueError, match="frame_shape"):
        run(MINIGRID)
    with pytest.raises(ValueError, match="with policy 'unknown', not 'random'"):
        run(MAZE, policy_name="random")
    assert digest(EpisodeStore(tmp_path / "s")) == before


def test_seeds_that_are_left_out_are_those_of_somebody_else(tmp_path):
    def run(name: str, episodes: int, **kwargs):
        return collect(
            image_envs(MINIGRID, **SETTINGS[MINIGRID]), explorer_named("explore"), tmp_path / name, episodes, 2, seed=4,
            vector_keys=("pose",), **kwargs,
        )  # fmt: skip

    assert sorted(run("some", 2, leave_out=[4, 6, 7]).seeds.tolist()) == [5, 8]
    some = run("some", 4, leave_out=[4, 6, 7])
    assert sorted(some.seeds.tolist()) == [5, 8, 9, 10]
    everything = {episode.seed: episode for episode in run("all", 7)}
    assert all(np.array_equal(episode.frames, everything[episode.seed].frames) for episode in some)
