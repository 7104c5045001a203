"""PPO of RLlib's new API stack trains in lssvwm/Dream-v0, which its runners make by id."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.dream.vector import DreamVectorEnv

pytestmark = pytest.mark.rllib

PAGE = (Path(__file__).parents[2] / "docs" / "rllib.md").read_text()
ID = "lssvwm_envs:lssvwm/Dream-v0"
HORIZON, STEPS = 16, 64  # in two environments, so that some episodes end


def test_the_script_of_the_page_trains(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    said = re.findall(r"^iteration (\d): (\d+) steps, episode return mean (-?\d+\.\d+)$", done.stdout, re.MULTILINE)
    assert [iteration for iteration, *_ in said] == ["1", "2"], done.stdout
    # Two runners step eight dreams at a time, and a reset is not counted as a step.
    assert all(512 <= int(steps) <= 512 + 2 * 7 for _, steps, _ in said), done.stdout


@pytest.fixture(scope="module")
def two_cores():
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def ppo(checkpoint: str):
    from ray.rllib.algorithms.ppo import PPOConfig

    return (
        PPOConfig()
        .environment(ID, env_config={"checkpoint": checkpoint, "observation": "memory", "horizon": HORIZON})
        .env_runners(
            num_env_runners=1,
            num_envs_per_env_runner=2,
            gym_env_vectorize_mode="vector_entry_point",
            sample_timeout_s=600,
        )
        .training(train_batch_size_per_learner=STEPS, minibatch_size=32, num_epochs=2)
        .debugging(seed=3)
        .build_algo()
    )


def learnt(algo) -> dict[str, np.ndarray]:
    weights = algo.learner_group.get_weights()["default_policy"]
    return {name: value for name, value in weights.items() if name.endswith(("weight", "bias"))}  # others are constant


def in_the_runner(algo, look):
    """What `look` finds in the one process that samples."""
    (found,) = algo.env_runner_group.foreach_env_runner(look, local_env_runner=False)
    return found


def its_dreams(runner) -> tuple[int, type, str, int]:
    envs = runner.env.unwrapped
    return os.getpid(), type(envs), envs.spec.id, envs.num_envs


def test_two_iterations_change_the_policy_that_samples(two_cores, checkpoint):
    algo = ppo(checkpoint)
    try:
        process, *dreams = in_the_runner(algo, its_dreams)
        assert process != os.getpid()
        assert dreams == [DreamVectorEnv, "lssvwm/Dream-v0", 2]
        space = algo.get_module().observation_space
        assert space.shape == (shared_engine(checkpoint).model.readout_size,) and space.dtype == np.float32, (
            "the readout of the memory"
        )

        steps, weights = 0, [learnt(algo)]
        for _ in range(2):
            result = algo.train()
            sampled, losses = result["env_runners"], result["learners"]["default_policy"]
            steps += sampled["num_env_steps_sampled"]
            assert STEPS <= sampled["num_env_steps_sampled"] <= STEPS + 1  # two at a time, and a reset is not a step
            assert sampled["num_env_steps_sampled_lifetime"] == steps
            assert sampled["num_episodes"] >= 1 and 1 <= sampled["episode_len_mean"] <= HORIZON
            for value in (sampled["episode_return_mean"], losses["total_loss"], losses["entropy"]):
                assert np.isfinite(value)
            weights.append(learnt(algo))
            before, after = weights[-2:]
            assert before.keys() == after.keys() and len(after) >= 8
            for name, value in after.items():
                assert np.isfinite(value).all() and not np.array_equal(value, before[name]), f"{name} has not learnt"
            acting = in_the_runner(algo, lambda runner: runner.module.get_state())
            shared = acting.keys() & after.keys()
            assert {"pi.net.mlp.0.weight", "pi.net.mlp.0.bias"} < shared
            assert all(np.array_equal(acting[name], after[name]) for name in shared)
    finally:
        algo.stop()
