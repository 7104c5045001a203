"""Probes find what is in the features and nothing else; objects are told as the agent sees them; the command writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from lssvwm_bench.probe_figures import draw_layout
from lssvwm_bench.trials import record_trials
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.cli import main
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures import probe as probe_module
from lssvwm_rl.measures.probe import (
    POSE,
    PRIVILEGED,
    ProbeConfig,
    Probed,
    Subject,
    agent_centric,
    fit_probe,
    prepare,
    probe_features,
    read_memory,
)
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.model import predict
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import WorldModelConfig
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.policy import RandomPolicy
from support.small_models import BACKBONE, CLOSE, awake, double_model

MAZE = "lssvwm/MemoryMaze-5x5-v0"
QUICK = ProbeConfig(hidden=(32,), updates=400, check=50, patience=4, batch=128, learning_rate=1e-2)


def random_actions(envs, seed):
    return RandomPolicy(envs.single_action_space, seed)


def synthetic(episodes: int, seed: int) -> Probed:
    """10 frames of 9 cells and 2 objects; the features hold both, or their product with a sign, or only noise."""
    g = torch.Generator().manual_seed(seed)
    layout = (torch.rand(episodes, 1, 9, generator=g) < 0.5).float().expand(-1, 10, -1)
    objects = 2 * torch.randn(episodes, 10, 4, generator=g)
    sign = torch.randint(0, 2, (episodes, 10, 1), generator=g) * 2.0 - 1
    told = torch.cat([3 * layout + 5, objects], dim=2)
    signed = torch.cat([sign * (layout - 0.5), sign * objects, sign], dim=2)
    noise = torch.randn(episodes, 10, 13, generator=g)
    return Probed({"told": told, "signed": signed, "noise": noise}, layout, objects)


def test_probes_tell_what_the_features_hold_and_nothing_else():
    report = probe_features(synthetic(200, 0), synthetic(50, 1), QUICK)
    rows = {(row["features"], row["probe"]): row for row in report.rows}
    constant = rows["constant", ""]
    assert 0.4 < constant["accuracy"] < 0.6 and 2 < constant["distance"] < 3
    assert rows["told", "linear"]["accuracy"] > 0.99 and rows["told", "linear"]["distance"] < 0.1
    assert (
        rows["signed", "linear"]["accuracy"] < 0.6 and rows["signed", "linear"]["distance"] > 0.9 * constant["distance"]
    )
    assert rows["signed", "MLP"]["accuracy"] > 0.9 and rows["signed", "MLP"]["distance"] < 0.5 * constant["distance"]
    for kind in ("linear", "MLP"):
        assert rows["noise", kind]["accuracy"] < 0.6
        assert abs(rows["noise", kind]["distance"] - constant["distance"]) < 0.15
    assert report.layout.shape == (10, 3, 3) and report.objects.shape == (10, 2, 2)


def test_only_the_second_half_of_an_episode_is_scored():
    fit, test = synthetic(100, 0), synthetic(30, 1)
    early = test.features["told"].clone()
    early[:, :5] = 0
    spoilt = replace(test, features={"told": early})
    rows = probe_features(replace(fit, features={"told": fit.features["told"]}), spoilt, QUICK).rows
    linear = next(row for row in rows if row["probe"] == "linear")
    assert linear["accuracy"] > 0.99
    over_time = [point["accuracy"] for point in linear["over_time"]]
    assert max(over_time[:5]) < 0.8 < min(over_time[5:])


def test_a_probe_is_the_same_every_time_and_leaves_the_global_random_numbers_alone():
    data = synthetic(20, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (fit_probe(data.features["told"], data.layout, True, (8,), QUICK) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_what_the_agent_sees_agrees_with_complex_numbers():
    rng = np.random.default_rng(0)
    targets, position, angle = rng.uniform(0, 9, (50, 3, 2)), rng.uniform(0, 9, (50, 2)), rng.uniform(-4, 4, 50)
    ours = agent_centric(targets, position, np.stack([np.cos(angle), np.sin(angle)], axis=1))
    places = targets[..., 0] + 1j * targets[..., 1] - (position[:, :1] + 1j * position[:, 1:])
    turned = places * np.exp(-1j * angle)[:, None]
    # Both are computed in fp64; ours are given in fp32, and less than 16.
    np.testing.assert_allclose(ours, np.stack([turned.real, turned.imag], axis=-1), rtol=0, atol=16 * 2**-24)


def test_an_object_ahead_in_a_real_maze_is_ahead():
    trial = record_trials(image_envs(MAZE, image_size=16), random_actions, 1, 5)[0]
    here, way = trial.hidden["agent_pos"], trial.hidden["agent_dir"]
    ahead = agent_centric((here + 2 * way)[:, None], here, way)
    right = np.stack([-way[:, 1], way[:, 0]], axis=1)  # y is down
    assert np.allclose(ahead, [2, 0], atol=1e-5)
    assert np.allclose(agent_centric((here + 3 * right)[:, None], here, way), [0, 3], atol=1e-5)


def test_what_is_read_is_in_the_memory_with_the_vectors_given(monkeypatch):
    monkeypatch.setattr(predict, "OBSERVED", 3)
    model, rng, frames = double_model(vector_size=3), np.random.default_rng(0), 8
    trials = [
        Trial(
            Episode(
                rng.integers(0, 256, (frames, 16, 16, 3), np.uint8), rng.integers(0, 4, frames - 1),
                np.zeros(frames - 1, np.float32), False, True,
            ),
            hidden={"a": rng.normal(size=(frames, 1, 2)), "b": rng.normal(size=frames)},
        )
        for _ in range(2)
    ]  # fmt: skip
    features = read_memory(Subject("model", model, ("a", "b")), trials)
    for i, trial in enumerate(trials):
        memory = model.initial_memory(1)
        for t in range(frames):
            vector = torch.tensor([[[*trial.hidden["a"][t, 0], trial.hidden["b"][t]]]], dtype=torch.float32)
            frame = torch.from_numpy(trial.episode.frames[t])[None, None]
            action = torch.tensor([[0 if t == 0 else trial.episode.actions[t - 1]]])
            memory, _ = model.observe(memory, frame, action, vector)
            torch.testing.assert_close(features[i, t], memory.features[0], **CLOSE)
    with pytest.raises(ValueError, match="vectors of 3 numbers, but b make 1"):
        read_memory(Subject("model", model, ("b",)), trials)


def test_privileged_features_hold_the_answers():
    trials = record_trials(image_envs(MAZE, image_size=16), random_actions, 2, 6)
    data = prepare([trials[:1], trials[1:]], [])
    assert data.layout.shape == (2, 7, 25) and data.objects.shape == (2, 7, 6)
    assert torch.equal(data.features[PRIVILEGED][..., :25], data.layout)
    assert data.features[PRIVILEGED].shape[2] == 25 + 6 + 2 + 2
    assert torch.equal(data.features[POSE], data.features[PRIVILEGED][..., -4:])
    seen = math.dist(trials[1].hidden["targets_pos"][4, 2], trials[1].hidden["agent_pos"][4])
    assert float(data.objects[1, 4, 4:].norm()) == pytest.approx(seen, abs=1e-5)


def test_a_map_shows_walls_floor_objects_and_the_agent():
    floor = np.ones((5, 5), np.float32)
    floor[0, 4] = 0
    image = draw_layout(floor, np.array([[0.5, 4.5]]), np.array([2.5, 2.5]), np.array([1.0, 0.0]))
    cell = len(image) // 5
    dark, red, agent = (
        image[cell // 2, -cell // 2],
        image[-cell // 2, cell // 2],
        image[len(image) // 2, len(image) // 2],
    )
    assert dark.tolist() == [60] * 3 and red.tolist() == [220, 40, 40] and agent.tolist() == [20] * 3
    assert image.shape[0] % 2 == 0 and image[cell // 2, cell // 2].tolist() == [230] * 3


@pytest.fixture(scope="module")
def maze_checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("maze")
    with make_image_env(MAZE, image_size=32) as env:
        spec = env.spec.to_json()
    envs = image_envs(MAZE, image_size=32)
    store = collect(envs, random_actions, folder / CONTEXTS, 2, 2, vector_keys=("pose",), env_spec=spec)
    header = store.header
    config = WorldModelConfig(
        frame_shape=header.frame_shape,
        action_space=header.action_space,
        vector_size=header.vector_size,
        backbone=BACKBONE,
        feature_size=12,
        head_width=32,
    )
    torch.manual_seed(0)
    awake(WorldModel(config)).save_pretrained(folder)
    return str(folder)


def test_the_command_writes_all_files_once(maze_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(probe_module, "ProbeConfig", partial(ProbeConfig, hidden=(16,), updates=40, batch=64))
    out = tmp_path / "probe"
    words = ["bench", "probe", "--checkpoints", maze_checkpoint, "--episodes", "8", "--steps", "10", "--out", str(out)]
    main(words)
    written = json.loads((out / "probe.json").read_text())
    assert written["settings"]["env"] == MAZE and written["settings"]["env_kwargs"]["image_size"] == 32
    names = [(row["features"], row["probe"]) for row in written["results"]]
    both = ("linear", "MLP")
    model = f"{Path(maze_checkpoint).name} (pose)"
    assert names == [("constant", ""), *((name, kind) for name in (model, POSE, PRIVILEGED) for kind in both)]
    table = (out / "probe.md").read_text()
    assert table in capsys.readouterr().out and "after the first half of 10 steps" in table
    assert (out / "probe.png").stat().st_size > 5000 and (out / "probe.mp4").stat().st_size > 500
    with pytest.raises(SystemExit):
        main(words)
    assert "exists already" in capsys.readouterr().err


BAD = [
    (["--checkpoints", "{maze}", "--env", "MiniGrid-MemoryS7-v0"], "world model takes (32, 32, 3)"),
    (["--checkpoints", "{minigrid}", "--env", "MiniGrid-MemoryS7-v0", "--steps", "3"], "does not tell 'maze_layout'"),
    (["--checkpoints", "{maze}", "--episodes", "3"], "at least 4 --episodes"),
    (["--checkpoints", "{maze}", "--policy", "fly"], "no scripted policy 'fly'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[said for _, said in BAD])
def test_bad_input_is_one_sentence(words, said, maze_checkpoint, checkpoint, tmp_path, capsys):
    out = tmp_path / "out"
    filled = [word.format(maze=maze_checkpoint, minigrid=checkpoint, tmp=tmp_path) for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["bench", "probe", *filled, "--out", str(out)])
    assert stop.value.code == 2 and not out.exists()
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
