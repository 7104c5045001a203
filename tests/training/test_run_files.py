"""What a run keeps: it is made whole, a state with a changed byte is refused, a curve with broken rows goes on."""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import count

import numpy as np
import pytest
import torch

from lssvwm_rl.checked_text import CHECKSUMS, check_texts
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.training.curve import Curve, read_curve
from lssvwm_rl.training.run_folder import load_state, only_trainer, prepare, save_state
from support.changed_bytes import one_bit_changed

STATE = {"model": {"w": torch.arange(40.0), "n": torch.tensor(3)}, "step": 5, "seconds": 0.25, "memory": {}}


def same(found) -> bool:
    tensors = all(torch.equal(found["model"][k], t) for k, t in STATE["model"].items())
    return tensors and {k: v for k, v in found.items() if k != "model"} == {"step": 5, "seconds": 0.25, "memory": {}}


def test_a_changed_byte_of_a_state_is_an_error_or_changes_nothing(tmp_path):
    save_state(tmp_path, STATE)
    path = tmp_path / "trainer" / "state.pt"
    refused = 0
    for at in one_bit_changed(path, 0, first=path.stat().st_size):
        try:
            assert same(load_state(tmp_path)), at
        except ValueError as error:
            assert str(error).startswith(f"{path} is broken") and "remove the trainer folder" in str(error)
            refused += 1
    assert refused > 100 and same(load_state(tmp_path))


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_state_that_is_cut_is_an_error(tmp_path, part):
    save_state(tmp_path, STATE)
    path = tmp_path / "trainer" / "state.pt"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match="is broken"):
        load_state(tmp_path)


def test_rows_of_a_curve_that_are_none_are_left_out(tmp_path):
    text = "step,total,memory\r\n1,0.5,\r\n2,0.4,1.5\r\nstep,total,memory\r\n3,0.3\r\n3,0.3,1,9\r\n\0\0\r\n4,0.2,2\r\n"
    (tmp_path / "learning_curve.csv").write_text(text + "9,0.1,1\r\n5,0.1,1")
    Curve(tmp_path, 5).add({"step": 6, "total": 0.05, "memory": 3.0})
    written = (tmp_path / "learning_curve.csv").read_text()
    assert written.split() == ["step,total,memory", "1,0.5,", "2,0.4,1.5", "4,0.2,2", "6,0.05,3"]


def test_a_curve_is_read_as_numbers_and_without_what_is_no_row(tmp_path):
    assert read_curve(tmp_path) == []
    (tmp_path / "learning_curve.csv").write_text("step,total,memory\r\n1,0.5,\r\n3,0.3\r\n4,nan,2\r\n5,0.1,1")
    first, second = read_curve(tmp_path)
    assert (first["step"], first["total"], second["memory"]) == (1, 0.5, 2)
    assert np.isnan([first["memory"], second["total"]]).all()


@pytest.mark.parametrize("text", ["", "step", "total\n0.1\n", "\0\0"])
def test_a_curve_whose_columns_are_lost_begins_anew(tmp_path, text):
    (tmp_path / "learning_curve.csv").write_text(text)
    Curve(tmp_path, 5).add({"step": 6, "total": 0.05})
    assert (tmp_path / "learning_curve.csv").read_text().split() == ["step,total", "6,0.05"]


def store_of(folder, episodes: int) -> EpisodeStore:
    header = StoreHeader((2, 2, 1), {"type": "Discrete", "n": 3, "start": 0}, env_spec='{"id": "X-v0"}')
    with EpisodeWriter(folder, header, shard_episodes=2) as writer:
        for k in range(episodes):
            frames = np.full((3 + k, 2, 2, 1), k, np.uint8)
            writer.add(Episode(frames, np.zeros(2 + k, np.int64), np.zeros(2 + k, np.float32), True, False, seed=k))
    return EpisodeStore(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_run_that_is_killed_while_it_is_made_is_made_by_the_same_command(tmp_path):
    store, config = store_of(tmp_path / "data", 5), {"data": "d", "train": {"steps": 3}}
    killed = 0
    for moment in count():
        out = tmp_path / f"run{moment}"
        child = os.fork()
        if child == 0:
            try:
                os.replace = partial(_replace_or_die, os.replace, moment, [])
                with only_trainer(out):
                    prepare(out, config, store, [1, 3])
                os._exit(0)
            finally:  # never on in the tests
                os._exit(1)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert died in (0, -signal.SIGKILL)
        with only_trainer(out):
            prepare(out, config, store, [1, 3])
        assert {p.name for p in out.iterdir()} == {".lock", CHECKSUMS, "config.yaml", "contexts", "env.json", "trainer"}
        check_texts(out)
        assert EpisodeStore(out / "contexts").seeds.tolist() == [1, 3]
        if not died:
            break
        killed += 1
    assert killed >= 5, "config.yaml, the header, a shard, contexts, env.json"


def _replace_or_die(replace, moment: int, before: list, source, target) -> None:
    if len(before) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    before.append(target)
    replace(source, target)


def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and not a run"):
        only_trainer(tmp_path).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_the_first_episodes_of_a_store_are_what_it_was(tmp_path):
    small = [episode.frames.tolist() for episode in store_of(tmp_path / "small", 3)]
    part = store_of(tmp_path / "data", 5).first(3)
    assert len(part) == 3 and part.seeds.tolist() == [0, 1, 2] and part.lengths.tolist() == [2, 3, 4]
    assert [e.frames.tolist() for e in part] == small and part[-1].seed == 2
    assert [e.frames.tolist() for shard in part.episodes_of_shards() for e in shard] == small
    assert part.frame_bytes == 4 * (3 + 4 + 5)
    with pytest.raises(IndexError):
        part[3]
