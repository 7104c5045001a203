"""The commands on somebody's own environment: what collection was told holds for all that comes after."""

from __future__ import annotations

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from lssvwm_agents.loop import LoopConfig
from lssvwm_agents.loop.run import _setup
from lssvwm_agents.policies import load_policy, setup_of_policy
from lssvwm_bench.lineup import load_lineup
from lssvwm_bench.walks import fitting_environment
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import EnvOptions, setup_of_checkpoint
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, awake

ENV_ID = "Pictures-v0"
SHAPES = {"camera": [3, 50, 60], "map": [9, 9]}
SAID = [
    "--env-kwargs", "shapes", json.dumps(SHAPES), "length", "9", "levels", "8", "--image", "camera", "--resize", "20",
    "26", "--max-episode-steps", "3", "--seeds", "0:5",
]  # fmt: skip
SETUP = EnvSetup(
    ENV_ID, {"shapes": SHAPES, "length": 9, "levels": 8, "max_episode_steps": 3}, "camera", (20, 26), ("0:5",)
)
FEW = ["--total-steps", "16", "--num-envs", "4", "--rollout-steps", "4", "--epochs", "1", "--horizon", "3"]
SEARCH = ["--cem.horizon", "2", "--cem.samples", "4", "--cem.elites", "2", "--cem.iterations", "1"]
NOT_NEW = "ignore:.* is reset with the seeds of the data"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An untrained checkpoint whose contexts `lssvwm collect` has collected."""
    gym.register(ENV_ID, "support.pictures:Pictures", disable_env_checker=True)
    folder = tmp_path_factory.mktemp("own") / "model"
    collect = ["collect", ENV_ID, "--out", str(folder / CONTEXTS), "--episodes", "4", "--num-envs", "2"]
    main([*collect, "--policy", "random", *SAID])
    header = EpisodeStore(folder / CONTEXTS).header
    torch.manual_seed(0)
    model = WorldModel(
        WorldModelConfig(
            frame_shape=header.frame_shape, action_space=header.action_space, grid=(4, 4),
            backbone=replace(BACKBONE, blocks=(1, 4)), feature_size=12, head_width=32,
        )
    )  # fmt: skip
    awake(model, 0)
    model.save_pretrained(folder)
    yield str(folder)
    del gym.registry[ENV_ID]


def bench(world, out, *words):
    main(["bench", "agent", "--planner", world, *SEARCH, "--episodes", "2", *words, "--out", str(out)])
    found = json.loads((out / "agent.json").read_text())
    return found["settings"], found["results"]["planner"]["seeds"][0]["lengths"]


def sentence(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


def test_collection_says_what_the_image_is(world, tmp_path, capsys):
    main(["collect", ENV_ID, "--out", str(tmp_path / "s"), "--episodes", "1", "--policy", "random", *SAID])
    assert capsys.readouterr().out.splitlines()[0] == (
        "Image: observation['camera'], 50x60 pixels of 3 channels, uint8, from channels first, resized to 20x26; "
        "inside models padded to 24x32 by small, base, paper."
    )


def test_a_store_goes_on_as_it_was(world, tmp_path, capsys):
    again = ["collect", ENV_ID, "--out", str(tmp_path / "s"), "--policy", "random"]
    main([*again, "--episodes", "1", *SAID])
    main([*again, "--episodes", "6"])
    store = EpisodeStore(tmp_path / "s")
    assert store.lengths.tolist() == [3] * 6 and store.header.frame_shape == (20, 26, 3)
    frames = [episode.frames[0] for episode in store]
    assert np.array_equal(frames[0], frames[5]), "of five levels the first is the sixth"
    assert len({frame.tobytes() for frame in frames}) == 5
    for option, was in (
        (["--max-episode-steps", "4"], "max_episode_steps 3, not 4"),
        (["--resize", "8", "8"], "resize [20, 26], not [8, 8]"),
        (["--env-kwargs", "length", "5"], "length 9, not 5"),
    ):
        said = sentence(capsys, *again, "--episodes", "7", *option)
        assert f"holds episodes of {ENV_ID} with {was}; leave the option out, or choose" in said


def test_planners_play_in_what_the_data_was_made_with(world, tmp_path):
    assert setup_of_checkpoint(world) == SETUP
    with pytest.warns(RuntimeWarning, match=r"seeds of the data \(0:5\), so no world is new; name others with --seeds"):
        settings, lengths = bench(world, tmp_path / "a")
    assert {name: settings[name] for name in ("env", "env_kwargs", "image", "resize", "seeds")} == json.loads(
        json.dumps(SETUP.to_json())
    )
    assert lengths == [3, 3]
    with pytest.warns(RuntimeWarning, match="with max_episode_steps 3, not 2.") as said:
        _, lengths = bench(world, tmp_path / "b", "--max-episode-steps", "2", "--seeds", "5:8")
    assert lengths == [2, 2] and len(said) == 1, "other seeds are no difference"


@pytest.mark.filterwarnings(NOT_NEW)
def test_agents_learn_and_play_in_it(world, tmp_path, capsys):
    policy, base = str(tmp_path / "policy"), ["agent", "baseline", "--env", ENV_ID, "--steps", "8", "--num-envs", "2"]
    train = ["agent", "train", "--checkpoint", world, *FEW, "--denoise-steps", "1"]
    main([*train, "--real-share", "0.5", "--out", policy])
    assert load_policy(policy).cost.real_steps is None and setup_of_policy(policy) == SETUP
    said = sentence(capsys, *train, "--resize", "4", "4", "--out", str(tmp_path / "other"))
    assert "nothing in dreams alone; give --real-share" in said
    small = ["--rollout-steps", "4", "--batch-size", "4"]
    main([*base, *small, "--kind", "memory", "--checkpoint", world, "--out", str(tmp_path / "memory")])
    images = tmp_path / "images"
    main([*base, *small, "--kind", "images", *SAID[:-2], "--resize", "20", "24", "--out", str(images)])
    main([*base, *small, "--kind", "images", *SAID[:-2], "--resize", "20", "24", "--out", str(images)])
    assert setup_of_policy(images) == replace(SETUP, resize=(20, 24), seeds=())
    given = ["--policy", policy, f"memory={tmp_path / 'memory'}", "--episodes", "2", "--out", str(tmp_path / "bench")]
    main(["bench", "agent", *given])
    results = json.loads((tmp_path / "bench" / "agent.json").read_text())["results"]
    assert [results[name]["seeds"][0]["lengths"] for name in ("policy", "memory")] == [[3, 3]] * 2


def test_loops_and_benches_of_dreams_as_well(world):
    assert (
        _setup(ENV_ID, LoopConfig(), None, f"{world}/{CONTEXTS}") == SETUP == _setup(ENV_ID, LoopConfig(), world, None)
    )
    free = {name: value for name, value in SETUP.kwargs.items() if name != "max_episode_steps"}
    assert fitting_environment(load_lineup([world]), None, EnvOptions()) == replace(SETUP, kwargs=free)


def test_levels_that_are_not_there_are_a_sentence(world, tmp_path, capsys):
    words = ["--env", ENV_ID, "--env-kwargs", "levels", "8", "--episodes", "2", "--out", str(tmp_path / "b")]
    said = sentence(capsys, "bench", "agent", *words)
    assert "cannot be reset with seed 1,500,000,000" in said and "name those there are with --seeds" in said
    main(["bench", "agent", *words, "--seeds", "5:8"])


def test_agents_that_see_texts_and_numbers(tmp_path, capsys):
    """Texts are left out; numbers of a Dict are read, as many as they are."""
    gym.register("Texts-v0", "support.peculiar:Peculiar", kwargs={"texts": True}, disable_env_checker=True)
    out, words = tmp_path / "images", ["--env", "Texts-v0", "--resize", "20", "20"]
    baseline = ["agent", "baseline", "--env", "Texts-v0", "--out", str(tmp_path / "small")]
    assert "No patch fits an image of 16x16 pixels" in sentence(capsys, *baseline)
    assert "nature reads images from 36x36 pixels on" in sentence(capsys, *baseline, "--network", "nature")
    main(["agent", "baseline", *words, "--steps", "8", "--num-envs", "2", "--rollout-steps", "4", "--out", str(out)])
    assert set(load_policy(out).observation_space.spaces) == {"frame", "speed"}
    main(["bench", "agent", "--policy", str(out), "--episodes", "2", "--out", str(tmp_path / "bench")])
    del gym.registry["Texts-v0"]
