"""Videos with tables become a world model and a Gymnasium environment, with no simulator at hand."""

from __future__ import annotations

import dataclasses
import json
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoint_files import ENV_FILE
from lssvwm_rl.training import trainer
from support.recordings import write_episode

SIZES = "--model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32"
SETTINGS = "--model.reservoir.blocks --batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 2"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)


def learn_and_dream(data, folder):
    """Train for three updates, write a video of a dream, and play the dream as an environment."""
    run = folder / "run"
    main(f"train --data {data} --out {run} --steps 3 --device cpu {SIZES} {SETTINGS}".split())
    main(f"dream --checkpoint {run} --steps 3 --context-length 2 --out {folder / 'dream.mp4'}".split())
    assert (folder / "dream.mp4").stat().st_size > 500
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("lssvwm/Dream-v0", checkpoint=str(run))
        first, _ = env.reset(seed=1)
        frame, reward, *_ = env.step(env.action_space.sample())
        assert first.shape == frame.shape == (16, 16, 3) and frame.dtype == np.uint8 and np.isfinite(reward)
        envs = gym.make_vec("lssvwm/Dream-v0", num_envs=2, vectorization_mode="vector_entry_point", checkpoint=str(run))
        envs.reset(seed=1)
        assert envs.step(envs.action_space.sample())[0].shape == (2, 16, 16, 3)
    return run


def test_from_videos_to_a_dream(tmp_path):
    for k in range(100):
        steps = 6 + k % 3
        ends = [0] * (steps - 1) + [1]
        write_episode(tmp_path / "v", f"ep{k}", steps, k % 5, reward=ends, terminated=ends)
    main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "store"), "--resize", "16", "16"])
    store = EpisodeStore(tmp_path / "store")
    assert len(store) == 100 and store.rewards().sum() == 100 and all(episode.terminated for episode in store)
    run = learn_and_dream(tmp_path / "store", tmp_path)
    assert not (run / ENV_FILE).exists(), "nobody knows of an environment"
    # The dream's own id is not asked for the data's environment, and commands that need one say so.
    assert gym.make("lssvwm/Dream-v0", checkpoint=str(run)).action_space == gym.spaces.Discrete(3)


def test_an_environment_that_nobody_can_import_is_only_named(tmp_path):
    write_episode(tmp_path / "v", "ep0", 6)
    main(["data", "import", str(tmp_path / "v"), "--out", str(tmp_path / "one"), "--resize", "16", "16"])
    one = EpisodeStore(tmp_path / "one")
    spec = {"id": "Nowhere/Never-v3", "entry_point": "nowhere.never:Env", "kwargs": {}, "additional_wrappers": []}
    header = dataclasses.replace(one.header, env_spec=json.dumps(spec))
    with EpisodeWriter(tmp_path / "store", header) as writer:
        for seed in range(12):
            writer.add(dataclasses.replace(one[0], seed=seed))
    run = learn_and_dream(tmp_path / "store", tmp_path)
    assert json.loads((run / ENV_FILE).read_text())["id"] == "Nowhere/Never-v3"
