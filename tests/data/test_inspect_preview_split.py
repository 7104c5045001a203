"""What is in a store: as numbers, as pictures, and in two parts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from lssvwm_rl.cli import main
from lssvwm_rl.data.join import split_store
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.data.summary import summarise
from lssvwm_rl.data.verify import verify_store

SPEC = json.dumps({"id": "Nowhere-v0", "kwargs": {}})
HEADER = StoreHeader((8, 6, 3), {"type": "Discrete", "n": 4, "start": 0}, {"pose": 2}, SPEC, "walker", (7,))


def write(path, seeds, header=HEADER, shard_episodes=4):
    """Episode k has k % 3 + 1 steps, frames filled with k, actions that count from 0, and a last reward of k."""
    with EpisodeWriter(path, header, shard_episodes) as writer:
        for k, seed in enumerate(seeds):
            steps = k % 3 + 1
            frames = np.full((steps + 1, *header.frame_shape), k, np.uint8)
            actions = np.arange(steps) if "n" in header.action_space else np.full((steps, 2), k, np.float32)
            rewards = np.zeros(steps, np.float32)
            rewards[-1] = k
            vectors = np.ones((steps + 1, 2), np.float32) if header.vector_keys else None
            writer.add(Episode(frames, actions, rewards, k % 2 == 0, k == 1, vectors, seed))
    return path


def test_numbers_are_those_of_the_episodes(tmp_path, capsys):
    store = EpisodeStore(write(tmp_path / "s", [5, 6, None, 5, 9, 9, 10]))
    found = summarise(store)
    assert found["episodes"] == 7 and found["steps"] == 1 + 2 + 3 + 1 + 2 + 3 + 1
    assert found["image"] == [8, 6, 3] and found["vectors"] == {"pose": 2} and found["environment"] == "Nowhere-v0"
    assert found["lengths"] == {"mean": 13 / 7, "least": 1, "median": 2, "largest": 3}
    assert found["returns"]["mean"] == 3 and found["returns"]["largest"] == 6
    assert found["rewards"]["steps_with_reward"] == 6 and found["rewards"]["largest"] == 6
    assert found["ends"] == {"terminated": 4, "truncated": 1, "neither": 2}
    assert found["seeds"] == {"known": 6, "different": 4, "least": 5, "largest": 10}
    assert found["actions"] == [{"counts": {"0": 7, "1": 4, "2": 2}}]
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert found["bytes"]["on_disk"] == sum(path.stat().st_size for path in files) and found["bytes"]["shards"] == 2
    assert found["bytes"]["frames_decoded"] == 20 * 8 * 6 * 3
    main(["data", "inspect", str(tmp_path / "s"), "--json"])
    assert json.loads(capsys.readouterr().out) == found
    main(["data", "inspect", str(tmp_path / "s")])
    lines = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[:3] not in ("on ", "in ")
    )
    assert lines["episodes"] == "7 of 13 steps" and lines["action"] == "0: 7, 1: 4, 2: 2"
    assert lines["ends"] == "4 terminated, 1 truncated, 2 neither" and lines["seeds"] == "6 known, 4 different, 5 to 10"
    part = summarise(store.first(5))
    assert part["steps"] == 9 and part["actions"] == [{"counts": {"0": 5, "1": 3, "2": 1}}]


@pytest.mark.parametrize(
    ("gone", "line"),
    [
        ((), None),
        ((1,), "shard-00001.zarr is not there; what was not removed on purpose is lost"),
        ((0, 2), "shard-00000.zarr and 1 more, which `lssvwm data verify` names, are not there; "
         "what was not removed on purpose is lost"),
    ],
)  # fmt: skip
def test_shards_that_are_missing_are_a_line(tmp_path, capsys, gone, line):
    store = write(tmp_path / "s", range(4), shard_episodes=1)
    for number in gone:
        shutil.rmtree(store / f"shard-{number:05d}.zarr")
    main(["data", "inspect", str(store)])
    lines = [each for each in capsys.readouterr().out.splitlines() if each.startswith("missing")]
    assert lines == ([] if line is None else [f"missing      {line}"])
    names = [f"shard-{number:05d}.zarr" for number in gone]
    assert summarise(EpisodeStore(store))["missing_shards"] == names
    main(["data", "verify", str(store)])
    notes = [each.split()[1] for each in capsys.readouterr().out.splitlines() if "is not there" in each]
    assert notes == [str(store / name) for name in names]


@pytest.mark.parametrize("file", ["frames/c/0/0/0/0", "rewards/c/0", "lengths/zarr.json", "checksums.json"])
def test_a_file_that_is_missing_is_named_in_one_line(tmp_path, capsys, file):
    store = write(tmp_path / "s", range(4))
    (store / "shard-00000.zarr" / file).unlink()
    with pytest.raises(SystemExit) as stop:
        main(["data", "inspect", str(store)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1
    assert f"shard-00000.zarr is broken ({file} is missing); remove that folder" in error


def test_stores_of_other_kinds_and_empty_ones(tmp_path, capsys):
    box = {"type": "Box", "shape": [2], "dtype": "float32", "low": -9.0, "high": 9.0}
    found = summarise(EpisodeStore(write(tmp_path / "box", [1, 2], StoreHeader((2, 2, 1), box))))
    assert found["actions"][0]["counts"] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2] and found["environment"] is None
    empty = summarise(EpisodeStore(write(tmp_path / "empty", [])))
    assert empty["episodes"] == 0 and empty["lengths"]["mean"] is None and empty["actions"] == []
    main(["data", "inspect", str(tmp_path / "empty")])
    assert "0 of 0 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "inspect", str(tmp_path / "nothing")])
    assert "No episode store at" in capsys.readouterr().err


def test_pictures_show_each_episode_from_its_first_frame_to_its_last(tmp_path, capsys):
    with EpisodeWriter(tmp_path / "s", replace(HEADER, vector_keys={})) as writer:
        for k in range(5):
            frames = np.zeros((10, 8, 6, 3), np.uint8) + (50 * k + np.arange(10, dtype=np.uint8))[:, None, None, None]
            writer.add(Episode(frames, np.zeros(9, np.int64), np.zeros(9, np.float32), False, True))
    main(["data", "preview", str(tmp_path / "s"), "--out", str(tmp_path / "p"), "--episodes", "3"])
    assert "episodes 0, 2, 4" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["contact.png", "episodes.mp4"]
    sheet = np.asarray(Image.open(tmp_path / "p" / "contact.png"))
    height, width = 224, 168  # 28 times as large
    assert sheet.shape == (3 * height + 2 * 2, 8 * width + 7 * 2, 3)
    firsts = [int(sheet[row * (height + 2), 0, 0]) for row in range(3)]
    lasts = [int(sheet[row * (height + 2), -1, 0]) for row in range(3)]
    assert firsts == [0, 100, 200] and lasts == [9, 109, 209]
    with av.open(str(tmp_path / "p" / "episodes.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 30
    for words, said in (
        (["--out", str(tmp_path / "p")], "exists already"),
        (["--out", str(tmp_path / "q"), "--episodes", "0"], "at least 1"),
    ):
        with pytest.raises(SystemExit):
            main(["data", "preview", str(tmp_path / "s"), *words])
        assert said in capsys.readouterr().err and not (tmp_path / "q").exists()


def test_large_frames_are_shown_smaller(tmp_path):
    with EpisodeWriter(tmp_path / "s", StoreHeader((600, 301, 3), HEADER.action_space)) as writer:
        frames = np.full((3, 600, 301, 3), 90, np.uint8)
        writer.add(Episode(frames, np.zeros(2, np.int64), np.zeros(2, np.float32), False, True))
    main(["data", "preview", str(tmp_path / "s"), "--out", str(tmp_path / "p")])
    assert Image.open(tmp_path / "p" / "contact.png").size == (8 * 112 + 7 * 2, 224)


def test_a_split_has_each_world_once_and_is_the_same_each_time(tmp_path, capsys):
    """Episodes of one seed stay together; those without seeds are worlds of their own."""
    seeds = [3, 3, 4, 5, 6, 4, 7, 8, 9, 10, 11, 12]
    source = write(tmp_path / "s", seeds)
    words = ["--out-train", str(tmp_path / "train"), "--out-test", str(tmp_path / "test"), "--share", "0.3"]
    main(["data", "split", str(source), *words])
    said = capsys.readouterr().out
    train, test = EpisodeStore(tmp_path / "train"), EpisodeStore(tmp_path / "test")
    assert f"{len(train)} episodes written to {tmp_path / 'train'}" in said and "lssvwm train --data" in said
    assert len(train) + len(test) == len(seeds) and len(set(test.seeds.tolist())) == 3
    assert not set(train.seeds.tolist()) & set(test.seeds.tolist())
    assert sorted(int(e.frames[0, 0, 0, 0]) for part in (train, test) for e in part) == list(range(12))
    for part in (train, test):
        assert part.header == EpisodeStore(source).header and verify_store(part.path).damaged == ()
        for episode in part:
            k = int(episode.frames[0, 0, 0, 0])
            assert episode.seed == seeds[k] and episode.rewards[-1] == k and len(episode) == k % 3 + 1
    again = split_store(source, tmp_path / "train2", tmp_path / "test2", 0.3)
    assert [part.seeds.tolist() for part in again] == [train.seeds.tolist(), test.seeds.tolist()]
    alone = split_store(write(tmp_path / "n", [None] * 6), tmp_path / "train3", tmp_path / "test3", 0.5)
    assert [len(part) for part in alone] == [3, 3]


def test_splits_that_cannot_be_made_leave_nothing(tmp_path, capsys):
    source = write(tmp_path / "s", [1, 2, 3])
    one = write(tmp_path / "one", [1, 1])
    names = {"train": tmp_path / "a", "test": tmp_path / "b"}
    for store, share, outs, said in (
        (source, 1.0, names, "A share of 1 leaves one part empty"),
        (source, 0.5, {**names, "test": tmp_path / "a"}, "Both parts would be"),
        (source, 0.5, {**names, "test": tmp_path / "a/in"}, "a/in is inside of"),
        (source, 0.5, {**names, "train": tmp_path / "b/in"}, "b/in is inside of"),
        (source, 0.5, {**names, "test": source / "in"}, "s/in is inside of"),
        (source, 0.5, {**names, "test": one}, "exists already"),
        (source, 0.5, {**names, "train": one}, "exists already"),
        (one, 0.5, names, "has 1 world, which cannot be split"),
        (tmp_path / "none", 0.5, names, "No episode store"),
    ):
        words = ["--out-train", str(outs["train"]), "--out-test", str(outs["test"]), "--share", str(share)]
        with pytest.raises(SystemExit) as stop:
            main(["data", "split", str(store), *words])
        error = capsys.readouterr().err
        assert stop.value.code == 2 and said in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "s"]
