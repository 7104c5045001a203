"""Pairs are cut where reality differs after a window that does not, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.pairs import Pair, cut_pairs

STEPS = 9


def episode(marks: dict[int, int], rewards: dict[int, float] | None = None, **changes) -> Episode:
    """Frames count up; `marks` gives how many pixels of a frame are white."""
    frames = np.broadcast_to(np.arange(STEPS + 1, dtype=np.uint8)[:, None, None, None], (STEPS + 1, 2, 3, 3)).copy()
    for t, pixels in marks.items():
        frames[t].reshape(6, 3)[:pixels] = 255
    given = np.zeros(STEPS, np.float32)
    for t, reward in (rewards or {}).items():
        given[t - 1] = reward
    return replace(Episode(frames, np.arange(STEPS), given, terminated=True, truncated=False, seed=3), **changes)


PLAIN = episode({})


def places(pairs: list[Pair]) -> list[tuple[int, int, bool]]:
    return [(len(pair.first), pair.agreement, pair.in_frame) for pair in pairs]


def test_the_frame_with_most_pixels_and_the_last_outcome_are_compared():
    # Frame 9 differs in as many pixels as 4 does, but follows a frame that differs.
    seen = episode({0: 1, 4: 2, 8: 1, 9: 2}, {6: 1.0, 7: 1.0, 8: 1.0})
    assert places(cut_pairs(PLAIN, seen, 2)) == [(4, 3, True), (7, 2, False)]
    assert places(cut_pairs(PLAIN, seen, 3)) == [(4, 3, True)]
    assert places(cut_pairs(PLAIN, seen, 4)) == []
    equal = episode({0: 1, 4: 2, 8: 2})
    assert places(cut_pairs(PLAIN, equal, 3)) == [(8, 3, True)]
    assert all(pair.first.seed == 3 and not pair.first.terminated for pair in cut_pairs(PLAIN, seen, 2))


def test_what_differs_for_the_first_time_is_not_to_be_remembered():
    assert cut_pairs(PLAIN, episode({5: 1}, {9: 1.0}), 4) == []
    assert places(cut_pairs(PLAIN, episode({5: 1}, {9: 1.0}), 3)) == [(9, 3, False)]
    assert cut_pairs(PLAIN, PLAIN, 1) == []


def test_an_end_is_an_outcome_as_a_reward_is():
    goes_on = episode({0: 1}, terminated=False)
    assert places(cut_pairs(PLAIN, goes_on, 8)) == [(9, 8, False)]
    shorter = replace(goes_on, terminated=True).cut(0, 7)
    shorter = replace(shorter, terminated=True)
    (pair,) = cut_pairs(PLAIN, shorter, 5)
    assert len(pair.first) == 6 and (pair.first.terminated, pair.second.terminated) == (False, True)


def test_vectors_have_to_agree_too():
    vectors = np.arange(2 * STEPS + 2, dtype=np.float32).reshape(-1, 2)
    other = vectors.copy()
    other[6] += 1
    first, second = replace(PLAIN, vectors=vectors), episode({0: 1, 5: 1, 6: 1, 9: 1}, vectors=other)
    assert places(cut_pairs(first, second, 2)) == [(9, 2, True)]
    second = episode({0: 1, 5: 1}, {9: 1.0}, vectors=other)
    assert places(cut_pairs(first, second, 2)) == [(5, 4, True), (9, 2, False)]
    assert places(cut_pairs(first, second, 3)) == [(5, 4, True)]


@pytest.mark.parametrize(
    ("first", "second", "window", "said"),
    [
        (PLAIN, episode({0: 1}, {9: 1.0}, actions=np.arange(STEPS) + 1), 3, "have other actions"),
        (PLAIN, episode({6: 1}, {9: 1.0}), 3, "agree in 2 frames before .* a window of 3"),
        (PLAIN, episode({8: 1}, {9: 1.0}), 0, "at least 1"),
        (PLAIN, episode({}, {9: 1.0}), 3, "agree from the start"),
        (PLAIN, episode({0: 1}), 3, "or nothing does"),
    ],
)
def test_what_is_no_pair_is_refused(first, second, window, said):
    with pytest.raises(ValueError, match=said):
        Pair(first, second, window)


def test_a_cut_episode_ends_only_at_its_end():
    assert PLAIN.cut(0, STEPS + 1).terminated and not PLAIN.cut(0, STEPS).terminated
    part = replace(PLAIN, vectors=np.zeros((STEPS + 1, 2), np.float32)).cut(0, 5)
    assert [len(x) for x in (part.frames, part.actions, part.rewards, part.vectors)] == [5, 4, 4, 5]
