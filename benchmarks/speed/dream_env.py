"""Steps per second of the dream as an environment, what of it is not the network, and the size of a saved state.

python benchmarks/speed/dream_env.py [--checkpoint minigrid-memory] [--num-envs 1 4 16 64] [--steps 200] [--threads 2]

Random actions, resets included. "Network" is the time inside `WorldModel.imagine` (denoising passes, commit, the noise
they start from) and `WorldModel.observe` (contexts at resets); the rest is the environment: checks, contexts read from
disk, memory of single rows, arrays and infos.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro

import lssvwm_rl  # noqa: F401  registers the environments
from lssvwm_bench.figures import markdown_table
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.cpu import tune_process


@dataclass(frozen=True)
class Args:
    """What is measured."""

    checkpoint: str = "minigrid-memory"
    num_envs: tuple[int, ...] = (1, 4, 16, 64)
    steps: int = 200
    denoise_steps: int = 4
    device: str = "cpu"
    threads: int = 2


class Clock:
    """Seconds inside the network's two calls."""

    def __init__(self, model: WorldModel):
        self.seconds = 0.0
        model.imagine = self._timed(model.imagine)  # type: ignore[method-assign]
        model.observe = self._timed(model.observe)  # type: ignore[method-assign]

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            synchronise()
            started = time.perf_counter()
            result = call(*args, **kwargs)
            synchronise()
            self.seconds += time.perf_counter() - started
            return result

        return timed


def synchronise() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def single(env: gym.Env, steps: int) -> None:
    """Play, beginning anew at ends."""
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()


def vector(envs: gym.vector.VectorEnv, steps: int) -> None:
    """Play; ends are begun anew by the environment."""
    for _ in range(steps):
        envs.step(envs.action_space.sample())


def main(args: Args) -> None:
    """Print a table and the bytes of a state."""
    torch.set_num_threads(args.threads)
    tune_process()
    settings: dict[str, Any] = {
        "checkpoint": args.checkpoint,
        "denoise_steps": args.denoise_steps,
        "device": args.device,
    }
    alone = gym.make("lssvwm/Dream-v0", **settings)
    assert isinstance(alone.unwrapped, DreamEnv)
    clock = Clock(alone.unwrapped.model)
    runs: list[tuple[str, int, Any, Callable[[Any, int], None]]] = [("single", 1, alone, single)]
    for n in args.num_envs:
        envs = gym.make_vec("lssvwm/Dream-v0", num_envs=n, **settings)
        assert isinstance(envs, DreamVectorEnv)
        runs.append(("vector", n, envs, vector))
    rows = []
    for name, n, envs, play in runs:
        envs.reset(seed=0)
        envs.action_space.seed(0)
        play(envs, 10)
        clock.seconds, started = 0.0, time.perf_counter()
        play(envs, args.steps)
        seconds = time.perf_counter() - started
        outside = (seconds - clock.seconds) / seconds
        ms = [1000 * t / args.steps for t in (seconds, clock.seconds)]
        rows.append([name, str(n), f"{n * args.steps / seconds:.0f}", f"{ms[0]:.2f}", f"{ms[1]:.2f}", f"{outside:.1%}"])
    print(markdown_table(["form", "envs", "steps/s", "ms per step", "of it network", "outside the network"], rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        alone.unwrapped.save_state(path)
        memory = alone.unwrapped.get_state().memory.nbytes
        print(f"A saved state has {path.stat().st_size:,} bytes, {memory:,} of them memory.")


if __name__ == "__main__":
    main(tyro.cli(Args))
