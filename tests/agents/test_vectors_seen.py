"""Vectors of the observation are given to the memory that agents read, those of info are predicted: in real episodes of
a store as beside the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lssvwm_agents.planning import ShootingConfig, curious_policy, planner_policy
from lssvwm_agents.remembering import RememberingPolicy, readouts
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.data.collect import recorded
from lssvwm_rl.data.join import join_stores
from lssvwm_rl.data.play import play
from lssvwm_rl.data.store import EpisodeStore, StoreHeader
from lssvwm_rl.model.checkpoints import load_contexts, vector_keys_of
from lssvwm_rl.model.memory import Memory
from support.playing import ByMemory
from support.small_checkpoints import Toy, save_checkpoint

WORLDS = ("told", "hidden")


def envs(world: str) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Toy(world)], autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize("world", WORLDS)
def test_what_a_policy_reads_is_the_same_everywhere(world, tmp_path):
    checkpoint = save_checkpoint(tmp_path, world)
    engine, header = shared_engine(checkpoint).engine, load_contexts(checkpoint).header
    keys = vector_keys_of(checkpoint, engine.model)
    assert keys == ("told",) and header.from_info == (("told",) if world == "hidden" else ())
    inside, beside = (ByMemory(engine.model.readout_size, 3) for _ in range(2))
    real = envs(world)
    (episode,) = recorded(real, play(real, RememberingPolicy(inside, engine, "memory", keys), [iter([5])]), keys)
    for _ in play(VectorMemoryObservation(envs(world), checkpoint), beside, [iter([5])]):
        pass
    np.testing.assert_allclose(inside.read, beside.read, atol=1e-5)
    (stored,) = readouts(engine, [episode], header.from_info)
    np.testing.assert_allclose(np.concatenate(inside.read), stored[:-1], atol=1e-5)
    # What they would read if it were the other way round is something else.
    (other,) = readouts(engine, [episode], () if header.from_info else keys)
    assert (other - stored).abs().max() > 0.01


@pytest.mark.parametrize("make", ["planner", "curious"])
def test_planners_remember_what_they_were_told(make, tmp_path):
    model = shared_engine(save_checkpoint(tmp_path, "told")).model
    observation, _ = envs("told").reset(seed=3)
    config = ShootingConfig(horizon=1, samples=2)

    def remembered(observation: Any, keys: tuple[str, ...]) -> Memory:
        kinds = {"planner": planner_policy, "curious": curious_policy}
        return kinds[make](model, config, vector_keys=keys).predict(observation)[1].memory

    frames, told = (torch.from_numpy(observation[key])[:, None] for key in ("image", "told"))
    actions = torch.zeros(1, 1, dtype=torch.int64)
    given, _ = model.observe(model.initial_memory(1), frames, actions, told)
    predicted, _ = model.observe(model.initial_memory(1), frames, actions)
    for (seen, keys), expected in (
        ((observation, ("told",)), given),
        ((observation, ()), predicted),
        ((observation["image"], ("told",)), predicted),
    ):
        torch.testing.assert_close(remembered(seen, keys).readout(), expected.readout(), atol=1e-4, rtol=0)
    assert (given.readout() - predicted.readout()).abs().max() > 0.01


def test_a_store_says_what_came_from_info(tmp_path):
    for world in WORLDS:
        save_checkpoint(tmp_path / world, world)
    told, hidden = (tmp_path / world / "contexts" for world in WORLDS)
    assert "from_info" not in (told / "header.json").read_text()
    assert StoreHeader.load(Path(hidden)).from_info == ("told",)
    header = join_stores([hidden, hidden], tmp_path / "joined").header
    assert header.from_info == ("told",) and EpisodeStore(tmp_path / "joined").header == header
