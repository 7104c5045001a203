"""Flips: counted by hand, and in dreams of engines that keep what they guessed, or guess again at every frame."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.measures.flips import StillDreams, Way, count_flips, differ, draw_moments, measure_flips
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.outputs import Imagined, Prediction

SIDE, STAY, MOVE, SEEDS = 8, 2, 1, 5
DARK, LIGHT = 0, 200
ABOVE = 0.1  # of 64 pixels: more than 6


def shown(*views: int) -> np.ndarray:
    """Frames (T, 8, 8, 3) of which each shows a view in all pixels."""
    return np.repeat(np.array(views, np.uint8), SIDE * SIDE * 3).reshape(len(views), SIDE, SIDE, 3)


def test_flips_are_counted_by_hand():
    drift = shown(*[DARK] * 9)
    for t in range(9):
        drift[t].reshape(-1, 3)[: 3 * t] = LIGHT  # three pixels more each time: every third frame is another view
    faint = shown(*[DARK] * 8, 32)
    few = shown(*[DARK] * 9)
    few[4, 0, :6, 1] = LIGHT
    dreams = [shown(*[DARK] * 9), shown(*[DARK] * 3, *[LIGHT] * 6), shown(*[DARK, LIGHT] * 4, LIGHT), drift, faint, few]
    flips = count_flips(np.stack(dreams), ABOVE)
    assert flips.dtype == np.int64 and flips.tolist() == [0, 1, 7, 2, 0, 0]
    assert count_flips(np.stack(dreams), 6 / 64 - 1e-9).tolist() == [0, 1, 7, 4, 0, 2]
    assert count_flips(np.stack(dreams)[:, :1], ABOVE).tolist() == [0] * 6


def test_seeds_differ_where_one_shows_another_view_at_some_time():
    dark, light, late = shown(DARK, DARK), shown(LIGHT, LIGHT), shown(DARK, LIGHT)
    seeds = np.stack([[dark, dark, late], [dark, light, late], [late, dark, late]])
    assert differ(seeds, ABOVE).tolist() == [True, True, False]
    assert differ(seeds[:2], ABOVE).tolist() == [False, True, False]


def test_shares_are_of_the_dreams_that_are_chosen():
    guessed = np.array([True, False, True, False])
    dreams = StillDreams(np.array([0, 3, 2, 0]), np.array([0.0, 0.2, 0.1, 0.05]), guessed, ABOVE)
    assert dreams.shares() == {"flip": 0.5, "flips": 1.25, "wrong": 0.25}
    assert dreams.shares(guessed) == {"flip": 0.5, "flips": 1.0, "wrong": 0.0}


def episode(known: bool, steps: int) -> Episode:
    """Light if it is known what comes, else dark; moves lead to light."""
    frames = shown(*[LIGHT if known else DARK] * (steps + 1))
    return Episode(frames, np.full(steps, MOVE), np.zeros(steps, np.float32), terminated=True, truncated=False)


EPISODES = [episode(i % 3 == 0, 3 + i % 2) for i in range(12)]


def test_moments_are_different_and_followed_by_steps_that_do_not_end():
    every = draw_moments(EPISODES, 999, lead=2)
    assert every == [(i, seen) for i, e in enumerate(EPISODES) for seen in range(1, len(e) - 1)]
    some = draw_moments(EPISODES, 7, lead=2)
    assert len(set(some)) == 7 and set(some) < set(every) and some != draw_moments(EPISODES, 7, 2, seed=1)
    with pytest.raises(ValueError, match="No episode goes on for 4 steps before its last one; lead dreams by fewer"):
        draw_moments(EPISODES, 7, lead=4)


class Coin:
    """An engine that guesses by the sign of the noise whether a frame is light, but after a light real one it is sure.

    Args:
        keeps: whether what it guessed at a move stays.
    """

    name = "torch"

    def __init__(self, keeps: bool):
        self.keeps = keeps
        config = SimpleNamespace(frame_shape=(SIDE, SIDE, 3), vector_size=0)
        self.model = SimpleNamespace(config=config, device=torch.device("cpu"), initial_memory=self.blank)

    def blank(self, n: int) -> Memory:
        layer = LayerMemory(torch.zeros(n, 1, 1, 1, 1), torch.zeros(n, 2, 1, 1, 1), torch.zeros(n, 2, 1, 1, 1))
        return Memory((layer,), torch.zeros(n, 2), torch.zeros(n, dtype=torch.int64))

    def draw(self, generators: Any) -> torch.Tensor:
        return torch.cat([torch.randn(1, generator=each) for each in generators])

    def observe(self, memory: Memory, frames: Any, actions: Any, vectors: Any = None) -> tuple[Memory, Prediction]:
        light = (frames[:, -1, 0, 0, 0] == LIGHT).float()  # features: whether it is sure, and what it shows
        after = dataclasses.replace(memory, features=torch.stack([light, light], dim=1))
        return after, Prediction(*[torch.zeros(frames.shape[:2])] * 3)

    def imagine(self, memory: Memory, action: Any, noise: Any, denoise_steps: int = 4, vector: Any = None) -> Imagined:
        sure, before = memory.features.unbind(1)
        held = (sure > 0) | (torch.tensor(self.keeps) & (action == STAY))
        light = torch.where(held, before, (noise > 0).float())
        frame = (LIGHT * light).to(torch.uint8)[:, None, None, None].expand(-1, SIDE, SIDE, 3)
        after = dataclasses.replace(memory, features=torch.stack([sure, light], dim=1))
        return Imagined(frame, None, light, light, after, light)


@pytest.mark.parametrize("rows", [64, 5])
def test_flips_of_engines_that_keep_and_that_guess_again(rows):
    moments, still = draw_moments(EPISODES, 20, lead=1), 6
    ways = [Way(Coin(True)), Way(Coin(False)), Way(Coin(False), temperature=0.0)]
    keeps, again, cold = measure_flips(ways, EPISODES, moments, STAY, 1, still, SEEDS, ABOVE, rows)
    unsure = np.array([i % 3 != 0 for i, _ in moments])
    signs = np.array(
        [
            [
                (torch.randn(1, generator=generator) > 0).item()
                for generator in [torch.Generator().manual_seed(row * SEEDS + s)]
                for _ in range(1 + still)
            ]
            for row in range(len(moments))
            for s in range(SEEDS)
        ]
    ).reshape(len(moments), SEEDS, 1 + still)
    first = signs[:, :, 0]
    guessed = unsure & (first != first[:, :1]).any(axis=1)
    assert guessed.sum() >= 5 and (~guessed).sum() >= 3
    for dreams in (keeps, again, cold):
        assert dreams.guessed.tolist() == guessed.tolist()
    assert not keeps.flips.any() and not cold.flips.any()
    changes = (signs[:, 0, 1:] != signs[:, 0, :-1]).sum(axis=1) * unsure
    assert again.flips.tolist() == changes.tolist() and changes.max() > 1
    # The real frame is dark where it is not known what comes.
    assert keeps.off.tolist() == again.off.tolist() == (unsure & first[:, 0]).tolist()
    assert not cold.off.any()


def test_a_lead_of_several_steps_counts_only_what_comes_after_it():
    moments = draw_moments(EPISODES, 99, lead=2)
    (dreams,) = measure_flips([Way(Coin(True))], EPISODES, moments, STAY, lead=2, still=4, seeds=SEEDS, above=ABOVE)
    assert not dreams.flips.any() and dreams.guessed.any()
    (moving,) = measure_flips([Way(Coin(True))], EPISODES, moments, MOVE, lead=2, still=4, seeds=SEEDS, above=ABOVE)
    assert moving.flips.any()


@pytest.mark.parametrize("settings", [{"seeds": 1}, {"lead": 0}, {"still": 0}, {"rows": 0}, {"moments": []}])
def test_nothing_to_compare_is_said(settings):
    with pytest.raises(ValueError, match="leave nothing to compare; use at least 1 of each, and 2 seeds"):
        measure_flips([Way(Coin(True))], EPISODES, **{"moments": [(0, 1)], "still_action": STAY, **settings})
