"""What a session gives and takes: states, videos, pictures, stored episodes."""

from __future__ import annotations

import io
import json
import struct

import imageio.v3 as iio
import numpy as np
import pytest

from lssvwm_envs.play.real import HUMAN, Recorder
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoints import load_contexts
from support.played import REAL, session_of
from support.small_checkpoints import save_checkpoint


def test_a_state_file_goes_on_with_the_same_bits(checkpoint):
    session, other = session_of(checkpoint, real=REAL), session_of(checkpoint, real=REAL)
    session.act(0)
    data = session.save()
    session.act(1)
    other.load(data)
    assert other.mode == "dream" and other.shown.moments[0].source == "given"
    other.act(1)
    assert np.array_equal(other.shown.now.frame, session.shown.now.frame)


def hostile(data: bytes) -> dict[str, bytes]:
    """Files that are no states."""
    deep = json.dumps({"__metadata__": {"dream_state": "[" * 100_000}}).encode()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    state = json.loads(header["__metadata__"]["dream_state"])
    del header["__metadata__"]["sha256"]
    changed = {}
    for name, value in (("steps", -1), ("model", "../../etc"), ("ended", 3), ("np_random", {"bit_generator": "x"})):
        new = {**header, "__metadata__": {"dream_state": json.dumps({**state, name: value})}}
        text = json.dumps(new).encode()
        changed[name] = struct.pack("<Q", len(text)) + text + data[8 + length :]
    return {
        "empty": b"",
        "text": b"no state",
        "cut": data[: len(data) // 2],
        "huge header": struct.pack("<Q", 2**60) + b"{}",
        "deep": struct.pack("<Q", len(deep)) + deep,
        "flipped": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        **changed,
    }


def test_hostile_files_are_refused_in_one_sentence_that_names_no_file(checkpoint):
    session = session_of(checkpoint, real=REAL)
    session.act(0)
    before = session.shown
    for name, data in hostile(session.save()).items():
        with pytest.raises(ValueError, match="The file is ") as error:
            session.load(data)
        assert "/" not in str(error.value) and "\n" not in str(error.value), name
        assert session.shown is before, name
    session.load(session.save())


def test_a_state_of_another_model_is_refused(checkpoint, tmp_path):
    other = session_of(save_checkpoint(tmp_path, "discrete"))
    with pytest.raises(ValueError, match="cannot go on from; choose the checkpoint that it came from"):
        session_of(checkpoint).load(other.save())


def test_a_video_shows_all_panels_up_to_the_moment(checkpoint):
    session = session_of(checkpoint, real=REAL)
    for action in (0, 1, 0):
        session.act(action)
    session.look_at(2)
    frames = iio.imread(io.BytesIO(session.video()), extension=".mp4", plugin="pyav")
    assert frames.shape[0] == 3 and frames.shape[1] == 224 and frames.shape[2] == 4 * (56 + 4 + 56)


def test_real_episodes_are_stored_as_collect_stores_them(checkpoint, tmp_path):
    recorder = Recorder(tmp_path / "played")
    session = session_of(checkpoint, real=REAL, recorder=recorder)
    session.set_mode("real")
    session.record(True)
    actions = [0, 1, 2, 0]
    for action in actions:
        session.act(action)
    session.begin_next()
    assert "was stored; the store has 1 now" in session.notice or recorder.added == 1
    session.act(1)
    session.end()
    session.end()  # twice is stored once
    store = EpisodeStore(tmp_path / "played")
    assert len(store) == 2 and store.seeds.tolist() == [0, 1] and store.header.policy == HUMAN
    store.header.check_same_kind(load_contexts(checkpoint).header, store.path)
    with REAL.make() as env:
        frames = [env.reset(seed=0)[0], *(env.step(action)[0] for action in actions)]
    episode = store[0]
    assert np.array_equal(episode.frames, np.stack(frames)) and episode.actions.tolist() == actions
    assert episode.truncated and not episode.terminated and len(store[1]) == 1


def test_an_episode_that_ends_is_stored_at_once(checkpoint, tmp_path):
    recorder = Recorder(tmp_path / "played")
    session = session_of(checkpoint, real=REAL, recorder=recorder)
    session.set_mode("real")
    session.record(True)
    while not session.real.now.ended:
        session.act(0)
    assert recorder.added == 1 and "was stored; the store has 1 now" in session.notice
    with pytest.raises(ValueError, match="has ended"):
        session.act(0)
    session.begin()
    assert len(EpisodeStore(tmp_path / "played")) == 1


def test_an_episode_that_cannot_be_stored_is_said_without_a_path(checkpoint, tmp_path):
    said = []
    session = session_of(checkpoint, "real", REAL, Recorder(tmp_path / "played", said.append))
    session.record(True)
    session.act(0)
    (tmp_path / "played").write_text("a file where the store shall be")
    with pytest.raises(ValueError, match="could not be stored; the terminal says why"):
        session.begin_next()
    assert str(tmp_path) in said[0]
    (tmp_path / "played").unlink()
    session.begin_next()
    assert len(EpisodeStore(tmp_path / "played")) == 1, "it is not lost"


def test_vectors_of_info_are_stored_but_not_shown_to_the_model():
    session = session_of("maze-memory")
    session.set_mode("real")
    session.act(1)
    real = session.loaded.real
    assert real.header().vector_keys == {"pose": 4} and real.episode().vectors.shape == (2, 4)
    assert session.real.now.vectors is None


def test_a_store_of_another_policy_is_left_alone(checkpoint):
    with pytest.raises(ValueError, match="was collected with policy 'unknown', not 'human'"):
        Recorder(load_contexts(checkpoint).path)
