"""Stores at URLs that fsspec knows, such as s3://bucket/store: they are read as folders are, and never written.

A writer keeps other processes out by a lock, and lets a shard appear whole by renaming it. Object stores have neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from gymnasium.error import DependencyNotInstalled

from lssvwm_rl.files import URL

EXTRAS = {"s3": "s3"}
"""Protocol -> extra of this package that brings what it needs."""


class Unreachable(OSError):
    """A URL could not be read, for a reason that says nothing about what is there."""


class RemotePath:
    """A URL, with as much of `pathlib.Path` as reading a store needs.

    Nothing is kept open: fsspec finds its file system again in every process, so paths may be sent to others.

    Attributes:
        protocol: before "://".
        inside: behind it, without a slash at the end.
    """

    def __init__(self, protocol: str, inside: str):
        self.protocol, self.inside = protocol, inside.rstrip("/")

    def __str__(self) -> str:
        return f"{self.protocol}://{self.inside}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.protocol, f"{self.inside}/{name}")

    def joinpath(self, *names: str) -> RemotePath:
        """The path of those names inside this one."""
        return RemotePath(self.protocol, "/".join([self.inside, *names]))

    @property
    def name(self) -> str:
        """Behind the last slash."""
        return self.inside.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """Before the last slash."""
        return RemotePath(self.protocol, self.inside.rpartition("/")[0])

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def read_bytes(self) -> bytes:
        """All of a file.

        Raises:
            FileNotFoundError: if there is none.
            Unreachable: if it cannot be read.
        """
        return self._ask("cat_file")

    def read_text(self) -> str:
        """As `read_bytes`, of UTF-8."""
        return self.read_bytes().decode()

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Bytes from start to stop of a file, for several ranges, which are asked for together.

        Raises:
            FileNotFoundError, Unreachable: as `read_bytes`.
        """
        starts, stops = ([each[k] for each in ranges] for k in (0, 1))
        return list(self._ask("cat_ranges", [self.inside] * len(ranges), starts, stops, on_error="raise"))

    def size(self) -> int | None:
        """Bytes of a file, None if there is none."""
        try:
            info = self._ask("info")
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def is_file(self) -> bool:
        """Whether there is a file."""
        return self.size() is not None

    def is_dir(self) -> bool:
        """Whether there is something inside."""
        return bool(self.iterdir())

    def exists(self) -> bool:
        """Whether there is a file or something inside."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> list[RemotePath]:
        """What lies inside; nothing if there is no such folder."""
        try:
            found = self._ask("ls", detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {name.rstrip("/").rpartition("/")[2] for name in found} - {"", self.name}
        return [self / name for name in sorted(names)]

    def glob(self, pattern: str) -> list[RemotePath]:
        """What lies inside and has such a name."""
        return [path for path in self.iterdir() if fnmatchcase(path.name, pattern)]

    def rglob(self, pattern: str) -> list[RemotePath]:
        """All files below that have such a name."""
        found = [RemotePath(self.protocol, name.lstrip("/")) for name in self._ask("find")]
        return [path for path in sorted(found) if fnmatchcase(path.name, pattern)]

    def refresh(self) -> None:
        """Look anew at what lies below, all at once; afterwards most file systems know sizes without asking again."""
        self._ask("invalidate_cache")
        with suppress(FileNotFoundError):
            self._ask("find")

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        import fsspec

        try:
            files = fsspec.filesystem(self.protocol)
            return getattr(files, method)(*(args or (self.inside,)), **kwargs)
        except FileNotFoundError:
            raise
        except ImportError as error:
            extra = EXTRAS.get(self.protocol)
            remedy = f'pip install "lssvwm-rl[{extra}]"' if extra else f"install the package for it ({error})"
            raise DependencyNotInstalled(f"Reading {self} needs a package that is missing; {remedy}.") from error
        except NotADirectoryError:
            raise
        except Exception as error:  # every file system has kinds of its own
            text = " ".join(str(error).split()) or type(error).__name__
            raise Unreachable(
                f"{self} cannot be read ({text}); look after the address, the keys and the network."
            ) from error


AnyPath: TypeAlias = Path | RemotePath


def place(path: str | AnyPath) -> AnyPath:
    """A folder, or what lies at a URL; file:// is a folder.

    A Path made of a URL, as options of commands are, has lost a slash, which it gets again.

    Raises:
        ValueError: if nothing is known of such URLs.
    """
    if isinstance(path, RemotePath):
        return path
    found = URL.match(str(path))
    if found is None:
        return Path(path)
    protocol, inside = found[1], str(path)[found.end() :]
    if protocol in ("file", "local"):
        return Path("/", inside)
    import fsspec

    if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
        raise ValueError(f"Nothing is known of {protocol}:// (in {protocol}://{inside}); use s3:// or a folder.")
    return RemotePath(protocol, inside)


def local_folder(path: str | AnyPath, what: str = "written") -> Path:
    """The same of what has to be a folder.

    Raises:
        ValueError: if it is a URL.
    """
    found = place(path)
    if isinstance(found, RemotePath):
        raise ValueError(
            f"Stores at URLs are read, but not {what}: {found} has no locks and cannot rename; use a folder, and copy "
            "it to the URL or from there."
        )
    return found


def relative(path: AnyPath, other: AnyPath) -> str:
    """What of a path comes behind `other`, which it begins with, with slashes."""
    return path.as_posix().removeprefix(f"{other.as_posix()}/")


def read_ranges(path: AnyPath, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Bytes from start to stop of a file, for several ranges; fewer where it ends before.

    Raises:
        OSError: if the file cannot be read.
    """
    if isinstance(path, RemotePath):
        return path.read_ranges(ranges)
    found = []
    with open(path, "rb", buffering=0) as file:
        for start, stop in ranges:
            file.seek(start)
            found.append(file.read(stop - start))
    return found


def size_of(path: AnyPath) -> int | None:
    """Bytes of a file, None if there is none."""
    if isinstance(path, RemotePath):
        return path.size()
    return path.stat().st_size if path.is_file() else None
