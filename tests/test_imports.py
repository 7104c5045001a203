"""Imports point one way: lssvwm_rl <- lssvwm_envs <- lssvwm_agents; only the command line composes them."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "lssvwm_rl": ("lssvwm_envs", "lssvwm_agents"),
    "envs/lssvwm_envs": ("lssvwm_agents",),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_no_package_imports_what_stands_on_it():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for package, others in FORBIDDEN.items()
        for path in (ROOT / package).rglob("*.py")
        if (ROOT / "lssvwm_rl" / "cli") not in path.parents
        for name in imported(path) & set(others)
    ]
    assert wrong == []
