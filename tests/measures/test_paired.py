"""What remembers is right in all pairs and follows its memory; what forgets or sees a window only is right in half."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lssvwm_rl.data.episode import Episode
from lssvwm_rl.data.pairs import Pair
from lssvwm_rl.measures.paired import (
    CHANGES,
    Answers,
    PairedShares,
    Shares,
    measure_pairs,
    paired_answers,
    paired_shares,
    with_window_of,
)
from lssvwm_rl.model.memory import LayerMemory, Memory
from lssvwm_rl.model.outputs import Prediction
from support.small_models import BACKBONE, double_model

WINDOW, SHAPE, LOW, HIGH = 6, (16, 16, 3), 50, 200


def toy_pair(seed: int, in_frame: bool) -> Pair:
    """A mark, seen in the first frames, comes back in the last one or decides on the reward; all else is noise."""
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(9, 14))
    frames, actions = rng.integers(0, 256, (steps + 1, *SHAPE), dtype=np.uint8), rng.integers(0, 4, steps)
    episodes = []
    for mark in rng.permutation([LOW, HIGH]).tolist():
        own, rewards = frames.copy(), np.zeros(steps, np.float32)
        own[:2, 0, 0] = mark
        if in_frame:
            own[-1, 0, 0] = mark
        else:
            rewards[-1] = float(mark == HIGH)
        episodes.append(Episode(own, actions, rewards, terminated=not in_frame, truncated=False))
    return Pair(*episodes, WINDOW)


PAIRS = [toy_pair(seed, bool(seed % 2)) for seed in range(10)]


class Toy:
    """An engine that keeps the first frame's mark in one part of its memory, or none; without it, noise decides."""

    name = "toy"

    def __init__(self, keeps: str | None):
        self.keeps = keeps
        config = SimpleNamespace(frame_shape=SHAPE, vector_size=0)
        self.model = SimpleNamespace(config=config, device=torch.device("cpu"), initial_memory=self.blank)

    def blank(self, n: int) -> Memory:
        layer = LayerMemory(torch.zeros(n, 1, 1, 1, 1), torch.zeros(n, 2, 1, 1, 1), torch.zeros(n, 2, 1, 1, 1))
        return Memory((layer,), torch.zeros(n, 1), torch.zeros(n, dtype=torch.int64))

    def observe(self, memory, frames, actions, vectors=None):
        believed, marks = self._believed(memory), frames[:, :, 0, 0, 0].float()
        tensors = {**memory.tensors(), "frames": memory.frames + frames.shape[1]}
        if self.keeps is not None and not memory.frames.any():
            kept = tensors[self.keeps]
            tensors[self.keeps] = marks[:, :1].reshape(-1, *[1] * (kept.ndim - 1)).expand_as(kept)
        if self.keeps is None:
            tensors["keys.0"] = marks[:, -1:].reshape(-1, 1, 1, 1, 1).expand_as(memory.layers[0].keys)
        reward = (torch.where(believed == 0, 0.3, (believed - LOW) / (HIGH - LOW)))[:, None].expand_as(marks)
        return Memory.from_tensors(tensors), Prediction(
            reward[..., None].expand(-1, -1, 2), torch.ones_like(reward), memory.features
        )

    def denoise(self, memory, action, noise, denoise_steps=4, vector=None):
        frames = torch.stack([torch.randint(0, 256, SHAPE, generator=g, dtype=torch.uint8) for g in noise])
        believed = self._believed(memory)
        frames[believed > 0, 0, 0] = believed[believed > 0].to(torch.uint8)[:, None]
        return frames

    def _believed(self, memory: Memory) -> torch.Tensor:
        return torch.zeros(memory.batch_size) if self.keeps is None else memory.tensors()[self.keeps].flatten(1)[:, 0]


@pytest.mark.parametrize(
    ("keeps", "right", "exchanged", "wiped"),
    [
        ("states.0", 1.0, 1.0, 0.5),
        ("features", 1.0, 1.0, 0.5),
        # A mark that is handed on inside the window's cache is remembered, but not by the states.
        ("keys.0", 1.0, 0.0, 1.0),
        (None, 0.5, 0.5, 0.5),
    ],
)
def test_outputs_follow_where_the_mark_is_kept(keeps, right, exchanged, wiped):
    expected = Shares(5, right, exchanged, wiped)
    for rows in (32, 3):
        assert measure_pairs(Toy(keeps), PAIRS, denoise_steps=1, rows=rows) == PairedShares(expected, expected)


