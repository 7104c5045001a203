"""Observing contexts and rolling out: in chunks of any length, rows of unlike length, and only what may be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.data.store import Episode
from lssvwm_rl.model import predict
from lssvwm_rl.model.engine import engine_of
from lssvwm_rl.model.predict import (
    dream,
    dream_video,
    observe_batch,
    observe_episodes,
    predict_every_frame,
    predict_frames,
    roll_out,
)
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import BACKBONE, CLOSE, assert_memories_close, double_model, small_model

STEPS, CONTEXT = 12, 5


def played(seed: int, vectors: int = 0, steps: int = STEPS) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        frames=rng.integers(0, 256, (steps + 1, 16, 16, 3), dtype=np.uint8),
        actions=rng.integers(0, 4, steps),
        rewards=np.zeros(steps, np.float32),
        terminated=False,
        truncated=True,
        vectors=rng.standard_normal((steps + 1, vectors)).astype(np.float32) if vectors else None,
    )


EPISODES = [played(i) for i in range(3)]


def kind_of(name: str, **changes) -> WorldModel:
    return small_model(backbone=replace(BACKBONE, kind=name), **changes)


@pytest.mark.parametrize("vectors", [0, 2])
@pytest.mark.parametrize("kind", ["block_ssm", "causal"])
def test_a_context_in_chunks_leaves_the_memory_of_a_context_at_once(monkeypatch, kind, vectors):
    monkeypatch.setattr(predict, "OBSERVED", 5)
    model = double_model(backbone=replace(BACKBONE, kind=kind), vector_size=vectors)
    batch = clip_batch([played(i, vectors) for i in range(2)], STEPS + 1)
    whole, wanted = model.observe(model.initial_memory(2), batch.frames, batch.actions, batch.vectors)
    memory, prediction = observe_batch(model, batch)
    assert_memories_close(memory, whole, **CLOSE)
    for ours, theirs in zip(prediction, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    beginning, first = observe_batch(model, batch, 7)
    assert beginning.frames.tolist() == [7, 7]
    torch.testing.assert_close(first.features, wanted.features[:, :7], **CLOSE)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", ["block_ssm", "causal"])
def test_rows_of_unlike_length_have_the_memories_they_have_alone(kind, given):
    model = double_model(backbone=replace(BACKBONE, kind=kind), vector_size=2)
    with torch.no_grad():  # small vectors: from frame to frame random weights would amplify what is rounded in them
        for parameter in model.vector_head[-1].parameters():
            parameter *= 0.01
    episodes = [played(i, 2, steps) for i, steps in enumerate((4, 9, 4, 0, 7, 9))]
    episodes = [e if given else replace(e, vectors=None) for e in episodes]
    together = observe_episodes(model, episodes)
    assert together.frames.tolist() == [5, 10, 5, 1, 8, 10]
    following = clip_batch([played(i, 2, 0) for i in range(len(episodes))], 1)
    features = model.observe(together, following.frames, following.actions, following.vectors)[1].features
    for i, episode in enumerate(episodes):
        alone, row = observe_episodes(model, [episode]), slice(i, i + 1)
        inputs = following.frames[row], following.actions[row], following.vectors[row]
        torch.testing.assert_close(features[row], model.observe(alone, *inputs)[1].features, **CLOSE)


def test_a_dream_goes_on_with_its_own_actions_from_the_start_and_with_its_own_vectors():
    model, episode = engine_of(kind_of("block_ssm", vector_size=2).double()), played(0, 2)
    steps = 2 * STEPS
    frames = dream(model, episode, CONTEXT, steps, 7, 1)
    none = np.zeros(CONTEXT - 1, np.float32)
    context = Episode(episode.frames[:CONTEXT], episode.actions[: CONTEXT - 1], none, False, True)
    memory = observe_episodes(model, [replace(context, vectors=episode.vectors[:CONTEXT])])
    noise = [torch.Generator().manual_seed(7)]
    for t in range(steps):
        step = model.imagine(memory, torch.tensor([episode.actions[(CONTEXT - 1 + t) % STEPS]]), noise, 1)
        np.testing.assert_array_equal(frames[t], step.frame[0])
        memory = step.memory
    assert dream(model, episode, CONTEXT, 0, 7).shape == (0, 16, 16, 3)
    video = dream_video(model, episode, CONTEXT, steps, 7, 1)
    assert video.shape == (CONTEXT + steps, 16, 32, 3)
    np.testing.assert_array_equal(video[CONTEXT:, :, 16:], frames)
    np.testing.assert_array_equal(video[: STEPS + 1, :, :16], episode.frames)
    np.testing.assert_array_equal(video[-1, :, :16], episode.frames[-1] // 3)
    for context in (0, STEPS + 2):
        with pytest.raises(ValueError, match=f"A context of {context} frames does not fit"):
            dream(model, episode, context, 1, 0)


def test_every_frame_is_predicted_from_the_real_ones_before():
    model, episodes = kind_of("window"), [played(0), played(1, steps=4)]
    predicted = predict_every_frame(model, episodes, 1)
    assert [len(frames) for frames in predicted] == [STEPS, 4]
    np.testing.assert_array_equal(predicted[0], predict_frames(model, episodes, 1, False, 1)[0])


def test_teacher_forcing_needs_the_vectors_of_a_model_that_has_some():
    model = kind_of("block_ssm", vector_size=2)
    real = torch.from_numpy(EPISODES[0].frames[None, :1])
    with pytest.raises(ValueError, match="vectors of 2 numbers"):
        roll_out(model, model.initial_memory(1), torch.zeros(1, 1, dtype=torch.int64), [torch.Generator()], real=real)


@pytest.mark.parametrize("forced", [False, True])
def test_without_noise_seeds_do_not_matter_and_times_one_is_as_it_was(forced):
    model = kind_of("block_ssm")
    memory, actions = model.initial_memory(2), torch.tensor([[1, 2, 0], [1, 2, 0]])
    real = torch.from_numpy(EPISODES[0].frames[None, :3]).expand(2, -1, -1, -1, -1) if forced else None

    def rolled(*temperature: float) -> np.ndarray:
        noise = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return roll_out(model, memory, actions, noise, 2, None, real, *temperature)

    cold, usual = rolled(0.0), rolled()
    np.testing.assert_array_equal(cold[0], cold[1])
    assert (usual[0] != usual[1]).any() and (rolled(0.5) != usual).any()
    np.testing.assert_array_equal(rolled(1.0), usual)


@pytest.mark.parametrize("kind", ["block_ssm", "window", "causal"])
def test_the_first_frame_is_the_same_in_both_modes_and_free_frames_are_the_dream(kind):
    model = kind_of(kind)
    forced, free = (predict_frames(model, EPISODES[:1], CONTEXT, f, denoise_steps=2) for f in (False, True))
    assert forced.shape == free.shape == (1, STEPS + 1 - CONTEXT, 16, 16, 3)
    np.testing.assert_array_equal(forced[0, 0], free[0, 0])
    assert (forced[0, 1] != free[0, 1]).any()
    np.testing.assert_array_equal(free[0], dream(model, EPISODES[0], CONTEXT, STEPS + 1 - CONTEXT, 0, 2))


def test_a_prediction_knows_only_what_it_may():
    model = kind_of("block_ssm")
    changed = replace(EPISODES[0], frames=EPISODES[0].frames.copy())
    changed.frames[8] ^= 255
    for free in (False, True):
        before, after = (predict_frames(model, [e], CONTEXT, free, 1)[0] for e in (EPISODES[0], changed))
        np.testing.assert_array_equal(before[: 9 - CONTEXT], after[: 9 - CONTEXT])
        assert (before[9 - CONTEXT] != after[9 - CONTEXT]).any() == (not free)


def test_trials_side_by_side_do_not_see_each_other():
    model = kind_of("window").double()
    together, apart = (predict_frames(model, EPISODES, CONTEXT, False, 1, rows=rows).astype(int) for rows in (3, 2))
    np.testing.assert_array_equal(together, apart)
    assert np.abs(together[0] - together[1]).max() > 50


def test_vectors_of_predicted_frames_are_given():
    model = kind_of("block_ssm", vector_size=2)
    episode = played(0, vectors=2)
    moved = replace(episode, vectors=episode.vectors.copy())
    moved.vectors[CONTEXT + 1] += 3
    for free in (False, True):
        before, after = (predict_frames(model, [e], CONTEXT, free, 1)[0] for e in (episode, moved))
        np.testing.assert_array_equal(before[0], after[0])
        assert (before[1] != after[1]).any()
    # Who was trained without looks at none.
    blind = kind_of("block_ssm")
    before, after = (predict_frames(blind, [e], CONTEXT, True, 1) for e in (episode, moved))
    np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="takes vectors of 2 numbers, the episodes have 0"):
        predict_frames(model, EPISODES, CONTEXT, True)
    with pytest.raises(ValueError, match="context of 13 frames leaves nothing"):
        predict_frames(model, [episode], STEPS + 1, True)
