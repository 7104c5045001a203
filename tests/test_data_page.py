"""The code and the commands of docs/data.md run, one after the other, in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lssvwm_rl.cli import COMMANDS, main
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.training import trainer
from support.recordings import write_lerobot

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# A few updates of a small model say as much about the command.
QUICK = "--steps 3 --model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32"
QUICK += " --model.reservoir.blocks --batch-size 2 --span 8 --preview-every 0 --measure-every 2 --device cpu"


def write_trajectory(path: Path) -> None:
    path.parent.mkdir(parents=True)
    arrays = {
        "image": np.zeros((4, 64, 64, 3), np.uint8), "action": np.eye(6)[:4], "reward": np.zeros(4),
        "agent_pos": np.ones((4, 2)), "agent_dir": np.ones((4, 2)), "maze_layout": np.ones((4, 9, 9)),
    }  # fmt: skip
    np.savez_compressed(path, **arrays)


def test_the_page_runs(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(trainer, "gemm_rate", lambda device: 1e9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    write_lerobot(tmp_path / "robot", [5, 4])
    write_trajectory(tmp_path / "memory_maze_9x9" / "train" / "a.npz")
    ran = []
    for language, block in BLOCKS:
        if language == "python":
            subprocess.run([sys.executable, "-c", block], check=True)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "lssvwm"
            ran.append(" ".join(words[:2]) if words[0] == "data" else words[0])
            main(words + (QUICK.split() if words[0] == "train" else []))
    assert {name for name in COMMANDS if name.startswith("data ")} <= set(ran), "the page shows every command of data"
    stores = {path.name: EpisodeStore(path) for path in (tmp_path / "data").iterdir()}
    assert {"mine", "train", "test", "both", "robot", "again", "maze-offline"} == set(stores)
    assert len(stores["mine"]) == len(stores["both"]) == len(stores["again"]) == 12
    assert len(stores["test"]) == 2 and stores["robot"].header.frame_shape == (64, 64, 3)


@pytest.mark.parametrize("name", ["lerobot", "minari", "npz", "video"])
def test_the_page_names_every_format(name):
    from lssvwm_rl.data.importers.formats import FORMATS

    assert name in FORMATS and f"| `{name}` |" in PAGE and len(FORMATS) == 4
