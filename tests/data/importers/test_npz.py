"""Trajectories in NPZ files: what led into a frame there leads from the frame before in the store."""

from __future__ import annotations

import numpy as np
import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.importers.npz import import_npz, read_npz
from lssvwm_rl.data.store import EpisodeStore

N, K = 9, 3  # cells per side, targets


def trajectory(steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Frame t is filled with t; the actions and rewards that led into it are made from t as well."""
    rows = steps + 1
    t = np.arange(rows)
    action = np.eye(6)[t % 6]
    action[0] = 0  # filler, as written at reset
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, rows)
    return {
        "image": np.broadcast_to(t[:, None, None, None].astype(np.uint8), (rows, 64, 64, 3)).copy(),
        "action": action,
        "reward": t * 0.5,
        "maze_layout": np.ones((rows, N, N), np.uint8),
        "agent_pos": np.random.default_rng(seed).uniform(0, N, (rows, 2)),
        "agent_dir": np.stack([np.cos(angle), np.sin(angle)], 1),
        "targets_pos": np.full((rows, K, 2), 4.5),
    }


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    for name, steps in (("a", 5), ("b", 8), ("c", 3)):
        save(folder / "train" / f"{name}.npz", trajectory(steps, steps))
    return folder


def save(path, arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def test_actions_and_rewards_lead_into_the_next_frame(folder, tmp_path):
    store = import_npz(folder, tmp_path / "store")
    assert store.lengths.tolist() == [5, 8, 3]
    for episode in store:
        t = episode.frames[:, 0, 0, 0].astype(int)
        assert t.tolist() == list(range(len(episode) + 1))
        assert (episode.actions == t[1:] % 6).all() and episode.actions.dtype == np.int64
        assert (episode.rewards == t[1:] * 0.5).all()
        assert episode.truncated and not episode.terminated and episode.seed is None
    header = store.header
    assert header.env_spec is None and header.policy == "offline npz" and header.vector_keys == {"pose": 4}
    assert header.frame_shape == (64, 64, 3) and header.action_space["n"] == 6
    source = trajectory(8, 8)
    expected = np.concatenate([source["agent_pos"] / N, source["agent_dir"]], 1)
    np.testing.assert_allclose(store[1].vectors, expected, rtol=1e-6)


def test_other_arrays_are_flattened_into_the_vectors_and_an_end_is_kept(tmp_path):
    arrays = {**trajectory(4), "terminal": np.arange(5) == 4, "reset": np.arange(5) == 0}
    save(tmp_path / "e.npz", arrays)
    episode, header = read_npz(tmp_path / "e.npz", ("targets_pos", "pose"))
    assert list(header.vector_keys.items()) == [("targets_pos", 6), ("pose", 4)]
    assert episode.vectors.shape == (5, 10) and episode.vectors.dtype == np.float32
    assert (episode.vectors[:, :6] == 4.5).all()
    assert episode.terminated and not episode.truncated
    episode, header = read_npz(tmp_path / "e.npz", ())
    assert episode.vectors is None and header.vector_size == 0


def test_it_goes_on_where_it_ended_and_refuses_other_episodes(folder, tmp_path):
    out = tmp_path / "store"
    broken = folder / "train" / "b.npz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="b.npz cannot be read as a trajectory"):
        import_npz(folder, out)
    assert EpisodeStore(out).lengths.tolist() == [5]
    broken.write_bytes(whole)
    new: list[int] = []
    for _ in range(2):
        store = import_npz(folder, out, on_episode=lambda e: new.append(len(e)))
        assert store.lengths.tolist() == [5, 8, 3]
    assert new == [8, 3], "the second time there is nothing to do"
    save(folder / "train" / "aa.npz", trajectory(2))
    with pytest.raises(FileExistsError, match="not the first 3 of"):
        import_npz(folder, out)
    assert EpisodeStore(out).lengths.tolist() == [5, 8, 3]


def without(key):
    return {k: v for k, v in trajectory(4).items() if k != key}


@pytest.mark.parametrize(
    "arrays, said",
    [
        (without("reward"), "it has no reward, only image, action"),
        (without("maze_layout"), "it has no maze_layout"),
        ({**trajectory(4), "image": np.zeros((5, 64, 64, 3))}, r"image must be \(T\+1, H, W, C\) uint8"),
        ({**trajectory(4), "action": np.ones((5, 6))}, "one-hot"),
        ({**trajectory(4), "action": np.zeros((4, 6))}, "action must have 5 rows"),
        ({**trajectory(4), "agent_pos": np.zeros((5, 3))}, r"must be \(T\+1, 2\)"),
        ({**trajectory(4), "reset": np.arange(5) == 2}, "several"),
        ({**trajectory(4), "agent_dir": np.array([{}] * 5)}, "allow_pickle=False"),
        (trajectory(0), "T at least 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_sentence(arrays, said, tmp_path):
    path = tmp_path / "wrong.npz"
    save(path, arrays)
    with pytest.raises(ValueError, match=said) as caught:
        read_npz(path)
    assert "wrong.npz" in str(caught.value) and str(caught.value).count(".\n") == 0


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_foreign_files_are_named(content, tmp_path):
    path = tmp_path / "foreign.npz"
    if content is None:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="foreign.npz cannot be read"):
        read_npz(path)


def test_a_file_of_another_kind_is_named(folder, tmp_path):
    small = trajectory(4)
    save(folder / "train" / "d.npz", {**small, "image": small["image"][:, :32, :32]})
    with pytest.raises(ValueError, match=r"d.npz does not fit the files before it: .*64, 64, 3"):
        import_npz(folder, tmp_path / "store")


def test_the_command(folder, tmp_path, capsys):
    out = tmp_path / "store"
    main(["data", "import", str(folder), "--out", str(out), "--vector", "targets_pos"])
    assert "3 episodes, 16 steps" in capsys.readouterr().out
    assert EpisodeStore(out).header.vector_keys == {"targets_pos": 6}
    with pytest.raises(SystemExit):
        main(["data", "import", str(tmp_path / "nothing"), "--format", "npz", "--out", str(out)])
    assert "There are no .npz files at" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "import", str(folder), "--out", str(out)])
    assert "holds episodes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["import", "npz", str(folder), "--out", str(out)])
    assert capsys.readouterr().err == "lssvwm: `import npz` is now `lssvwm data import SOURCE --format npz`.\n"
