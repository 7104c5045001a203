"""Random calls of dreams."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_rl.spaces import action_layout
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
from soak.fuzzed_mazes import BAD_MASKS, ROWS
from support.bad_actions import BAD_ACTIONS
from support.broken_states import broken, whole
from support.small_checkpoints import SOMETIMES, save_checkpoint

OBSERVATIONS = ("image", "memory", "both")
BAD_OPTIONS: tuple[dict[str, Any], ...] = (
    {"colour": 1}, {"context": 3}, {"context": (np.zeros((2, 9, 9, 3), np.uint8), [0])}, {"state": "a"},
    {"context": (np.zeros((3, 16, 16, 3), np.uint8), [0])}, {"context": (np.zeros((1, 16, 16, 3)), [])},
)  # fmt: skip
Worlds = dict[str, str]


def dream_worlds(folder: Path) -> Worlds:
    """Checkpoints of untrained world models with frames of 16 x 16, one of each kind of action space."""
    return {world: save_checkpoint(folder / world, world, ends=SOMETIMES) for world in BAD_ACTIONS}


class _Dreams:
    """What calls of one dream and of several have in common."""

    def __init__(self, worlds: Worlds, folder: Path, rng: np.random.Generator) -> None:
        self.world = list(worlds)[int(rng.integers(len(worlds)))]
        self.folder, self.kept = folder, list[DreamState]()
        self.settings: dict[str, Any] = {
            "checkpoint": worlds[self.world], "denoise_steps": 1, "horizon": 5, "render_mode": "rgb_array",
            "observation": OBSERVATIONS[rng.integers(3)], "render_memory": bool(rng.integers(2)),
        }  # fmt: skip

    def keep(self, state: DreamState) -> str:
        """Remember a state, to go on from later."""
        self.kept = [*self.kept[-3:], state]
        return ""

    def a_state(self, rng: np.random.Generator) -> DreamState:
        return self.kept[rng.integers(len(self.kept))]

    def no_state(self, rng: np.random.Generator) -> Any:
        """What is no state, or one of which a part is broken."""
        if not self.kept or rng.random() < 0.2:
            return (None, "state", 3, {})[rng.integers(4)]
        states = list(broken(self.a_state(rng)).values())
        return states[rng.integers(len(states))][0]

    def context(self, env: Any, rng: np.random.Generator) -> dict[str, Any]:
        """Options with frames and actions that fit."""
        space, frames = getattr(env, "single_action_space", env.action_space), int(rng.integers(1, 4))
        shape, dtype = action_layout(space)
        actions = np.zeros((frames - 1, *shape), dtype)
        return {"context": (rng.integers(0, 256, (frames, *env.model.config.frame_shape), np.uint8), actions)}


class DreamCalls(_Dreams):
    """Of one dream."""

    def __init__(self, worlds: Worlds, folder: Path, rng: np.random.Generator) -> None:
        super().__init__(worlds, folder, rng)
        self.env = DreamEnv(**self.settings)
        self.env.action_space.seed(int(rng.integers(2**31)))

    def snapshot(self) -> Any:
        """What `get_state` returns, None before the first dream."""
        try:
            return whole(self.env.get_state())
        except ResetNeeded:
            return None

    def draw(self, rng: np.random.Generator) -> Call:
        env = self.env
        try:
            ended, begun = env.get_state().ended, True
        except ResetNeeded:
            ended, begun = False, False
        calls = [*self._stepping(rng, begun, begun and not ended), *self._restoring(rng, begun)]
        return calls[int(rng.integers(len(calls)))]

    def _stepping(self, rng: np.random.Generator, begun: bool, ready: bool) -> list[Call]:
        env, bads = self.env, BAD_ACTIONS[self.world][0]
        action, bad = env.action_space.sample(), bads[rng.integers(len(bads))]
        seed, none = a_seed(rng, begun), BAD_SEEDS[rng.integers(len(BAD_SEEDS))]
        begins = partial(beginning_differs, env.observation_space)
        context, options = self.context(env, rng), BAD_OPTIONS[rng.integers(len(BAD_OPTIONS))]
        return [
            *[Call(f"step({action})", partial(env.step, action), ready, partial(_steps, env))] * 6,
            *[Call(f"reset(seed={seed})", partial(env.reset, seed=seed), True, begins)] * 2,
            Call("reset(context)", partial(env.reset, seed=seed, options=context), True, begins),
            Call(f"step({bad!r})", partial(env.step, bad), False),
            Call(f"reset(seed={none!r})", partial(env.reset, seed=none), False),
            Call(f"reset({options})", partial(env.reset, seed=seed, options=options), False),
            Call("render()", env.render, True, picture_differs),
            Call("close()", env.close, True),
        ]

    def _restoring(self, rng: np.random.Generator, begun: bool) -> list[Call]:
        env, path, none = self.env, self.folder / "state", self.no_state(rng)
        foreign = self.folder / ("nothing", "", "text")[rng.integers(3)]
        (self.folder / "text").write_text("no state")
        calls = [
            *[Call("get_state()", env.get_state, begun, self.keep)] * 2,
            Call("set_state(broken)", partial(env.set_state, none), False),
            Call("reset(broken state)", partial(env.reset, options={"state": none}), none is None),
            Call("load_state(broken)", partial(env.load_state, foreign), False),
        ]
        if self.kept:
            state = self.a_state(rng)
            begins = partial(beginning_differs, env.observation_space)
            calls.append(Call("set_state(kept)", partial(env.set_state, state), True))
            calls.append(Call("reset(kept state)", partial(env.reset, options={"state": state}), True, begins))
            calls.append(Call("save and load", partial(_save_and_load, env, state, path), True))
        return calls


class VectorDreamCalls(_Dreams):
    """Of two dreams."""

    def __init__(self, worlds: Worlds, folder: Path, rng: np.random.Generator) -> None:
        super().__init__(worlds, folder, rng)
        mode = list(AutoresetMode)[int(rng.integers(3))]
        self.env = DreamVectorEnv(**self.settings, num_envs=ROWS, autoreset_mode=mode)
        self.env.action_space.seed(int(rng.integers(2**31)))

    def snapshot(self) -> Any:
        """What `get_state` returns of each row, None before its first dream."""
        return [None if state is None else whole(state) for state in self._states()]

    def draw(self, rng: np.random.Generator) -> Call:
        states = self._states()
        ended = [state is not None and state.ended for state in states]
        waits = self.env.autoreset_mode == AutoresetMode.DISABLED and any(ended)
        ready = None not in states and not waits
        calls = [
            *self._stepping(rng, None not in states, ready),
            *self._restoring(rng, [state is not None for state in states]),
        ]
        return calls[int(rng.integers(len(calls)))]

    def _states(self) -> list[DreamState | None]:
        states: list[DreamState | None] = []
        for row in range(ROWS):
            try:
                states.append(self.env.get_state(row))
            except ResetNeeded:
                states.append(None)
        return states

    def _stepping(self, rng: np.random.Generator, begun: bool, ready: bool) -> list[Call]:
        env, bads = self.env, BAD_ACTIONS[self.world][1]
        actions, bad = env.action_space.sample(), bads[rng.integers(len(bads))]
        seed = a_seed_of_rows(rng, begun)
        none = (*BAD_SEEDS, [1], [1, -1], [1, "a"])[rng.integers(len(BAD_SEEDS) + 3)]
        begins = partial(beginning_differs, env.observation_space)
        mask, no_mask = rng.random(ROWS) < 0.6, BAD_MASKS[rng.integers(len(BAD_MASKS))]
        some, masked = {**self.context(env, rng), "reset_mask": mask}, bool(mask.any())
        options = ({"reset_mask": no_mask}, *BAD_OPTIONS)[rng.integers(len(BAD_OPTIONS) + 1)]
        return [
            *[Call(f"step({actions})", partial(env.step, actions), ready, partial(_steps, env))] * 6,
            *[Call(f"reset(seed={seed})", partial(env.reset, seed=seed), True, begins)] * 2,
            Call(f"reset({mask})", partial(env.reset, seed=seed, options={"reset_mask": mask}), masked, begins),
            Call(f"reset(context, {mask})", partial(env.reset, seed=seed, options=some), masked, begins),
            Call(f"step({bad!r})", partial(env.step, bad), False),
            Call(f"reset(seed={none!r})", partial(env.reset, seed=none), False),
            Call(f"reset({options})", partial(env.reset, seed=seed, options=options), False),
            Call("render()", env.render, True, partial(pictures_differ, rows=ROWS)),
            Call("close()", env.close, True),
        ]

    def _restoring(self, rng: np.random.Generator, begun: list[bool]) -> list[Call]:
        env, row, none = self.env, int(rng.integers(ROWS)), self.no_state(rng)
        no_row = (-1, ROWS, 10**9)[rng.integers(3)]
        calls = [
            *[Call(f"get_state({row})", partial(env.get_state, row), begun[row], self.keep)] * 2,
            Call(f"get_state({no_row})", partial(env.get_state, no_row), False),
            Call("set_state(broken)", partial(env.set_state, row, none), False),
            Call("fork(broken)", partial(env.fork, none, seed=3), False),
            Call("reset(broken state)", partial(env.reset, options={"state": none}), none is None),
        ]
        if self.kept:
            state, n, seed = self.a_state(rng), int(rng.integers(-1, ROWS + 2)), (None, 5, -1)[rng.integers(3)]
            begins = partial(beginning_differs, env.observation_space)
            forks = 1 <= n <= ROWS and seed != -1
            calls.append(Call(f"set_state({row}, kept)", partial(env.set_state, row, state), True))
            calls.append(Call(f"set_state({no_row}, kept)", partial(env.set_state, no_row, state), False))
            calls.append(Call("reset(kept state)", partial(env.reset, options={"state": state}), True, begins))
            calls.append(Call(f"fork(kept, {n}, {seed})", partial(env.fork, state, n, seed), forks, begins))
        return calls


def _steps(env: DreamEnv | DreamVectorEnv, returned: Any) -> str:
    return steps_differ(env.observation_space, returned, ROWS if isinstance(env, DreamVectorEnv) else None)


def _save_and_load(env: DreamEnv, state: DreamState, path: Path) -> None:
    """Through a file to where the state is; an error that it is not there then."""
    env.set_state(state)
    env.save_state(path)
    env.reset()
    env.load_state(path)
    if whole(env.get_state()) != whole(state):
        raise AssertionError("the state that was loaded is not the one that was saved")
