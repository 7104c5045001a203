"""How much would a perfect memory of a maze be worth to PPO? It reads where the objects are, as the agent sees them.

    python benchmarks/studies/perfect_memory.py --tells objects --seed 0 --out runs/perfect-objects-0

Trains `lssvwm agent baseline --kind images` on `lssvwm/MemoryMaze-5x5-v0` whose observation is the image and what is
told beside it, and plays the test worlds with it:

- objects: cells ahead and to the right of every object, and which one is to be found;
- target: cells ahead and to the right of that one;
- way: cosine and sine of the way to it around the walls, from where the agent looks, and the cells along it;
- nothing: the image alone.

What is told is the simulator's, so no agent that has to remember can know more. A run that is there already goes on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from gymnasium import spaces

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_agents.policies import load_policy
from lssvwm_envs.memory_maze.distances import distances
from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_rl.measures.probe import agent_centric
from lssvwm_rl.progress import progress_bar

PLAYED = 50  # episodes side by side
OBJECTS, TARGET, WAY, NOTHING = "objects", "target", "way", "nothing"


@dataclass(frozen=True)
class Args:
    """What is told, and for how long PPO learns."""

    out: Path
    tells: Literal["objects", "target", "way", "nothing"] = "objects"
    size: int = 5
    image_size: int = 32
    steps: int = 500_000
    """Real ones, as in `lssvwm agent baseline`."""
    test_episodes: int = 200
    seed: int = 0


class ToldMaze(gym.Wrapper):
    """A MemoryMaze whose observation is a Dict of the image and what is told."""

    def __init__(self, tells: str, size: int, image_size: int) -> None:
        self.maze = MemoryMazeEnv(size, image_size)
        super().__init__(self.maze)
        self.tells = tells
        count = {OBJECTS: 3 * self.maze.mazes.config.targets, TARGET: 2, WAY: 3, NOTHING: 0}[tells]
        told = {"told": spaces.Box(-np.inf, np.inf, (count,), np.float32)} if count else {}
        self.observation_space = spaces.Dict({"image": self.env.observation_space, **told})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new maze."""
        image, info = self.env.reset(seed=seed, options=options)
        return self._with_told(image, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act once."""
        image, reward, terminated, truncated, info = self.env.step(action)
        return self._with_told(image, info), reward, terminated, truncated, info

    def _with_told(self, image: np.ndarray, info: dict[str, Any]) -> dict[str, np.ndarray]:
        return {"image": image} if self.tells == NOTHING else {"image": image, "told": self._told(info)}

    def _told(self, info: dict[str, Any]) -> np.ndarray:
        places = partial(agent_centric, position=info["agent_pos"], direction=info["agent_dir"])
        target = int(info["target"])
        if self.tells == OBJECTS:
            which = np.eye(len(info["targets_pos"]), dtype=np.float32)[target]
            return np.concatenate([places(info["targets_pos"]).ravel(), which])
        if self.tells == TARGET:
            return places(info["targets_pos"][[target]]).ravel()
        cells, to = info["maze_layout"], info["targets_pos"][target]
        far = distances(cells, int(to[1]), int(to[0]))
        x, y = (int(v) for v in info["agent_pos"])
        nearer = [(x + dx, y + dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)) if is_nearer(far, x, y, dx, dy)]
        next_to = np.array(nearer[0], np.float32) + 0.5 if nearer else to
        ahead, right = places(next_to[None]).ravel()
        length = max(float(np.hypot(ahead, right)), 1e-6)
        return np.array([ahead / length, right / length, far[y, x]], np.float32)


def is_nearer(far: np.ndarray, x: int, y: int, dx: int, dy: int) -> bool:
    """Whether a neighbour of a cell is one step nearer, by distances (n, n) that are -1 where there is no way."""
    u, v = x + dx, y + dy
    return 0 <= u < len(far) and 0 <= v < len(far) and far[v, u] == far[y, x] - 1 and far[v, u] >= 0


def main(args: Args) -> None:
    """Train, play the test worlds, and print the mean return."""
    make = partial(ToldMaze, args.tells, args.size, args.image_size)
    name = f"lssvwm/Told-{args.tells}-{args.size}-{args.image_size}-v0"
    gym.register(name, entry_point=make, max_episode_steps=None)
    config = BaselineConfig(env=name, kind="images", total_steps=args.steps, seed=args.seed)
    with progress_bar("told", "steps") as bar:
        train_baseline(config, args.out, bar)
    found = evaluate_policy(load_policy(args.out), make, args.test_episodes, PLAYED).to_json()
    (args.out / "told.json").write_text(json.dumps({"tells": args.tells, **found}))
    low, high = found["return_interval"]
    print(f"told {args.tells}, seed {args.seed}: return {found['mean_return']:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main(tyro.cli(Args))
