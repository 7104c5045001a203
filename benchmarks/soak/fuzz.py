"""Random calls of environments, valid and invalid: each does what it should, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np

from soak.calls import Calls
from soak.fuzzed_dreams import DreamCalls, VectorDreamCalls, dream_worlds
from soak.fuzzed_mazes import MazeCalls, VectorMazeCalls
from soak.outcome import Outcome

LENGTH = 40
"""Calls of one environment, until the next one is made."""
REFUSALS = (ValueError, IndexError, FileNotFoundError, IsADirectoryError, gym.error.Error)
"""What environments document to raise; ResetNeeded and InvalidAction are Gymnasium's errors."""
MOST_LINES = 40  # of a message, which may show arrays


def soak_calls(calls: int, seed: int, folder: Path) -> list[Outcome]:
    """So many random calls, of each kind of environment in turn.

    Args:
        folder: a new one, for checkpoints of untrained world models.
    """
    rng, worlds = np.random.default_rng(seed), dream_worlds(folder)
    kinds: dict[str, Callable[[], Calls]] = {
        "`DreamEnv`": lambda: DreamCalls(worlds, folder, rng),
        "`DreamVectorEnv`": lambda: VectorDreamCalls(worlds, folder, rng),
        "`MemoryMazeEnv`": lambda: MazeCalls(rng),
        "`MemoryMazeVectorEnv`": lambda: VectorMazeCalls(rng),
    }
    outcomes = [Outcome(f"calls of {name}") for name in kinds]
    left = calls
    while left:
        for make, outcome in zip(kinds.values(), outcomes, strict=True):
            part = min(LENGTH, left)
            play(make(), part, rng, outcome)
            left -= part
    return outcomes


def play(env: Calls, calls: int, rng: np.random.Generator, outcome: Outcome) -> None:
    """So many calls of one environment."""
    before = env.snapshot()
    for _ in range(calls):
        call = env.draw(rng)
        outcome.tried += 1
        try:
            returned = call.make()
        except REFUSALS as error:
            after, wrong = env.snapshot(), not_a_sentence(error)
            if call.fits:
                wrong = f"is refused: {error!r}"
            elif after != before:
                wrong = f"is refused with {error!r}, but has changed something"
            came_to = "refused, nothing changed"
        except Exception as error:
            after, wrong, came_to = env.snapshot(), f"raises {error!r}", ""
        else:
            after, wrong = env.snapshot(), call.check(returned)
            if not call.fits:
                wrong = f"is taken, and returns {str(returned)[:200]}"
            came_to = "done, as the spaces say"
        before = after
        if wrong:
            outcome.wrong.append(f"{call.what} {wrong}")
        else:
            outcome.count(came_to)


def not_a_sentence(error: Exception) -> str:
    """What is wrong with the message of a refusal, empty if nothing is."""
    text = str(error).strip()
    if len(text.split()) < 3 or "Traceback" in text or len(text.splitlines()) > MOST_LINES:
        return f"is refused without a sentence: {error!r}"
    return ""
