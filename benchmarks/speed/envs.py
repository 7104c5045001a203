"""Frames per second of the environments side by side, random actions, and of collecting mazes into a store.

    python benchmarks/speed/envs.py [--seconds 5] [--frames 100000]

Environments are stepped in one thread. Frames per second of CPU time (of all threads) are what is left of the figure
when other programs take their share of the machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import gymnasium as gym
import numpy as np
import tyro

import lssvwm_rl
from lssvwm_bench.figures import markdown_table
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.data.collect import collect

Play = Callable[[float], tuple[float, float]]
MAZE, PUBLISHED, MINIGRID = "lssvwm/MemoryMaze-9x9-v0", "lssvwm/DMMemoryMaze-9x9-v0", "MiniGrid-MemoryS7-v0"
PACKAGES = ("gymnasium", "numba", "numpy", "minigrid", "memory-maze", "mujoco")


@dataclass(frozen=True)
class Args:
    """What is timed for how long."""

    seconds: float = 5.0
    """Of each environment and turn."""
    turns: int = 3
    """The median of these is printed."""
    num_envs: int = 64
    """Sub-environments of the native vector."""
    frames: int = 100_000
    """Collected at least; episodes are whole. 0 leaves it out."""
    collect_envs: int = 16
    """Sub-environments of the collection, as many as `lssvwm collect` takes."""
    policies: tuple[str, ...] = ("explore",)
    """Explorers of the collection."""


class Clock:
    """Seconds since it was made: of the wall, and of the CPU."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def passed(self) -> float:
        """Seconds on the wall."""
        return time.perf_counter() - self.wall

    def rates(self, frames: int) -> tuple[float, float]:
        """Frames per second and per second of CPU time."""
        return frames / self.passed(), frames / (time.process_time() - self.cpu)


def play_single(make: Callable[[], gym.Env]) -> Play:
    """A function that plays for so many seconds and gives both rates, the frames of resets included."""
    env = make()
    actions = np.random.default_rng(0)
    count = int(env.action_space.n)  # type: ignore[attr-defined]
    env.reset(seed=0)

    def play(seconds: float) -> tuple[float, float]:
        frames, clock = 0, Clock()
        while clock.passed() < seconds:
            _, _, terminated, truncated, _ = env.step(int(actions.integers(count)))
            frames += 1
            if terminated or truncated:
                env.reset()
                frames += 1
        return clock.rates(frames)

    return play


def play_vector(num_envs: int) -> Play:
    """The same for the native vector form of the maze."""
    envs = gym.make_vec(MAZE, num_envs)
    actions = np.random.default_rng(0)
    envs.reset(seed=0)

    def play(seconds: float) -> tuple[float, float]:
        frames, clock = 0, Clock()
        while clock.passed() < seconds:
            envs.step(actions.integers(0, 6, num_envs))
            frames += num_envs
        return clock.rates(frames)

    return play


def collected(args: Args, policy: str) -> list[str]:
    """One row of the table: frames/s of a collection that is compressed and written."""
    explorer = explorer_named(policy)
    steps = gym.make(MAZE).unwrapped.mazes.config.steps  # type: ignore[attr-defined]
    episodes = -(-args.frames // (steps + 1))
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        store = collect(image_envs(MAZE), explorer, Path(folder) / "store", episodes, args.collect_envs,
                        vector_keys=("pose",), policy_name=policy)  # fmt: skip
        frames = int((store.lengths + 1).sum())
        wall, cpu = clock.rates(frames)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    what = f"collecting {MAZE}, policy `{policy}`, {args.collect_envs} envs, {frames:,} frames to disk"
    return [f"{what} ({size / frames / 1000:.2f} kB each)", f"{wall:,.0f}", f"{cpu:,.0f}", "once"]


def main(args: Args) -> None:
    """Print a Markdown table.

    Raises:
        ValueError: for an unknown explorer.
    """
    assert lssvwm_rl.__version__  # its import registers the ids
    makers: dict[str, Callable[[], Play]] = {
        f"{MAZE}, native vector, {args.num_envs} envs": lambda: play_vector(args.num_envs),
        f"{MAZE}, single": lambda: play_single(lambda: make_image_env(MAZE)),
        f"{MINIGRID}, single": lambda: play_single(lambda: make_image_env(MINIGRID)),
        f"{PUBLISHED}, single": lambda: play_single(lambda: make_image_env(PUBLISHED)),
    }
    players: dict[str, Play] = {}
    for name, make in makers.items():
        try:
            players[name] = make()
        except gym.error.Error as error:
            print(f"Left out {name}: {error}\n")
            continue
        players[name](min(1.0, args.seconds))  # compiles, loads, fills caches
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in players}
    for _ in range(args.turns):  # environments alternate, so that a slow minute of the machine is everyone's
        for name, play in players.items():
            rates[name].append(play(args.seconds))
    rows = []
    for name, found in rates.items():
        wall, cpu = zip(*found, strict=True)
        rows.append([name, f"{median(wall):,.0f}", f"{median(cpu):,.0f}", f"{min(wall):,.0f}, {max(wall):,.0f}"])
    if args.frames:
        rows += [collected(args, policy) for policy in args.policies]
    head = ["environment", "frames/s", "frames per CPU second", "frames/s, slowest and fastest turn"]
    print(markdown_table(head, rows))
    load = os.getloadavg()[0]
    print(f"\n64x64 frames of mazes, 56x56 of MiniGrid; {os.cpu_count()} CPUs ({platform.machine()}), load {load:.1f}, "
          f"Python {platform.python_version()}, {', '.join(_versions())}.")  # fmt: skip


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(tyro.cli(Args))
