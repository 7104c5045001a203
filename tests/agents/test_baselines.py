"""Baselines learn in the real environment, go on after a kill, and are kept without pickle, whatever they read."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled
from stable_baselines3.common.vec_env import VecFrameStack

from lssvwm_agents import baselines
from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.extractors import PatchFeatures
from lssvwm_agents.policies import TrainingCost, check_reads, load_policy, save_policy, set_cost
from lssvwm_agents.remembering import RememberingPolicy
from lssvwm_agents.stacking import stacked
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.make import make_image_env
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore
from support.earlier import as_earlier_versions

ENV_ID = "MiniGrid-MemoryS7-v0"
TINY = {
    "env": ENV_ID,
    "env_kwargs": {"max_steps": "9"},
    "total_steps": 32,
    "num_envs": 2,
    "rollout_steps": 8,
    "batch_size": 8,
    "epochs": 1,
    "lstm": 8,
}
IMAGE_KINDS = ("images", "frame-stack", "recurrent")


def make():
    return make_image_env(ENV_ID, max_steps=9)


def parameters(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "learning_curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_a_saved_policy_does_over_an_episode_what_the_trained_one_does(kind, tmp_path, monkeypatch):
    """The trained one sees the environments of Stable-Baselines3, with its own stacks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    config = BaselineConfig(**TINY, kind=kind)
    model = train_baseline(config, tmp_path / "run")
    loaded = load_policy(tmp_path / "run")
    assert loaded.stack == (4 if kind == "frame-stack" else 1) and loaded.env_id == ENV_ID
    assert loaded.cost.real_steps == model.num_timesteps == 32 and loaded.cost.dreamt_steps == 0
    envs = baselines._environments(config, baselines.setup_of(config))
    seen, states, start, ends = envs.reset(), [None, None], np.ones(2, bool), 0
    single = seen[..., -3:]
    for _ in range(25):
        actions, states[0] = model.predict(seen, states[0], start, deterministic=True)
        others, states[1] = loaded.predict(single, states[1], start, deterministic=True)
        assert np.array_equal(actions, others)
        if kind == "recurrent":
            assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True)) and np.abs(states[0][0]).min() > 0
        seen, _, start, _ = envs.step(np.random.default_rng(ends).integers(0, 3, 2))
        single, ends = seen[..., -3:], ends + int(start.sum())
    envs.close()
    assert ends >= 4
    results = [evaluate_policy(loaded, make, 3, num_envs=n, deterministic=True) for n in (1, 2)]
    assert np.array_equal(results[0].returns, results[1].returns)
    assert not (tmp_path / "temporary").exists()  # where Stable-Baselines3 would keep a log of each training


def test_a_memory_of_a_world_model_is_read_and_its_data_are_counted(checkpoint, tmp_path):
    steps = []
    config = BaselineConfig(**TINY, kind="memory", checkpoint=checkpoint)
    model = train_baseline(config, progress=lambda done, total, note="": steps.append((done, total, note[:6])))
    assert model.num_timesteps == 32 and steps[-1] == (32, 32, "return")
    assert model.observation_space.shape == (shared_engine(checkpoint).model.readout_size,)
    moved = shutil.copytree(checkpoint, tmp_path / "world")
    (moved / "config.yaml").write_text("steps_of_data: 1000\n")
    again = train_baseline(replace(config, checkpoint=str(moved)), tmp_path / "run")
    assert torch.equal(parameters(model), parameters(again))
    loaded = load_policy(tmp_path / "run")
    assert loaded.checkpoint == str(moved) and loaded.cost.real_steps == 1032
    (moved / "config.yaml").unlink()
    train_baseline(replace(config, checkpoint=str(moved), total_steps=40), tmp_path / "run")
    assert load_policy(tmp_path / "run").cost.real_steps is None


class Hears:
    """Does what a policy does, and keeps what that read."""

    def __init__(self, policy):
        self.policy, self.read = policy, []

    def predict(self, observation, *rest, **named):
        self.read.append({key: part.copy() for key, part in observation.items()})
        return self.policy.predict(observation, *rest, **named)


