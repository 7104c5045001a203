"""Doubt in dreams: what info says of it, dreams that are cut or punished for it, and the border of pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.sb3 import DreamVecEnv
from lssvwm_rl.model.checkpoint_files import CONTEXTS, DOUBT
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.model.doubt import load_scale
from support.fp64 import ONCE_ROUNDED, fp64_models

RED = np.array([255, 0, 0])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def played(env: DreamEnv, actions, seed: int = 3) -> list[tuple]:
    """Reward, terminated, truncated and info of each step."""
    env.reset(seed=seed)
    found = []
    for action in actions:
        found.append(env.step(int(action))[1:])
        if found[-1][1] or found[-1][2]:
            env.reset()
    return found


ACTIONS = np.random.default_rng(0).integers(0, 4, 12)


def test_info_has_the_quantile_of_what_the_model_says(untrained):
    checkpoint = untrained(ends=0.0)
    env, model = DreamEnv(checkpoint), load_world_model(checkpoint)
    scale = load_scale(checkpoint, model)
    env.reset(seed=0)
    quantiles = []
    for action in ACTIONS:
        state = env.get_state()
        noise = torch.Generator()
        noise.set_state(torch.from_numpy(state.noise))
        doubt = env.step(int(action))[4]["doubt"]
        imagined = model.imagine(state.memory, torch.tensor([action]), [noise])
        assert type(doubt) is float and scale is not None
        assert doubt == pytest.approx(float(scale(imagined.doubt)), abs=0.02)  # engines round otherwise
        quantiles.append(doubt)
    assert len(set(quantiles)) > 3


@pytest.mark.parametrize("form", ["single", "vector"])
def test_dreams_are_cut_where_their_doubt_reaches_the_limit(untrained, form):
    checkpoint, limit = untrained(ends=0.0), 0.7
    free = played(DreamEnv(checkpoint), ACTIONS)
    first = next(t for t, step in enumerate(free) if step[3]["doubt"] >= limit)
    assert first > 0, "or nothing goes on"
    if form == "single":
        steps = played(DreamEnv(checkpoint, doubt_limit=limit), ACTIONS[: first + 1])
    else:
        envs = DreamVectorEnv(checkpoint, 1, doubt_limit=limit)
        envs.reset(seed=3)
        steps = [[part[0] for part in envs.step(a[None])[1:4]] for a in ACTIONS[: first + 1]]
    assert [bool(step[2]) for step in steps] == [False] * first + [True]
    assert not any(step[1] for step in steps)
    if form == "single":
        assert [step[3]["doubtful"] for step in steps] == [False] * first + [True]
        assert all("doubtful" not in step[3] for step in free)


def test_a_dream_cut_for_its_doubt_is_cut_for_stable_baselines_too(untrained):
    envs = DreamVecEnv(untrained(ends=0.0), 4, seed=0, doubt_limit=0.5)
    envs.reset()
    cut = 0
    for _ in range(6):
        _, _, dones, infos = envs.step(np.zeros(4, np.int64))
        for done, info in zip(dones, infos, strict=True):
            assert done == info["TimeLimit.truncated"]
            if done:
                assert info["doubtful"] and info["doubt"] >= 0.5
            cut += done
    assert cut > 0


def test_a_penalty_is_taken_off_the_reward(untrained):
    free, punished = (played(DreamEnv(untrained(), doubt_penalty=p), ACTIONS) for p in (0.0, 2.0))
    for before, after in zip(free, punished, strict=True):
        assert before[1:] == after[1:]
        assert after[0] == pytest.approx(before[0] - 2 * before[3]["doubt"], abs=1e-6)
    assert any(before[0] != after[0] for before, after in zip(free, punished, strict=True))


@pytest.mark.parametrize("options", [{}, {"doubt_limit": 0.9, "doubt_penalty": 0.5}])
def test_a_restored_state_has_the_same_doubts(untrained, options):
    env = DreamEnv(untrained(), **options)
    played(env, ACTIONS[:2])
    env.reset()
    state, after = env.get_state(), []
    for _ in range(2):
        env.set_state(state)
        after.append(env.step(1)[1:])
    assert after[0] == after[1] and "doubt" in after[0][3]


def test_a_row_doubts_what_a_single_dream_does():
    with fp64_models():
        actions = np.array([[i % 3, 2, 1] for i in range(6)])
        envs = DreamVectorEnv("minigrid-memory", 3, doubt_penalty=1.0)
        envs.reset(seed=5)
        together = [envs.step(action) for action in actions]
        for i in range(3):
            env = DreamEnv("minigrid-memory", doubt_penalty=1.0)
            env.reset(seed=5 + i)
            for action, (_, rewards, _, _, infos) in zip(actions[:, i], together, strict=True):
                _, reward, _, _, info = env.step(action)
                assert info["doubt"] == pytest.approx(infos["doubt"][i], abs=ONCE_ROUNDED)
                assert reward == pytest.approx(rewards[i], abs=ONCE_ROUNDED)
        assert len({info["doubt"][0] for *_, info in together}) > 3


def test_tensors_of_info_are_the_callers(untrained):
    envs = DreamVectorEnv(untrained(ends=0.0), 2, doubt_limit=1.0, render_mode="rgb_array")
    envs.reset(seed=0)
    info = envs.step_torch(torch.tensor([1, 2]))[4]
    assert info["doubt"].dtype == torch.float32 and info["doubtful"].dtype == torch.bool
    before = envs.render()
    info["doubt"].fill_(1)
    assert all(np.array_equal(a, b) for a, b in zip(before, envs.render(), strict=True))


@pytest.mark.parametrize("limit", [0.5, None])
def test_pictures_have_a_red_border_from_the_limit_on(untrained, limit):
    checkpoint = untrained(ends=0.0)
    env = DreamEnv(checkpoint, render_mode="rgb_array", doubt_limit=limit)
    env.reset(seed=1)
    bordered = set()
    for i in range(60):
        frame, _, _, cut, info = env.step(i % 4)
        picture, doubted = env.render(), info["doubt"] >= (limit or 0.99)
        edge = np.ones(picture.shape[:2], bool)
        edge[1:-1, 1:-1] = False
        assert np.array_equal(picture[~edge], frame[~edge])
        assert (picture[edge] == RED).all() if doubted else np.array_equal(picture, frame)
        bordered.add(bool(doubted))
        if cut:
            assert doubted and limit
            first, _ = env.reset()
            assert np.array_equal(env.render(), first), "a real frame"
    assert bordered == {True, False}


def test_a_wide_picture_keeps_its_memory(untrained):
    env = DreamEnv(untrained(ends=0.0), render_mode="rgb_array", render_memory=True, doubt_limit=0.01)
    env.reset(seed=1)
    frame, *_, info = env.step(0)
    picture = env.render()
    assert (
        info["doubtful"]
        and (picture[:, :8][[0, -1]] == RED).all()
        and np.array_equal(picture[1:7, 1:7], frame[1:7, 1:7])
    )
    assert not (picture[:, 8:] == RED).all(axis=2).any()


def test_there_is_no_doubt_where_there_is_no_scale(untrained, tmp_path):
    assert all("doubt" not in step[3] for step in played(DreamEnv(untrained(), denoise_steps=1), ACTIONS[:3]))
    folder = tmp_path / "bare"
    shutil.copytree(untrained(), folder)
    episode = load_contexts(folder)[5]
    shutil.rmtree(folder / CONTEXTS)
    env = DreamEnv(str(folder))
    env.reset(options={"context": (episode.frames, episode.actions)})
    assert "doubt" not in env.step(0)[4]
    for options in ({"doubt_limit": 0.9}, {"doubt_penalty": 0.1}):
        with pytest.raises(ValueError, match="has no episodes to measure doubt with; leave doubt_limit"):
            DreamEnv(str(folder), **options)


def test_a_broken_scale_is_said(untrained, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(untrained(), folder)
    Path(folder / DOUBT).write_text("{}")
    with pytest.raises(ValueError, match=r"doubt.json is broken .*; remove it"):
        DreamEnv(str(folder))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        *(
            ({"doubt_limit": limit}, "A doubt_limit of .* is outside")
            for limit in (0, -0.1, 1.01, float("nan"), "1", True)
        ),
        *(({"doubt_penalty": p}, "A doubt_penalty of .* is no number") for p in (-1, float("nan"), float("inf"), None)),
        ({"doubt_limit": 0.9, "denoise_steps": 1}, "One denoising pass says nothing about doubt"),
        ({"doubt_penalty": 1, "denoise_steps": 1}, "One denoising pass says nothing about doubt"),
    ],
)
def test_bad_options_are_one_sentence(untrained, options, sentence):
    for make in (DreamEnv, DreamVectorEnv):
        with pytest.raises(ValueError, match=sentence):
            make(untrained(), **options)
