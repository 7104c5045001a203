"""Random calls of memory mazes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from lssvwm_envs.memory_maze.env import MemoryMazeEnv
from lssvwm_envs.memory_maze.vector import MemoryMazeVectorEnv
from soak.calls import (
    BAD_SEEDS,
    Call,
    a_seed,
    a_seed_of_rows,
    beginning_differs,
    picture_differs,
    pictures_differ,
    steps_differ,
)
from support.programs import bits

ROWS = 2
BAD_ACTIONS: tuple[Any, ...] = ("left", None, 1.5, -1, 6, 10**30, float("nan"), [1], {})
BAD_ROWS: tuple[Any, ...] = (
    "left", None, 1, [1.0, 1.0], [0, 6], [-1, 0], [0], [0, 0, 0], [[0, 0]], [[0], [0, 1]], [None, 0], {},
)  # fmt: skip
BAD_MASKS: tuple[Any, ...] = ([True], [0, 1], np.zeros(ROWS, bool), "all", None, np.ones((1, ROWS), bool))
SETTINGS: dict[str, Any] = {"size": 5, "image_size": 16, "max_steps": 6, "render_mode": "rgb_array"}


def _snapshot(env: MemoryMazeEnv | MemoryMazeVectorEnv) -> Any:
    rows = env._rows
    generators = [str(generator.bit_generator.state) for generator in rows.generators]
    mazes = {name: part for name, part in vars(rows.mazes).items() if isinstance(part, np.ndarray)}
    return bits([mazes, rows.ended, rows.empty, generators])


class MazeCalls:
    """Of one maze."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.env = MemoryMazeEnv(**SETTINGS, extra_obs=bool(rng.integers(2)))
        self.env.action_space.seed(int(rng.integers(2**31)))

    def snapshot(self) -> Any:
        return _snapshot(self.env)

    def draw(self, rng: np.random.Generator) -> Call:
        env, rows = self.env, self.env._rows
        begun, ready = not bool(rows.empty[0]), not (rows.empty[0] or rows.ended[0])
        action, bad = env.action_space.sample(), BAD_ACTIONS[rng.integers(len(BAD_ACTIONS))]
        seed, none = a_seed(rng, begun), BAD_SEEDS[rng.integers(len(BAD_SEEDS))]
        begins = partial(beginning_differs, env.observation_space)
        steps = partial(steps_differ, env.observation_space, rows=None)
        calls = [
            *[Call(f"step({action})", partial(env.step, action), ready, steps)] * 6,
            *[Call(f"reset(seed={seed})", partial(env.reset, seed=seed), True, begins)] * 2,
            Call(f"step({bad!r})", partial(env.step, bad), False),
            Call(f"reset(seed={none!r})", partial(env.reset, seed=none), False),
            Call("render()", env.render, begun, picture_differs),
            Call("surfaces()", env.surfaces, begun),
            Call("close()", env.close, True),
        ]
        return calls[int(rng.integers(len(calls)))]


class VectorMazeCalls:
    """Of two mazes."""

    def __init__(self, rng: np.random.Generator) -> None:
        mode = list(AutoresetMode)[int(rng.integers(3))]
        self.env = MemoryMazeVectorEnv(ROWS, **SETTINGS, extra_obs=bool(rng.integers(2)), autoreset_mode=mode)
        self.env.action_space.seed(int(rng.integers(2**31)))

    def snapshot(self) -> Any:
        return _snapshot(self.env)

    def draw(self, rng: np.random.Generator) -> Call:
        env, rows = self.env, self.env._rows
        begun = not bool(rows.empty.any())
        waits = env.autoreset_mode == AutoresetMode.DISABLED and bool(rows.ended.any())
        actions, bad = env.action_space.sample(), BAD_ROWS[rng.integers(len(BAD_ROWS))]
        seed = a_seed_of_rows(rng, begun)
        none = (*BAD_SEEDS, [1], [1, -1], [1, "a"])[rng.integers(len(BAD_SEEDS) + 3)]
        mask, no_mask = rng.random(ROWS) < 0.6, BAD_MASKS[rng.integers(len(BAD_MASKS))]
        masked = bool(mask.any() and not (rows.empty & ~mask).any())
        begins = partial(beginning_differs, env.observation_space)
        steps = partial(steps_differ, env.observation_space, rows=ROWS)
        some, broken = {"reset_mask": mask}, {"reset_mask": no_mask}
        calls = [
            *[Call(f"step({actions})", partial(env.step, actions), begun and not waits, steps)] * 6,
            *[Call(f"reset(seed={seed})", partial(env.reset, seed=seed), True, begins)] * 2,
            *[Call(f"reset({some})", partial(env.reset, seed=seed, options=some), masked, begins)] * 2,
            Call(f"step({bad!r})", partial(env.step, bad), False),
            Call(f"reset(seed={none!r})", partial(env.reset, seed=none), False),
            Call(f"reset({broken})", partial(env.reset, options=broken), False),
            Call("render()", env.render, begun, partial(pictures_differ, rows=ROWS)),
            Call("surfaces()", env.surfaces, begun),
            Call("close()", env.close, True),
        ]
        return calls[int(rng.integers(len(calls)))]
