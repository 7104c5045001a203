"""Sections about agents: pieces of a loop, the curve of a baseline, what a quickstart played, what a policy took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lssvwm_bench.figures import NONE, with_error
from lssvwm_bench.quickstart_report import NAMES
from lssvwm_bench.report.charts import Axes, Line, line_chart, video_file
from lssvwm_bench.report.html import Section, folded, grid, joined, note, pairs, paragraph, table, titled
from lssvwm_bench.report.runs import Run


def agent(run: Run) -> Section:
    """What an agent came to."""
    parts: list[Markup] = []
    if run.pieces:
        parts.append(_pieces(run.pieces))
    parts += _checks(run.phases)
    if run.agent_curve:
        parts.append(_dreamt(run.agent_curve) if run.kind == "policy" else _baseline(run.agent_curve))
    if run.results:
        parts.append(_played(run))
    if run.policy:
        parts.append(_policy(run.policy))
    missing = {
        "loop": "No piece is finished yet; repeat the command of the loop to go on.",
        "baseline": "No rollout is finished yet; repeat the command of the baseline to go on.",
        "quickstart": "Nothing has been played yet; repeat `lssvwm quickstart` to go on.",
        "policy": "Its policy.json cannot be read; train it again.",
        "world model": "A world model alone; `lssvwm agent train` or `lssvwm agent loop` trains an agent in it.",
    }[run.kind]
    return Section("agent", "Agent", joined(parts), "" if parts else missing)


def best_piece(pieces: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The one with the largest real return, the later of equals."""
    return max(enumerate(pieces), key=lambda each: (each[1]["real_return"], each[0]))[1]


def _pieces(pieces: Sequence[Mapping[str, Any]]) -> Markup:
    best = best_piece(pieces)
    text = (
        f"Best: round {best['round']}, piece {best['piece']} with real return "
        f"{with_error(best['real_return'], best['real_error'], 3)} and success {best['success']:.2f}, after "
        f"{best['real_steps']:,} real steps and {best['minutes']:.0f} minutes."
    )
    dreamt = [(p["real_steps"], p["dreamt_return"]) for p in pieces if p["dreamt_return"] is not None]
    real = Line("real", [(p["real_steps"], p["real_return"]) for p in pieces], errors=[p["real_error"] for p in pieces])
    success = Line("success", [(p["real_steps"], p["success"]) for p in pieces])
    charts = [
        titled(
            "Return in reality and in the dream",
            line_chart([real, Line("dream", dreamt, dashed=True)], Axes("real steps so far", "mean return"), dots=True),
        ),
        titled(
            "Success in reality",
            line_chart([success], Axes("real steps so far", "share of episodes", y_range=(0.0, 1.0)), dots=True),
        ),
    ]
    rows = [
        [
            f"{p['round']}.{p['piece']}",
            NONE if p["dreamt_return"] is None else f"{p['dreamt_return']:.3f}",
            with_error(p["real_return"], p["real_error"], 3),
            f"{p['success']:.2f}",
            f"{p['real_steps']:,}",
            f"{p['minutes']:.1f}",
        ]
        for p in pieces
    ]
    head = ["round.piece", "dreamt return", "real return", "success", "real steps so far", "minutes so far"]
    return joined([paragraph(text), grid(charts), table(head, rows)])


def _checks(phases: Mapping[str, Mapping[str, Any]]) -> list[Markup]:
    """Of each round, how right one dreamt step was beside the agent's real ones."""
    rows = [
        [
            name.removeprefix("round-").removesuffix("-check"),
            f"{found['wrong']:.4f}",
            f"{found['false_payments']:.4f}",
            f"{found['false_ends']:.4f}",
            f"{found['episodes']}",
        ]
        for name, found in phases.items()
        if name.endswith("-check") and {"wrong", "false_payments", "false_ends", "episodes"} <= set(found)
    ]
    if not rows:
        return []
    head = ["round", "wrong frames", "false payments", "false ends", "episodes"]
    return [titled("One dreamt step beside each step of the agent", table(head, rows))]


