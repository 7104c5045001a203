"""Compiling kernels: every way in which it can fail costs one warning and no result."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from lssvwm_rl.native import build, library
from lssvwm_rl.native.build import SOURCES, BuildError, built_library
from lssvwm_rl.native.library import kernels_for, load_kernels
from lssvwm_rl.training.objective import Objective, ObjectiveConfig
from support.small_models import BACKBONE, double_model, random_batch

GXX = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(GXX is None, reason="there is no C++ compiler")
# Adds sizes[1] to pointers[1] in as many pieces as there are threads.
KERNEL = """
#include "simd.h"
template <class T> static void add(const int64_t* sizes, void* const* pointers) {
  T* x = (T*)pointers[1];
  parallel_for(sizes[0], sizes[2], [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) x[i] += T(sizes[1]);
  });
}
EXPORT_REAL(add)
"""
USE = """
import os, sys, warnings, torch
from pathlib import Path
from lssvwm_rl.native.library import load_kernels
torch.set_num_threads(2)
x = torch.zeros(8)
load_kernels(Path(sys.argv[1]))("add", x.dtype, [3, len(x)], [None, x])
"""


@pytest.fixture
def sources(tmp_path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("simd.h", "threads.h"):
        shutil.copy(SOURCES / name, folder)
    (folder / "add.cpp").write_text(KERNEL)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own, and nothing known of earlier ones."""
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("LSSVWM_NATIVE", raising=False)
    load_kernels.cache_clear()
    yield tmp_path / "cache"
    load_kernels.cache_clear()


def compiler(folder: Path, body: str) -> str:
    """A compiler that is a shell script, which counts its runs in `runs` beside it."""
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/runs\n{body}\n')
    path.chmod(0o755)
    return str(path)


def added(sources: Path) -> list[float]:
    x = torch.zeros(3, dtype=torch.float64)
    kernels = load_kernels(sources)
    assert kernels is not None
    kernels("add", x.dtype, [2, 3], [None, x])
    return x.tolist()


