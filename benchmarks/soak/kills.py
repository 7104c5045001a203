"""Commands that are killed at random times and repeated until they end, against ones that nobody killed."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lssvwm_agents.policies import load_policy
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.data.verify import verify_store
from lssvwm_rl.files import TEMPORARY
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.curve import CURVE_FILE, HOW_FAST
from soak.outcome import Outcome
from soak.processes import begin

MOST_KILLS = 6
"""Of one folder; then its command may end, so that short and long stories are compared."""
ENV_ID = "MiniGrid-MemoryS7-v0"
EPISODES = 40
COLLECT = f"collect {ENV_ID} --policy random --num-envs 2 --env-kwargs max_steps 20 --episodes".split()
TRAIN = """train --model.backbone.width 32 --model.backbone.blocks 1 --model.feature-size 12 --model.head-width 32
--model.grid 8 8 --batch-size 2 --span 8 --log-every 1 --preview-every 0 --measure-every 2 --device cpu --steps 30
--warmup 2 --checkpoint-minutes 0""".split()
LOOP = f"""agent loop --env {ENV_ID} --rounds 2 --explore-episodes 0 --random-episodes 2 --rare-episodes 2
--play-episodes 2 --num-envs 2 --updates 2 --pieces 1 --check-episodes 1 --dreams.num-envs 4 --dreams.rollout-steps 8
--dreams.batch-size 32 --dreams.horizon 6 --dreams.total-steps 64 --dreams.offline.updates 3""".split()


@dataclass(frozen=True)
class Command:
    """What is killed."""

    name: str
    words: list[str]
    """Without --out."""
    right: str
    """What a story is that ended as it should."""
    differences: Callable[[Path, Path], Iterator[str]]
    """What is not as it should be in a folder, beside that of a run that nobody killed."""


def store_differences(found: Path, whole: Path) -> Iterator[str]:
    """Of a collected store: damaged files, and seeds that were not played exactly once."""
    yield from verify_store(found).damaged
    seeds, wanted = (sorted(EpisodeStore(folder).seeds.tolist()) for folder in (found, whole))
    if seeds != wanted:
        yield f"has the seeds {seeds}, not {wanted}"


def run_differences(found: Path, whole: Path) -> Iterator[str]:
    """Of a training: weights, bit for bit, and rows of the learning curve."""
    ours, theirs = (WorldModel.from_pretrained(folder).state_dict() for folder in (found, whole))
    yield from (f"has another {name}" for name in theirs if not torch.equal(ours[name], theirs[name]))
    if _curve(found) != _curve(whole):
        yield "has another learning curve"
    yield from verify_store(found / "contexts").damaged


def loop_differences(found: Path, whole: Path) -> Iterator[str]:
    """Of a loop: what its pieces came to, time aside, the seeds of its data, and the best policy, bit for bit."""
    ours, theirs = (_pieces(folder) for folder in (found, whole))
    if ours != theirs:
        yield f"has the pieces {ours}, not {theirs}"
    for path in sorted(whole.glob("**/header.json")):
        name = path.parent.relative_to(whole)
        yield from store_differences(found / name, whole / name)
    weights, wanted = (load_policy(folder / "agent").policy.state_dict() for folder in (found, whole))
    yield from (f"has another {name} in its policy" for name in wanted if not torch.equal(weights[name], wanted[name]))


def soak_kills(command: Command, kills: int, seed: int, folder: Path) -> Outcome:
    """Kill a command so many times, at times drawn evenly from those that it takes, and repeat it in between.

    Args:
        kills: SIGKILLs that find the process alive.
        seed: of the times.
        folder: where all this is done.

    Raises:
        RuntimeError: if the command fails where nobody kills it.
    """
    outcome, rng = Outcome(f"`{command.name}`, SIGKILL"), np.random.default_rng(seed)
    whole, said = folder / "whole", folder / "said"
    folder.mkdir(parents=True)
    began = time.monotonic()
    if run_for(command, whole, said, None) != 0:
        raise RuntimeError(f"{command.name} fails without a kill: {said.read_text()[-1_000:]}")
    seconds = time.monotonic() - began
    for story in range(2 * kills):  # some end before they are killed
        if outcome.tried == kills:
            break
        out, before = folder / f"story-{story}", outcome.tried
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            may_die = outcome.tried < min(kills, before + MOST_KILLS)
            code = run_for(command, out, said, float(rng.uniform(0, seconds)) if may_die else None)
            if code == -signal.SIGKILL:
                outcome.tried += 1
                outcome.count("in its work" if _has_files(out) else "before its first file")
        if outcome.tried > before:
            _judge(command, out, whole, code, said, outcome)
    return outcome


def run_for(command: Command, out: Path, said: Path, seconds: float | None) -> int:
    """The exit code of a command that is killed after so many seconds, if at all and if it has not ended by then."""
    said.unlink(missing_ok=True)
    process = begin([*command.words, "--out", str(out)], said)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _judge(command: Command, out: Path, whole: Path, code: int, said: Path, outcome: Outcome) -> None:
    if code != 0:
        outcome.wrong.append(f"{out.name} ends with {code}: {said.read_text().strip()[-500:]}")
        return
    found = [f"{out.name} {what}" for what in command.differences(out, whole)]
    found += [f"{out.name} keeps {path.relative_to(out)}" for path in out.rglob(f"{TEMPORARY}*")]
    outcome.wrong += found
    if not found:
        outcome.count(f"repeated to the end: {command.right}")


def _has_files(out: Path) -> bool:
    return any(path.is_file() and path.name != ".lock" for path in out.rglob("*"))


def _curve(run: Path) -> list[dict[str, str]]:
    with (run / CURVE_FILE).open(newline="") as file:
        return [{name: text for name, text in row.items() if name not in HOW_FAST} for row in csv.DictReader(file)]


def _pieces(folder: Path) -> list[dict[str, Any]]:
    pieces = json.loads((folder / "pieces.json").read_text())
    return [{name: value for name, value in piece.items() if name != "minutes"} for piece in pieces]


def commands(store: Path, checkpoint: Path) -> list[Command]:
    """Those that are killed.

    Args:
        store: of episodes of ENV_ID, to train on.
        checkpoint: a world model of it, for the loop to begin with.
    """
    collect = Command("lssvwm collect", [*COLLECT, str(EPISODES)], "every seed once, all shards whole",
                      store_differences)  # fmt: skip
    train = Command("lssvwm train", [*TRAIN, "--data", str(store)], "the same weights bit for bit", run_differences)
    given = ["--checkpoint", str(checkpoint), "--data", str(store)]
    loop = Command("lssvwm agent loop", [*LOOP, *given], "the same pieces and policy", loop_differences)
    return [collect, train, loop]
