"""Dreams begin with kept memories of contexts as they do with new ones, and one engine serves all environments."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lssvwm_envs.dream import beginnings as beginnings_module
from lssvwm_envs.dream.beginnings import Beginnings
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.make import make_image_env
from lssvwm_envs.rows import row_of
from lssvwm_envs.wrappers import MemoryObservation
from lssvwm_rl.data.episode import StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoints import load_contexts
from lssvwm_rl.model.predict import OBSERVED, observe_episodes
from support.programs import bits
from support.rows import KINDS, MODES, SETTINGS, examples


def seen_of(envs: DreamVectorEnv, seed: int, steps: int = 8) -> list[Any]:
    """All that a vector of dreams returns, as bits."""
    rng = np.random.default_rng(seed)
    found = [bits(list(envs.reset(seed=seed)))]
    for _ in range(steps):
        found.append(bits(list(envs.step(rng.integers(0, 4, envs.num_envs)))))
    return found


@pytest.mark.parametrize("kind", KINDS)
@examples(4)
@given(seed=st.integers(0, 99), length=st.integers(1, 4), mode=st.sampled_from(MODES[:2]), n=st.integers(1, 3))
def test_dreams_are_the_same_whether_beginnings_were_kept_or_not(untrained, kind, seed, length, mode, n):
    checkpoint = untrained(kind)
    chosen = {**SETTINGS, "context_length": length, "autoreset_mode": mode}
    shared = shared_engine(checkpoint)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "beginnings", Beginnings(shared.engine, limit=0))
        forgetful = seen_of(DreamVectorEnv(checkpoint, n, **chosen), seed)
        patch.setattr(shared, "beginnings", Beginnings(shared.engine))
        new = seen_of(DreamVectorEnv(checkpoint, n, **chosen), seed)
        kept = seen_of(DreamVectorEnv(checkpoint, n, **chosen), seed)
    assert forgetful == new == kept


@pytest.mark.parametrize("kind", KINDS)
def test_how_a_row_begins_does_not_depend_on_its_neighbours(untrained, kind):
    """To the bit, in fp32."""
    envs = DreamVectorEnv(untrained(kind), 4, **SETTINGS)
    observations, info = envs.reset(seed=5)
    for i in range(4):
        env = DreamEnv(untrained(kind), **SETTINGS)
        observation, its_info = env.reset(seed=5 + i)
        assert its_info["context_episode"] == info["context_episode"][i]
        assert bits(observation) == bits(row_of(observations, i))


def test_contexts_are_observed_once_and_by_no_dream_changed(untrained, monkeypatch):
    checkpoint, observed = untrained(), []
    shared = shared_engine(checkpoint)
    monkeypatch.setattr(shared, "beginnings", Beginnings(shared.engine))
    real = beginnings_module.observed
    monkeypatch.setattr(beginnings_module, "observed", lambda *args: observed.append(real(*args)) or observed[-1])
    drawn = set()
    for seed in range(12):
        for envs in (DreamVectorEnv(checkpoint, 3, **SETTINGS), DreamVectorEnv(checkpoint, 2, **SETTINGS)):
            drawn |= set(envs.reset(seed=seed)[1]["context_episode"].tolist())
            before = [{name: tensor.clone() for name, tensor in each.memory.tensors().items()} for each in observed]
            envs.step([1] * envs.num_envs)
            drawn |= set(envs.reset()[1]["context_episode"].tolist())
            for each, tensors in zip(observed, before, strict=False):
                assert all(torch.equal(tensor, tensors[name]) for name, tensor in each.memory.tensors().items())
    assert len(observed) == len(drawn) and len(drawn) > 3
    assert {int(each.memory.frames) for each in observed} == {1, 2, 3}, "short episodes are observed but for their end"


@examples(30)
@given(kept=st.integers(0, 4), asked=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2)), min_size=1, max_size=14))
def test_the_ones_used_last_are_kept_within_a_bound(untrained, kept, asked):
    checkpoint = untrained("window")
    engine, contexts = shared_engine(checkpoint).engine, load_contexts(checkpoint)
    size = Beginnings(engine).after(contexts, ("", 0), 0, 1).nbytes  # all of them: a window's memory does not grow
    beginnings, expected = Beginnings(engine, limit=kept * size + size // 2), []
    returned = {}
    for episode, length in asked:
        key = episode, min(length, int(contexts.lengths[episode]))
        found = beginnings.after(contexts, ("", 0), *key)
        assert (key in expected) == (returned.get(key) is found)
        returned[key] = found
        expected = [*[each for each in expected if each != key], key][-max(kept, 1) :]
    assert int(found.memory.frames) == key[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0, 2**30])
def test_long_histories_go_on_from_what_was_kept(untrained, kind, limit, tmp_path):
    """To the bit as if all frames were observed at once, in whatever order the beginnings are asked for."""
    engine, rng = shared_engine(untrained(kind)).engine, np.random.default_rng(0)
    short, steps = load_contexts(untrained(kind))[0], 3 * OBSERVED
    long = replace(
        short,
        frames=rng.integers(0, 256, (steps + 1, *short.frames.shape[1:]), np.uint8),
        actions=np.resize(short.actions, (steps, *short.actions.shape[1:])),
        rewards=np.zeros(steps, np.float32),
        vectors=None if short.vectors is None else np.resize(short.vectors, (steps + 1, short.vectors.shape[1])),
    )
    with EpisodeWriter(tmp_path / "long", load_contexts(untrained(kind)).header) as writer:
        writer.add(long)
    beginnings, store = Beginnings(engine, limit), EpisodeStore(tmp_path / "long")
    for length in (2 * OBSERVED + 5, OBSERVED, 3 * OBSERVED, OBSERVED + 1, 3):
        found, wanted = beginnings.after(store, ("", 0), 0, length), observe_episodes(engine, [long.cut(0, length)])
        assert bits(found.memory.tensors()) == bits(wanted.tensors())
        assert np.array_equal(found.frame[0].numpy(), long.frames[length - 1])


def test_other_contexts_of_the_same_model_are_observed_anew(untrained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(untrained(), run)
    env = DreamEnv(str(run), **SETTINGS)
    first, info = env.reset(seed=0)
    header = StoreHeader.load(run / "contexts")
    changed = [replace(episode, frames=255 - episode.frames) for episode in load_contexts(run)]
    shutil.rmtree(run / "contexts")
    with EpisodeWriter(run / "contexts", header) as writer:
        for episode in changed:
            writer.add(episode)
    os.utime(run / "contexts" / "header.json", ns=(1, 1))  # it is another, also where a file's time is coarse
    other = DreamEnv(str(run), **SETTINGS)
    second, other_info = other.reset(seed=0)
    assert other._dreams.shared is env._dreams.shared and other_info == info
    assert np.array_equal(second["image"], 255 - first["image"])
    assert not np.allclose(second["memory"], first["memory"])


def test_environments_share_an_engine(checkpoint):
    single, envs = DreamEnv(checkpoint), DreamVectorEnv(checkpoint, 2, engine="auto")
    beside = MemoryObservation(make_image_env("MiniGrid-MemoryS7-v0"), checkpoint)
    assert single._dreams.shared is envs._dreams.shared is beside._reader._shared is shared_engine(checkpoint)
    plain = shared_engine(checkpoint, engine="torch")
    assert DreamEnv(checkpoint, engine="torch")._dreams.shared is plain and plain.engine.name == "torch"
    assert copy.deepcopy(single)._dreams.shared is single._dreams.shared


FORKED = """
import sys
import gymnasium as gym, numpy as np, torch
from gymnasium.vector import AsyncVectorEnv
import lssvwm_rl
torch.set_num_threads(2)
make = lambda: gym.make("lssvwm/Dream-v0", checkpoint="minigrid-memory", denoise_steps=1)
torch.ones(4_000_000).exp().sum(), torch.ones(500, 500) @ torch.ones(500, 500)  # PyTorch's threads are there now
env = make()
env.reset(seed=0)
env.step(1)
envs = AsyncVectorEnv([make] * 2, context="fork")
envs.reset(seed=0)
print(envs.step(np.array([1, 2]))[0].shape)
envs.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_dream_on_after_their_parent_used_threads():
    """In a process of its own: without care, workers wait for ever for threads that only their parent has."""
    run = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0 and "(2, 56, 56, 3)" in run.stdout, run.stderr
    said = [line for line in run.stderr.splitlines() if "was forked" in line]
    assert len(said) == 2 and all("goes on with one thread" in line for line in said)
