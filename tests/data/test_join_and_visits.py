"""Joined stores, the newest quarter of them, and how often the data went where."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.clips import ClipSampler
from lssvwm_rl.data.join import join_stores, merge_stores, move_episodes
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.data.verify import verify_store
from lssvwm_rl.data.visits import Visits

HEADER = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}, policy="a", seeds=(5,))


def write(path, numbers, header=HEADER):
    """Episodes of two steps; every frame of number k is filled with k."""
    with EpisodeWriter(path, header, shard_episodes=2) as writer:
        for k in numbers:
            frames = np.full((3, *header.frame_shape), k, np.uint8)
            writer.add(Episode(frames, np.array([0, 1]), np.zeros(2, np.float32), True, False, seed=k))
    return path


def test_joined_stores_hold_the_episodes_of_all_in_their_order(tmp_path):
    first = write(tmp_path / "a", range(5))
    second = write(tmp_path / "b", range(5, 8), StoreHeader(HEADER.frame_shape, HEADER.action_space, policy="b"))
    joined = join_stores([first, second], tmp_path / "joined")
    assert [int(e.frames[0, 0, 0, 0]) for e in joined] == list(range(8)) == joined.seeds.tolist()
    assert joined.header.policy == "a+b" and joined.header.seeds == (5,)
    write(first, [100])  # what is added later is not in it
    assert len(EpisodeStore(tmp_path / "joined")) == 8 and len(EpisodeStore(first)) == 6


def test_stores_that_cannot_be_joined_leave_nothing(tmp_path):
    other = write(tmp_path / "other", [1], StoreHeader((4, 4, 1), HEADER.action_space))
    first = write(tmp_path / "a", [1])
    with pytest.raises(ValueError, match="frame_shape"):
        join_stores([first, other], tmp_path / "joined")
    with pytest.raises(ValueError, match="No episode store"):
        join_stores([first, tmp_path / "none"], tmp_path / "joined")
    with pytest.raises(ValueError, match="name at least one"):
        join_stores([], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    with pytest.raises(FileExistsError, match="exists already"):
        join_stores([first], other)


def test_a_merger_has_each_world_once_by_each_policy(tmp_path, capsys):
    other = StoreHeader(HEADER.frame_shape, HEADER.action_space, policy="b")
    first, second = write(tmp_path / "a", range(5)), write(tmp_path / "a2", [7, 3, 8, 0, 4, 9])
    write(tmp_path / "b", [3, 20], other)
    main(["data", "merge", *(str(tmp_path / name) for name in ("m", "a", "b", "a2"))])
    merged = EpisodeStore(tmp_path / "m")
    assert merged.seeds.tolist() == [0, 1, 2, 3, 4, 3, 20, 7, 8, 9] and merged.header.policy == "a+b"
    assert [int(e.frames[0, 0, 0, 0]) for e in merged] == merged.seeds.tolist()
    said = capsys.readouterr().out
    assert f"3 episodes of {second} are left out, an earlier store has those of seeds 3, 0, 4." in said
    assert "10 episodes, 20 steps of 3 stores" in said and verify_store(tmp_path / "m").damaged == ()
    # Whole shards are linked, and what is merged again is known by both of its policies.
    shard = "shard-00000.zarr/frames/c/0/0/0/0"
    assert (first / shard).stat().st_ino == (tmp_path / "m" / shard).stat().st_ino
    assert merge_stores([tmp_path / "m", tmp_path / "b", second], tmp_path / "again")[1] == [
        (tmp_path / "m", []), (tmp_path / "b", [3, 20]), (second, [7, 3, 8, 0, 4, 9])
    ]  # fmt: skip
    assert len(EpisodeStore(tmp_path / "again")) == 10


def test_moved_episodes_leave_an_empty_store_and_come_last(tmp_path):
    first, second = write(tmp_path / "a", range(3)), write(tmp_path / "b", range(3, 8))
    assert move_episodes(second, first) == 5
    assert [int(e.frames[0, 0, 0, 0]) for e in EpisodeStore(first)] == list(range(8))
    assert len(EpisodeStore(second)) == 0 and verify_store(first).damaged == ()
    assert move_episodes(write(second, [8]), first, 5) == 6 and EpisodeStore(first).seeds.tolist() == list(range(9))
    other = write(tmp_path / "other", [9], StoreHeader((4, 4, 1), HEADER.action_space))
    with pytest.raises(ValueError, match="frame_shape"):
        move_episodes(other, first)
    assert len(EpisodeStore(first)) == 9 and len(EpisodeStore(other)) == 1


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (StoreHeader((4, 4, 1), HEADER.action_space), "frame_shape"),
        (StoreHeader((2, 2, 1), {"type": "Discrete", "n": 4, "start": 0}), "action_space"),
        (StoreHeader((2, 2, 1), HEADER.action_space, env_spec='{"id": "Other-v0", "kwargs": {}}'), "of Other-v0, not"),
    ],
)
def test_a_store_of_another_kind_is_named_and_nothing_made(tmp_path, capsys, header, said):
    ours = StoreHeader((2, 2, 1), HEADER.action_space, env_spec='{"id": "Mine-v0", "kwargs": {}}')
    write(tmp_path / "a", [1], ours)
    write(tmp_path / "b", [1], header)
    with pytest.raises(SystemExit) as stop:
        main(["data", "merge", *(str(tmp_path / name) for name in ("m", "a", "b"))])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and f"{tmp_path / 'b'} holds" in error and "Traceback" not in error
    with pytest.raises(SystemExit):
        main(["data", "merge", *(str(tmp_path / name) for name in ("a", "b"))])
    assert "exists already" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"] and len(EpisodeStore(tmp_path / "a")) == 1


def test_a_share_of_the_clips_comes_from_the_newest_quarter(tmp_path):
    store = EpisodeStore(write(tmp_path / "a", range(40)))

    def drawn(newest: float) -> Counter[int]:
        sampler = ClipSampler(store, span=4, batch_size=16, seed=3, newest=newest)
        return Counter(int(k) for step in range(80) for k in sampler.batch(step).frames[:, 0, 0, 0, 0])

    clips = 80 * 16
    for newest in (0.0, 0.5, 1.0):
        count = sum(n for k, n in drawn(newest).items() if k >= 30)
        expected = newest + (1 - newest) / 4
        # Four standard errors of a share; the draws are the same on every machine.
        assert abs(count / clips - expected) <= 4 * (expected * (1 - expected) / clips) ** 0.5
    assert drawn(0.5) == drawn(0.5) and set(drawn(0.5)) == set(range(40))


def test_visits_count_views_with_actions():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 24, 24, 3), np.uint8)
    visits = Visits()
    visits.add(frames[[0, 0, 1]], np.array([2, 2, 0]))
    visits.add_episodes([Episode(frames[:3], np.array([2, 1]), np.zeros(2, np.float32), False, True)])
    assert visits.of(frames[[0, 0, 1, 1, 2]], np.array([2, 1, 0, 1, 0])).tolist() == [3, 0, 1, 1, 0]
    # A view is a frame up to what hashes cannot tell: one grey level in one pixel, not another frame.
    near = frames.copy()
    near[:, 3, 3, 0] ^= 1
    assert (visits.views(near) == visits.views(frames)).mean() >= 5 / 6
    assert len(set(visits.views(frames).tolist())) == 6


def test_box_actions_count_by_thirds_of_their_range():
    visits = Visits(np.array([-1.0, 0.0]), np.array([1.0, 9.0]))
    frame = np.zeros((1, 8, 8, 3), np.uint8)
    visits.add(frame, np.array([[-0.9, 8.0]], np.float32))
    same, others = [[-0.4, 6.5], [-1.0, 9.0]], [[0.0, 8.0], [-0.9, 4.0], [1.0, 8.0]]
    counted = visits.of(np.repeat(frame, 5, 0), np.array(same + others, np.float32))
    assert counted.tolist() == [1, 1, 0, 0, 0]
