"""What searches have in common: plans made of tensors, rounds within a time, and scores of candidates."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from lssvwm_agents.planning.dynamics import Dynamics

T = TypeVar("T")


def check_seconds(seconds: float | None) -> None:
    """Raise ValueError unless a decision may take that long; None is for ever."""
    if seconds is not None and not seconds > 0:
        raise ValueError(f"A decision cannot take {seconds} seconds; give a positive number, or None for no limit.")


def rows_where(mask: Tensor, ours: T, theirs: T) -> T:
    """`Plan.where` of a dataclass of tensors whose first dimension is the row: `ours` where `mask` (B,) is True."""
    names = (field.name for field in fields(cast(Any, ours)))
    pairs = ((getattr(ours, name), getattr(theirs, name)) for name in names)
    return type(ours)(*(torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def moved_on(steps: Tensor, last: Tensor, searched: Tensor) -> Tensor:
    """A plan after one step was taken: every step moves up by one, and the last one is new.

    Args:
        steps: (B, horizon, ...).
        last: (B, 1, ...).
        searched: (B,) bool; rows where it is False are left as they are, since nothing of them was taken.
    """
    moved = torch.cat([steps[:, 1:], last], dim=1)
    return torch.where(searched.view(-1, *[1] * (steps.ndim - 1)), moved, steps)


def rounds(count: int, seconds: float | None) -> Iterator[int]:
    """0 to `count` - 1, but none begins after so many seconds, except the first."""
    started = time.monotonic()
    for i in range(count):
        if i and seconds is not None and time.monotonic() - started >= seconds:
            return
        yield i


def score(dynamics: Dynamics, memory: Any, candidates: Tensor, action_shape: tuple[int, ...]) -> Tensor:
    """Returns (B, S) float32 on the CPU of candidates (B, S, horizon, A); -inf where a return is no finite number, so
    that such a candidate is never among the best.

    Raises:
        ValueError: if no candidate of a row has a finite return.
    """
    returns = dynamics.evaluate(memory, env_actions(candidates, action_shape)).float().cpu()
    if _all_finite(returns):
        return returns
    returns = returns.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    best = returns.amax(dim=1)
    if best.isinf().any():
        row = int(best.argmin())
        raise ValueError(f"All returns of row {row} are NaN or infinite; retrain or replace the checkpoint.")
    return returns


def best_first(returns: Tensor, candidates: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of the candidates (B, S, ...), as returns (B, count) and candidates (B, count, ...); among equals the
    first one stands first."""
    values, order = (each[:, :count] for each in returns.sort(dim=1, descending=True, stable=True))
    index = order.view(*order.shape, *[1] * (candidates.ndim - 2)).expand(-1, -1, *candidates.shape[2:])
    return values, candidates.gather(1, index)


def weights(returns: Tensor, temperature: float) -> Tensor:
    """softmax(standardised return / temperature) over the candidates (B, S), 0 where a return is -inf."""
    best = returns.amax(dim=1, keepdim=True)
    if _all_finite(returns):
        spread = returns.std(dim=1, correction=0, keepdim=True)
    else:  # what is filled with the mean adds nothing to the spread but counts as if it did
        finite = returns.isfinite()
        mean = returns.where(finite, torch.tensor(math.nan)).nanmean(dim=1, keepdim=True)
        share = finite.float().mean(dim=1, keepdim=True)
        spread = returns.where(finite, mean).std(dim=1, correction=0, keepdim=True) / share.sqrt()
    return torch.softmax((returns - best) / spread.clamp(min=1e-6) / temperature, dim=1)


def figures(returns: Sequence[Tensor]) -> dict[str, Tensor]:
    """What a plan says about itself, of the returns (B, S) of its rounds: "best_return" and "mean_return" (B,) float32
    of the last one's that are finite, and "non_finite" (B,) int64, candidates of all rounds whose returns were not."""
    last = returns[-1]
    mean = last.where(last.isfinite(), torch.tensor(math.nan)).nanmean(dim=1)
    non_finite = (torch.cat(list(returns), dim=1) == -math.inf).sum(dim=1)
    return {"best_return": last.amax(dim=1), "mean_return": mean, "non_finite": non_finite}


def env_actions(actions: Tensor, action_shape: tuple[int, ...]) -> Tensor:
    """Actions (..., A) as the environment takes them: (...) where one action is a single number."""
    return actions if action_shape else actions[..., 0]


def _all_finite(numbers: Tensor) -> bool:
    return math.isfinite(numbers.sum().item())  # in a search this is asked often; looking at each takes longer
