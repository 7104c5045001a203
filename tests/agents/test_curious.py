"""Planning for another reward than the model's, and the policy that plans for doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lssvwm_agents.planning import WorldModelDynamics, curious_policy
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_rl.cli import main
from lssvwm_rl.data.store import EpisodeStore
from support.fp64 import ONCE_ROUNDED, fp64_models


def seen(model, checkpoint, frames: int = 3):
    """A memory of the first frames of a context."""
    episode = EpisodeStore(checkpoint + "/contexts")[0]
    moves = torch.zeros(1, frames, dtype=torch.int64)
    return model.observe(model.initial_memory(1), torch.from_numpy(episode.frames[None, :frames]), moves)[0]


@fp64_models()
def test_a_step_earns_what_it_is_said_to(checkpoint):
    model = shared_engine(checkpoint).model
    memory, actions = seen(model, checkpoint), torch.tensor([[[0, 2, 1], [2, 2, 2], [1, 0, 1]]])
    dynamics = WorldModelDynamics(model, 0.9, denoise_steps=3, seed=5, reward=lambda step: 2 * step.doubt)
    returns = dynamics.evaluate(memory, actions)
    state = np.random.SeedSequence([5, 3]).generate_state(1, np.uint32)[0]
    for s in range(3):
        generator, value, weight, at = [torch.Generator().manual_seed(int(state))], 0.0, 1.0, memory
        for t in range(3):
            step = model.imagine(at, actions[:, s, t], generator, denoise_steps=3)
            value += weight * 2 * float(step.doubt)
            weight *= 0.9 * (1 - float(step.terminated))
            at = step.memory
        assert value == pytest.approx(returns[0, s].item(), abs=ONCE_ROUNDED)
    assert len(set(returns[0].tolist())) == 3


def test_without_another_reward_it_is_the_models(checkpoint):
    model = shared_engine(checkpoint).model
    memory, actions = seen(model, checkpoint), torch.tensor([[[0, 2, 1], [2, 2, 2]]])
    own = WorldModelDynamics(model).evaluate(memory, actions)
    assert torch.equal(own, WorldModelDynamics(model, reward=lambda step: step.reward).evaluate(memory, actions))
    wrong = WorldModelDynamics(model, reward=lambda step: step.reward[:, None])
    with pytest.raises(ValueError, match=r"Rewards of shape \(2, 1\) are not \(2,\); give one for every row"):
        wrong.evaluate(memory, actions)


def test_a_curious_policy_takes_the_action_before_the_largest_doubt(checkpoint):
    model = shared_engine(checkpoint).model
    policy, frame = curious_policy(model, seed=2), EpisodeStore(checkpoint + "/contexts")[0].frames[:1]
    found: list[torch.Tensor] = []
    evaluate = policy.dynamics.evaluate

    class Watched:
        action_space = policy.dynamics.action_space

        def evaluate(self, memory, actions):
            found.extend([actions, evaluate(memory, actions)])
            return found[-1]

    policy.dynamics = Watched()
    (action,), _ = policy.predict(frame)
    actions, returns = found
    assert action == actions[0, returns[0].argmax(), 0]
    assert returns.min() > 0 and returns.max() > 1.01 * returns.min()


def test_curious_collection_is_that_of_its_seed(checkpoint, tmp_path):
    for name in "ab":
        words = ["collect", "MiniGrid-MemoryS7-v0", "--out", str(tmp_path / name), "--episodes", "2", "--num-envs", "2"]
        main([*words, "--policy", "curious", "--checkpoint", checkpoint, "--env-kwargs", "max_steps", "6"])
    a, b = (EpisodeStore(tmp_path / name) for name in "ab")
    assert a.header.policy == "curious" and len(a) == 2
    for ours, theirs in zip(a, b, strict=True):
        assert np.array_equal(ours.actions, theirs.actions) and np.array_equal(ours.frames, theirs.frames)


@pytest.mark.parametrize(
    ("env", "words", "said"),
    [
        ("MiniGrid-MemoryS7-v0", ["--policy", "curious"], "plans in a world model; name one with --checkpoint"),
        ("MiniGrid-MemoryS7-v0", ["--policy", "curious", "--checkpoint", "no/where/at/all"], "no checkpoint"),
        (
            "MiniGrid-MemoryS7-v0",
            ["--checkpoint", "maze-memory"],
            "does not plan in checkpoint 'maze-memory'",
        ),
        ("MiniGrid-MemoryS7-v0", ["--policy", "curious", "--checkpoint", "maze-memory"], "has frames of shape"),
        ("lssvwm/MemoryMaze-5x5-v0", ["--policy", "curious", "--checkpoint", "minigrid-memory"], "has frames of shape"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_one_sentence(tmp_path, capsys, env, words, said):
    with pytest.raises(SystemExit) as stop:
        main(["collect", env, "--out", str(tmp_path / "s"), "--episodes", "1", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and "Traceback" not in error
    assert not (tmp_path / "s").exists()