def test_a_window_model_is_right_in_half_of_the_histories():
    """Attention alone, over fewer frames than agree: both memories are the same, whatever the weights are."""
    window = double_model(backbone=replace(BACKBONE, kind="window", blocks=(1, 1, 1)))
    shares = measure_pairs(window, PAIRS, denoise_steps=1)
    assert shares == PairedShares(Shares(5, 0.5, 0.5, 0.5), Shares(5, 0.5, 0.5, 0.5))


def test_answers_are_those_of_memories_made_by_hand():
    model, pair = double_model(), PAIRS[1]
    answers = paired_answers(model, PAIRS[:3], denoise_steps=2)
    memories = []
    for episode in (pair.first, pair.second):
        actions = torch.from_numpy(np.concatenate([[0], episode.actions]))[None]
        frames = torch.from_numpy(episode.frames)[None]
        memories.append(model.observe(model.initial_memory(1), frames[:, :-1], actions[:, :-1])[0])
    a, b = (memory.tensors() for memory in memories)
    exchanged = {n: (b if n.split(".")[0] in ("keys", "values", "frames") else a)[n] for n in a}
    wiped = {n: torch.zeros_like(t) if n.split(".")[0] in ("states", "features") else t for n, t in a.items()}
    for change, tensors in zip(CHANGES, (a, exchanged, wiped), strict=True):
        memory, noise = Memory.from_tensors(tensors), [torch.Generator().manual_seed(1)]
        action, last = torch.from_numpy(pair.first.actions[-1:]), torch.from_numpy(pair.first.frames[-1])[None]
        _, read = model.observe(memory, last[:, None], action[:, None])
        assert answers[change].reward[0, 1] == pytest.approx(float(read.reward[0, 0]), rel=1e-6)
        assert answers[change].terminated[0, 1] == pytest.approx(float(read.terminated[0, 0]), rel=1e-6)
        frame = model.imagine_frame(memory, action, None, noise, 2)[0].numpy().astype(int)
        assert np.abs(answers[change].frames[0, 1] - frame).max() <= 1  # engines agree within a grey level
    # Which takes nothing but the window of the other.
    assert all(torch.equal(t, exchanged[n]) for n, t in with_window_of(*memories).tensors().items())


def test_ties_count_half_and_frames_by_the_pixels_that_differ():
    pairs = [PAIRS[1], PAIRS[3]]
    real = np.stack([[p.first.frames[-1] for p in pairs], [p.second.frames[-1] for p in pairs]])
    guess = 255 - real  # wrong everywhere, but for the pixel that differs
    guess[:, :, 0, 0] = real[:, :, 0, 0]
    guess[1, 0, 0, 0] = (LOW + HIGH) // 2
    guess[1, 1] = real[0, 1]
    answers = Answers(np.zeros((2, 2)), np.zeros((2, 2)), guess)
    shares = paired_shares(pairs, dict.fromkeys(CHANGES, answers))
    assert shares.reward is None and shares.frames is not None
    assert shares.frames.right == (1 + 1 + 0.5 + 0) / 4


def test_an_end_counts_as_a_reward_does():
    first = replace(PAIRS[0].first, rewards=np.zeros_like(PAIRS[0].first.rewards))
    second = replace(PAIRS[0].second, rewards=first.rewards, terminated=False)
    answers = Answers(np.array([[0.4], [0.4]]), np.array([[0.9], [0.6]]), np.zeros((2, 1, *SHAPE), np.uint8))
    shares = paired_shares([Pair(first, second, WINDOW)], dict.fromkeys(CHANGES, answers))
    assert shares.frames is None and shares.reward == Shares(1, 0.5, 0.5, 0.5)
    sure = replace(answers, terminated=np.array([[0.9], [0.4]]))
    assert paired_shares([Pair(first, second, WINDOW)], dict.fromkeys(CHANGES, sure)).reward == Shares(1, 1, 1, 1)


def test_no_pairs_is_an_error():
    with pytest.raises(ValueError, match="No pair is given"):
        measure_pairs(Toy(None), [])
