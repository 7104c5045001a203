"""Rows: N episodes side by side, and the one autoreset machine of all vector environments that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv


class Step(Protocol):
    """One step of all rows, in arrays or tensors; those that had ended before have no reward and no second end."""

    @property
    def reward(self) -> Any:
        """(N,) float."""

    @property
    def terminated(self) -> Any:
        """(N,) bool."""

    @property
    def truncated(self) -> Any:
        """(N,) bool."""

    @property
    def info(self) -> dict[str, Any]:
        """(N, ...) each; what they hold for rows that had ended before is not meant."""


S = TypeVar("S", bound=Step, covariant=True)


class Rows(Protocol[S]):
    """N episodes; environments are thin shells around them, single ones around one row. Arrays of rows are replaced by
    new ones, never changed in place.
    """

    ended: np.ndarray
    """(N,) bool, rows whose episode has ended and waits for its reset."""
    empty: np.ndarray
    """(N,) bool, rows that have had no episode yet."""
    generators: list[np.random.Generator]
    """One per row, the source of all that is random in its episodes."""

    def begin(self, mask: np.ndarray) -> dict[str, Any]:
        """Begin new episodes in the rows of a mask (N,) bool, and leave the others as they are; info with masks."""

    def step(self, actions: Any) -> S:
        """Step all rows that have not ended, by actions (N, ...) in the rows' own layout."""

    def observe(self) -> Any:
        """What all rows show now, (N, ...), or a dict of such; the caller's to keep."""


@dataclass(frozen=True)
class Transition(Generic[S]):
    """A step of all rows and the resets that belong to it."""

    step: S
    observation: Any
    """What all rows show after the resets."""
    last: Any
    """What they showed before `finished` rows were reset; the same object if there are none."""
    finished: np.ndarray
    """(N,) bool, rows that ended in this step and were begun anew in it."""
    restarted: np.ndarray
    """(N,) bool, all rows that were begun anew in this step: these, and those that had ended before it."""
    beginning: dict[str, Any]
    """Info of their beginnings, with masks."""


def check_ready(rows: Rows[Any], mode: AutoresetMode) -> None:
    """Raise ResetNeeded if a row has no episode yet, or one that has ended where autoreset is disabled."""
    check_begun(rows, "step()")
    if mode == AutoresetMode.DISABLED and rows.ended.any():
        numbers = np.flatnonzero(rows.ended).tolist()
        raise ResetNeeded(f"The episodes of rows {numbers} have ended; reset them with options['reset_mask'].")


def check_ready_alone(rows: Rows[Any]) -> None:
    """Raise ResetNeeded unless the only row of a single environment can step."""
    if rows.empty[0] or rows.ended[0]:
        raise ResetNeeded("The episode has ended or not begun; call reset() before step().")


def check_begun(rows: Rows[Any], what: str) -> None:
    """Raise ResetNeeded unless all rows have, or have had, an episode that can be shown; `what` is asked for."""
    if rows.empty.any():
        numbers = np.flatnonzero(rows.empty).tolist()
        raise ResetNeeded(f"The episodes of rows {numbers} have not begun; call reset() before {what}.")


def check_mask_begun(rows: Rows[Any], mask: np.ndarray) -> None:
    """Raise ResetNeeded unless rows that a reset leaves alone have an episode, without which they show nothing."""
    if (rows.empty & ~mask).any():
        numbers = np.flatnonzero(rows.empty & ~mask).tolist()
        raise ResetNeeded(f"The episodes of rows {numbers} have not begun; reset all rows before some.")


def advance(rows: Rows[S], actions: Any, mode: AutoresetMode) -> Transition[S]:
    """One step of a vector environment; `check_ready` comes before it.

    Rows that had ended are begun anew after it, whatever their action: in next-step mode that is the rule, in same-step
    mode they were restored at their end. Rows that end are begun anew at once in same-step mode only.
    """
    waiting = rows.ended
    step = rows.step(actions)
    beginning = rows.begin(waiting) if waiting.any() else {}
    observation = last = rows.observe()
    finished = rows.ended & (mode == AutoresetMode.SAME_STEP)
    if finished.any():
        beginning = merge_info(beginning, rows.begin(finished))
        observation = rows.observe()
    return Transition(step, observation, last, finished, waiting | finished, beginning)


def to_step_result(transition: Transition[Any]) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """What a vector environment's `step` returns, in arrays."""
    step, step_info = transition.step, to_numpy(transition.step.info)
    info = merge_info(with_masks(step_info, ~transition.restarted), transition.beginning)
    if transition.finished.any():
        info |= final_entries(to_numpy(transition.last), step_info, transition.finished)
    reward, terminated, truncated = (to_numpy(part) for part in (step.reward, step.terminated, step.truncated))
    return to_numpy(transition.observation), reward, terminated, truncated, info


