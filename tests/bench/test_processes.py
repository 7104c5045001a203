"""A call in a process of its own: result, exception, threads; and the scripts start."""

from __future__ import annotations

import math
import os
import runpy
import sys
from pathlib import Path

import pytest

from lssvwm_bench.processes import in_own_process

FILES = sorted((Path(__file__).parents[2] / "benchmarks").glob("s*/*.py"))
SCRIPTS = [path for path in FILES if '__name__ == "__main__"' in path.read_text()]


def test_a_call_runs_elsewhere_and_answers():
    assert in_own_process(os.getpid) != os.getpid()
    code = "__import__('torch').get_num_threads()"
    assert in_own_process(eval, code, threads=1) == 1
    with pytest.raises(ValueError, match="math domain error|nonnegative"):
        in_own_process(math.sqrt, -1.0)


@pytest.mark.parametrize("script", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_scripts_start(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == 0 and "usage" in capsys.readouterr().out
    assert f"python benchmarks/{script.parent.name}/{script.name}" in script.read_text(), "it says how it is called"
