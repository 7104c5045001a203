"""Compiling the kernels: by the machine's own compiler at first use, into a cache of the user's.

The sources are those of this package and nothing else. The cache is keyed by them, the flags, the compiler and the
processor, so a library is never used where it was not made for.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp-simd", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
# Which of the two names the own processor depends on compiler and architecture.
NATIVE = ("-march=native", "-mcpu=native")
COMPILERS = ("c++", "g++", "clang++")
LIBRARY = "kernels.so"
TIMEOUT = 300  # seconds, for one source


class BuildError(RuntimeError):
    """Why there are no kernels, in one sentence."""


def built_library() -> Path:
    """The compiled kernels; compiled now if the cache does not hold them yet.

    Two processes that compile at once do no harm: each makes its own library, and the last one to end replaces the
    other's equal one.

    Raises:
        BuildError: if there is no compiler, it fails, or the cache cannot be written or is open to others.
    """
    compiler = find_compiler()
    flags = (*FLAGS, *_native_flags(compiler))
    folder = _private_folder(cache_folder() / _key(compiler, flags))
    library = folder / LIBRARY
    if library.is_file():
        return library
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as temporary:
            compile_library(compiler, flags, Path(temporary) / LIBRARY)
            os.replace(Path(temporary) / LIBRARY, library)
    except OSError as error:
        raise BuildError(f"the cache {folder} cannot be written ({error})") from error
    return library


def find_compiler() -> str:
    """The C++ compiler: the one that CXX names, or the first of the usual names.

    Raises:
        BuildError: if there is none.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise BuildError(f"there is no C++ compiler ({', '.join(names)})")
    return found


def compile_library(compiler: str, flags: tuple[str, ...], library: Path) -> None:
    """Compile every source side by side, then link.

    Raises:
        BuildError: with the compiler's first complaint.
    """
    sources = sorted(SOURCES.glob("*.cpp"))
    objects = [library.parent / f"{source.stem}.o" for source in sources]
    commands = [[compiler, *flags, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, commands))
    _compile([compiler, "-shared", "-pthread", *map(str, objects), "-o", str(library)])


def cache_folder() -> Path:
    """Where compiled kernels are kept: LSSVWM_CACHE, or the user's cache folder."""
    own = os.environ.get("LSSVWM_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(users) / "lssvwm-rl" / "native"


def _key(compiler: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sorted(p for p in SOURCES.iterdir() if p.suffix in (".cpp", ".h")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    digest.update("\0".join([_output([compiler, "--version"]), *flags, _processor()]).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """What tells instruction sets apart; a home folder may be shared by machines."""
    lines = {"model name", "flags", "Features", "CPU implementer", "CPU part"}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = {line for line in text.splitlines() if line.split("\t")[0].strip() in lines}
    return "\n".join([platform.system(), platform.machine(), platform.processor(), *sorted(found)])


def _native_flags(compiler: str) -> tuple[str, ...]:
    for flag in NATIVE:
        done = subprocess.run(
            [compiler, flag, "-x", "c++", "-fsyntax-only", os.devnull], capture_output=True, timeout=TIMEOUT
        )
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
    if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise BuildError(f"the cache {folder} can be written by other users; set LSSVWM_CACHE to a folder of your own")
    return folder


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} does not run ({error})") from error
    if done.returncode:
        complaint = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise BuildError(f"{command[0]} fails ({complaint.strip()})")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} does not run ({error})") from error
