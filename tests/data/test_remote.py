"""Stores at URLs are read as folders are, with the same checks; writing to them is a sentence."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from gymnasium.error import DependencyNotInstalled

from lssvwm_rl.cli import main
from lssvwm_rl.data import remote
from lssvwm_rl.data.clips import ClipSampler
from lssvwm_rl.data.importers.minari import open_minari
from lssvwm_rl.data.importers.options import ImportOptions
from lssvwm_rl.data.importers.recording import write_recording
from lssvwm_rl.data.join import merge_stores
from lssvwm_rl.data.remote import RemotePath, Unreachable, local_folder, place
from lssvwm_rl.data.store import Episode, EpisodeStore, EpisodeWriter, StoreHeader
from lssvwm_rl.data.verify import verify_store
from support.small_models import DISCRETE

HEADER = StoreHeader((16, 16, 3), DISCRETE, vector_keys={"pose": 2})
BUCKET, REGION = "lssvwm-test", "us-east-1"


def random_episode(rng: np.random.Generator, steps: int, seed: int) -> Episode:
    frames = rng.integers(0, 256, (steps + 1, 16, 16, 3), np.uint8)
    vectors, rewards = rng.random((steps + 1, 2), np.float32), rng.random(steps, np.float32)
    return Episode(frames, rng.integers(0, 4, steps), rewards, True, False, vectors, seed)


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A store of two shards, with more than a chunk of frames."""
    folder, rng = tmp_path_factory.mktemp("local") / "store", np.random.default_rng(0)
    with EpisodeWriter(folder, HEADER, shard_episodes=3) as writer:
        for seed in range(5):
            writer.add(random_episode(rng, 200 + seed, seed=seed))
    return folder


@pytest.fixture(scope="module")
def s3():
    """An S3 server on this machine, where s3fs finds it."""
    from moto import server

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        files = fsspec.filesystem("s3")
        files.mkdir(BUCKET)
        yield files
    running.stop()


@pytest.fixture(params=["memory", "s3"])
def url(request, local) -> str:
    """Where a copy of the store is."""
    files = request.getfixturevalue("s3") if request.param == "s3" else fsspec.filesystem("memory")
    inside = f"{BUCKET}/data/store"
    if files.exists(inside):
        files.rm(inside, recursive=True)
    files.put(str(local), inside, recursive=True)
    yield f"{request.param}://{inside}"
    files.rm(inside, recursive=True)


def files_of(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    found = place(url)
    return fsspec.filesystem(found.protocol), found.inside


def test_it_reads_what_the_folder_holds(url, local):
    ours, theirs = EpisodeStore(url), EpisodeStore(local)
    assert str(ours.path) == url and ours.header == theirs.header and len(ours) == 5
    np.testing.assert_array_equal(ours.rewards(), theirs.rewards())
    for one, other in zip(ours, theirs, strict=True):
        for name in ("frames", "actions", "rewards", "vectors"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert (one.terminated, one.truncated, one.seed) == (other.terminated, other.truncated, other.seed)
    np.testing.assert_array_equal(ours.read(4, 90, 180).frames, theirs.read(4, 90, 180).frames)
    clips, same = (ClipSampler(store, 8, 4, 0).batch(3) for store in (ours, theirs))
    np.testing.assert_array_equal(clips.frames, same.frames)
    # As other processes get it.
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ours))[1].frames, theirs[1].frames)


def test_what_is_damaged_is_named(url, local):
    assert verify_store(url) == verify_store(local)
    assert verify_store(url).damaged == () and verify_store(url).notes == () and verify_store(url).episodes == 5
    files, inside = files_of(url)
    frames = f"{inside}/shard-00001.zarr/frames/c/0/0/0/0"
    whole = files.cat_file(frames)
    changed = bytearray(whole)
    changed[100] ^= 1
    files.pipe_file(frames, bytes(changed))
    assert [line.split()[0] for line in verify_store(url).damaged] == [f"{url}/shard-00001.zarr/frames/c/0/0/0/0"]
    store = EpisodeStore(url)
    with pytest.raises(ValueError, match="shard-00001.zarr/frames is broken"):
        _ = [store[i] for i in (3, 4)]
    files.pipe_file(frames, whole[:-1])
    with pytest.raises(ValueError, match="frames/c/0/0/0/0 has changed"):
        EpisodeStore(url)
    files.rm_file(frames)
    with pytest.raises(ValueError, match="frames/c/0/0/0/0 is missing"):
        EpisodeStore(url)
    files.pipe_file(frames, whole)
    files.pipe_file(f"{inside}/notes.txt", b"more")
    assert list(verify_store(url).notes) == [f"{url}/notes.txt is not of the store."]


def test_a_store_that_has_grown_is_read_anew(url, local, tmp_path):
    assert len(EpisodeStore(url)) == 5
    folder, rng = tmp_path / "store", np.random.default_rng(1)
    shutil.copytree(local, folder)
    with EpisodeWriter(folder, HEADER) as writer:
        writer.add(random_episode(rng, 3, seed=9))
    files, inside = files_of(url)
    files.put(str(folder / "shard-00002.zarr"), f"{inside}/shard-00002.zarr", recursive=True)
    assert EpisodeStore(url).seeds.tolist() == [0, 1, 2, 3, 4, 9]