def seed_rows(rows: Rows[Any], seed: int | Sequence[int | None] | None, options: dict[str, Any] | None) -> np.ndarray:
    """Give the rows of a reset the generators of their seeds, and return the mask (N,) bool of these rows.

    Raises:
        ValueError, gymnasium.error.Error: if the mask or a seed does not fit; nothing is changed then.
    """
    mask, seeds = reset_mask(options, len(rows.ended)), row_seeds(seed, len(rows.ended))
    chosen = {i: seeds[i] for i in np.flatnonzero(mask).tolist()}
    generators = {i: seeding.np_random(number)[0] for i, number in chosen.items() if number is not None}
    for i, generator in generators.items():  # only now, when no seed is wrong
        rows.generators[i] = generator
    return mask


def check_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Gymnasium's autoreset mode of a name.

    Raises:
        ValueError: if there is none.
    """
    try:
        return AutoresetMode(mode)
    except ValueError:
        names = ", ".join(each.value for each in AutoresetMode)
        raise ValueError(f"Autoreset mode {mode!r} is unknown; use one of {names}.") from None


def autoreset_mode_of(envs: VectorEnv) -> AutoresetMode:
    """What happens at an end; next-step, Gymnasium's default, if nothing says it.

    The environment's attribute counts more than its metadata: Gymnasium's vectors write their mode into the metadata of
    the class of their environments, where the next vector of that class replaces it.
    """
    in_metadata = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    return AutoresetMode(getattr(envs.unwrapped, "autoreset_mode", in_metadata))


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> np.ndarray:
    """Rows to reset, (N,) bool: those of `options["reset_mask"]`, or all.

    Raises:
        ValueError: unless the mask is N booleans, some of them True.
    """
    mask = np.asarray((options or {}).get("reset_mask", np.ones(num_envs, bool)))
    if mask.shape != (num_envs,) or mask.dtype != bool or not mask.any():
        raise ValueError(f"reset_mask must be {num_envs} booleans, some of them True, got {mask!r}.")
    return mask


def row_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """A seed per row: of one number s they are s, s + 1, ...

    Raises:
        ValueError: if a list has another length, or it is neither.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(num_envs)]
    if not hasattr(seed, "__len__"):
        raise ValueError(f"Seed {seed!r} is not a whole number; give one, or a list of {num_envs}.")
    if len(seed) != num_envs:
        raise ValueError(f"{len(seed)} seeds for {num_envs} environments; give one for each, or one number.")
    return list(seed)


def row_of(observation: Any, row: int) -> Any:
    """One row of a batch of observations."""
    return {key: part[row] for key, part in observation.items()} if isinstance(observation, dict) else observation[row]


def row_info(info: dict[str, Any], row: int) -> dict[str, Any]:
    """A single environment's info: one row of arrays (N, ...), single numbers as Python's."""
    parts = {name: part[row] for name, part in info.items() if not name.startswith("_")}
    return {name: part if part.ndim else part.item() for name, part in parts.items()}


def with_masks(info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """An info whose every entry says for which rows (N,) bool it is meant."""
    return {**info, **{f"_{name}": rows.copy() for name in info if not name.startswith("_")}}


def merge_info(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The entries of two infos with masks; the later one counts for rows that both speak of."""
    merged = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        if not name.startswith("_"):
            rows = later[f"_{name}"]
            per_row = rows.reshape(-1, *[1] * (later[name].ndim - 1))
            merged[name] = np.where(per_row, later[name], earlier[name])
            merged[f"_{name}"] = rows | earlier[f"_{name}"]
    return merged


def final_entries(observation: Any, info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Entries of `info` for rows (N,) bool whose episode ended in this step and that are begun anew in it.

    Last observations are an array of objects, None where no episode ended.
    """
    final = np.full(len(rows), None, object)
    for i in np.flatnonzero(rows).tolist():
        final[i] = row_of(observation, i)
    masks = {"_final_obs": rows.copy(), "_final_info": rows.copy()}
    return {"final_obs": final, "final_info": with_masks(info, rows), **masks}


def to_numpy(value: Any) -> Any:
    """Tensors on any device as arrays, in dicts or not; arrays as they are."""
    if isinstance(value, dict):
        return {name: to_numpy(part) for name, part in value.items()}
    return value if isinstance(value, np.ndarray) else value.cpu().numpy()
