"""Workers that were forked, and that alone have imported what dreams; see also test_beginnings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SUBPROC = """
import gymnasium as gym, numpy as np, torch
from stable_baselines3.common.vec_env import SubprocVecEnv

def make():
    import lssvwm_rl
    return gym.make("lssvwm/Dream-v0", checkpoint="minigrid-memory", denoise_steps=1)

torch.set_num_threads(2)
torch.ones(4_000_000).exp().sum(), torch.ones(500, 500) @ torch.ones(500, 500)  # PyTorch's threads are there now
envs = SubprocVecEnv([make] * 2, start_method="fork")
envs.reset()
print(envs.step(np.array([1, 2]))[0].shape)
envs.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_workers_that_import_dreams_themselves_do_not_hang():
    run = subprocess.run([sys.executable, "-c", SUBPROC], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0 and "(2, 56, 56, 3)" in run.stdout, run.stderr
    assert run.stderr.count("was forked") == 2