def test_image_and_memory_are_read_together(checkpoint, tmp_path):
    """Whether the memory is kept beside the environment or by what acts."""
    train_baseline(BaselineConfig(**TINY, kind="both", checkpoint=checkpoint), tmp_path / "run")
    saved, world = load_policy(tmp_path / "run"), shared_engine(checkpoint).model
    both = {"image": (3, 56, 56), "memory": (world.readout_size,)}
    assert {key: space.shape for key, space in saved.observation_space.items()} == both
    beside, inside = Hears(saved), Hears(saved)
    wrap = partial(VectorMemoryObservation, checkpoint=checkpoint, observation=saved.memory_kind)
    for played in ((beside, wrap), (RememberingPolicy(inside, world, saved.memory_kind), None)):
        torch.manual_seed(3)  # what Stable-Baselines3 draws actions by
        evaluate_policy(played[0], make, 4, wrap_vector=played[1])
    assert len(beside.read) == len(inside.read) > 3
    for ours, theirs in zip(beside.read, inside.read, strict=True):
        assert np.array_equal(ours["image"], theirs["image"])
        np.testing.assert_allclose(ours["memory"], theirs["memory"], atol=1e-5)
    check_reads(saved, world, with_image=True)
    with pytest.raises(ValueError, match="the memory has"):
        check_reads(saved, world)  # as what reads a memory alone, for example a planner's critic
    with pytest.raises(ValueError, match="the memory has"):
        check_reads(saved, shared_engine("minigrid-memory").model, with_image=True)
    main(["bench", "agent", "--policy", str(tmp_path / "run"), "--episodes", "2", "--out", str(tmp_path / "bench")])
    assert "policy" in (tmp_path / "bench" / "agent.md").read_text()
    main(["collect", ENV_ID, "--policy", str(tmp_path / "run"), "--episodes", "2", "--out", str(tmp_path / "data")])
    assert len(EpisodeStore(tmp_path / "data")) == 2


def test_the_parts_of_a_dict_are_read_as_well(tmp_path):
    kwargs = {"image_size": "32", "max_steps": "9", "extra_obs": "true"}
    config = BaselineConfig(**{**TINY, "env": "lssvwm/MemoryMaze-5x5-v0", "env_kwargs": kwargs}, kind="frame-stack")
    model = train_baseline(config, tmp_path / "run")
    assert isinstance(model.observation_space, spaces.Dict)
    loaded = load_policy(tmp_path / "run")
    observation = {key: np.stack([space.sample()] * 3) for key, space in loaded.observation_space.spaces.items()}
    ours, theirs = (p.predict(observation, deterministic=True)[0] for p in (model.policy, loaded.policy))
    assert np.array_equal(ours, theirs)


def test_stacks_are_those_of_sb3():
    config = BaselineConfig(**TINY, kind="frame-stack")
    envs = baselines._environments(config, baselines.setup_of(config))
    assert isinstance(envs, VecFrameStack)
    theirs, start, last = envs.reset(), np.ones(2, bool), None
    for step in range(30):
        last = stacked(theirs[..., -3:], last, start, 4)
        assert np.array_equal(last, theirs) and last.dtype == np.uint8
        theirs, _, start, _ = envs.step(np.full(2, step % 3))
    envs.close()
    parts = stacked({"a": np.ones((1, 2)), "b": np.zeros((1, 3))}, None, None, 2)
    assert parts["a"].tolist() == [[0, 0, 1, 1]] and parts["b"].shape == (1, 6)


