"""Sizes of files and functions, the packages' type markers, and the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lssvwm_rl

ROOT = Path(__file__).parents[1]
PACKAGES = ("lssvwm_rl", "envs/lssvwm_envs", "agents/lssvwm_agents", "benchmarks/lssvwm_bench")
FOLDERS = ("lssvwm_rl", "envs", "agents", "benchmarks", "examples", "tests", "docs")
MAX_FILE, MAX_FUNCTION = 350, 60  # lines, docstrings and comments included
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_files_are_small():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    long = [f"{path.relative_to(ROOT)} has {lines} lines" for path, lines in lengths.items() if lines > MAX_FILE]
    assert not long, "\n".join(long)


def test_functions_are_short():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {lines} lines"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()


def test_the_wheel_holds_the_packages_whole(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to((ROOT / package).parent).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - inside == set()
    assert {f"{Path(package).name}/py.typed" for package in PACKAGES} <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info/" not in name} == {Path(p).name for p in PACKAGES}


def test_public_names_resolve():
    assert len(set(lssvwm_rl.__all__)) == len(lssvwm_rl.__all__)
    for name in lssvwm_rl.__all__:
        assert getattr(lssvwm_rl, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lssvwm_rl.nothing
