"""Measures are numbers in, numbers out: none draws, writes, reads a store, or plays an environment."""

from __future__ import annotations

import ast
from pathlib import Path

from lssvwm_rl import measures

ELSEWHERE = {"matplotlib", "imageio", "gymnasium", "pathlib", "os", "shutil", "rich", "tensorboard"}
ELSEWHERE |= {f"lssvwm_rl.{room}" for room in ("files", "pictures", "progress", "commands", "training", "data.collect")}
TELLS = {"lssvwm_rl.progress", "lssvwm_rl.progress.Update"}
"""The Protocol of what a measure tells how far it is; who calls it draws."""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_measures_import_nothing_that_draws_writes_or_plays():
    paths = sorted(Path(measures.__path__[0]).glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        names = imported(path) - TELLS
        wrong = {name for name in names if any(name == e or name.startswith(e + ".") for e in ELSEWHERE)}
        assert not wrong, (path.name, wrong)