def only_warning(*sources: Path) -> str:
    """What is said, once, where there are no kernels; dreaming and training go on in torch with its results."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_kernels(*sources) is None and load_kernels(*sources) is None
        if not sources:
            assert kernels_for(torch.zeros(1)) is None
            assert all(torch.equal(*pair) for pair in zip(*map(results, ("native", "torch")), strict=True))
    (said,) = [str(w.message) for w in caught]
    assert said.startswith("There are no native kernels, since ") and said.endswith("LSSVWM_NATIVE=0.")
    assert "\n" not in said and ". " not in said
    return said


def results(backend: str) -> list[torch.Tensor]:
    """A dreamt frame, what follows a context, a loss and its gradient."""
    model = double_model(backbone=dataclasses.replace(BACKBONE, backend=backend))
    batch = random_batch(model, [4, 4], 4)
    memory, prediction = model.observe(model.initial_memory(2), batch.frames, batch.actions)
    imagined = model.imagine(memory, batch.actions[:, 0], [torch.Generator().manual_seed(i) for i in range(2)])
    losses, *_ = Objective(model, ObjectiveConfig())(batch, None, torch.Generator().manual_seed(0))
    losses["total"].backward()
    gradient = model.patch_in.weight.grad
    assert gradient is not None
    return [prediction.features, imagined.frame, losses["total"].detach(), gradient]


@pytest.mark.parametrize("variable", ["PATH", "CXX"])
def test_without_a_compiler_torch_computes(monkeypatch, variable):
    monkeypatch.setenv(variable, "/nothing/here")
    assert "there is no C++ compiler" in only_warning()


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path, own_cache):
    broken = "echo in file >&2; echo 'x.cpp:1: error: no such word' >&2; exit 1"
    monkeypatch.setenv("CXX", compiler(tmp_path, broken))
    assert "compiler fails (x.cpp:1: error: no such word)" in only_warning()
    assert [path.name for path in own_cache.iterdir()] == ["lock"]
    monkeypatch.setenv("CXX", str(tmp_path / "runs"))  # which cannot be run
    (tmp_path / "runs").chmod(0o644)
    load_kernels.cache_clear()
    assert "there is no C++ compiler" in only_warning()


def test_a_library_that_does_not_load_is_named(monkeypatch, tmp_path, sources):
    rubbish = 'while [ "$1" != -o ]; do shift || exit 0; [ $# = 0 ] && exit 0; done; echo rubbish > "$2"'
    monkeypatch.setenv("CXX", compiler(tmp_path, rubbish))
    assert ".so does not load" in only_warning(sources)


@needs_compiler
def test_caches_that_cannot_be_used_are_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "file" / "cache"))
    assert "file/cache cannot be made" in only_warning()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "open"))
    load_kernels.cache_clear()
    assert "can be written by other users; set LSSVWM_CACHE" in only_warning()
    (tmp_path / "full").mkdir(mode=0o700)
    monkeypatch.setenv("LSSVWM_CACHE", str(tmp_path / "full"))
    monkeypatch.setattr(build.tempfile, "TemporaryDirectory", no_space)
    load_kernels.cache_clear()
    assert "full cannot be written (No space" in only_warning()


def no_space(**_: object) -> None:
    raise OSError("No space left on device")


def test_native_kernels_can_be_switched_off_in_silence(monkeypatch):
    monkeypatch.setenv("LSSVWM_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_kernels() is None and kernels_for(torch.zeros(1)) is None


@needs_compiler
def test_the_second_use_runs_no_compiler_and_other_sources_do(monkeypatch, tmp_path, sources, own_cache):
    monkeypatch.setenv("CXX", compiler(tmp_path, f'exec {GXX} "$@"'))
    assert added(sources) == [2.0] * 3
    runs = (tmp_path / "runs").read_text()
    assert own_cache.stat().st_mode & 0o077 == 0
    first = built_library(sources)
    assert (tmp_path / "runs").read_text() == runs
    with (sources / "simd.h").open("a") as header:
        header.write("// changed\n")
    assert built_library(sources) != first and first.is_file()
    assert (tmp_path / "runs").read_text() != runs


@needs_compiler
def test_a_broken_library_is_compiled_again(sources, own_cache):
    whole = built_library(sources)
    content = whole.read_bytes()
    killed = own_cache / f"{build.UNFINISHED}of-a-killed-process"
    killed.mkdir()
    (killed / "add.o").write_text("half")
    for broken in (content[: len(content) // 2], b""):
        whole.unlink()  # the bytes that are loaded stay as they are
        whole.write_bytes(broken)
        load_kernels.cache_clear()
        assert added(sources) == [2.0] * 3
        assert sorted(path.suffix for path in own_cache.iterdir()) == ["", ".so"], "and the lock, nothing else"


@needs_compiler
def test_processes_that_compile_at_once_do_it_once(monkeypatch, tmp_path, sources, own_cache):
    monkeypatch.setenv("CXX", compiler(tmp_path, f'sleep 0.3; exec {GXX} "$@"'))
    program = [sys.executable, "-c", USE + "print(x.tolist())", str(sources)]
    both = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out.strip(), err) == (0, str([3.0] * 8), "")
    assert (tmp_path / "runs").read_text().count("-shared") == 1
    assert len(list(own_cache.glob("*.so"))) == 1


@needs_compiler
def test_kernels_work_after_a_fork(sources):
    forks = """
child = os.fork()
load_kernels(Path(sys.argv[1]))("add", x.dtype, [3, len(x)], [None, x])
assert x.tolist() == [6.0] * 8
if child:
    assert os.waitpid(child, 0)[1] == 0
    print("both")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", USE + forks, str(sources)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "both"), done.stderr


def test_a_shipped_library_is_used_where_there_is_no_compiler_and_the_processor_suits(monkeypatch, sources):
    (sources / "kernels-z80.so").write_bytes(b"")
    monkeypatch.setenv("CXX", "/nothing/here")
    with pytest.raises(BuildError, match="there is no C.. compiler"):
        built_library(sources)
    monkeypatch.setattr(build, "suits", lambda name: name == "z80")
    assert built_library(sources) == sources / "kernels-z80.so"
    if GXX is not None:
        monkeypatch.setenv("CXX", GXX)
        assert built_library(sources).parent != sources


def test_kernels_for_other_tensors_are_none():
    assert kernels_for(torch.zeros(1, dtype=torch.int64)) is None
    assert kernels_for(torch.zeros(1), torch.zeros(1, device="meta")) is None
    assert set(library.SUFFIXES) == {torch.float32, torch.float64, torch.bfloat16}
