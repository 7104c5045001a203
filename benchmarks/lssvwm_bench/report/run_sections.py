"""Sections about the run itself: figures to see first, costs, settings, and how to make it again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lssvwm_bench.figures import NONE
from lssvwm_bench.quickstart_report import LIBRARIES
from lssvwm_bench.report.agent_sections import best_piece
from lssvwm_bench.report.commands import recipe
from lssvwm_bench.report.html import Section, cards, code, folded, joined, note, pairs, paragraph, table, titled
from lssvwm_bench.report.measured import Measured
from lssvwm_bench.report.runs import Run
from lssvwm_rl.data.checksums import FILE as CHECKSUMS
from lssvwm_rl.data.episode import HEADER
from lssvwm_rl.data.shards import shard_numbers, shard_path
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.phases import flat_settings

PACKAGES = (*LIBRARIES, "numpy", "zarr")


def head(run: Run, found: Measured | str) -> Markup:
    """The figures to see first."""
    rows: list[tuple[str, str, str]] = []
    if run.pieces:
        best = best_piece(run.pieces)
        rows.append((f"{best['real_return']:.3f}", "real return of the best agent", f"success {best['success']:.2f}"))
    elif run.agent_curve:
        last = run.agent_curve[-1]
        for name, label, steps in (("return", "real", "real steps"), ("dreamt_return", "dreamt", "steps")):
            if math.isfinite(last.get(name, math.nan)):
                rows.append((f"{last[name]:.3f}", f"{label} return", f"after {last['step']:,.0f} {steps}"))
    if run.curve:
        last = run.curve[-1]
        rows.append((f"{last['step']:,.0f}", "updates", f"{last['minutes']:.1f} minutes" if "minutes" in last else ""))
    if isinstance(found, Measured):
        rows.append(
            (f"{found.parameters / 1e6:.2f} M", "parameters", f"{_bytes(found.memory_bytes)} of memory per env")
        )
        if found.doubt is not None:
            copy = f"a copy of the frame before {found.doubt.copy:.1f} dB"
            rows.append((f"{found.doubt.psnr:.1f} dB", "PSNR of one dreamt step", copy))
        if found.memory is not None:
            reward, returns = found.memory.reward, found.memory.recall
            if reward is not None and (reward.tells or returns is None):
                rows.append((f"{reward.memory:.0%}", "of rewards told", f"{reward.wiped:.0%} with memory wiped"))
            elif returns is not None:
                rows.append((f"{returns.gain:+.1f} dB", "what memory adds", "to what returns to view"))
    return cards(rows) if rows else Markup("")


def costs(run: Run, found: Measured | str) -> Section:
    """Time, speed and sizes."""
    rows: list[tuple[str, str]] = []
    if run.curve:
        last = run.curve[-1]
        timed = [row for row in run.curve if row.get("minutes")]
        if timed:
            minutes = timed[-1]["minutes"]
            rows.append(("Training of the world model", f"{minutes:.1f} minutes of {last['step']:,.0f} updates"))
            rows.append(("Updates", f"{timed[-1]['step'] / (60 * minutes):.2f} per second over all of it"))
        if "frames_per_second" in last:
            rows.append(("Frames", f"{last['frames_per_second']:,.0f} per second at the end"))
        if "gemm_share" in last:
            share = f"{last['gemm_share']:.0%} of what the device reaches in fp32 matrix products"
            rows.append(("Arithmetic", share))
        if "data_share" in last:
            rows.append(("Waiting for data", f"{last['data_share']:.1%} of the time"))
    if run.agent_curve and run.agent_curve[-1].get("seconds"):
        last = run.agent_curve[-1]
        rows.append(("Training of the agent", f"{last['seconds'] / 60:.1f} minutes of {last['step']:,.0f} real steps"))
        rows.append(("Real steps", f"{last['step'] / last['seconds']:,.0f} per second over all of it"))
    elif run.kind == "policy" and (taken := run.policy.get("seconds")):
        rows.append(("Training of the agent", f"{taken / 60:.1f} minutes, without those of the world model"))
    if isinstance(found, Measured):
        rows.append(("Parameters", f"{found.parameters:,}"))
        rows.append(("Weights on disk", _bytes(found.weight_bytes)))
        rows.append(("Memory per environment", _bytes(found.memory_bytes)))
        size = sum(path.stat().st_size for path in _files(run.world or run.folder) if "trainer" not in path.parts)
        rows.append(("Checkpoint with its contexts", _bytes(size)))
    seconds = {name: phase["seconds"] for name, phase in run.phases.items() if "seconds" in phase}
    if seconds:
        rows.append(("All phases", f"{sum(seconds.values()) / 60:.1f} minutes"))
        peaks = [phase["peak_bytes"] for phase in run.phases.values() if "peak_bytes" in phase]
        rows += [("Peak memory", _bytes(max(peaks)))] if peaks else []
    parts = [pairs(rows)] if rows else []
    if seconds:
        parts.append(folded("Phases", table(["phase", "seconds"], [[n, f"{s:.1f}"] for n, s in seconds.items()])))
    missing = "Nothing has been timed yet; go on with the run."
    return Section("costs", "Costs", joined(parts), "" if parts else missing)


def settings(run: Run) -> Section:
    """All settings, folded."""
    found = {"Run": run.settings, "World model": run.world_settings}
    parts = [
        folded(f"{name}: {len(flat)} settings", _settings_table(flat))
        for name, mapping in found.items()
        if (flat := flat_settings(dict(mapping)))
    ]
    missing = "No settings are kept with it: an exported model and a policy of an earlier version have none."
    return Section("settings", "Settings", joined(parts), "" if parts else missing)


def reproduce(run: Run) -> Section:
    """Commands, data and versions."""
    made = recipe(run)
    parts = [code(made.lines)] if made.lines else [paragraph("The folder does not say by which command it was made.")]
    if run.settings.get("begun_with"):
        parts.append(
            note(f"It went on with the policy {run.settings['begun_with']}, as agents of a loop do; see there.")
        )
    elif run.kind == "policy" and "total_steps" not in run.settings:
        parts.append(note("Earlier versions kept no settings of PPO with a policy; add those that were given."))
    if made.unnamed:
        names = ", ".join(made.unnamed)
        parts.append(note(f"The run is of another version, and does not name: {names}. Today's defaults would hold."))
    data = _data(run)
    if data:
        parts.append(titled("Data", pairs(data)))
    parts.append(titled("Versions", _versions(run)))
    machine = f"Report: Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores."
    return Section("reproduce", "How to reproduce it", joined([*parts, note(machine)]))


def _versions(run: Run) -> Markup:
    here = {name: _version(name) for name in PACKAGES}
    if run.header is None:
        return table(["package", "this report"], [[name, number] for name, number in here.items()])
    made = {str(name): str(number) for name, number in run.header.versions.items()}
    rows = [[name, here.get(name) or _version(name), made.get(name, NONE)] for name in {**here, **made}]
    return table(["package", "this report", "data"], rows)


def _data(run: Run) -> list[tuple[str, str]]:
    settings = run.world_settings
    rows = []
    if "data" in settings:
        rows.append(("Store", str(settings["data"])))
    if "episodes_of_data" in settings:
        steps = (
            f", {settings['steps_of_data']:,} steps with those of earlier weights"
            if settings.get("weights")
            else (f", {settings.get('steps_of_data', 0):,} steps")
        )
        rows.append(("Learnt from", f"{settings['episodes_of_data']:,} episodes{steps}"))
    if run.header is not None:
        seeds = ", ".join(map(str, run.header.seeds)) or "unknown"
        rows.append(("Collected by", f"{run.header.policy}, seeds from {seeds}"))
        height, width, channels = run.header.frame_shape
        rows.append(("Frames", f"{height}x{width}, {channels} channels"))
    if "data" in settings:
        rows += _store_rows(Path(str(settings["data"])))
    return rows


def _store_rows(path: Path) -> list[tuple[str, str]]:
    """Of the store as it is now."""
    if not (path / HEADER).is_file():
        return [("Now", "no store is there any more")]
    try:
        store = EpisodeStore(path)
    except ValueError as error:
        return [("Now", " ".join(str(error).split()))]
    shards = len(shard_numbers(path))
    counts = (
        f"{len(store):,} episodes, {int(store.lengths.sum()):,} steps in {shards} shard{'s' if shards != 1 else ''}"
    )
    return [("Now", counts), ("SHA-256 of its header and checksums", store_digest(path))]


def store_digest(path: Path) -> str:
    """One SHA-256 for a store: of its header and of the checksums of its shards, in order; so it costs no reading of
    frames. Shards of earlier versions, without checksums, count by their names alone."""
    digest = hashlib.sha256((path / HEADER).read_bytes())
    for number in shard_numbers(path):
        sums = shard_path(path, number) / CHECKSUMS
        digest.update(shard_path(path, number).name.encode() + b"\0")
        digest.update(sums.read_bytes() if sums.is_file() else b"")
    return digest.hexdigest()


def _settings_table(flat: Mapping[str, Any]) -> Markup:
    rows = [[name, value if isinstance(value, str) else json.dumps(value, default=str)] for name, value in flat.items()]
    return Markup('<div class="settings">{}</div>').format(table(["setting", "value"], rows))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NONE


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _bytes(count: int) -> str:
    """For people: kB and MB of 1000."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
