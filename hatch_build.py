"""A build hook that puts compiled kernels into wheels, for machines without a compiler.

Off unless LSSVWM_BUILD_KERNELS=1: a wheel without them suits every machine and compiles at first use. With them it is
made for one system and the baseline of its architecture (`lssvwm_rl.native.processor.BASELINES`), and for every Python.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = "lssvwm_rl/native"


class KernelsHook(BuildHookInterface):
    """Compiles before a wheel is packed, and removes the library afterwards."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to the files of the wheel.

        Raises:
            RuntimeError: if there is no compiler, it fails, or there is no baseline for this architecture.
        """
        if os.environ.get("LSSVWM_BUILD_KERNELS") != "1" or version == "editable":
            return
        sys.path.insert(0, self.root)
        try:
            build, processor = (importlib.import_module(f"lssvwm_rl.native.{name}") for name in ("build", "processor"))
        finally:
            sys.path.remove(self.root)
        baseline = processor.baseline()
        if baseline is None:
            raise RuntimeError(f"No baseline is known for {processor.machine()}; unset LSSVWM_BUILD_KERNELS.")
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / f"{build.SHIPPED}{baseline}.so"
        flags = (*build.FLAGS, f"-march={baseline}")
        build.compile_library(build.find_compiler(), flags, library, Path(self.root) / NATIVE)
        build_data["force_include"][str(library)] = f"{NATIVE}/{library.name}"
        build_data["pure_python"] = False
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
