"""The examples run as they stand, are short, and leave what they say in the folder they are given and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from lssvwm_agents.policies import load_policy
from lssvwm_rl.model.checkpoints import load_world_model

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path) -> str:
    """What an example prints; it is given the folder "out"."""
    words = [sys.executable, EXAMPLES / name, "out"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["out"]
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_tested(path):
    assert len(path.read_text().splitlines()) < 60
    assert f'"{path.name}"' in Path(__file__).read_text()


@pytest.mark.slow
def test_a_world_of_ones_own_is_learnt_and_dreamt(tmp_path):
    assert "dreamt steps paid" in run("own_environment.py", tmp_path)
    assert load_world_model(tmp_path / "out" / "run").config.frame_shape == (16, 16, 1)
    height, width, _ = iio.imread(tmp_path / "out" / "dream.png").shape
    assert height == 224 and width > height


@pytest.mark.slow
def test_an_agent_is_trained_in_a_dream_and_plays(tmp_path):
    assert "success in 4 real episodes" in run("train_in_a_dream.py", tmp_path)
    assert load_policy(tmp_path / "out" / "agent").checkpoint == "minigrid-memory"


def test_a_planner_plays(tmp_path):
    assert " steps, reward " in run("plan.py", tmp_path)
    pictures = iio.imread(tmp_path / "out" / "plan.gif", index=None)
    assert len(pictures) > 1 and pictures.shape[1] >= 224  # equal pictures in a row become one


def test_futures_of_one_moment_differ_by_their_actions(tmp_path):
    printed = run("fork_futures.py", tmp_path)
    changed = {line.split()[0]: int(line.split()[2].rstrip("%")) for line in printed.splitlines()[:-1]}
    assert min(changed["left"], changed["right"], changed["forward"]) > 5 > max(changed["drop"], changed["done"])
    assert iio.imread(tmp_path / "out" / "futures.png").shape == (2 * (7 * 58 - 2), 2 * (7 * 58 - 2), 3)


@pytest.mark.slow
def test_numpy_and_onnxruntime_dream_what_pytorch_does(tmp_path, onnx_folder):
    """16 steps on their own, by a trained model: those of random weights amplify what is rounded."""
    shutil.copytree(onnx_folder, tmp_path / "out")
    assert "16 dreamt frames of (32, 32, 3)" in run("dream_in_onnx.py", tmp_path)
    model, context = load_world_model("maze-memory"), np.load(onnx_folder / "context.npz")
    seen = {name: torch.from_numpy(context[name])[None] for name in ("frames", "actions", "vectors")}
    memory, _ = model.observe(model.initial_memory(1), **seen)
    shape, rng = model.draw_noise([torch.Generator()]).shape, np.random.default_rng(0)
    frames = np.load(tmp_path / "out" / "dream.npy")
    assert len(frames) == 16
    for frame in frames:
        action, noise = rng.integers(0, 6, 1), rng.standard_normal(shape, np.float32)
        dreamt = model.imagine(memory, torch.from_numpy(action), torch.from_numpy(noise), denoise_steps=1)
        memory = dreamt.memory
        difference = np.abs(dreamt.frame.numpy().astype(int) - frame)
        assert difference.max() <= 4 and difference.mean() < 0.05
        assert frame.std() > 10


def test_a_memory_runs_beside_a_real_environment_and_is_restored(tmp_path):
    printed = run("memory_beside_a_real_environment.py", tmp_path)
    assert "384 numbers" in printed and "bit for bit" in printed and "7 frames" in printed
    assert (tmp_path / "out" / "memory.safetensors").stat().st_size > 100_000
