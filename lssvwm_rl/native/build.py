"""Compiling the kernels: by the machine's own compiler at first use, into a cache of the user's.

The sources are those of this package and nothing else. A library's name in the cache holds a key of the sources, the
flags, the compiler and the processor, so it is never used where it was not made for, and a digest of its own bytes, so
half a file is never loaded. Wheels may hold a library for a baseline of processors, for machines without a compiler.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lssvwm_rl.native.processor import description, suits

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp-simd", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
# Which of the two names the own processor depends on compiler and architecture.
NATIVE = ("-march=native", "-mcpu=native")
COMPILERS = ("c++", "g++", "clang++")
SHIPPED = "kernels-"  # begins the name of a wheel's library; the baseline and .so follow
UNFINISHED = "building-"  # begins the name of a folder in which a process compiles
TIMEOUT = 300  # seconds, for one source


class BuildError(RuntimeError):
    """Why there are no kernels, in one sentence."""


class NoCompiler(BuildError):
    """The machine has no C++ compiler."""


def built_library(sources: Path = SOURCES) -> Path:
    """The compiled kernels: from the cache, or compiled now; without a compiler, what a wheel brought along.

    Of several processes that need them at once one compiles, and the others wait for it.

    Args:
        sources: folder of the .cpp and .h files.

    Raises:
        BuildError: if there is no compiler, it fails, or the cache cannot be written or is open to others.
    """
    try:
        compiler = find_compiler()
    except NoCompiler:
        if (shipped := shipped_library(sources)) is not None:
            return shipped
        raise
    folder, key = _private_folder(cache_folder()), _key(sources, compiler)
    if (cached := _cached(folder, key)) is not None:
        return cached
    try:
        with _alone(folder) as alone:
            if (cached := _cached(folder, key)) is not None:  # another process was first
                return cached
            if alone:
                _clean(folder, key)
            with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as temporary:
                fresh = Path(temporary) / "kernels.so"
                compile_library(compiler, (*FLAGS, *_native_flags(compiler)), fresh, sources)
                library = folder / f"{key}-{_digest(fresh)}.so"
                os.replace(fresh, library)
    except OSError as error:
        raise BuildError(f"the cache {folder} cannot be written ({error})") from error
    return library


def find_compiler() -> tuple[str, ...]:
    """The words that call the C++ compiler: what CXX says, or the first of the usual names.

    Raises:
        NoCompiler: if there is none.
    """
    own = os.environ.get("CXX", "").split()
    for name, *words in [own] if own else [[name] for name in COMPILERS]:
        if (path := shutil.which(name)) is not None:
            return (path, *words)
    raise NoCompiler(f"there is no C++ compiler ({' '.join(own) or ', '.join(COMPILERS)})")


def compile_library(compiler: tuple[str, ...], flags: tuple[str, ...], library: Path, sources: Path = SOURCES) -> None:
    """Compile every source side by side, then link; object files stay beside the library.

    Raises:
        BuildError: with the compiler's first complaint.
    """
    files = sorted(sources.glob("*.cpp"))
    objects = [library.parent / f"{source.stem}.o" for source in files]
    commands = [[*compiler, *flags, "-c", str(s), "-o", str(o)] for s, o in zip(files, objects, strict=True)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, commands))
    _compile([*compiler, "-shared", "-pthread", *map(str, objects), "-ldl", "-o", str(library)])


def shipped_library(sources: Path = SOURCES) -> Path | None:
    """The library that a wheel brought along for a baseline that this processor meets, if there is one."""
    found = sorted(sources.glob(f"{SHIPPED}*.so"))
    return next((path for path in found if suits(path.stem.removeprefix(SHIPPED))), None)


def cache_folder() -> Path:
    """Where compiled kernels are kept: LSSVWM_CACHE, or the user's cache folder.

    Raises:
        BuildError: if the user has none.
    """
    own, users = os.environ.get("LSSVWM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(own).expanduser() if own else Path(users or Path.home() / ".cache") / "lssvwm-rl" / "native"
    except RuntimeError as error:
        raise BuildError("the user has no home folder for a cache; set LSSVWM_CACHE to a folder") from error


def _key(sources: Path, compiler: tuple[str, ...]) -> str:
    """Of all that decides what the library is, without running the compiler, which takes longer than all the rest."""
    digest = hashlib.sha256()
    for source in sorted(p for p in sources.iterdir() if p.suffix in (".cpp", ".h")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    about = os.stat(compiler[0])
    which = [os.path.realpath(compiler[0]), *compiler[1:], str(about.st_size), str(about.st_mtime_ns)]
    digest.update("\0".join([*which, *FLAGS, *NATIVE, description()]).encode())
    return digest.hexdigest()[:24]


def _cached(folder: Path, key: str) -> Path | None:
    """A library of this key, if its bytes are those that were written."""
    for path in sorted(folder.glob(f"{key}-*.so")):
        try:
            if path.stem == f"{key}-{_digest(path)}":
                return path
        except OSError:  # not readable, or just removed by another process
            continue
    return None


def _clean(folder: Path, key: str) -> None:
    """Remove what killed processes left, and broken libraries of this key; only while no other process compiles."""
    for path in [*folder.glob(f"{UNFINISHED}*"), *folder.glob(f"{key}-*.so")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Wait until no other process compiles here; False where that cannot be known, as on some network drives."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield False
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a fork may hold the file open


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:16]


def _native_flags(compiler: tuple[str, ...]) -> tuple[str, ...]:
    for flag in NATIVE:
        command = [*compiler, flag, "-x", "c++", "-fsyntax-only", os.devnull]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{compiler[0]} does not run ({error})") from error
        if done.returncode == 0:
            return (flag,)
    return ()


def _private_folder(folder: Path) -> Path:
    """The folder, which nobody else may write to, since code is loaded from it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
    except OSError as error:
        raise BuildError(f"the cache {folder} cannot be made ({error})") from error
    if platform.system() == "Windows":  # where modes say nothing
        return folder
    if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(f"the cache {folder} can be written by other users; set LSSVWM_CACHE to a folder of your own")
    return folder


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} does not run ({error})") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        complaint = next(
            (line for line in lines if "error" in line), lines[0] if lines else f"status {done.returncode}"
        )
        raise BuildError(f"{command[0]} fails ({complaint[:300]})")