def test_commands_take_urls(url, capsys):
    main(["data", "verify", url])
    said = capsys.readouterr().out
    assert said == f"{url} is whole: 5 episodes in 2 shards. Next: lssvwm train --data {url} --out runs/model\n"


def test_commands_that_read_take_urls(url, local, tmp_path, capsys):
    said = []
    for store in (url, str(local)):
        main(["data", "inspect", store])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and said[0].startswith("episodes     5 of 1,010 steps")
    for name, store in (("theirs", url), ("ours", str(local))):
        main(["data", "preview", store, "--out", str(tmp_path / name)])
        main(["data", "export", store, "--id", "some/walks-v0", "--out", str(tmp_path / f"minari-{name}")])
    assert (tmp_path / "ours/contact.png").read_bytes() == (tmp_path / "theirs/contact.png").read_bytes()
    again = [
        write_recording(open_minari(tmp_path / f"minari-{name}/some/walks-v0", ImportOptions()), tmp_path / f"{name}-2")
        for name in ("ours", "theirs")
    ]
    for one, other in zip(*again, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split", "--out-train", "train", "--out-test", "test"], "Stores at URLs are read, but not split"),
        (["preview", "--out", "memory://bucket/x"], "but not written: memory://bucket/x"),
        (["export", "--id", "a/b-v0", "--out", "memory://bucket/x"], "but not written: memory://bucket/x"),
    ],
)
def test_commands_that_write_do_not_take_urls(words, said, url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["data", words[0], url, *words[1:]])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [] and not fsspec.filesystem("memory").exists("bucket/x")


def test_nothing_is_written_there(url, local, tmp_path, capsys):
    files, inside = files_of(url)
    before = {name: files.cat_file(name) for name in files.find(inside)}
    with pytest.raises(ValueError, match="Stores at URLs are read, but not written: .*; use a folder, and copy it"):
        EpisodeWriter(url, HEADER)
    with pytest.raises(ValueError, match="not joined"):
        merge_stores([url], tmp_path / "all")
    with pytest.raises(ValueError, match="not written"):
        merge_stores([local], f"{url}-2")
    with pytest.raises(SystemExit) as stop:
        main(["collect", "MiniGrid-MemoryS7-v0", "--out", f"{url}-3", "--episodes", "1", "--policy", "random"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"but not written: {url}-3 has no locks" in error and error.count("\n") == 1
    assert {name: files.cat_file(name) for name in files.find(inside)} == before
    assert not files.exists(f"{inside}-2") and not files.exists(f"{inside}-3") and not (tmp_path / "all").exists()


def test_a_url_without_a_store_is_a_sentence(url):
    with pytest.raises(ValueError, match=rf"No episode store at {url}/none: header.json is missing"):
        EpisodeStore(f"{url}/none")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("s3://bucket/a/b", RemotePath("s3", "bucket/a/b")),
        (Path("s3://bucket/a/b"), RemotePath("s3", "bucket/a/b")),
        ("s3://bucket/a/", RemotePath("s3", "bucket/a")),
        ("file:///data/a", Path("/data/a")),
        (Path("file:///data/a"), Path("/data/a")),
        ("C:/data/a", Path("C:/data/a")),
        ("data/a", Path("data/a")),
        ("/data/s3:/a", Path("/data/s3:/a")),
    ],
)
def test_urls_and_folders_are_told_apart(given, found):
    assert place(given) == found


def test_unknown_urls_are_a_sentence():
    with pytest.raises(ValueError, match="Nothing is known of fly://"):
        place("fly://a/b")


class Unplugged(MemoryFileSystem):
    """A file system behind a network that can be unplugged."""

    protocol = "unplugged"
    plugged = True

    def cat_file(self, path, start=None, end=None, **kwargs):
        if not self.plugged:
            raise ConnectionResetError(104, "Connection reset by peer")
        return super().cat_file(path, start, end, **kwargs)


def test_a_network_that_fails_is_no_broken_store(local, monkeypatch):
    fsspec.register_implementation("unplugged", Unplugged, clobber=True)
    fsspec.filesystem("unplugged").put(str(local), "/away", recursive=True)
    store = EpisodeStore("unplugged://away")
    monkeypatch.setattr(Unplugged, "plugged", False)
    for read in (lambda: store[0], lambda: store.rewards(), lambda: EpisodeStore("unplugged://away")):
        with pytest.raises(Unreachable, match=r"unplugged://away/\S+ cannot be read \(.*reset by peer\); look after"):
            read()
    monkeypatch.setattr(Unplugged, "plugged", True)
    assert len(store[0]) == 200


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(protocol):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(DependencyNotInstalled, match=r'pip install "lssvwm-rl\[s3\]"'):
        EpisodeStore("s3://bucket/store")
    assert set(remote.EXTRAS) <= set(fsspec.available_protocols())


def test_a_folder_is_a_folder(tmp_path):
    assert local_folder(tmp_path) == tmp_path and local_folder(f"file://{tmp_path}") == tmp_path
