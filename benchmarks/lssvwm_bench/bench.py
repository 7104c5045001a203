"""Bench: something to measure, by settings; what it finds becomes files in a new folder.

A file `protocols/NAME.py` adds `lssvwm bench NAME`: a frozen dataclass with `@bench("NAME")`, whose fields are the
options and whose `run` measures. The first line of the file is what `lssvwm bench` says about it.
"""

from __future__ import annotations

import ast
import importlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure

from lssvwm_bench import protocols
from lssvwm_bench.figures import write_figure
from lssvwm_rl.files import check_new, write_text, written_whole
from lssvwm_rl.pictures import write_image, write_video
from lssvwm_rl.progress import Say, finish, say
from lssvwm_rl.training.cpu import tune_process


@dataclass(frozen=True)
class Findings:
    """What a bench found.

    Attributes:
        results: JSON values.
        table: Markdown.
        figure: the plot.
        video: (T, H, W, C) uint8, if there is something to see.
        images: further pictures (H, W, 3) uint8 by name.
        settings: JSON values, what was really measured where the bench's own settings leave it open.
    """

    results: Any
    table: str
    figure: Figure
    video: np.ndarray | None = None
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


class Bench(Protocol):
    """A frozen dataclass of settings."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def run(self, say: Say) -> Findings:
        """Check all settings, then measure."""


B = TypeVar("B", bound=Bench)
BENCHES: dict[str, type[Bench]] = {}
"""Name -> bench, of those that have been imported; `find_bench` imports what is missing."""


def bench(name: str) -> Callable[[type[B]], type[B]]:
    """Decorator of a dataclass of settings that registers it as `lssvwm bench NAME`.

    Raises:
        ValueError: if another class has that name.
    """

    def register(cls: type[B]) -> type[B]:
        other = BENCHES.setdefault(name, cls)
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"There is a bench {name!r} already, {other.__qualname__}; choose another name.")
        BENCHES[name] = cls
        return cls

    return register


def bench_summaries() -> dict[str, str]:
    """Name -> one line about it, of all benches; imports none."""
    lines = {name: cls.__doc__ for name, cls in BENCHES.items()}
    lines |= {path.stem: ast.get_docstring(ast.parse(path.read_text())) for path in _files()}
    return {name: (text or "").partition("\n")[0] for name, text in sorted(lines.items())}


def find_bench(name: str) -> type[Bench]:
    """The class of that name; imports only its file.

    Raises:
        KeyError: if there is none.
    """
    if name not in BENCHES and name in {path.stem for path in _files()}:
        importlib.import_module(f"{protocols.__name__}.{name}")
    return BENCHES[name]


def run_bench(name: str, settings: Bench, out: Path, say: Say = say) -> None:
    """Run a bench, write its files, say its table and, last, where they are.

    Raises:
        FileExistsError: if `out` exists.
        ValueError, FileNotFoundError, gymnasium.error.Error: as the bench raises them.
    """
    check_new(out)
    tune_process()
    findings = settings.run(say)
    write_findings(name, settings, findings, out)
    say(findings.table)
    finish(f"Tables, plots and settings written to {out}; look at {out / name}.md.")


def write_findings(name: str, settings: Bench, findings: Findings, out: Path) -> None:
    """Write NAME.json, NAME.md, NAME.png and, if given, NAME.mp4 and NAME-IMAGE.png into a new folder, all or none.

    Raises:
        FileExistsError: if the folder exists.
    """
    check_new(out)
    machine = {"platform": platform.platform(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    used = {**asdict(settings), **findings.settings, "out": out}
    text = json.dumps({"settings": used, "machine": machine, "results": findings.results}, indent=2, default=_plain)
    with written_whole(out) as folder:
        folder.mkdir()
        write_text(folder / f"{name}.json", text + "\n")
        write_text(folder / f"{name}.md", findings.table + "\n")
        write_figure(folder / f"{name}.png", findings.figure)
        for image, pixels in findings.images.items():
            write_image(folder / f"{name}-{image}.png", pixels)
        if findings.video is not None:
            write_video(folder / f"{name}.mp4", findings.video)


def _files() -> list[Path]:
    return sorted(path for path in Path(protocols.__path__[0]).glob("*.py") if path.stem != "__init__")


def _plain(value: Any) -> str:
    """What JSON does not know: paths are settings."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is no JSON value.")
