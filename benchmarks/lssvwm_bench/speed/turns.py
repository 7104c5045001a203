"""Turns of work in a process of its own, on the lines of its input: so two versions of the code can alternate.

Run by its path with PYTHONPATH at one source tree, it answers every line with the JSON of one turn. It uses nothing but
what version 0.1 has, too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Turn = Callable[[], dict[str, float]]


def env(checkpoint: str, num_envs: int, steps: int, **settings: Any) -> Turn:
    """Random steps of the dream as an environment: "seconds", and "inside" of them those in the network's calls."""
    import gymnasium as gym

    settings["checkpoint"], name = checkpoint, "lssvwm_envs:lssvwm/Dream-v0"
    envs: Any = gym.make(name, **settings) if num_envs == 1 else gym.make_vec(name, num_envs, **settings)
    inside = _clock(envs.unwrapped._dreams)
    envs.reset(seed=0)
    envs.action_space.seed(0)

    def turn() -> dict[str, float]:
        inside[0], started = 0.0, time.perf_counter()
        for _ in range(steps):
            _, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
            if num_envs == 1 and (terminated or truncated):
                envs.reset()
        return {"seconds": time.perf_counter() - started, "inside": inside[0]}

    return turn


def cem(checkpoint: str, engine: str | None = None) -> Turn:
    """One decision: 12 steps ahead, 64 candidates, 3 iterations."""
    import torch

    from lssvwm_agents.planning import CEM, CEMConfig, WorldModelDynamics
    from lssvwm_rl.model.checkpoints import load_contexts, load_world_model

    network: Any = load_world_model(checkpoint)
    if engine not in (None, "auto"):  # which dynamics take by themselves
        from lssvwm_bench.speed.dreams import engine_named

        network = engine_named(network, engine)
    dynamics = WorldModelDynamics(network)
    planner = CEM(CEMConfig(horizon=12, samples=64, iterations=3), dynamics.action_space)
    episode = load_contexts(checkpoint)[0]
    frames, actions = torch.from_numpy(episode.frames[None, :1]), torch.zeros(1, 1, dtype=torch.int64)
    memory, _ = network.observe(getattr(network, "model", network).initial_memory(1), frames, actions)

    def turn() -> dict[str, float]:
        started = time.perf_counter()
        planner.plan(dynamics, memory, planner.prior(1), [torch.Generator().manual_seed(0)])
        return {"seconds": time.perf_counter() - started}

    return turn


def ppo(checkpoint: str, steps: int, num_envs: int = 16, **settings: Any) -> Turn:
    """Training of an agent in the dream, from nothing, for so many dreamt steps."""
    from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream

    config = DreamTrainConfig(total_steps=steps, num_envs=num_envs, **settings)

    def turn() -> dict[str, float]:
        started = time.perf_counter()
        train_in_dream(checkpoint, config)
        return {"seconds": time.perf_counter() - started}

    return turn


def _clock(dreams: Any) -> list[float]:
    """Seconds inside what dreams and observes for an environment, from now on."""
    network, inside = dreams.shared.engine if hasattr(dreams, "shared") else dreams.model, [0.0]
    depth = 0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            started, depth = time.perf_counter(), depth + 1
            try:
                return call(*args, **kwargs)
            finally:
                depth -= 1
                if not depth:  # one call may be made of others
                    inside[0] += time.perf_counter() - started

        return run

    for name in ("imagine", "observe", "draw"):
        if hasattr(network, name):
            setattr(network, name, timed(getattr(network, name)))
    return inside


def main() -> None:
    """Serve turns of the job in the first argument, until the input ends."""
    import torch

    from lssvwm_rl.training.cpu import tune_process

    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    tune_process()
    jobs: dict[str, Callable[..., Turn]] = {"env": env, "cem": cem, "ppo": ppo}
    turn = jobs[job["name"]](**job["settings"])
    answers, sys.stdout = sys.stdout, sys.stderr  # what else is printed is no answer
    for _ in sys.stdin:
        answers.write(json.dumps(turn()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
