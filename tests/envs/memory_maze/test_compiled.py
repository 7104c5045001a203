"""Compiled code that was kept is never that of other sources, whatever their dates and sizes say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import lssvwm_envs
import lssvwm_rl
from lssvwm_envs.memory_maze import compiled
from lssvwm_envs.memory_maze.compiled import cache_folder, source_hash

# A function of one file that has a constant of another compiled in.
USE = """
import sys, types
package = types.ModuleType("lssvwm_envs"); package.__path__ = [sys.argv[1] + "/lssvwm_envs"]
sys.modules["lssvwm_envs"] = package  # what the whole package imports is not needed here
from lssvwm_envs.memory_maze import user
print(user.length(2.0), user.length.stats.cache_hits[user.length.signatures[0]])
"""
USER = """
from lssvwm_envs.memory_maze.compiled import compiled
from lssvwm_envs.memory_maze.kinematics import STEP

@compiled
def length(steps):
    return steps * STEP
"""


@pytest.fixture
def sources(tmp_path) -> Path:
    folder = tmp_path / "lssvwm_envs" / "memory_maze"
    folder.mkdir(parents=True)
    for name in ("__init__.py", "compiled.py", "kinematics.py"):
        shutil.copy(Path(lssvwm_envs.__file__).parent / "memory_maze" / name, folder)
    (folder / "user.py").write_text(USER)
    return folder


def used(sources: Path, cache: Path | None, **more: str) -> tuple[float, int]:
    """What the function says in a new process, and whether its code had been kept."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lssvwm_rl.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment |= more
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    words = [sys.executable, "-c", USE, str(sources.parents[1])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    said, hits = done.stdout.split()
    return float(said), int(hits)


@pytest.mark.parametrize("where", ["NUMBA_CACHE_DIR", "beside the sources"])
def test_an_edited_source_is_compiled_anew(sources, tmp_path, where):
    cache = tmp_path / "cache" if where == "NUMBA_CACHE_DIR" else None
    assert used(sources, cache) == (pytest.approx(2 / 3), 0)
    assert used(sources, cache) == (pytest.approx(2 / 3), 1), "kept"
    assert used(sources, cache, NUMBA_CPU_NAME="generic") == (pytest.approx(2 / 3), 0), "for another processor"
    path = sources / "kinematics.py"
    before, text = path.stat(), path.read_text()
    assert "STEP = 1 / 3" in text
    path.write_text(text.replace("STEP = 1 / 3", "STEP = 1 / 4"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert used(sources, cache) == (0.5, 0)
    path.write_text(text)
    # What was kept in a folder of the user's is still there, and beside the sources no more than is needed.
    assert used(sources, cache) == (pytest.approx(2 / 3), 1 if cache else 0)


def test_what_is_kept_is_in_a_folder_of_these_sources(monkeypatch, tmp_path):
    folder = cache_folder()
    assert folder is None or folder.name == f"maze-{source_hash(Path(compiled.__file__).parent)}"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    assert cache_folder.__wrapped__() == tmp_path / "cache" / f"maze-{source_hash(compiled.SOURCES)}"
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "own" / "native"))
    assert cache_folder.__wrapped__().parent == tmp_path / "own" / "numba"
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "file" / "native"))
    assert cache_folder.__wrapped__() is None and compiled.SETTINGS.CACHE_DIR == str(tmp_path / "file")


def test_names_and_contents_are_hashed(tmp_path):
    (tmp_path / "a.py").write_text("1")
    hashes = {source_hash(tmp_path)}
    (tmp_path / "b.py").write_text("")
    hashes.add(source_hash(tmp_path))
    (tmp_path / "a.py").write_text("2")
    hashes.add(source_hash(tmp_path))
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    hashes.add(source_hash(tmp_path))
    (tmp_path / "notes.txt").write_text("not compiled")
    assert len(hashes) == 4 and source_hash(tmp_path) in hashes
