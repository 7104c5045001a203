"""Files and folders that appear whole or not at all, and last; and folders in which only one process writes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

LOCK = ".lock"  # in a folder that one process writes to; free as soon as that process ends, however it ends
TEMPORARY = ".tmp-"
CHECKSUMS = "checksums.json"  # of the texts of a folder, see `checked_text`
URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,3}(?=[^/])")  # two letters or more, so that C:/ is a folder


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield where to write a file or a folder; it becomes `path` when the block ends, and vanishes if the block fails.

    A file replaces an older one of that name. Parent folders are made. What is written is on the disk before it gets
    its name, so that a machine that stops leaves the old file or the new one, and no half of it. Several processes may
    write one path at a time: each writes its own temporary file, and the last to end is what is found.

    Raises:
        OSError: if `path` is a folder that holds something, or cannot be written.
        ValueError: if it is a URL.
    """
    path = Path(path)
    _check_local(path)
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in leftovers(path.parent):
        if re.fullmatch(rf"(\d+-)?{re.escape(path.name)}", old.name.removeprefix(TEMPORARY)):
            remove(old)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync_all(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except shutil.Error as error:  # of many files, of which the first says enough
        raise OSError(f"{path} could not be written ({error.args[0][0][2]}); free some space.") from error
    except OSError as error:
        # `path` is the name that is known.
        if error.errno is None:
            raise OSError(str(error).replace(str(temporary), str(path))) from error
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise
    finally:
        remove(temporary)
        with suppress(OSError):  # of those that hold something by now, also what was written
            for folder in made:
                folder.rmdir()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


@contextmanager
def only_writer(folder: str | Path, what: str) -> Iterator[None]:
    """Keep other processes from writing to a folder, which is made if it is missing, while the block runs.

    The operating system frees it when the process ends, however that ends. Blocks of one thread may be nested.

    Args:
        what: the folder is, for the error.

    Raises:
        ValueError: if another process writes there, or it is a URL; nothing is changed.
    """
    folder = Path(folder)
    _check_local(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"Another process is writing to the {what} {folder}; wait until it ends or choose another --out."
        ) from error
    try:
        yield
    finally:
        if made and [path.name for path in folder.iterdir()] == [LOCK]:  # nothing was written
            with suppress(OSError):  # where open files cannot be removed, and where another process has come
                (folder / LOCK).unlink()  # while it is locked: who opens it later opens another
                folder.rmdir()
        lock.release()


def is_unused(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but what a writer leaves that was killed before its first file."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        p.name in (LOCK, CHECKSUMS) or p.name.startswith(TEMPORARY) for p in folder.iterdir()
    )


def check_new(path: str | Path) -> None:
    """Raise FileExistsError if something is there already: nothing is overwritten, and better said before the work.

    And ValueError if it is a URL.
    """
    _check_local(Path(path))
    if Path(path).exists():
        raise FileExistsError(f"{path} exists already; choose another --out or remove it.")


def leftovers(folder: str | Path) -> list[Path]:
    """What writers that were killed left in a folder."""
    return [path for path in Path(folder).glob(f"{TEMPORARY}*") if _is_left_over(path)]


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        while path.exists():  # Zarr's threads may remove files of theirs at the same time
            with suppress(FileNotFoundError):
                shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_local(path: Path) -> None:
    """Raise ValueError for a URL, which would become a folder that is called "s3:"."""
    if found := URL.match(str(path)):
        where = f"{found[1]}://{str(path)[found.end() :]}"
        raise ValueError(f"{where} is a URL, and files are written into folders only; name one, and copy it.")


def _is_left_over(temporary: Path) -> bool:
    """Whether the process that wrote a temporary file is gone; earlier versions did not say which one that was."""
    number = temporary.name.removeprefix(TEMPORARY).partition("-")[0]
    return not number.isdigit() or int(number) == os.getpid() or not psutil.pid_exists(int(number))


def _sync_all(path: Path) -> None:
    """Have a file, or all that a folder holds, on the disk."""
    if not path.is_dir():
        _sync(path)
        return
    with ThreadPoolExecutor(8) as pool:  # file systems take several at a time, in not much more than the time of one
        list(pool.map(_sync, [path, *path.rglob("*")]))


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # where folders cannot be opened
        return
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
