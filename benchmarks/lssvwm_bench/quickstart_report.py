"""The quickstart's report: report.json for programs, report.md and pictures for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lssvwm_bench.figures import markdown_table, new_figure, with_error, write_figure
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.files import write_text

LIBRARIES = ("lssvwm-rl", "torch", "gymnasium", "minigrid", "stable-baselines3")
IMAGES = "ppo_images_no_memory"
SCORES = ("success_rate", "success_error", "mean_return", "return_error", "mean_length", "episodes", "seconds_per_step")
NAMES = {
    "shipped": "shipped model",
    "shipped_memory_wiped": "shipped model, memory wiped before the last step",
    "three_minute_model": "three-minute model",
    "three_minute_model_memory_wiped": "three-minute model, memory wiped",
    "random": "random",
    "planner": "planner (CEM in the world model)",
    "taught_agent": "agent that reads the three-minute model's memory",
    "loop_agent": "agent of a loop (shipped), trained in dreams",
    IMAGES: "PPO on real images, no memory",
}


def write_report(out: Path, config: Mapping[str, Any], phases: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write report.json, report.md, memory.png and success.png.

    Args:
        out: folder with the phases' pictures.
        config: settings of the run.
        phases: name -> {"result", "seconds", "peak_bytes"}.

    Returns:
        Path of report.md.
    """
    results = {name: phase["result"] for name, phase in phases.items()}
    played = {**results["play"], **results["plan"]}
    scores = {
        name: {k: played[name][k] for k in SCORES}
        for name in ("random", IMAGES, "taught_agent", "loop_agent", "planner")
    }
    report = {
        "smoke": config["smoke"],
        "config": dict(config),
        "machine": {"cpu_count": os.cpu_count(), "platform": platform.platform()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        "data": results["collect"],
        "training": results["train"],
        "dream_psnr": results["dream"],
        "memory_reward_accuracy": results["memory"],
        "plan_success": {name: scores[name] for name in ("random", "planner")},
        "agent_success": {name: scores[name] for name in ("random", IMAGES, "taught_agent", "loop_agent")},
        "loop": results["play"]["loop_pieces"],
        "real_steps": {"taught_agent": results["agent"]["real_steps"], IMAGES: results["images"]["real_steps"]},
        "phases": {
            name: {"seconds": round(phase["seconds"], 2), "peak_memory_mb": round(phase["peak_bytes"] / 2**20)}
            for name, phase in phases.items()
        },
    }
    memory = {name: report["memory_reward_accuracy"][name] for name in NAMES if name in results["memory"]}
    _bars(out / "memory.png", memory, "accuracy of the last reward (chance 0.5)", chance=0.5)
    _bars(out / "success.png", {n: s["success_rate"] for n, s in scores.items()}, "success in the real environment")
    write_checked(out / "report.json", json.dumps(report, indent=2) + "\n")
    sections = [_memory(report, memory), _dreams(report), _acting(report, scores), _cost(report)]
    write_text(out / "report.md", "\n\n".join([_opening(report), *sections]) + "\n")
    return out / "report.md"


def _opening(report: Mapping[str, Any]) -> str:
    config, training = report["config"], report["training"]
    parts = [
        f"# Quickstart: {config['env']}",
        f"A tiny world model was trained here from scratch for {training['minutes']:g} minutes "
        f"({training['updates']} updates), and the agent that reads its memory learnt here, too. Dreams and plans "
        f"are those of the checkpoint `{config['checkpoint']}`.",
    ]
    if report["smoke"]:
        parts.insert(1, "> This was a smoke test: everything is tiny and the numbers mean nothing.")
    return "\n\n".join(parts)


def _memory(report: Mapping[str, Any], memory: Mapping[str, float]) -> str:
    return f"""## Memory

Success in this world depends on an object seen at the other end of it. The reward of the last step of held-out \
episodes ({report["memory_reward_accuracy"]["episodes"]}), predicted from memory:

{markdown_table(["", "accuracy"], [[NAMES[name], f"{value:.3f}"] for name, value in memory.items()])}

![memory](memory.png)"""


def _dreams(report: Mapping[str, Any]) -> str:
    rows = [
        [name.replace("_", " "), f"{p['dream']:.1f}", f"{p['copy_last_frame']:.1f}", str(p["episodes"])]
        for name, p in report["dream_psnr"].items()
    ]
    return f"""## Dreams

{markdown_table(["PSNR (dB)", "dream", "copy of the last real frame", "episodes"], rows)}

Reality (above) and the dream from the same context (below); [video](dream.mp4), reality on the left.

![dream](dream.png)"""


def _acting(report: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [
            NAMES[name],
            with_error(s["success_rate"], s["success_error"]),
            with_error(s["mean_return"], s["return_error"], 3),
            f"{s['mean_length']:.1f}",
            str(s["episodes"]),
            f"{s['seconds_per_step']:.4f}",
        ]
        for name, s in scores.items()
    ]
    pieces = [
        [
            str(p["round"]),
            "-" if p["dreamt_return"] is None else f"{p['dreamt_return']:.2f}",
            f"{p['success']:.2f}",
            f"{p['real_steps']:,}",
        ]
        for p in report["loop"]
    ]
    return f"""## Planning and acting in the real environment

{markdown_table(["", "success", "return", "steps", "episodes", "s/step"], rows)}

An agent that runs to either end without remembering succeeds half of the time, and so does PPO on images, after \
{report["real_steps"][IMAGES]:,} real steps. The agent of this run had {report["real_steps"]["taught_agent"]:,}, those \
that the three-minute model learnt from: it was taught what the best of their actions were (implicit Q-learning), read \
with the model's memory in place of images. That is how every round of `lssvwm agent loop` begins.

![success](success.png)

The rest of the loop takes too long for a demo: it plays, learns from what was played, and dreams again, for the dream \
of one training does not hold where an agent that was trained in it goes. One loop is shipped. Its agent, which learnt \
in dreams alone, played above, and this is how it came about, from nothing, by pieces of PPO in dreams.

{markdown_table(["round", "return in the dream", "real success", "real steps so far"], pieces)}"""


def _cost(report: Mapping[str, Any]) -> str:
    rows = [[name, f"{p['seconds']:.1f}", str(p["peak_memory_mb"])] for name, p in report["phases"].items()]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"""## Cost

{markdown_table(["phase", "seconds", "peak memory (MB)"], rows)}

{report["machine"]["cpu_count"]} cores, {report["machine"]["platform"]}; {versions}."""


def _bars(path: Path, values: Mapping[str, float], title: str, chance: float | None = None) -> None:
    figure, (axes,) = new_figure(1, height=0.5 * len(values) + 1, width=7)
    bars = axes.barh([NAMES[name] for name in values], list(values.values()), color="#3b6ea5")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_xlim(0, 1.1)
    axes.invert_yaxis()
    if chance is not None:
        axes.axvline(chance, color="#999999", linestyle="--", linewidth=1)
    axes.set_title(title, fontsize=10)
    write_figure(path, figure)
