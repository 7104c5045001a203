"""Whether memory formed is told from predictions alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lssvwm_rl.data.store import Episode
from lssvwm_rl.measures.memory_check import MemoryCheck, window_of
from lssvwm_rl.measures.memory_formed import Contrast, MemoryFormed, certainty, memory_note
from lssvwm_rl.measures.psnr import EXACT
from lssvwm_rl.measures.returning import returning_ages
from lssvwm_rl.model.engine import make_engine
from support.cues import CueEngine, cue_episodes
from support.small_models import BACKBONE, double_model, small_model

WINDOW = BACKBONE.window


def noise_episodes(count: int, steps: int, seed: int = 0, vectors: int = 0) -> list[Episode]:
    rng = np.random.default_rng(seed)
    return [
        Episode(
            frames=rng.integers(0, 256, (steps + 1, 16, 16, 3), dtype=np.uint8),
            actions=rng.integers(0, 4, steps),
            rewards=np.zeros(steps, np.float32),
            terminated=False,
            truncated=True,
            vectors=rng.standard_normal((steps + 1, vectors)).astype(np.float32) if vectors else None,
        )
        for _ in range(count)
    ]


def walked(count: int, seed: int = 0) -> list[Episode]:
    """Noise to which the walk comes back, with rewards at random."""
    rng = np.random.default_rng(seed)
    episodes = []
    for episode in noise_episodes(count, 40, seed):
        scenes = rng.integers(0, 6, 41)
        rewards = rng.choice([0.0, 0.0, 1.0], 40).astype(np.float32)
        episodes.append(dataclasses.replace(episode, frames=episode.frames[scenes], rewards=rewards))
    return episodes


def told(episodes: list[Episode], remembers: bool) -> MemoryFormed:
    return MemoryCheck(episodes, WINDOW).measure(CueEngine(small_model(), remembers))


def test_who_knows_the_cue_remembers_it():
    formed = told(cue_episodes(), remembers=True)
    grey_for_colour = 10 * np.log10(255**2 / ((127**2 + 2 * 128**2) / 3))
    assert formed.recall is not None and formed.reward is not None
    assert formed.recall.memory == EXACT
    # Half of the colours are red; for blue the same three differences stand in another order.
    assert formed.recall.wiped == pytest.approx(grey_for_colour)
    assert (formed.reward.memory, formed.reward.wiped, formed.reward.frames) == (1.0, 0.5, 16)
    assert formed.reward_reach == 12, "the largest of 3, 6, 12, 24 that does not reach from the end to the cue"
    assert list(formed.ages) == [(6, 10)] and formed.farthest == 10
    assert formed.ended is not None and (formed.ended.memory, formed.ended.wiped) == (1.0, 1.0)
    assert formed.sentence() == (
        "Memory formed: rewards that depend on what was seen before the last 12 frames are predicted with 100% "
        "accuracy, 50% without memory; what returns after up to 10 frames is predicted "
        f"{EXACT - grey_for_colour:.1f} dB better than without memory."
    )
    assert memory_note(formed.figures()) == f"memory {EXACT - grey_for_colour:+.1f} dB, reward 1.00 / 0.50"
    assert formed.figures()["memory_reward_reach"] == 12


def test_who_does_not_know_it_gets_advice():
    formed = told(cue_episodes(), remembers=False)
    assert formed.recall is not None and formed.recall.gain == 0 and formed.reward_reach == 0
    assert formed.sentence().startswith("No memory formed: beyond its window of 3 frames")
    assert "--span" in formed.sentence()
    assert memory_note(formed.figures()) == "memory +0.0 dB, reward 0.50 / 0.50"


def test_one_of_both_is_enough():
    rewards = told(cue_episodes(again=False), remembers=True)
    assert rewards.recall is None and rewards.formed and "what returns" not in rewards.sentence()
    frames = told(cue_episodes(paid=False), remembers=True)
    assert frames.reward is None and frames.formed and "rewards" not in frames.sentence()
    assert memory_note(rewards.figures()) == "memory reward 1.00 / 0.50"


def test_worlds_without_anything_to_remember_are_named():
    nothing = told(cue_episodes(again=False, paid=False), remembers=True)
    assert nothing.sentence().startswith("Too little in these held-out episodes returns after leaving the window of 3")
    noise = MemoryCheck(noise_episodes(12, 10), WINDOW, "training").measure(small_model())
    assert noise.figures() == {} and memory_note(noise.figures()) == ""
    assert noise.sentence().startswith("Too little in these training episodes returns")
    for short in (noise_episodes(12, WINDOW - 1), []):
        few = MemoryCheck(short, WINDOW).measure(small_model())
        assert few.sentence() == "Nothing to remember: no held-out episode is longer than the window of 3 frames."
        assert few.figures() == {}
    assert MemoryCheck(noise_episodes(1, WINDOW), WINDOW).measure(small_model()).frames == 1


def test_a_model_of_a_window_alone_has_no_memory():
    window = small_model(backbone=dataclasses.replace(BACKBONE, kind="window"))
    formed = MemoryCheck(walked(2), WINDOW).measure(window)
    assert formed.sentence().startswith("No memory: a model of kind 'window' keeps nothing beyond the 7 frames")
    better = dataclasses.replace(formed, reward=Contrast(1.0, 0.5, 99, 99.0))
    assert not better.formed and dataclasses.replace(better, kind="ssm").formed


@pytest.mark.parametrize("kind", ["block_ssm", "ssm", "causal"])
def test_scores_are_those_of_predictions_one_by_one(kind):
    """Every frame from a memory of its own, observed frame by frame or anew, with the noise of its number."""
    model, episodes = double_model(backbone=dataclasses.replace(BACKBONE, kind=kind)), walked(2)
    check = MemoryCheck(episodes, WINDOW)
    formed = check.measure(make_engine(model, "torch"))
    assert formed.recall is not None and formed.reward is not None and len(formed.ages) >= 2
    errors = {True: [], False: []}
    for number, (i, t) in enumerate(check._recalled):
        returning = returning_ages(episodes[i].frames, WINDOW)[t] >= WINDOW
        for whole in errors:
            memory, _ = observed(model, episodes[i], 0 if whole else t - WINDOW + 1, t)
            noise, action = [torch.Generator().manual_seed(number)], torch.tensor(episodes[i].actions[t - 1 : t])
            frame = model.imagine_frame(memory, action, None, noise, 1)[0].numpy()
            error = np.square(frame.astype(float) - episodes[i].frames[t]).mean(axis=-1)
            errors[whole] += error[returning].tolist()
    for whole, score in ((True, formed.recall.memory), (False, formed.recall.wiped)):
        assert score == pytest.approx(10 * np.log10(255**2 / np.mean(errors[whole])), abs=0.01)
    right = {(whole, high): [] for whole in (True, False) for high in (True, False)}
    for (i, t), high in zip(check._rewards.places, check._rewards.high, strict=True):
        assert high == (episodes[i].rewards[t - 1] > 0)
        for whole in (True, False):
            _, prediction = observed(model, episodes[i], 0 if whole else t - WINDOW + 1, t + 1)
            right[whole, high].append((float(prediction.reward[0, -1]) > check._rewards.threshold) == high)
    for whole, score in ((True, formed.reward.memory), (False, formed.reward.wiped)):
        assert score == pytest.approx((np.mean(right[whole, True]) + np.mean(right[whole, False])) / 2)
    assert check.measure(make_engine(model, "torch")) == formed


def observed(model, episode, start, stop):
    frames = torch.from_numpy(episode.frames[start:stop])[None]
    actions = torch.from_numpy(np.r_[0, episode.actions][start:stop])[None]
    return model.observe(model.initial_memory(1), frames, actions)


def test_vectors_are_given():
    episodes = [
        dataclasses.replace(e, vectors=np.ones((41, 2), np.float32) * i) for i, e in enumerate(walked(2, seed=1))
    ]
    for size in (2, 0):  # 0: the model leaves them out
        formed = MemoryCheck(episodes, WINDOW).measure(small_model(vector_size=size))
        assert formed.recall is not None and np.isfinite(list(formed.figures().values())).all()


def test_what_a_wiped_model_loses_where_memory_is_not_needed_is_no_memory():
    base = MemoryFormed(
        "block_ssm", 4, 13, 100, recall=Contrast(30, 25, 50, 9.0), explained=Contrast(40, 35.5, 50, 9.0)
    )
    assert not base.formed
    assert dataclasses.replace(base, explained=Contrast(40, 37, 50, 9.0)).formed
    assert not dataclasses.replace(base, explained=None, recall=Contrast(30, 25, 50, 2.0)).formed, "by chance"
    assert not dataclasses.replace(base, explained=None, recall=Contrast(30, 25, 5, 9.0)).formed, "few frames"
    near = dataclasses.replace(base, explained=None, ages={(4, 7): Contrast(30, 25, 50, 9.0)})
    assert near.sentence().endswith("(attention alone could pass on 13 frames through all layers).")
    far = dataclasses.replace(near, ages={(8, 15): Contrast(30, 25, 50, 9.0)})
    assert far.sentence().endswith("what returns after up to 15 frames is predicted 5.0 dB better than without memory.")


def test_certainty_is_the_mean_over_its_standard_error():
    values, one = np.random.default_rng(0).standard_normal(50) + 0.5, np.zeros(50, bool)
    assert certainty(values, one) == pytest.approx(values.mean() / (values.std(ddof=1) / 50**0.5))
    two = np.arange(50) < 10
    a, b = values[two], values[~two]
    error = (a.var(ddof=1) / 10 + b.var(ddof=1) / 40) ** 0.5 / 2
    assert certainty(values, two) == pytest.approx((a.mean() + b.mean()) / 2 / error)
    assert certainty(np.ones(5), np.zeros(5, bool)) == np.inf and certainty(np.zeros(5), np.zeros(5, bool)) == 0


def test_long_episodes_are_cut_and_windows_have_two_frames():
    check = MemoryCheck(noise_episodes(1, 2500), WINDOW)
    assert [len(e.frames) for e in check.episodes] == [2048]
    assert window_of(dataclasses.replace(BACKBONE, kind="ssm", window=0)) == 2 and window_of(BACKBONE) == WINDOW