@pytest.mark.parametrize(("size", "side"), [((56, 56), 8), ((40, 64), 8), ((32, 32), 4), ((44, 60), 4)])
def test_a_patch_is_a_tile(size, side):
    """A change inside of one patch changes one vector before the 3x3 convolution."""
    extractor = PatchFeatures(spaces.Box(0, 255, (3, *size), np.uint8), features_dim=5)
    images = torch.zeros(2, 3, *size)
    images[1, :, side : 2 * side, 2 * side : 3 * side] = 1
    layers = extractor.convolutions["image"]
    first, second = layers[0](images)
    assert ((first != second).any(dim=0).nonzero() == torch.tensor([1, 2])).all()
    assert first.shape == (16, size[0] // side, size[1] // side)
    assert extractor(images).shape == (2, 5)


def test_a_killed_training_ends_where_it_would_have(tmp_path):
    out = tmp_path / "run"
    words = ["agent", "baseline", "--env", ENV_ID, "--env-kwargs", "max_steps", "9", "--kind", "recurrent"]
    words += ["--lstm", "8", "--num-envs", "2", "--rollout-steps", "8", "--batch-size", "8", "--out", str(out)]
    command = [sys.executable, "-m", "lssvwm_rl", *words, "--steps", "1000000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(curve(out) if (out / "learning_curve.csv").exists() else ()) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "policy.json").exists()
    steps = torch.load(out / "trainer" / "state.pt", weights_only=True)["steps"]
    assert steps >= 16
    wanted = steps + 40  # not a whole number of rollouts
    main([*words, "--steps", str(wanted)])
    assert load_policy(out).cost.real_steps == steps + 48
    rows = curve(out)
    assert [int(row["step"]) for row in rows] == list(range(16, steps + 49, 16))
    assert list(rows[0]) == ["step", "return", "success", "seconds"]
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds) and 0 <= float(rows[-1]["success"]) <= 1
    before = parameters(load_policy(out))
    main([*words, "--steps", str(wanted)])  # nothing is left to do
    assert torch.equal(parameters(load_policy(out)), before) and curve(out) == rows


def test_what_is_resumed_has_the_weights_the_optimizer_and_the_returns_of_before(tmp_path):
    config = BaselineConfig(**TINY, kind="images")
    first = train_baseline(config, tmp_path / "run")
    (tmp_path / "run" / "policy.json").unlink()  # killed before it was written
    again = train_baseline(config, tmp_path / "run")
    assert torch.equal(parameters(first), parameters(again)) and load_policy(tmp_path / "run").cost.real_steps == 32
    ours, theirs = (m.policy.optimizer.state_dict()["state"] for m in (first, again))
    assert all(torch.equal(ours[i]["exp_avg_sq"], theirs[i]["exp_avg_sq"]) for i in ours) and len(ours) > 4
    assert [e["r"] for e in first.ep_info_buffer] == [e["r"] for e in again.ep_info_buffer] != []
    longer = [
        train_baseline(replace(config, total_steps=48), shutil.copytree(tmp_path / "run", tmp_path / name))
        for name in "ab"
    ]
    assert torch.equal(*map(parameters, longer)) and not torch.equal(parameters(first), parameters(longer[0]))


def test_a_folder_of_an_older_version_says_nothing_of_costs(tmp_path):
    model = train_baseline(BaselineConfig(**TINY))
    save_policy(model, tmp_path / "new", cost=TrainingCost(5, 6, 7.5))
    assert load_policy(tmp_path / "new").cost == TrainingCost(5, 6, 7.5)
    set_cost(tmp_path / "new", TrainingCost(8))
    assert load_policy(tmp_path / "new").cost == TrainingCost(8, None, None)
    path = tmp_path / "new" / "policy.json"
    config = json.loads(path.read_text())
    for name in ("stack", "real_steps", "dreamt_steps", "seconds"):
        del config[name]
    path.write_text(json.dumps(config))
    as_earlier_versions(tmp_path / "new", "policy.safetensors")
    assert load_policy(tmp_path / "new").cost == TrainingCost() and load_policy(tmp_path / "new").stack == 1


BAD = [
    (["--kind", "dreams"], "no kind of baseline 'dreams'; use one of images, frame-stack, recurrent, memory"),
    (["--kind", "memory"], "memory and both need the checkpoint"),
    (["--checkpoint", "{checkpoint}"], "the other kinds read none"),
    (["--kind", "memory", "--checkpoint", "{tmp}/none"], "no checkpoint"),
    (["--network", "resnet"], "no network 'resnet'; use one of patches, nature"),
    (["--frames", "0"], "must be at least 1"),
    (["--total-steps", "5"], "`--total-steps` is now `--steps`"),
    (["--env", "MiniGrid-None-v0"], "None"),
    (["--env", "lssvwm/MemoryMaze-5x5-v0", "--env-kwargs", "image_size", "18"], "No patch fits an image of 18x18"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(words, said, checkpoint, tmp_path, capsys):
    words = [word.format(checkpoint=checkpoint, tmp=tmp_path) for word in words]
    env = [] if "--env" in words else ["--env", ENV_ID]
    with pytest.raises(SystemExit) as stop:
        main(["agent", "baseline", *env, *words, "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_settings_is_left_alone(tmp_path):
    config = BaselineConfig(**TINY)
    train_baseline(config, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for other, said in (
        (replace(config, seed=1), "is a baseline with seed 0, not 1; repeat its command"),
        (replace(config, kind="recurrent"), "with kind images, not recurrent"),
        (replace(config, total_steps=16), "has had 32 steps, more than 16"),
    ):
        with pytest.raises(ValueError, match=said):
            train_baseline(other, tmp_path / "run")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="is not empty and no baseline"):
        train_baseline(config, tmp_path)


def test_without_sb3_contrib_one_sentence_names_the_extra(tmp_path, monkeypatch, capsys):
    train_baseline(BaselineConfig(**TINY, kind="recurrent"), tmp_path / "kept")
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(SystemExit):
        main(["agent", "baseline", "--env", ENV_ID, "--kind", "recurrent", "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert 'pip install "lssvwm-rl[baselines]"' in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(DependencyNotInstalled, match="need an extra"):
        load_policy(tmp_path / "kept")
    train_baseline(BaselineConfig(**TINY), tmp_path / "images")
    assert load_policy(tmp_path / "images").policy.action_space.n == 7
