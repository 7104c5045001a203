"""Ray actors after a dream in their parent, which has PyTorch's default number of threads; others are in
tests/envs/dream/test_workers.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from support import workers

pytestmark = pytest.mark.rllib


def test_actors_go_on_after_a_dream_in_their_parent():
    """In a process of its own: what goes wrong here waits for ever."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in limits}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", workers.__name__, "actors", "ray"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0 and done.stdout.split()[-1] == "done", done.stderr[-3_000:]
    assert "Traceback" not in done.stderr