def _baseline(curve: Sequence[Mapping[str, float]]) -> Markup:
    charts = []
    for name, label, span in (("return", "mean return", None), ("success", "share of episodes", (0.0, 1.0))):
        if name in curve[0]:
            points = [(row["step"], row[name]) for row in curve]
            chart = line_chart([Line(name, points)], Axes("real steps", label, y_range=span))
            charts.append(titled(f"{name.capitalize()} of the last 100 episodes", chart))
    last = curve[-1]
    text = f"{last['step']:,.0f} real steps"
    text += f" in {last['seconds'] / 60:.1f} minutes" if "seconds" in last else ""
    text += f"; return {last['return']:.3f}" if "return" in last else ""
    text += f", success {last['success']:.2f}" if "success" in last else ""
    return joined([paragraph(f"{text}."), grid(charts)])


def _dreamt(curve: Sequence[Mapping[str, float]]) -> Markup:
    """Of an agent that learnt in dreams, perhaps with some real rows."""
    returns = [
        Line(label, points, dashed=name == "dreamt_return")
        for name, label in (("real_return", "real"), ("dreamt_return", "dream"))
        if (points := _points(curve, name))
    ]
    charts = [titled("Return of the last 100 episodes", line_chart(returns, Axes("steps", "mean return")))]
    others = sorted(set(curve[0]) - {"step", "dreamt_return", "real_return"})
    small = [
        titled(name.replace("_", " ").capitalize(), line_chart([Line(name, points)], Axes("steps", name)))
        for name in others
        if (points := _points(curve, name))
    ]
    last = curve[-1]
    told = [
        f"{name.replace('_', ' ')} {last[name]:.3f}" for name in ("dreamt_return", "real_return") if _is(last, name)
    ]
    text = "; ".join([f"{last['step']:,.0f} steps", *told])
    parts = [paragraph(f"{text}."), grid(charts if returns else [])]
    return joined([*parts, *([folded("What PPO says of its updates", grid(small))] if small else [])])


def _points(curve: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in curve if _is(row, name)]


def _is(row: Mapping[str, float], name: str) -> bool:
    return math.isfinite(row.get(name, math.nan))


def _played(run: Run) -> Markup:
    results = run.results
    scores = {**results.get("plan_success", {}), **results.get("agent_success", {})}
    rows = [
        [
            NAMES.get(name, name),
            with_error(s["success_rate"], s["success_error"]),
            with_error(s["mean_return"], s["return_error"], 3),
            f"{s['mean_length']:.1f}",
            f"{s['episodes']}",
        ]
        for name, s in scores.items()
    ]
    parts = [titled("In the real environment", table(["", "success", "return", "steps", "episodes"], rows))]
    memory = results.get("memory_reward_accuracy", {})
    known = [[NAMES[name], f"{value:.3f}"] for name, value in memory.items() if name in NAMES]
    if known:
        title = f"Reward of the last step, predicted in {memory.get('episodes', 0)} test episodes (chance 0.5)"
        parts.append(titled(title, table(["", "accuracy"], known)))
    if (run.folder / "dream.mp4").is_file():
        name = run.settings.get("checkpoint", "")
        caption = f"A dream of {name}: reality on the left, the dream on the right"
        parts.append(grid([video_file(run.folder / "dream.mp4", caption)], narrow=True))
    if results.get("loop"):
        parts.append(titled("How the shipped loop's agent came about", _pieces_of_report(results["loop"])))
    if results.get("smoke"):
        parts.insert(0, note("This was a smoke test: everything is tiny and the numbers mean nothing."))
    return joined(parts)


def _pieces_of_report(pieces: Sequence[Mapping[str, Any]]) -> Markup:
    dreamt = [(p["real_steps"], p["dreamt_return"]) for p in pieces if p["dreamt_return"] is not None]
    lines = [
        Line("real", [(p["real_steps"], p["real_return"]) for p in pieces], errors=[p["real_error"] for p in pieces]),
        Line("dream", dreamt, dashed=True),
    ]
    return grid([line_chart(lines, Axes("real steps so far", "mean return"), dots=True)])


def _policy(policy: Mapping[str, Any]) -> Markup:
    """What the agent is and took."""
    seconds = policy.get("seconds")
    known = {
        "Policy": f"{policy.get('algorithm', '?')}, {policy.get('policy', '?')}",
        "Reads": f"memory of {policy['checkpoint']}" if policy.get("checkpoint") else "the observation",
        "Real steps": _count(policy.get("real_steps")),
        "Dreamt steps": _count(policy.get("dreamt_steps")),
        "Training": NONE if seconds is None else f"{seconds / 60:.1f} minutes, without those of the world model",
    }
    return titled("The policy", pairs(known.items()))


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else NONE
