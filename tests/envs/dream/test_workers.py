"""Workers of vector environments and data loaders, however they are started, after a dream in their parent, which has
PyTorch's default number of threads; see also test_forks."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from support import workers

WAYS = [("envs", "fork"), ("envs", "spawn"), ("envs", "forkserver"), ("loader", "fork"), ("loader", "spawn")]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "method"), WAYS)
def test_workers_go_on_after_a_dream_in_their_parent(what, method):
    """In a process of its own: what goes wrong here waits for ever."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in limits}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", workers.__name__, what, method]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and done.stdout.split()[-1] == "done", done.stderr[-3_000:]
    assert "Traceback" not in done.stderr
