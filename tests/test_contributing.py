"""The code of CONTRIBUTING.md runs: each new file, as it stands there, adds a planner, an explorer, a bench, ..."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lssvwm_agents.planning import PlannerPolicy
from lssvwm_bench import bench
from lssvwm_envs.explorers import explorer_names, registry
from lssvwm_envs.make import image_envs
from lssvwm_rl import cli
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.training.objective import OBJECTIVES, Objective, ObjectiveConfig
from support.small_models import random_batch, small_model

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FILES = {block.split("\n", 1)[0].removeprefix("# "): block for block in BLOCKS if block.startswith("# ")}


def new_file(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file of the page as the module that it would be."""
    name = ".".join(Path(path).with_suffix("").parts[0 if path.startswith("lssvwm_rl") else 1 :])
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(FILES[path], path, "exec"), module.__dict__)
    return module


def test_the_page_adds_what_it_says():
    assert [Path(path).name for path in FILES] == ["steady.py", "spin.py", "size.py", "data_returns.py", "scattered.py"]


def test_a_planner(monkeypatch, checkpoint):
    steady = new_file("agents/lssvwm_agents/planning/steady.py", monkeypatch)

    class Likes:
        """Dynamics in which only the number of twos pays."""

        action_space = spaces.Discrete(7)

        def evaluate(self, memory, actions):
            return (actions == 2).sum(dim=-1).float()

    model = load_world_model(checkpoint)
    policy = PlannerPolicy(model, steady.Steady(actions=7), Likes())
    frames = np.zeros((3, *model.config.frame_shape), np.uint8)
    actions, state = policy.predict(frames)
    actions, _ = policy.predict(frames, state, np.array([True, False, False]))
    assert actions.tolist() == [2, 2, 2]


def test_an_explorer(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "EXPLORERS", dict(registry.EXPLORERS))
    new_file("envs/lssvwm_envs/explorers/spin.py", monkeypatch)
    assert "spin" in explorer_names(image_envs("MiniGrid-Empty-5x5-v0")(1))
    words = ["collect", "MiniGrid-Empty-5x5-v0", "--policy", "spin", "--episodes", "1", "--out", str(tmp_path / "data")]
    cli.main([*words, "--env-kwargs", "max_steps", "5"])
    assert EpisodeStore(tmp_path / "data")[0].actions.tolist() == [0] * 5


def test_a_bench(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "BENCHES", dict(bench.BENCHES))
    new_file("benchmarks/lssvwm_bench/protocols/size.py", monkeypatch)
    cli.main(["bench", "size", "--out", str(tmp_path / "size")])
    assert {path.name for path in (tmp_path / "size").iterdir()} == {"size.json", "size.md", "size.png"}
    assert json.loads((tmp_path / "size" / "size.json").read_text())["results"]["minigrid-memory"] > 2_000_000


def test_a_command(monkeypatch, checkpoint, tmp_path, capsys):
    new_file("lssvwm_rl/commands/data_returns.py", monkeypatch)
    row = ("lssvwm_rl.commands.data_returns:DataReturns", "write what episodes earned")
    monkeypatch.setitem(cli.COMMANDS, "data returns", row)
    store, out = f"{checkpoint}/contexts", tmp_path / "returns.txt"
    cli.main(["data", "returns", store, "--out", str(out), "--quiet"])
    episodes = list(EpisodeStore(store))
    assert out.read_text() == "".join(f"{float(e.rewards.sum()):g}\n" for e in episodes)
    last = f"{len(episodes)} returns written to {out}. Next: lssvwm train --data {store}\n"
    assert capsys.readouterr().out == last


def test_an_objective(monkeypatch):
    scattered = new_file("lssvwm_rl/training/scattered.py", monkeypatch)
    monkeypatch.setitem(OBJECTIVES, "scattered", (scattered.noised,))
    model = small_model()
    batch = random_batch(model, [6, 4], 6)
    losses, *_ = Objective(model, ObjectiveConfig(name="scattered"))(batch, None, torch.Generator().manual_seed(0))
    losses["total"].backward()
    assert all(np.isfinite(float(value.detach())) for value in losses.values())
