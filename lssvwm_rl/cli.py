"""The `lssvwm` command: one file per subcommand, imported when it is called."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

COMMANDS = {
    "quickstart": (
        "lssvwm_bench.commands.quickstart:Quickstart",
        "collect, train, dream, plan and act on MiniGrid-MemoryS7, with a report",
    ),
    "collect": ("lssvwm_agents.commands.collect:Collect", "play a Gymnasium environment and store its episodes"),
    "import npz": (
        "lssvwm_rl.commands.import_npz:ImportNpz",
        "store the published trajectories of Memory Maze, or others like them",
    ),
    "train": ("lssvwm_rl.commands.train:Train", "learn a world model from a store"),
    "export": ("lssvwm_rl.commands.export:Export", "copy a checkpoint without what only training needs"),
    "dream": ("lssvwm_rl.commands.dream:Dream", "write a video of a dream beside reality"),
    "bench cost": ("lssvwm_bench.commands.bench:BenchCost", "measure what every kind of model costs"),
    "bench retrieval": (
        "lssvwm_bench.commands.bench_trials:BenchRetrieval",
        "predict what comes into view again on the way back",
    ),
    "bench reasoning": (
        "lssvwm_bench.commands.bench_trials:BenchReasoning",
        "dream on after hundreds of frames of context",
    ),
    "bench long": ("lssvwm_bench.commands.bench_trials:BenchLong", "dream for a thousand frames and measure the drift"),
    "bench probe": ("lssvwm_bench.commands.bench_probe:BenchProbe", "read the maze and its objects from the memory"),
    "bench agent": (
        "lssvwm_bench.commands.bench_agent:BenchAgent",
        "compare random, oracle, policy and planner by their returns",
    ),
    "plan": ("lssvwm_agents.commands.plan:Plan", "play an environment by planning in the world model"),
    "agent train": ("lssvwm_agents.commands.agent:AgentTrain", "train an agent inside the world model"),
}
"""Command -> (where its options are, what it does). Strings, so that each floor is imported only when it is called."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; bad input ends with one sentence on stderr and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        from lssvwm_rl import __version__

        print(f"lssvwm {__version__}")
        return
    name = next((n for n in COMMANDS if words[: len(n.split())] == n.split()), None)
    if name is None:
        wanted = not words or words[0] in ("-h", "--help")
        print(
            _usage() if wanted else f"lssvwm: there is no command {' '.join(words[:2])!r}.\n{_usage()}", file=sys.stderr
        )
        raise SystemExit(0 if wanted and words else 2)
    module_name, options = COMMANDS[name][0].split(":")
    module = importlib.import_module(module_name)
    import gymnasium as gym
    import tyro

    # What users get wrong is a sentence, also where a nested config refuses it; everything else is a bug and keeps its
    # traceback.
    try:
        module.main(tyro.cli(getattr(module, options), args=words[len(name.split()) :], prog=f"lssvwm {name}"))
    except (ValueError, FileNotFoundError, FileExistsError, FloatingPointError, gym.error.Error) as error:
        print(f"lssvwm {name}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from error


def json_value(text: str) -> Any:
    """What an option KEY VALUE means: a JSON value, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _usage() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: lssvwm COMMAND [options]   (lssvwm COMMAND --help shows them)", "", *lines])
