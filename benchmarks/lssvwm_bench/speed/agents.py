"""The dream as an environment, a plan and an agent's training, each end to end: this version against an older one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lssvwm_bench.speed import turns
from lssvwm_bench.speed.rows import Line, Settings, lines_of, row
from lssvwm_rl.model.native_engine import bf16_products

TREE = Path(__file__).parents[3]
FLOORS = ("", "envs", "agents", "benchmarks")
FASTEST = {"engine": "auto"}
BF16 = "native-bf16"
REFERENCE = {"engine": "torch"}


class Child:
    """A process that takes turns of a job with one version of the code.

    Args:
        tree: source tree.
        name: of a function in `turns`.
        settings: of it.

    Raises:
        RuntimeError: from `turn`, if the process has ended; what it wrote to its error output is there to read.
    """

    def __init__(self, tree: Path, name: str, settings: dict[str, Any]):
        job = json.dumps({"name": name, "settings": settings, "threads": torch.get_num_threads()})
        path = os.pathsep.join(str(tree / floor) for floor in FLOORS)
        self.process = subprocess.Popen(
            [sys.executable, turns.__file__, job], env={**os.environ, "PYTHONPATH": path}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def turn(self) -> dict[str, float]:
        """What one turn took."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read below
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"A process that was to take turns ended with status {self.process.wait()}.")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self.process.communicate("")


def alternating(
    name: str, job: dict[str, Any], settings: Settings, repeats: int
) -> tuple[str, dict[str, list[float]], dict[str, list[dict[str, float]]]]:
    """Turns of the older version, or of this one's engine in plain PyTorch, of this one's fastest, and of its engine
    with products in bf16 if the settings name it and the machine has it.

    Returns:
        What the reference is, seconds of each, and all that each answered; the first turn does not count.
    """
    old = settings.baseline is not None
    children = {
        "reference": Child(settings.baseline or TREE, name, {**job, **({} if old else REFERENCE)}),
        "now": Child(TREE, name, {**job, **FASTEST}),
    }
    if BF16 in settings.engines and bf16_products():
        children[BF16] = Child(TREE, name, {**job, "engine": BF16})
    answers: dict[str, list[dict[str, float]]] = {way: [] for way in children}
    try:
        for _ in range(repeats + 1):
            for way, child in children.items():
                answers[way].append(child.turn())
    finally:
        for child in children.values():
            child.close()
    answers = {way: turns[1:] for way, turns in answers.items()}
    seconds = {way: [turn["seconds"] for turn in turns] for way, turns in answers.items()}
    return "the older version" if old else "engine torch", seconds, answers


@row("env")
def environment(settings: Settings) -> Iterator[Line]:
    """A step of `lssvwm/Dream-v0`, alone and 16 together, with the share of it that is outside of the network."""
    for num_envs in (1, 16):
        job = {"checkpoint": settings.checkpoint, "num_envs": num_envs, "steps": settings.env_steps}
        against, seconds, answers = alternating("env", job, settings, settings.repeats)
        outside = {
            way: median(1 - turn["inside"] / turn["seconds"] for turn in turns) for way, turns in answers.items()
        }
        before = outside.pop("reference")
        notes = {way: f"outside of the network {now:.1%}, before {before:.1%}" for way, now in outside.items()}
        per_step = {way: [s / settings.env_steps for s in turns] for way, turns in seconds.items()}
        what = f"step of Dream-v0, {num_envs} env{'s' * (num_envs > 1)}, against {against}"
        yield from lines_of(what, per_step, num_envs, "steps", notes)


@row("cem")
def decision(settings: Settings) -> Iterator[Line]:
    """A decision of CEM: 12 steps ahead, 64 candidates, 3 iterations."""
    against, seconds, _ = alternating("cem", {"checkpoint": settings.checkpoint}, settings, settings.repeats)
    yield from lines_of(f"CEM decision, against {against}", seconds, 1, "decisions")


@row("ppo")
def training(settings: Settings) -> Iterator[Line]:
    """PPO in 16 dreams, end to end."""
    job = {"checkpoint": settings.checkpoint, "steps": settings.dreamt_steps}
    against, seconds, _ = alternating("ppo", job, settings, settings.agent_turns)
    what = f"PPO in 16 dreams, {settings.dreamt_steps:,} steps, against {against}"
    yield from lines_of(what, seconds, settings.dreamt_steps, "steps")
