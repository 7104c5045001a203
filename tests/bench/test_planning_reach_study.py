"""The study of planners near the goal plays real episodes again, and hands over what they have seen."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lssvwm_agents.planning import PlannerPolicy, WorldModelDynamics
from lssvwm_agents.planning.shooting import NoPlan
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoints import load_engine
from lssvwm_rl.model.predict import observe_episodes

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "planning_reach.py"
ENV_ID = "MiniGrid-MemoryS7-v0"


@pytest.fixture(scope="module")
def study() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="planning_reach"))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> EpisodeStore:
    folder = tmp_path_factory.mktemp("explored") / "store"
    return collect(image_envs(ENV_ID), explorer_named("explore"), folder, episodes=8, num_envs=4)


class Recorded:
    """A planner that does what was done, and keeps the memories that it is asked to plan from."""

    def __init__(self, actions: np.ndarray) -> None:
        self.actions, self.memories = actions, []

    def prior(self, rows):
        return NoPlan()

    def plan(self, dynamics, memory, plan, generators):
        action = self.actions[len(self.memories)]
        self.memories.append(memory)
        return torch.tensor([action]), plan, {}


@pytest.mark.parametrize("wiped", [False, True])
def test_who_does_what_was_done_ends_as_it_ended(study, store, checkpoint, wiped):
    engine, args = load_engine(checkpoint), study.Args(store.path, checkpoint, ENV_ID, left=3, wiped=wiped)
    found = []
    for episode in (each for each in store if len(each) > 3):
        planner = Recorded(episode.actions[-3:])
        won, ended, _ = study.go_on(PlannerPolicy(engine, planner, WorldModelDynamics(engine)), episode, args)
        assert (won, ended) == (episode.rewards.sum() > 0, episode.terminated)
        found.append(won)
        first = 0 if not wiped else len(episode) - 3
        for k, memory in enumerate(planner.memories):
            seen = observe_episodes(engine, [episode.cut(first, len(episode) - 2 + k)])
            assert torch.allclose(memory.readout(), seen.readout(), atol=1e-4)
    assert len(set(found)) == 2  # the explorer fails as well as it succeeds


def test_a_limit_leaves_an_episode_without_an_end(study, store, checkpoint):
    engine, episode = load_engine(checkpoint), next(each for each in store if len(each) > 3)
    policy = PlannerPolicy(engine, Recorded(episode.actions[-3:]), WorldModelDynamics(engine))
    assert study.go_on(policy, episode, study.Args(store.path, left=3, limit=2))[:2] == (False, False)


def test_another_world_is_noticed(study, store):
    with make_image_env(ENV_ID) as env, pytest.raises(ValueError, match="shows another frame"):
        study.replay(env, replace(store[0], frames=255 - store[0].frames), 2)


def test_its_table_has_a_row_for_every_search(study, store, checkpoint, capsys):
    sizes = {"episodes": 2, "left": 3, "limit": 2, "horizon": 2, "samples": 16, "iterations": 1}
    study.main(study.Args(store.path, checkpoint, searches=("icem", "shooting"), **sizes))
    said = capsys.readouterr().out.splitlines()
    assert "2 episodes, taken over 3 steps before their end" in said[0]
    assert [row.split("|")[1].strip() for row in said[-2:]] == ["icem", "shooting"]
    with pytest.raises(ValueError, match="No episode of .* terminated after more than 300 steps"):
        study.main(study.Args(store.path, checkpoint, left=300))
