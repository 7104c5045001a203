"""Stores, clips and collection against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lssvwm_envs.explorers import make_explorer
from lssvwm_envs.explorers.memory_walker import MemoryWalker
from lssvwm_envs.make import image_envs, make_image_env
from lssvwm_rl.data.clips import ClipSampler, StreamSampler, clip_batch, hold_out
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.policy import RandomPolicy

ENV_ID = "MiniGrid-MemoryS7-v0"
HEADER = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}, {"pose": 2})


def episode(length: int, seed: int = 0) -> Episode:
    rng = np.random.default_rng([seed, length])
    return Episode(
        frames=rng.integers(0, 256, (length + 1, 2, 2, 1), np.uint8),
        actions=rng.integers(0, 3, length),
        rewards=rng.random(length, np.float32),
        terminated=bool(rng.integers(2)),
        truncated=False,
        vectors=rng.random((length + 1, 2), np.float32),
        seed=seed,
    )


def write(path, lengths, shard_episodes=3):
    with EpisodeWriter(path, HEADER, shard_episodes) as writer:
        for i, length in enumerate(lengths):
            writer.add(episode(length, i))
    return EpisodeStore(path)


def assert_equal(a: Episode, b: Episode):
    for name in ("frames", "actions", "rewards", "vectors"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert (a.terminated, a.truncated, a.seed) == (b.terminated, b.truncated, b.seed)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), shard=st.integers(1, 4))
def test_what_is_written_is_read(tmp_path_factory, lengths, shard):
    store = write(tmp_path_factory.mktemp("store") / "s", lengths, shard)
    assert store.lengths.tolist() == lengths
    for i, length in enumerate(lengths):
        assert_equal(store[i], episode(length, i))
        part = store.read(i, 0, 1 + length // 2)
        assert np.array_equal(part.frames, store[i].frames[: 1 + length // 2]) and len(part.actions) == length // 2
    flat = [e for shard_episodes in store.episodes_of_shards() for e in shard_episodes]
    for one, other in zip(flat, store, strict=True):
        assert_equal(one, other)


def test_writing_into_what_was_read_changes_no_later_read(tmp_path):
    store = write(tmp_path / "s", [3, 4])
    for _ in range(2):
        found = store[1]
        assert_equal(found, episode(4, 1))
        for array in (found.frames, found.actions, found.rewards, found.vectors):
            array[...] = 1


def test_a_killed_writer_breaks_nothing_and_a_broken_shard_is_named(tmp_path):
    store = write(tmp_path / "s", [3, 4, 5])
    (tmp_path / "s" / ".tmp-shard-00001.zarr").mkdir()
    assert len(EpisodeStore(tmp_path / "s")) == 3
    assert len(write(tmp_path / "s", [2])) == 4
    assert_equal(EpisodeStore(tmp_path / "s")[0], store[0])
    for file in (tmp_path / "s" / "shard-00000.zarr").rglob("c/*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is broken"):
        EpisodeStore(tmp_path / "s")[0]
    with pytest.raises(ValueError, match="No episode store"):
        EpisodeStore(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="frame_shape"):
        EpisodeWriter(tmp_path / "s", StoreHeader((4, 4, 1), HEADER.action_space, HEADER.vector_keys))


def test_clips_align_what_led_to_a_frame_with_the_frame():
    episodes = [episode(4, 1), episode(2, 2)]
    batch = clip_batch(episodes, 6)
    for i, e in enumerate(episodes):
        n = len(e.frames)
        for t in range(n):
            assert np.array_equal(batch.frames[i, t], e.frames[t])
            assert batch.actions[i, t] == (e.actions[t - 1] if t else 0)
            assert batch.rewards[i, t] == (e.rewards[t - 1] if t else 0)
            assert batch.terminated[i, t] == (e.terminated and t == n - 1)
        assert batch.mask[i].tolist() == [t < n for t in range(6)]
        assert batch.first[i].tolist() == [t == 0 for t in range(6)]
    with pytest.raises(ValueError, match="does not fit a span"):
        clip_batch(episodes, 4)


def test_batches_are_a_function_of_seed_and_step(tmp_path):
    store = write(tmp_path / "s", [2, 12, 5, 7, 9, 3])
    a, b, other = (ClipSampler(store, 6, 4, seed) for seed in (1, 1, 2))
    a.batch(0)
    assert all(np.array_equal(a.batch(s).frames, b.batch(s).frames) for s in (9, 3))
    assert any(a.batch(s).frames.shape != other.batch(s).frames.shape for s in range(20))
    for step in range(20):
        batch = a.batch(step)
        assert batch.mask.shape[1] == batch.mask.sum(1).max() <= 6
    train, held_out = hold_out(store, 0.3)
    assert not set(train) & set(held_out) and len(train) + len(held_out) == 6 and held_out


def explore(path, episodes, num_envs=3):
    return collect(
        image_envs(ENV_ID),
        make_explorer,
        path,
        episodes,
        num_envs,
        vector_keys=("pose",),
        policy_name="explore",
    )


def test_a_resumed_collection_equals_one_without_a_break(tmp_path):
    whole = explore(tmp_path / "a", 7)
    explore(tmp_path / "b", 3)
    resumed = explore(tmp_path / "b", 7, num_envs=2)
    by_seed = {e.seed: e for e in resumed}
    assert sorted(by_seed) == list(range(7))
    for e in whole:
        assert_equal(e, by_seed[e.seed])
    assert whole.header.vector_keys == {"pose": 4}


def test_collected_episodes_are_what_the_environment_gives(tmp_path):
    store = collect(
        image_envs(ENV_ID, max_steps=15),
        lambda envs, seed: RandomPolicy(envs.single_action_space, seed),
        tmp_path / "s",
        3,
        num_envs=2,
    )
    for e in store:
        env = make_image_env(ENV_ID, max_steps=15)
        frame, _ = env.reset(seed=e.seed)
        assert np.array_equal(frame, e.frames[0])
        for t, action in enumerate(e.actions):
            frame, reward, terminated, truncated, _ = env.step(action)
            assert np.array_equal(frame, e.frames[t + 1]) and reward == pytest.approx(e.rewards[t])
            last = t == len(e) - 1
            assert (terminated, truncated) == ((e.terminated, e.truncated) if last else (False, False))


def test_unknown_vectors_are_named(tmp_path):
    with pytest.raises(ValueError, match="no vector 'poze'"):
        collect(image_envs(ENV_ID), make_explorer, tmp_path / "s", 2, vector_keys=("poze",))


@pytest.mark.parametrize(("blind", "low", "high"), [(0.0, 1, 1), (0.2, 0.7, 0.95), (1.0, 0, 0.5)])
def test_the_walker_shows_the_object_and_ends_either_way(blind, low, high):
    envs = image_envs(ENV_ID)(1)
    env = envs.envs[0].unwrapped
    walker = make_explorer(envs, 0, blind=blind)
    assert isinstance(walker, MemoryWalker)
    outcomes, looked = [], []
    for seed in range(60):
        observation, _ = envs.reset(seed=[seed])
        state, seen, done, start = None, False, False, np.ones(1, bool)
        while not done:
            seen |= env.agent_sees(1, env.height // 2 - 1)
            actions, state = walker.predict(observation, state, start)
            observation, rewards, terminated, truncated, _ = envs.step(actions)
            start, done = np.zeros(1, bool), bool(terminated[0] | truncated[0])
        assert terminated[0]
        looked.append(seen)
        outcomes.append(rewards[0] > 0)
    assert low <= np.mean(looked) <= high
    assert 0.3 < np.mean(outcomes) < 0.7


def test_a_stream_goes_through_whole_episodes(tmp_path):
    store = write(tmp_path / "s", [2, 12, 5, 7, 9, 3])
    stream, again = StreamSampler(store, 4, 3, seed=1), StreamSampler(store, 4, 3, seed=1)
    rows: list[list[dict]] = [[] for _ in range(3)]
    for step in range(12):
        batch = stream.batch(step)
        assert not batch.first[:, 1:].any()
        for i in range(3):
            if batch.first[i, 0]:
                rows[i].append({name: [] for name in ("frames", "actions", "rewards", "terminated", "vectors")})
            for name, parts in rows[i][-1].items():
                parts.append(getattr(batch, name)[i][batch.mask[i]].numpy())
    assert all(np.array_equal(again.batch(s).frames, stream.batch(s).frames) for s in (7, 2))
    for row in rows:
        for played in row[:-1]:  # the last one may not have ended
            whole = {name: np.concatenate(parts) for name, parts in played.items()}
            episode = next(e for e in store if np.array_equal(e.frames, whole["frames"]))
            assert np.array_equal(whole["actions"][1:], episode.actions) and whole["actions"][0] == 0
            assert np.array_equal(whole["rewards"][1:], episode.rewards)
            assert np.array_equal(whole["vectors"], episode.vectors)
            assert whole["terminated"].tolist() == [False] * len(episode) + [episode.terminated]


def test_clips_come_with_what_came_before_them(tmp_path):
    store = write(tmp_path / "s", [4, 30, 11])
    sampler, met = ClipSampler(store, span=6, batch_size=4, seed=0, history=8), 0
    plain = ClipSampler(store, span=6, batch_size=4, seed=0)
    for step in range(20):
        batch = sampler.batch(step)
        np.testing.assert_array_equal(batch.frames, plain.batch(step).frames)
        if batch.before is None:
            continue
        for i, (row, first) in enumerate(zip(batch.before.mask, batch.frames[:, 0], strict=True)):
            count = int(row.sum())
            assert row[len(row) - count :].all() and count <= 8 and bool(batch.first[i, 0]) == (count == 0)
            joined = np.concatenate([batch.before.frames[i, len(row) - count :], first[None]])
            whole = next(e for e in store if any(np.array_equal(f, joined[0]) for f in e.frames))
            start = next(t for t, f in enumerate(whole.frames) if np.array_equal(f, joined[0]))
            np.testing.assert_array_equal(whole.frames[start : start + count + 1], joined)
            at = len(row) - count
            np.testing.assert_array_equal(
                batch.before.actions[i, at + 1 :], whole.actions[start : start + count][: max(0, count - 1)]
            )
            met += count > 0
    assert met > 5
