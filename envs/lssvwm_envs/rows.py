"""What Gymnasium agrees on for vector environments that reset single rows: masks, seeds, and what is told of an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv


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
    told = envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    return AutoresetMode(getattr(envs.unwrapped, "autoreset_mode", told))


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


def with_masks(info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """An info whose every entry says for which rows (N,) bool it is meant."""
    return {**info, **{f"_{name}": rows.copy() for name in info if not name.startswith("_")}}


def final_entries(observation: Any, info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Entries of `info` for rows (N,) bool whose episode ended in this step and that are begun anew in it.

    Last observations are an array of objects, None where no episode ended.
    """
    final = np.full(len(rows), None, object)
    for i in np.flatnonzero(rows).tolist():
        final[i] = row_of(observation, i)
    hidden = {name: value for name, value in info.items() if not name.startswith("_")}
    masks = {"_final_obs": rows.copy(), "_final_info": rows.copy()}
    return {"final_obs": final, "final_info": with_masks(hidden, rows), **masks}
