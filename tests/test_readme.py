"""The README's Python runs as it stands, with the shipped checkpoint, which remembers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import pytest

from lssvwm_envs.explorers import make_explorer
from lssvwm_envs.make import image_envs
from lssvwm_rl.data.collect import collect
from lssvwm_rl.measures.memory_reward import memory_reward_accuracy
from lssvwm_rl.model.checkpoint_files import resolve_checkpoint
from lssvwm_rl.model.checkpoints import load_world_model

ROOT = Path(__file__).parents[1]
README, SHARE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "share.md").read_text()


def run_python_of(page: str, folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True, cwd=folder)


def test_the_python_of_the_readme_runs(tmp_path):
    run_python_of(README, tmp_path)


@pytest.mark.slow
def test_the_python_of_the_page_on_sharing_runs(tmp_path, onnx_folder):
    shutil.copytree(onnx_folder, tmp_path / "dreams")
    run_python_of(SHARE, tmp_path)


@pytest.mark.parametrize("page", [README, SHARE], ids=["readme", "share"])
def test_the_commands_of_pages_exist(page):
    from lssvwm_bench.bench import bench_summaries
    from lssvwm_rl.cli import COMMANDS

    used = re.findall(r"^lssvwm ((?:agent |bench |data |hub )?\w+)", page, re.MULTILINE)
    assert len(used) >= 6 and set(used) <= {*COMMANDS, *(f"bench {name}" for name in bench_summaries())}


def test_the_shipped_checkpoint_remembers_and_forgets_when_wiped(tmp_path):
    """On new episodes, in which every walk sees the object before it comes to an end."""
    walks = partial(make_explorer, blind=0.0)
    episodes = list(collect(image_envs("MiniGrid-MemoryS7-v0"), walks, tmp_path, 100, seed=4_000_000))
    result = memory_reward_accuracy(load_world_model("minigrid-memory"), episodes)
    assert result.accuracy >= 0.9
    assert 0.3 < result.wiped < 0.7


@pytest.mark.parametrize("name", ["minigrid-memory", "maze-memory"])
def test_a_shipped_checkpoint_is_small_and_dreams(name):
    folder = resolve_checkpoint(name)
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 8 * 2**20
    env = gym.make("lssvwm/Dream-v0", checkpoint=name)
    first, _ = env.reset(seed=0)
    frame, *_ = env.step(2)
    assert frame.shape == first.shape and frame.std() > 10
    assert (folder / "README.md").read_text().startswith(f"# {name}")


@pytest.mark.slow
def test_the_quickstart_smoke_writes_its_report_and_reuses_it(tmp_path):
    import json

    from lssvwm_bench.quickstart import QuickstartConfig, quickstart

    said: list[str] = []
    for _ in range(2):
        found = quickstart(tmp_path / "q", QuickstartConfig.smoke_test(), said.append)
    assert sum("reused" in line for line in said) == 8
    page = tmp_path / "q" / "report" / "report.html"
    assert found == (tmp_path / "q" / "report.md", page)
    assert "agent that reads the three-minute model" in page.read_text()
    report = json.loads((tmp_path / "q" / "report.json").read_text())
    assert {"dream_psnr", "memory_reward_accuracy", "plan_success", "agent_success", "phases"} <= set(report)
    assert report["smoke"] and "mean nothing" in (tmp_path / "q" / "report.md").read_text()
    for name in ("memory.png", "success.png", "dream.png", "dream.mp4"):
        assert (tmp_path / "q" / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="holds a quickstart with episodes 24, not 1500"):
        quickstart(tmp_path / "q", QuickstartConfig(), said.append)
