"""Rows of a vector of dreams, seen as their episodes, for tests of all forms of the dream."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from hypothesis import settings

from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import row_of
from support.fp64 import ONCE_ROUNDED
from support.programs import bits

KINDS = ("block_ssm", "window", "causal")
TRAINED = "minigrid-memory"
HORIZON = 6
SETTINGS: dict[str, Any] = {"context_length": 3, "horizon": HORIZON, "denoise_steps": 1, "observation": "both"}
MODES = list(AutoresetMode)
BEGUN = {"context_episode", "context_frames"}  # what a row that begins anew tells


def examples(n: int):
    return settings(max_examples=n, deadline=None, derandomize=True)


@dataclass
class Seen:
    """One row's step."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    probability: float


@dataclass
class First:
    """What a row shows when it begins anew."""

    observation: Any
    context: int


class Rows:
    """A vector of dreams in any autoreset mode, seen as its rows' episodes; infos and masks are checked on the way."""

    def __init__(self, envs: DreamVectorEnv):
        self.envs, self.ended = envs, np.zeros(envs.num_envs, bool)
        self.view: Any = None
        """What was returned last, with what a restored row must show."""

    def reset(self, mask: np.ndarray | None = None, seed: Any = None) -> dict[int, First]:
        self.view, info = self.envs.reset(seed=seed, options=None if mask is None else {"reset_mask": mask})
        mask = np.ones(self.envs.num_envs, bool) if mask is None else mask
        self.ended = self.ended & ~mask
        return self._firsts(info, mask)

    def set_state(self, row: int, state: DreamState):
        self.envs.set_state(row, state)
        self.ended[row] = state.ended
        self.view = {"image": self.view["image"].copy(), "memory": self.view["memory"].copy()}
        self.view["image"][row], self.view["memory"][row] = state.frame, state.memory.readout()[0]

    def fork(self, state: DreamState, n: int, seed: int | None = None):
        self.view, _ = self.envs.fork(state, n, seed)
        self.ended[:n] = state.ended

    def anew(self) -> dict[int, First]:
        """Begin anew what has ended, where nobody else does."""
        disabled = self.envs.autoreset_mode == AutoresetMode.DISABLED
        return self.reset(self.ended) if disabled and self.ended.any() else {}

    def step(self, actions: Any) -> tuple[list[Seen | None], dict[int, First]]:
        """Every row's step, None where it only began anew; and the rows that began anew, instead of it or after it."""
        mode = self.envs.autoreset_mode
        self.view, rewards, terminated, truncated, info = self.envs.step(np.asarray(actions))
        done = terminated | truncated
        finished = done & (mode == AutoresetMode.SAME_STEP)
        restarted = self.ended | finished
        assert ("final_obs" in info) == ("final_info" in info) == finished.any()
        if finished.any():
            assert np.array_equal(info["_final_obs"], finished) and np.array_equal(info["_final_info"], finished)
            assert [last is not None for last in info["final_obs"]] == finished.tolist()
        firsts = self._firsts(info, restarted)
        rows: list[Seen | None] = []
        for i in range(self.envs.num_envs):
            named = {key for key in info if key[0] != "_" and info["_" + key][i]}
            if self.ended[i]:
                assert named == BEGUN and rewards[i] == 0 and not done[i]
                rows.append(None)
            else:
                expected = {*BEGUN, "final_obs", "final_info"} if finished[i] else {"terminated_probability"}
                assert named == expected
                last, inside = (info["final_obs"][i], info["final_info"]) if finished[i] else (self.row(i), info)
                assert inside["_terminated_probability"][i]
                parts = rewards[i], terminated[i], truncated[i], inside["terminated_probability"][i]
                rows.append(Seen(last, *parts))
        self.ended = done & ~finished
        return rows, firsts

    def row(self, i: int) -> Any:
        """What row i showed last."""
        return row_of(self.view, i)

    def _firsts(self, info: dict[str, Any], mask: np.ndarray) -> dict[int, First]:
        assert ("context_episode" in info) == mask.any()
        assert not mask.any() or np.array_equal(info["_context_episode"], mask)
        return {i: First(self.row(i), info["context_episode"][i]) for i in np.flatnonzero(mask).tolist()}


def row_bits(row: Seen | First | None) -> Any:
    return None if row is None else bits(list(vars(row).values()))


def bits_anywhere(row: Seen | First | None) -> Any:
    """What equal rows of one batch have in common in fp64, rounded to fp32: all but the probability, which is not."""
    return row_bits(replace(row, reward=np.float32(row.reward), probability=0.0) if isinstance(row, Seen) else row)


def alike(a: Any, b: Any):
    """Whether observations of models in fp64 are equal up to the rounding of sums in another order."""
    np.testing.assert_array_equal(a["image"], b["image"])
    np.testing.assert_allclose(a["memory"], b["memory"], rtol=0, atol=ONCE_ROUNDED)


def assert_alike(a: Seen, b: Seen):
    alike(a.observation, b.observation)
    assert abs(a.reward - b.reward) <= ONCE_ROUNDED and abs(a.probability - b.probability) <= ONCE_ROUNDED
    assert (a.terminated, a.truncated) == (b.terminated, b.truncated)
