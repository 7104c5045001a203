"""Dreams begin where they are told to, in the episodes they are told, and end as their model says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.vector import DreamVectorEnv
from lssvwm_envs.rows import row_of
from lssvwm_rl.data.episode import StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.model.checkpoints import load_contexts
from support.programs import bits
from support.rows import SETTINGS


@pytest.fixture
def other_store(untrained, tmp_path):
    """The checkpoint's contexts with other pictures."""
    contexts = load_contexts(untrained())
    with EpisodeWriter(tmp_path / "other", StoreHeader.load(contexts.path)) as writer:
        for episode in contexts:
            writer.add(replace(episode, frames=255 - episode.frames))
    return EpisodeStore(tmp_path / "other")


def test_a_dream_that_begins_anywhere_has_seen_all_frames_up_to_there(untrained):
    env = DreamEnv(untrained(), **{**SETTINGS, "context_length": 1}, start="anywhere")
    found = set()
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        episode, count = env.contexts[info["context_episode"]], info["context_frames"]
        assert np.array_equal(observation["image"], episode.frames[count - 1])
        seen, _ = env.reset(options={"context": (episode.frames[:count], episode.actions[: count - 1])})
        assert bits(seen["memory"]) == bits(observation["memory"])
        found.add((count == 1, count == len(episode)))
        assert 1 <= count <= len(episode)
    assert found >= {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("start", ["anywhere", 0.5])
def test_rows_of_a_vector_begin_as_single_environments_do(untrained, start):
    envs = DreamVectorEnv(untrained(), 6, **SETTINGS, start=start, end="sample")
    observations, info = envs.reset(seed=11)
    for i in range(6):
        observation, its_info = DreamEnv(untrained(), **SETTINGS, start=start, end="sample").reset(seed=11 + i)
        assert its_info["context_episode"] == info["context_episode"][i]
        assert its_info["context_frames"] == info["context_frames"][i]
        assert bits(observation) == bits(row_of(observations, i))


def test_dreams_that_begin_anywhere_begin_at_every_moment_alike(untrained):
    """However long its episode is: every one of them is drawn, and none much more often than others."""
    env = DreamEnv(untrained(), **{**SETTINGS, "context_length": 2}, start="anywhere")
    env.reset(seed=0)
    dreams, rng = env._dreams, np.random.default_rng(0)
    moments = [(k, t) for k, length in enumerate(env.contexts.lengths) for t in range(min(2, length), length + 1)]
    drawn = Counter(dreams._draw_context(rng) for _ in range(50 * len(moments)))
    assert set(drawn) == set(moments)
    assert chisquare([drawn[moment] for moment in moments]).pvalue > 1e-4


def test_a_share_of_dreams_begins_anywhere(untrained):
    envs = DreamVectorEnv(untrained(), 200, **{**SETTINGS, "context_length": 1}, start=0.5)
    _, info = envs.reset(seed=0)
    lengths = load_contexts(untrained()).lengths
    expected = 0.5 * (1 - len(lengths) / lengths.sum())  # of those that begin anywhere some begin at the first frame
    assert np.mean(info["context_frames"] > 1) == pytest.approx(expected, abs=0.12)  # 3.5 standard deviations
    first, drawn = (DreamVectorEnv(untrained(), 9, **SETTINGS, start=start) for start in ("first", 0.0))
    assert bits(list(first.reset(seed=3))) == bits(list(drawn.reset(seed=3)))


def test_a_store_can_be_named(untrained, other_store):
    env = DreamEnv(untrained(), **SETTINGS, contexts=str(other_store.path))
    observation, info = env.reset(seed=0)
    own, its_info = DreamEnv(untrained(), **SETTINGS).reset(seed=0)
    assert info == its_info and np.array_equal(observation["image"], 255 - own["image"])


def test_what_is_wrong_with_a_store_is_said(untrained, other_store, tmp_path):
    with pytest.raises(ValueError, match="No episode store at .*nowhere"):
        DreamEnv(untrained(), contexts=str(tmp_path / "nowhere")).reset()
    header, episode = StoreHeader.load(other_store.path), other_store[0]
    smaller = replace(header, frame_shape=(4, 4, 3))
    with EpisodeWriter(tmp_path / "small", smaller) as writer:
        writer.add(replace(episode, frames=episode.frames[:, :4, :4]))
    with pytest.raises(ValueError, match=r"frames of shape \(4, 4, 3\)"):
        DreamEnv(untrained(), contexts=str(tmp_path / "small")).reset()
    with EpisodeWriter(tmp_path / "empty", header):
        pass
    with pytest.raises(ValueError, match="has no episodes"):
        DreamEnv(untrained(), contexts=str(tmp_path / "empty")).reset()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"start": "somewhere"}, "cannot start 'somewhere'"),
        ({"start": 1.5}, "cannot start 1.5"),
        ({"start": True}, "cannot start True"),
        ({"start": None}, "cannot start None"),
        ({"end": "never"}, "cannot end by 'never'"),
    ],
)
def test_bad_settings_are_one_sentence(untrained, setting, said):
    with pytest.raises(ValueError, match=said) as caught:
        DreamEnv(untrained(), **setting)
    assert "\n" not in str(caught.value)


def test_ends_are_drawn_with_their_probability(untrained):
    envs = DreamVectorEnv(untrained(), 256, **SETTINGS, end="sample", autoreset_mode="Disabled")
    envs.reset(seed=0)
    _, _, terminated, _, info = envs.step(np.zeros(256, np.int64))
    likely = info["terminated_probability"]
    assert 0.02 < likely.mean() < 0.98
    deviation = np.sqrt((likely * (1 - likely)).sum())
    assert abs(terminated.sum() - likely.sum()) < 4 * deviation


def test_drawn_ends_are_those_of_the_seed_and_of_a_restored_state(untrained):
    def ends(env: DreamEnv, steps: int = 5) -> list[tuple[float, bool]]:
        found = []
        for _ in range(steps):
            _, reward, terminated, truncated, _ = env.step(1)
            found.append((reward, terminated))
            if terminated or truncated:
                break
        return found

    env, frames = DreamEnv(untrained(), **SETTINGS, end="sample"), set()
    for seed in range(8):
        env.reset(seed=seed)
        state = env.get_state()
        first = ends(env)
        env.set_state(state)
        assert ends(env) == first
        env.reset(seed=seed)
        assert ends(env) == first
        frames.add(len(first))
    assert len(frames) > 1, "dreams end at different times"


def test_the_first_dreamt_frame_does_not_depend_on_how_dreams_end(untrained):
    first = []
    for end in ("threshold", "sample"):
        env = DreamEnv(untrained(), **SETTINGS, end=end)
        env.reset(seed=4)
        first.append(env.step(2)[0]["image"])
    assert np.array_equal(*first)
