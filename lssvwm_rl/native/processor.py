"""Which processor this is, and which baselines it meets."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

# Instruction sets by which a processor meets a baseline, by the names of /proc/cpuinfo.
BASELINES = {
    "x86-64-v3": ("x86_64", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    "armv8-a": ("aarch64", set()),
}
NAMES = {"amd64": "x86_64", "arm64": "aarch64"}  # of machines, on other systems
ABOUT = {"model name", "flags", "Features", "CPU implementer", "CPU part"}  # lines that tell instruction sets apart


def machine() -> str:
    """The architecture, by one name on all systems: "x86_64", "aarch64", ..."""
    name = platform.machine().lower()
    return NAMES.get(name, name)


def baseline() -> str | None:
    """The baseline that a library for many machines of this architecture is compiled for."""
    return next((name for name, (architecture, _) in BASELINES.items() if architecture == machine()), None)


def suits(name: str) -> bool:
    """Whether code for a baseline of `BASELINES` runs here; False for unknown ones."""
    architecture, needed = BASELINES.get(name, ("", set()))
    return architecture == machine() and needed <= features()


def features() -> set[str]:
    """Instruction sets by the names of /proc/cpuinfo; empty where there is no such file."""
    lines = [line.partition(":") for line in _cpuinfo() if line.startswith(("flags", "Features"))]
    return {word for _, _, words in lines for word in words.split()}


def description() -> str:
    """What tells processors apart for which the same sources give another library; a home folder may be shared."""
    return "\n".join([platform.system(), platform.machine(), platform.processor(), *_cpuinfo()])


@functools.cache
def _cpuinfo() -> tuple[str, ...]:
    """Lines of /proc/cpuinfo, each once: all cores say the same."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    return tuple(sorted({line for line in text.splitlines() if line.partition(":")[0].strip() in ABOUT}))
