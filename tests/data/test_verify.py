"""`lssvwm data verify` names every damaged file, and says nothing against what can be read as it was."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lssvwm_rl.cli import main
from lssvwm_rl.data.checksums import FILE
from lssvwm_rl.data.episode import HEADER
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.data.verify import verify_store
from support.small_stores import PLAIN, contents, old, ones

CORRUPTIONS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two shards of two episodes each, and a copy as earlier versions wrote it."""
    folder = tmp_path_factory.mktemp("stores")
    with EpisodeWriter(folder / "new", PLAIN, shard_episodes=2) as writer:
        for seed in range(1, 5):
            writer.add(ones(seed, seed))
    old(folder / "new", folder / "old")
    return folder


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def named(verdict, path) -> bool:
    """Whether a line begins with a file, or with the shard it is of where only all its arrays together are wrong."""
    text = "\n".join(verdict.damaged)
    return str(path) in text or any(f"Shard {parent} is broken" in text for parent in path.parents)


@pytest.mark.parametrize("kind", ["new", "old"])
def test_whatever_is_changed_cut_or_removed_is_named_or_harmless(whole, kind, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(whole / kind, folder)
    expected, rng = contents(folder), np.random.default_rng(0)
    assert verify_store(folder).damaged == () and verify_store(folder).episodes == 4
    harmless = 0
    for k in range(CORRUPTIONS):
        path = files(folder)[int(rng.integers(len(files(folder))))]
        data = bytearray(path.read_bytes())
        at = int(rng.integers(len(data)))
        changed = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
        if k % 4 == 3:
            path.unlink()
        else:
            path.write_bytes((changed, changed, data[:at])[k % 4])
        if not named(verify_store(folder), path):
            assert contents(folder) == expected, (path, at)
            harmless += 1
        path.write_bytes(data)
    # Of earlier versions most of the metadata, which decides nothing, may change without a word.
    assert harmless <= CORRUPTIONS // (10 if kind == "new" else 2)
    assert verify_store(folder).damaged == ()


def test_all_damaged_files_are_named_at_once(whole, tmp_path, capsys):
    folder = tmp_path / "s"
    shutil.copytree(whole / "new", folder)
    first, second = folder / "shard-00000.zarr", folder / "shard-00001.zarr"
    damaged = [folder / HEADER, first / "rewards/c/0", first / "frames/zarr.json", first / "frames/c/0/0/0/0"]
    damaged += [second / "vectors/c/0/0", second / "zarr.json"]
    for path in damaged[:-1]:
        path.write_bytes(path.read_bytes().replace(b'"', b"'") if path.suffix else path.read_bytes()[:-9] + b"\0" * 9)
    damaged[-1].unlink()
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 1 and len(lines) == len(damaged)
    assert sorted(line.split()[0] for line in lines) == sorted(map(str, damaged))


def test_a_whole_store_is_said_to_be_and_what_lies_beside_it_is_told(whole, tmp_path, capsys):
    folder = tmp_path / "s"
    shutil.copytree(whole / "new", folder)
    main(["data", "verify", str(folder)])
    assert capsys.readouterr().out == (
        f"{folder} is whole: 4 episodes in 2 shards. Next: lssvwm train --data {folder} --out runs/model\n"
    )
    (folder / ".tmp-shard-00009.zarr").mkdir()
    (folder / "notes.txt").touch()
    (folder / "shard-00000.zarr" / "frames" / "more").touch()
    (folder / "shard-00001.zarr").rename(folder / "shard-00002.zarr")
    main(["data", "verify", str(folder)])
    notes = capsys.readouterr().out.splitlines()
    for text in ("left by a writer", "notes.txt is not of", "frames/more is not used", "shard-00001.zarr is not there"):
        assert sum(text in note and note.startswith("note: ") for note in notes) == 1, text
    assert len(notes) == 5 and len(EpisodeStore(folder)) == 4


def test_a_folder_without_a_store_is_a_sentence(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SystemExit) as stop:
            main(["data", "verify", str(folder)])
        assert stop.value.code == 2 and "No episode store" in capsys.readouterr().err


def test_checksums_of_before_which_had_no_hashes_of_chunks(whole, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(whole / "new", folder)
    path = folder / "shard-00000.zarr" / FILE
    known = {name: about for name, about in json.loads(path.read_text()).items() if name != FILE}
    path.write_text(json.dumps({n: a if n.endswith("zarr.json") else {"bytes": a["bytes"]} for n, a in known.items()}))
    assert verify_store(folder).damaged == ()
    chunks = folder / "shard-00000.zarr" / "actions" / "c" / "0"
    chunks.write_bytes(bytes([chunks.read_bytes()[0] ^ 1]) + chunks.read_bytes()[1:])
    assert [line.split()[0] for line in verify_store(folder).damaged] == [str(chunks)]
