"""Sections about a world model: how it learnt, what it remembers and dreams, its doubt, what its memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from markupsafe import Markup

from lssvwm_bench.report.charts import Axes, Line, heat_map, line_chart, picture, video
from lssvwm_bench.report.html import Section, grid, joined, note, paragraph, table, titled
from lssvwm_bench.report.measured import Dreams, Measured, Norms
from lssvwm_bench.report.runs import Run
from lssvwm_rl.measures.calibration import Calibration
from lssvwm_rl.measures.memory_formed import Contrast, MemoryFormed
from lssvwm_rl.pictures import enlarge, frame_strip
from lssvwm_rl.training.curve import HOW_FAST

WIPED = "_wiped"
NAMES = {
    "total": "total loss",
    "frame": "frame loss",
    "reward": "reward loss",
    "continuation": "end loss",
    "vector": "vector loss",
    "recall": "recall loss",
    "memory_recall_psnr": "PSNR of what returns (dB)",
    "memory_reward_accuracy": "accuracy of rewards",
    "memory_end_accuracy": "accuracy of ends",
    "memory_accuracy": "accuracy of rewards",
}
DREAMT = {
    "dream_psnr_one_step": "PSNR of the first dreamt frame (dB)",
    "dream_psnr": "PSNR of whole dreams (dB)",
}
COPY = "_copy"
STRIP = 8  # frames of a strip
Part = TypeVar("Part")


def learning(run: Run) -> Section:
    """Losses and PSNR of dreams over updates."""
    if not run.curve:
        return Section("learning", "Learning", missing="No learning curve; `lssvwm train` writes one as it goes.")
    rows = run.curve
    measured = [name for name in rows[0] if name.startswith(("memory_", "dream_"))]
    names = [name for name in rows[0] if name not in (*HOW_FAST, "skipped", "step", *measured)]
    names.sort(key=lambda name: name != "total")
    charts = [
        titled(
            NAMES.get(name, name.replace("_", " ")),
            line_chart([Line(name, _points(rows, name))], Axes("updates", "", log_y=True)),
        )
        for name in names
    ]
    charts += [_against_copies(rows, name, label) for name, label in DREAMT.items() if name in rows[0]]
    last = rows[-1]
    skipped = f", {last['skipped']:.0f} of them skipped since they were not finite" if last.get("skipped") else ""
    text = f"{last['step']:,.0f} updates{skipped}. Losses are means over the updates since the row before."
    return Section("learning", "Learning", joined([paragraph(text), grid(charts, narrow=len(charts) > 2)]))


def memory_over_updates(run: Run) -> Section:
    """What was measured while it learnt, with memory and with memory wiped."""
    title = "Memory over updates"
    names = [name for name in (run.curve[0] if run.curve else {}) if f"{name}{WIPED}" in run.curve[0]]
    if not names:
        return Section(
            "memory_over_updates", title, missing="Not measured in this run; `lssvwm train --measure-every 250` does."
        )
    charts = []
    for name in names:
        label = NAMES.get(name, name.replace("_", " "))
        lines = [
            Line("with memory", _points(run.curve, name)),
            Line("memory wiped", _points(run.curve, f"{name}{WIPED}"), dashed=True),
        ]
        span = (0.5, 1.0) if "accuracy" in name else None
        charts.append(titled(label, line_chart(lines, Axes("updates", "", y_range=span))))
    gains = sorted((n for n in run.curve[0] if n.startswith("memory_recall_gain_from_")), key=_age)
    if gains:
        chosen = gains if len(gains) <= 4 else [gains[k * (len(gains) - 1) // 3] for k in range(4)]
        lines = [
            Line(f"{_span(_age(name), 2 * _age(name) - 1)} frames ago", _points(run.curve, name)) for name in chosen
        ]
        charts.append(
            titled("What memory adds to what was last in view", line_chart(lines, Axes("updates", "gain in PSNR (dB)")))
        )
    text = "On held-out episodes, as they were measured in training; without memory, the model sees its window alone."
    return Section("memory_over_updates", title, joined([grid(charts), note(text)]))


def recall(found: Measured | str) -> Section:
    """What memory adds on held-out episodes, by how long ago it was seen."""
    return _measured("recall", "What it remembers", found, lambda measured: measured.memory, _remembered)


def dreams(found: Measured | str) -> Section:
    """Videos and errors of dreams beside reality."""
    return _measured("dreams", "Dreams beside reality", found, lambda measured: measured.dreams, _dreamt)


def doubt(found: Measured | str) -> Section:
    """Whether doubt tells wrong frames."""
    return _measured("doubt", "Doubt against error", found, lambda measured: measured.doubt, _doubted)


def holds(found: Measured | str) -> Section:
    """The states of blocks while an episode is observed."""
    none = "A model of this kind has no states; train another --kind."
    return _measured("holds", "What memory holds", found, lambda measured: measured.norms, _held, none)


def _measured(
    name: str,
    title: str,
    found: Measured | str,
    part: Callable[[Measured], Part | None],
    content: Callable[[Part], Markup],
    none: str = "",
) -> Section:
    """A section about a part of what was measured, or the sentence why it is not there: `none`, if nothing else is."""
    if isinstance(found, str):
        return Section(name, title, missing=found)
    of = part(found)
    return Section(name, title, missing=found.missing or none) if of is None else Section(name, title, content(of))


def _remembered(formed: MemoryFormed) -> Markup:
    parts = [Markup('<p class="lead">{}</p>').format(formed.sentence())]
    scores = [
        _contrast("pixels that return (PSNR, dB)", formed.recall, 1),
        _contrast("pixels of the window (PSNR, dB)", formed.explained, 1),
        _contrast("high and low rewards (accuracy)", formed.reward, 3),
        _contrast("ends of episodes (accuracy)", formed.ended, 3),
    ]
    rows = [row for row in scores if row is not None]
    if rows:
        parts.append(table(["", "with memory", "wiped", "memory adds", "frames"], rows))
    if formed.ages:
        ages = sorted(formed.ages.items())
        lines = [
            Line("with memory", [((a * b) ** 0.5, c.memory) for (a, b), c in ages]),
            Line("memory wiped", [((a * b) ** 0.5, c.wiped) for (a, b), c in ages], dashed=True),
        ]
        chart = line_chart(lines, Axes("frames since it was last in view", "PSNR (dB)", log_x=True), dots=True)
        cells = [
            [_span(a, b), f"{c.memory:.1f}", f"{c.wiped:.1f}", f"{c.gain:+.1f}", f"{c.frames}"] for (a, b), c in ages
        ]
        head = ["frames ago", "with memory", "wiped", "memory adds", "frames"]
        parts.append(grid([chart, table(head, cells)]))
    text = (
        f"{formed.frames:,} frames of {formed.of} episodes lie beyond the window of {formed.window} frames, which is "
        "all that the wiped model has seen."
    )
    return joined([*parts, note(text)])


def _dreamt(seen: Dreams) -> Markup:
    videos = [
        video(
            frames, f"Reality on the left, the dream on the right: {len(frames)} frames, the first {seen.context} given"
        )
        for frames in seen.shown
    ]
    parts = [grid(videos, narrow=True)]
    if len(seen.over_time) > 1:
        lines = [
            Line("dream", [(t, ours) for t, ours, _ in seen.over_time]),
            Line("copy of the last real frame", [(t, copy) for t, _, copy in seen.over_time], dashed=True),
        ]
        chart = line_chart(lines, Axes("dreamt steps since the context", "PSNR (dB)"))
        parts.append(grid([titled("How long dreams hold", chart), _strip(seen)]))
    told = " and vectors" if seen.vectors else ""
    text = (
        f"Held-out episodes, dreamt with the real actions{told} and no look at reality after the first frames. What "
        "was never in view is the dream's to invent, so PSNR falls where new places come into view."
    )
    return joined([*parts, note(text)])


def _doubted(measured: Calibration) -> Markup:
    middle = [((g.low + g.high) / 2, g) for g in measured.groups]
    charts = [
        titled(
            "Error by doubt",
            line_chart([Line("PSNR", [(x, g.psnr) for x, g in middle])], Axes("quantile of doubt", "PSNR (dB)"), True),
        ),
        titled(
            "Wrong frames by doubt",
            line_chart(
                [Line("wrong", [(x, g.wrong) for x, g in middle])],
                Axes("quantile of doubt", "share of wrong frames", y_range=(0.0, 0.05)),
                True,
            ),
        ),
    ]
    rank = (
        ""
        if math.isnan(measured.correlation)
        else f" Rank correlation of doubt with error: {measured.correlation:.2f}."
    )
    text = (
        f"{measured.frames:,} held-out frames, each dreamt one step after the real frames before it: "
        f"{measured.psnr:.1f} dB, a copy of the frame before {measured.copy:.1f} dB.{rank}"
    )
    about = (
        "Doubt is how far the last denoising pass still moved the frame; groups of equal size, from the surest to the "
        "most doubtful. A frame is wrong if more than 5 % of its pixels show something else."
    )
    return joined([paragraph(text), grid(charts), note(about)])


def _held(norms: Norms) -> Markup:
    chart = heat_map(norms.values, norms.names, "frames observed")
    text = (
        "A row per block of every layer, from dark (empty) to bright: r / (1 + r), with r the root mean square of the "
        "block's state, while the longest held-out episode is observed from an empty memory."
    )
    return joined([chart, note(text)])


def _against_copies(rows: Sequence[dict[str, float]], name: str, label: str) -> Markup:
    lines = [
        Line("dream", _points(rows, name)),
        Line("copy of the last real frame", _points(rows, f"{name}{COPY}"), dashed=True),
    ]
    return titled(label, line_chart(lines, Axes("updates", "")))


def _strip(seen: Dreams) -> Markup:
    frames = seen.shown[0][seen.context :]
    chosen = frames[:: max(1, -(-len(frames) // STRIP))][:STRIP]
    width = chosen.shape[2] // 2
    rows = [*chosen[:, :, :width], *chosen[:, :, width:]]
    if chosen.shape[3] == 1:
        rows = [row.repeat(3, axis=2) for row in rows]
    image = enlarge(frame_strip(np.stack(rows), len(chosen))[None])[0]
    return titled("Reality above, the dream below", picture(image, f"{len(chosen)} frames of the first dream"))


def _points(rows: Sequence[dict[str, float]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row.get(name, math.nan)) for row in rows]


def _age(name: str) -> int:
    return int(name.rpartition("_")[2])


def _span(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def _contrast(name: str, contrast: Contrast | None, digits: int) -> list[str] | None:
    if contrast is None:
        return None
    values = [f"{value:.{digits}f}" for value in (contrast.memory, contrast.wiped)]
    return [name, *values, f"{contrast.gain:+.{digits}f}", f"{contrast.frames:,}"]
