"""A report of any run as one HTML file that needs nothing else: no network, no scripts, no files beside it."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from lssvwm_bench.report.agent_sections import agent
from lssvwm_bench.report.html import NOTHING, Section, joined, note, page
from lssvwm_bench.report.measured import Measured, measure
from lssvwm_bench.report.run_sections import costs, head, reproduce, settings
from lssvwm_bench.report.runs import Run, find_run
from lssvwm_bench.report.world_sections import doubt, dreams, holds, learning, memory_over_updates, recall
from lssvwm_rl import __version__
from lssvwm_rl.files import write_text
from lssvwm_rl.model.checkpoint_files import MODEL_CONFIG

__all__ = ["report_path", "write_report"]

UNEXPECTED = (ValueError, TypeError, LookupError, AttributeError)
"""What comes of files of a run that are whole, and hold something else."""

NO_WORLD = {
    "baseline": "A baseline has no world model; `lssvwm report` of a world model's run shows this.",
    "policy": "The folder of a policy holds no world model; give the run of its world model to `lssvwm report`.",
    "loop": "No round has a world model yet; repeat the command of the loop to go on.",
    "quickstart": "No world model has been trained yet; repeat `lssvwm quickstart` to go on.",
    "world model": "No checkpoint yet; repeat the command of the training to go on.",
}


def report_path(name: str) -> Path:
    """Where the report of a run goes by itself: into its folder, or for what is no folder here into runs/."""
    folder = Path(name)
    if folder.is_dir():
        return folder / "report" / "report.html"
    return Path("runs") / f"{name.rpartition('/')[2].rpartition(':')[2]}-report" / "report.html"


def write_report(name: str | Path, out: str | Path | None = None) -> Path:
    """Read a run, measure its checkpoint on its held-out episodes, and write the report; one that is there is replaced.

    Args:
        name: folder of a run of `lssvwm train`, `agent loop`, `agent train`, `agent baseline` or `quickstart`, finished
            or not, of an exported checkpoint, or the name of a packaged one.
        out: an .html file; `report_path` if None.

    Returns:
        The file.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is no run, or `out` is no .html file.
    """
    path = report_path(str(name)) if out is None else Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"The report is one HTML file; give --out a name that ends in .html, not {str(path)!r}.")
    run = find_run(str(name))
    write_text(path, report_html(run, measure_run(run)))
    return path


def measure_run(run: Run) -> Measured | str:
    """What can be measured of a run's checkpoint, or the sentence why nothing can."""
    if run.world is None or not (run.world / MODEL_CONFIG).is_file():
        return NO_WORLD[run.kind]
    try:
        return measure(run.world)
    except (ValueError, FileNotFoundError) as error:
        return " ".join(str(error).split())


def report_html(run: Run, found: Measured | str) -> str:
    """The document."""
    of = [] if run.world in (None, run.folder) else [f"The world model shown is {run.world}."]
    try:
        figures = head(run, found)
    except UNEXPECTED:  # which the sections say
        figures = NOTHING
    top = joined([figures, *(note(text) for text in (*of, *run.broken))])
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return str(page(f"{run.title}: {run.env}", _subtitle(run), style, top, _sections(run, found)))


def _sections(run: Run, found: Measured | str) -> list[Section]:
    of_world: list[partial[Section]] = [
        *(partial(build, run) for build in (learning, memory_over_updates)),
        *(partial(build, found) for build in (recall, dreams, doubt, holds)),
    ]
    own = partial(agent, run)
    # What the run was for comes first.
    ordered = [own, *of_world] if run.kind in ("loop", "baseline", "policy") else [*of_world, own]
    return [
        _built(each) for each in (*ordered, partial(costs, run, found), partial(settings, run), partial(reproduce, run))
    ]


def _built(build: partial[Section]) -> Section:
    """A section, or the sentence that the run's files do not hold what its would have to."""
    try:
        return build()
    except UNEXPECTED as error:
        name = build.func.__name__
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return Section(
            name, name.replace("_", " ").capitalize(), missing=f"A file holds what was not expected ({reason})."
        )


def _subtitle(run: Run) -> str:
    made = datetime.now(timezone.utc)
    last = datetime.fromtimestamp(run.latest, timezone.utc)
    return (
        f"{run.kind[:1].upper()}{run.kind[1:]}, last written {last:%Y-%m-%d %H:%M} UTC; report of lssvwm-rl "
        f"{__version__}, {made:%Y-%m-%d %H:%M} UTC"
    )
