"""Wheels hold the kernels' sources and, if asked for, a library that works where there is no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lssvwm_rl.native.build import SOURCES, BuildError, find_compiler
from lssvwm_rl.native.processor import BASELINES, baseline, suits

ROOT = Path(__file__).parents[2]
LOAD = """
import lssvwm_rl.native.build as build, lssvwm_rl.native.library as library
print(build.built_library())
print(library.load_kernels() is not None)
"""


def wheel(folder: Path, **environment: str) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, env={**os.environ, **environment})
    (found,) = folder.glob("*.whl")
    return found


def test_a_wheel_is_for_every_machine_unless_asked_otherwise(tmp_path):
    found = wheel(tmp_path, LSSVWM_BUILD_KERNELS="0")
    inside = zipfile.ZipFile(found).namelist()
    sources = [path.name for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h")]
    assert found.name.endswith("-py3-none-any.whl")
    assert "simd.h" in sources and {f"lssvwm_rl/native/{name}" for name in sources} <= set(inside)
    assert not [name for name in inside if name.endswith((".so", ".o"))]


def test_a_wheel_with_kernels_needs_no_compiler(tmp_path):
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    if baseline() is None or not suits(baseline()):
        pytest.skip("this processor meets no baseline")
    found = wheel(tmp_path, LSSVWM_BUILD_KERNELS="1")
    assert "-py3-none-any" not in found.name and "-py3-none-" in found.name
    zipfile.ZipFile(found).extractall(tmp_path / "installed")
    environment = {"PATH": "/nothing/here", "PYTHONPATH": str(tmp_path / "installed"), "LSSVWM_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", LOAD],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    library = tmp_path / "installed" / "lssvwm_rl" / "native" / f"kernels-{baseline()}.so"
    assert done.stdout.splitlines() == [str(library), "True"], done.stderr


def test_a_baseline_suits_the_processors_that_have_all_of_it(monkeypatch):
    from lssvwm_rl.native import processor

    architecture, needed = BASELINES["x86-64-v3"]
    monkeypatch.setattr(processor, "machine", lambda: architecture)
    monkeypatch.setattr(processor, "features", lambda: needed | {"avx512f"})
    assert suits("x86-64-v3") and not suits("armv8-a") and not suits("z80")
    monkeypatch.setattr(processor, "features", lambda: needed - {"fma"})
    assert not suits("x86-64-v3")
