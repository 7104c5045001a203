"""A store has one appender at a time, so that no seed is played twice and no shard is lost."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.episode import Episode, StoreHeader
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from support.full_disk import files_up_to
from support.neighbours import neighbour

COLLECT = "collect MiniGrid-MemoryS7-v0 --policy random --num-envs 2 --env-kwargs max_steps 5 --out".split()


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_second_collector_is_told_and_changes_nothing(tmp_path, capsys):
    out = tmp_path / "s"
    main([*COLLECT, str(out), "--episodes", "2"])
    before = contents(out)
    with neighbour(out):
        (out / ".tmp-shard-00001.zarr").mkdir()  # as an earlier version named what it is writing
        with pytest.raises(SystemExit) as stop:
            main([*COLLECT, str(out), "--episodes", "4"])
        assert stop.value.code == 2 and f"is writing to the store {out}; wait" in capsys.readouterr().err
        assert contents(out) == before and (out / ".tmp-shard-00001.zarr").is_dir()
    main([*COLLECT, str(out), "--episodes", "4"])
    assert sorted(EpisodeStore(out).seeds.tolist()) == [0, 1, 2, 3] and not list(out.glob(".tmp-*"))


def test_two_collectors_at_a_time_leave_a_whole_store(tmp_path):
    out = tmp_path / "s"
    command = [sys.executable, "-m", "lssvwm_rl", *COLLECT, str(out), "--episodes", "6"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 0], [0, 2]), said
    assert all("Another process is writing" in text for code, text in zip(codes, said, strict=True) if code)
    store = EpisodeStore(out)
    assert sorted(store.seeds.tolist()) == list(range(6)) and all(len(episode.frames) > 1 for episode in store)


def test_a_folder_that_is_no_store_is_left_as_it_is(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and not an episode store"):
        EpisodeWriter(tmp_path, StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}))
    with pytest.raises(SystemExit):
        main([*COLLECT, str(tmp_path), "--episodes", "2"])
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_writers_of_one_thread_take_numbers_that_are_free(tmp_path):
    header = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0})
    frames = np.zeros((2, 2, 2, 1), np.uint8)
    one, two = EpisodeWriter(tmp_path, header), EpisodeWriter(tmp_path, header)
    for k, writer in enumerate((one, two, one)):
        writer.add(Episode(frames, np.zeros(1, np.int64), np.zeros(1, np.float32), True, False, seed=k))
        writer.flush()
    one.close()
    two.close()
    assert EpisodeStore(tmp_path).seeds.tolist() == [0, 1, 2]


@pytest.mark.parametrize("limit", [0, 200, 600])
def test_a_disk_that_is_full_is_a_sentence_and_keeps_what_is_there(tmp_path, capsys, limit):
    out = tmp_path / "s"
    main([*COLLECT, str(out), "--episodes", "2"])
    before = contents(out)
    for command, path in (
        ([*COLLECT, str(out), "--episodes", "4"], out / "shard-00001.zarr"),
        (["export", "--checkpoint", "minigrid-memory", "--out", str(tmp_path / "x")], tmp_path / "x"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop, files_up_to(limit):
            main(command)
        error = capsys.readouterr().err.splitlines()[-1]
        assert stop.value.code == 2 and str(path) in error and "File too large" in error and "free some space" in error
    assert contents(out) == before and [p.name for p in tmp_path.iterdir()] == ["s"]
    main([*COLLECT, str(out), "--episodes", "4"])
    assert sorted(EpisodeStore(out).seeds.tolist()) == [0, 1, 2, 3]
