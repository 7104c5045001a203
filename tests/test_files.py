"""Files are whole or not there, whatever ends their writer, and a folder has one writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lssvwm_rl.files import check_new, is_unused, leftovers, only_writer, remove, write_text, written_whole
from support.full_disk import files_up_to
from support.neighbours import neighbour


def ended_process() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_file_replaces_an_older_one_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "one")
    with pytest.raises(KeyError), written_whole(tmp_path / "a" / "b.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert (tmp_path / "a" / "b.txt").read_text() == "one"
    write_text(tmp_path / "a" / "b.txt", "two")
    assert [(p.name, p.read_text()) for p in (tmp_path / "a").iterdir()] == [("b.txt", "two")]


def test_a_folder_appears_with_all_that_it_holds(tmp_path):
    with written_whole(tmp_path / "new") as temporary:
        (temporary / "in").mkdir(parents=True)
        (temporary / "in" / "x").write_text("x")
        assert not (tmp_path / "new").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["new"] and (tmp_path / "new" / "in" / "x").read_text() == "x"
    with pytest.raises(OSError), written_whole(tmp_path / "new") as temporary:
        temporary.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_a_failure_leaves_no_folders_behind_that_were_made_for_it(tmp_path):
    (tmp_path / "mine").mkdir()
    for path in (tmp_path / "mine/a/b/x", tmp_path / "c/x"):
        with pytest.raises(KeyError), written_whole(path) as temporary:
            temporary.write_text("half")
            raise KeyError
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["mine"]
    with pytest.raises(KeyError), written_whole(tmp_path / "d/x") as temporary:
        (tmp_path / "d/theirs").write_text("theirs")
        raise KeyError
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["theirs"]


def test_a_url_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path("s3://bucket/x"), Path("file:///data/x")):
        with pytest.raises(ValueError, match=r"(s3|file)://(bucket|data)/x is a URL, and files are written into"):
            check_new(path)
        with pytest.raises(ValueError, match="is a URL"), written_whole(path):
            pass
        with pytest.raises(ValueError, match="is a URL"), only_writer(path, "run"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_of_a_file_goes_and_what_others_write_stays(tmp_path):
    dead, alive = ended_process(), os.getppid()
    names = [f".tmp-{dead}-x.txt", ".tmp-x.txt", f".tmp-{alive}-x.txt", f".tmp-{dead}-other", f".tmp-{dead}-axx.txt"]
    for name in names:
        (tmp_path / name).write_text("half")
    assert {p.name for p in leftovers(tmp_path)} == {*names} - {names[2]}
    write_text(tmp_path / "x.txt", "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"x.txt", *names[2:]}


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "x.txt"
    program = f"from lssvwm_rl.files import write_text\nwrite_text({str(path)!r}, 'theirs')"
    with written_whole(path) as temporary:
        temporary.write_text("ours")
        subprocess.run([sys.executable, "-c", program], check=True)
        assert path.read_text() == "theirs"
    assert path.read_text() == "ours" and [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_folder_has_one_writer_and_is_free_when_that_is_killed(tmp_path):
    folder = tmp_path / "run"
    with neighbour(folder):
        with pytest.raises(ValueError, match=r"Another process is writing to the run .*run; wait until it ends"):
            only_writer(folder, "run").__enter__()
        assert is_unused(folder)
    with only_writer(folder, "run"), only_writer(folder, "run"):
        said: list[str] = []

        def other_thread() -> None:
            try:
                only_writer(folder, "run").__enter__()
            except ValueError as error:
                said.append(str(error))

        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        assert len(said) == 1
    with neighbour(folder):
        pass


def test_what_is_unused(tmp_path):
    assert is_unused(tmp_path / "none") and is_unused(tmp_path)
    (tmp_path / ".lock").touch()
    (tmp_path / ".tmp-1-x").mkdir()
    assert is_unused(tmp_path)
    (tmp_path / "x").touch()
    assert not is_unused(tmp_path) and not is_unused(tmp_path / "x")
    remove(tmp_path / ".tmp-1-x")
    remove(tmp_path / ".tmp-1-x")


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "x", "small")
    with files_up_to(1000), pytest.raises(OSError):
        write_text(tmp_path / "x", "large" * 1000)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "small")]
