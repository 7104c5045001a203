"""PSNR of free-running dreams is that of a loop over steps and episodes, and measuring changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.measures.rollouts import EPISODES, FreeRunning
from lssvwm_rl.model.world_model import WorldModel
from support.small_models import DISCRETE, small_model


def episode(length: int, vectors: int = 0) -> Episode:
    rng = np.random.default_rng(length)
    return Episode(
        frames=rng.integers(0, 256, (length + 1, 16, 16, 3), np.uint8),
        actions=rng.integers(0, 4, length),
        rewards=np.zeros(length, np.float32),
        terminated=False,
        truncated=True,
        vectors=rng.standard_normal((length + 1, vectors)).astype(np.float32) if vectors else None,
    )


def store_of(folder, lengths) -> EpisodeStore:
    with EpisodeWriter(folder, StoreHeader((16, 16, 3), DISCRETE)) as writer:
        for length in lengths:
            writer.add(episode(length))
    return EpisodeStore(folder)


@torch.no_grad()
def dreamt_alone(model: WorldModel, episode: Episode, context: int, seed: int) -> np.ndarray:
    """One row, frame by frame, by the model itself."""
    actions, memory = torch.from_numpy(np.concatenate([episode.actions[:1] * 0, episode.actions])), None
    memory, noise = model.initial_memory(1), torch.Generator().manual_seed(seed)
    vectors = None if episode.vectors is None else torch.from_numpy(episode.vectors)
    for t in range(context):
        vector = None if vectors is None else vectors[None, t : t + 1]
        frame = torch.from_numpy(episode.frames[None, t : t + 1])
        memory, _ = model.observe(memory, frame, actions[None, t : t + 1], vector)
    frames = []
    for t in range(context, len(episode.frames)):
        step = model.imagine(memory, actions[t : t + 1], [noise], 4, None if vectors is None else vectors[t : t + 1])
        memory = step.memory
        frames.append(step.frame[0].numpy())
    return np.stack(frames)


def reference(ours: list[np.ndarray], real: list[np.ndarray]) -> float:
    parts = (torch.from_numpy(np.concatenate([each.ravel() for each in side])).double() for side in (ours, real))
    return float(peak_signal_noise_ratio(*parts, data_range=255.0))


@pytest.mark.parametrize("vectors", [0, 2])
def test_figures_are_those_of_a_loop_over_steps(vectors):
    torch.set_num_threads(1)
    model = small_model(vector_size=vectors)
    run = FreeRunning([episode(length, vectors) for length in (9, 4, 6)], context=3)
    dreams = [dreamt_alone(model, each, 3, seed) for seed, each in enumerate(run.episodes)]
    real = [each.frames[3:] for each in run.episodes]
    copies = [np.repeat(each.frames[2:3], len(each.frames) - 3, axis=0) for each in run.episodes]
    figures, before = run.figures(model), (torch.get_rng_state(), np.random.get_state()[1].copy())
    expected = {
        "dream_psnr": reference(dreams, real),
        "dream_psnr_copy": reference(copies, real),
        "dream_psnr_one_step": reference([each[:1] for each in dreams], [each[:1] for each in real]),
        "dream_psnr_one_step_copy": reference([each[:1] for each in copies], [each[:1] for each in real]),
    }
    assert figures == pytest.approx(expected, abs=0.02) and figures["dream_psnr"] != figures["dream_psnr_one_step"]
    assert run.figures(model) == figures, "the same dreams each time"
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_a_curve_ends_where_too_few_episodes_go_on():
    model, run = small_model(), FreeRunning([episode(length) for length in (9, 4, 6)], context=3)
    rows = run.over_time(run.dream(model), least=2)
    assert [t for t, *_ in rows] == [1, 2, 3, 4]
    assert rows[0][1:] == tuple(
        run.figures(model)[name] for name in ("dream_psnr_one_step", "dream_psnr_one_step_copy")
    )


def test_the_longest_of_some_episodes_are_dreamt(tmp_path):
    store = store_of(tmp_path / "many", [5, 60, *range(20, 40)])
    run = FreeRunning.of(store, [i for i in range(len(store)) if i != 1], steps=10)
    assert run.context == 8 and [len(each.frames) for each in run.episodes] == [18] * EPISODES
    assert np.array_equal(run.episodes[0].frames, store[21].frames[:18])
    short = FreeRunning.of(store_of(tmp_path / "short", [1, 2, 4]), range(3))
    assert short.context == 2 and [len(each.frames) for each in short.episodes] == [5, 3]


def test_without_episodes_there_is_nothing_to_dream(tmp_path):
    assert FreeRunning.of(store_of(tmp_path / "store", []), []).figures(small_model()) == {}
