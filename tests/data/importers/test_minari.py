"""Minari there and back: what one data set says, the one made of its store says, too."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

from lssvwm_rl.cli import main
from lssvwm_rl.data.exporters.minari import export_minari
from lssvwm_rl.data.importers.formats import format_of, open_recording
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from support.minari_sets import ACTIONS, IMAGES, PARTS, SPEC, episode, write_dataset


def equal(a: Any, b: Any) -> bool:
    """The same numbers in the same dtypes, and the same keys."""
    if isinstance(a, dict):
        return isinstance(b, dict) and sorted(a) == sorted(b) and all(equal(a[key], b[key]) for key in a)
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)


def check_same(first: minari.MinariDataset, second: minari.MinariDataset) -> None:
    assert first.observation_space == second.observation_space and first.action_space == second.action_space
    specs = [None if d.env_spec is None else json.loads(d.env_spec.to_json()) for d in (first, second)]
    assert specs[0] == specs[1] and first.total_episodes == second.total_episodes
    for number in range(first.total_episodes):
        a, b = first[number], second[number]
        assert equal(a.observations, b.observations) and equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert equal(a.terminations, b.terminations) and equal(a.truncations, b.truncations)
    seeds = [[m.get("seed") for m in d.storage.get_episode_metadata(range(len(d)))] for d in (first, second)]
    assert seeds[0] == seeds[1]
    assert first.storage.metadata["algorithm_name"] == second.storage.metadata["algorithm_name"]


def imported(folder, out, **options) -> EpisodeStore:
    assert format_of(folder) == "minari"
    return write_recording(open_recording(folder, "minari", ImportOptions(**options)), out)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    acted=st.sampled_from(ACTIONS),
    image=st.sampled_from(IMAGES),
    parts=st.none() | st.sets(st.sampled_from(sorted(PARTS))),
    spec=st.sampled_from([SPEC, None]),
    episodes=st.lists(
        st.tuples(st.integers(1, 6), st.none() | st.integers(0, 2**40), st.tuples(st.booleans(), st.booleans())),
        min_size=1,
        max_size=4,
    ),
)
def test_there_and_back_nothing_changes(acted, image, parts, spec, episodes):
    observed = image if parts is None else spaces.Dict({"image": image, **{name: PARTS[name] for name in parts}})
    with TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # nothing is rounded, and nothing left out
        folder = Path(name)
        buffers = [episode(observed, acted, n, seed, i, ends) for i, (n, seed, ends) in enumerate(episodes)]
        source = write_dataset(folder / "source", observed, acted, buffers, spec)
        store = imported(source, folder / "store")
        target = export_minari(store, "group/back-v1", folder / "sets")
        first, second = (minari.MinariDataset(each / "data") for each in (source, target))
        check_same(first, second)
        assert not second.storage.jpeg_encoding
        again = imported(target, folder / "again")
        assert again.header == store.header


def test_data_sets_in_arrow_files_are_read_as_well(tmp_path):
    observed = spaces.Dict({"image": IMAGES[0], "vector": PARTS["vector"]})
    buffers = [episode(observed, ACTIONS[0], 4, 8, number, (True, False)) for number in range(3)]
    stores = [
        imported(write_dataset(tmp_path / kind, observed, ACTIONS[0], buffers, kind=kind), tmp_path / f"{kind}-store")
        for kind in ("hdf5", "arrow")
    ]
    assert stores[0].header == stores[1].header and len(stores[1]) == 3
    for a, b in zip(*stores, strict=True):
        assert equal(a.frames, b.frames) and equal(a.vectors, b.vectors) and equal(a.actions, b.actions)
        assert equal(a.rewards, b.rewards) and (a.seed, a.terminated) == (b.seed, b.terminated) == (8, True)


def collected_store(folder: Path, keys: dict[str, int]) -> EpisodeStore:
    """As `lssvwm collect` makes them: images, and vectors of which the header has the keys."""
    header = StoreHeader((4, 6, 3), {"type": "Discrete", "n": 2, "start": 0}, keys, SPEC.to_json(), "explore", (9,))
    rng = np.random.default_rng(0)
    with EpisodeWriter(folder, header) as writer:
        for k in range(3):
            vectors = rng.random((4, sum(keys.values())), np.float32) if keys else None
            frames = rng.integers(0, 256, (4, 4, 6, 3), np.uint8)
            writer.add(
                Episode(frames, np.array([0, 1, 1]), np.ones(3, np.float32), k == 0, k == 1, vectors, seed=5 + k)
            )
    return EpisodeStore(folder)


@pytest.mark.parametrize("keys", [{}, {"pose": 4, "aim": 2}], ids=["images", "vectors"])
def test_a_collected_store_comes_back_as_it_was(tmp_path, monkeypatch, capsys, keys):
    """Vectors keep their order, though Minari sorts the keys of a Dict."""
    store = collected_store(tmp_path / "store", keys)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    main(["data", "export", str(tmp_path / "store"), "--id", "me/walks-v0"])
    assert "load them with minari.load_dataset('me/walks-v0')." in capsys.readouterr().out
    data = minari.load_dataset("me/walks-v0")
    assert list(minari.list_local_datasets()) == ["me/walks-v0"] and data.env_spec == SPEC
    assert set(data[0].observations) == {"image", *keys} if keys else data[0].observations.shape == (4, 4, 6, 3)
    main(["data", "import", "me/walks-v0", "--out", str(tmp_path / "back")])
    back = EpisodeStore(tmp_path / "back")
    assert list(back.header.vector_keys.items()) == list(keys.items()) and back.header.policy == "explore"
    assert json.loads(back.header.env_spec) == json.loads(SPEC.to_json())
    for a, b in zip(store, back, strict=True):
        assert equal(a.frames, b.frames) and equal(a.actions, b.actions) and equal(a.rewards, b.rewards)
        assert (a.vectors is None and b.vectors is None) or equal(a.vectors, b.vectors)
        assert (a.seed, a.terminated, a.truncated) == (b.seed, b.terminated, b.truncated)


def test_what_a_store_cannot_hold_is_said(tmp_path):
    observed = spaces.Dict(
        {"image": IMAGES[0], "mission": spaces.Text(9), "far": spaces.Box(-9, 9, (1,), np.float64), "top": IMAGES[2]}
    )
    one = episode(observed, ACTIONS[0], 3, 1, 0, (True, False))
    one.observations["mission"] = ["go"] * 4
    source = write_dataset(tmp_path / "source", observed, ACTIONS[0], [one])
    with pytest.warns(RuntimeWarning) as said:
        store = imported(source, tmp_path / "store")
    texts = [str(warning.message) for warning in said]
    assert "Stores hold one image and numbers, so mission, top of the observation is left out." in texts
    assert "Stores keep vectors as float32, which rounds their float64." in texts and len(texts) == 2
    assert store.header.vector_keys == {"far": 1}
    with pytest.warns(RuntimeWarning, match="so image, mission of the observation is left out"):
        chosen = imported(source, tmp_path / "top", image="top", vector=())
    assert chosen.header.frame_shape == (4, 6, 1) and chosen.header.vector_keys == {}
    np.testing.assert_array_equal(chosen[0].frames[..., 0], one.observations["top"])


def test_numbers_that_float32_rounds_are_said_and_their_space_is_kept(tmp_path):
    acted = spaces.Box(-1, 1, (2,), np.float64)
    one = episode(IMAGES[0], acted, 3, 1, 0, (True, False))
    data = EpisodeBuffer(**{**one.__dict__, "rewards": np.array([0.1, 0.5, 0.25])})
    with pytest.warns(RuntimeWarning) as said:
        store = imported(write_dataset(tmp_path / "source", IMAGES[0], acted, [data]), tmp_path / "store")
    assert sorted(str(warning.message) for warning in said) == [
        f"Stores keep {what} as float32, which rounds their float64." for what in ("actions", "rewards")
    ]
    back = minari.MinariDataset(export_minari(store, "back-v0", tmp_path / "sets") / "data")
    assert back.action_space == acted and back[0].actions.dtype == np.float64
    np.testing.assert_allclose(back[0].actions, one.actions, rtol=2**-24)
    np.testing.assert_array_equal(back[0].rewards, np.float32([0.1, 0.5, 0.25]))


def test_jpeg_is_read_and_frames_are_resized(tmp_path):
    observed, acted = spaces.Box(0, 255, (32, 32, 3), np.uint8), ACTIONS[3]
    frames = np.broadcast_to(np.uint8([10, 90, 200])[:, None, None, None], (3, 32, 32, 3))
    one = episode(observed, acted, 2, 4, 0, (False, False))
    data = EpisodeBuffer(**{**one.__dict__, "observations": frames})
    source = write_dataset(tmp_path / "source", observed, acted, [data], jpeg=True)
    store = imported(source, tmp_path / "store", resize=(8, 16))
    assert store[0].frames.shape == (3, 8, 16, 3)
    assert np.abs(store[0].frames.mean(axis=(1, 2, 3)) - [10, 90, 200]).max() < 2, "JPEG changes images a little"
    target = export_minari(store, "small-v0", tmp_path / "sets")
    assert minari.MinariDataset(target / "data").observation_space == spaces.Box(0, 255, (8, 16, 3), np.uint8)


def test_exports_are_refused_in_one_sentence(tmp_path, capsys, monkeypatch):
    collected_store(tmp_path / "store", {})
    words = ["data", "export", str(tmp_path / "store"), "--out", str(tmp_path / "sets"), "--id"]
    main([*words, "a-v0"])
    for name, said in (
        ("a-v0", "exists already"),
        ("no version", "is no id of a Minari data set"),
        ("../a-v0", "no id"),
    ):
        with pytest.raises(SystemExit):
            main([*words, name])
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r'pip install "lssvwm-rl\[minari\]"'):
        export_minari(EpisodeStore(tmp_path / "store"), "b-v0", tmp_path / "sets")
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["a-v0"]


@pytest.mark.parametrize("kind", ["hdf5", "arrow"])
def test_infos_that_are_left_out_are_named_in_the_last_line(tmp_path, capsys, kind):
    said = {}
    for name in ("with", "without"):
        episodes = [episode(IMAGES[0], ACTIONS[0], 3, 1, k, (True, False)) for k in range(2)]
        if name == "with":
            infos = {"health": np.ones((4, 2)), "keys": np.ones((4, 1), np.int64)}
            episodes = [replace(each, infos=infos) for each in episodes]
        folder = write_dataset(tmp_path / name, IMAGES[0], ACTIONS[0], episodes, kind=kind)
        main(["data", "import", str(folder), "--out", str(tmp_path / f"{name}-store")])
        said[name] = capsys.readouterr().out.splitlines()[-1]
    store = f"written to {tmp_path / 'with-store'} without the data set's infos (health, keys); `lssvwm data preview"
    assert store in said["with"] and f"written to {tmp_path / 'without-store'}; `lssvwm" in said["without"]
    assert EpisodeStore(tmp_path / "with-store").header == EpisodeStore(tmp_path / "without-store").header
