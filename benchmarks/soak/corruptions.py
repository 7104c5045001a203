"""Files of which a bit changes, the end is cut off, or that vanish: reading them names it, or gives what was there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO

from lssvwm_agents.loop.outcome import Piece
from lssvwm_agents.loop.run import write_pieces
from lssvwm_agents.policies import load_policy, save_policy, setup_of_policy
from lssvwm_bench.report.runs import find_run
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_envs.dream.state import DreamState
from lssvwm_envs.options import setup_of_checkpoint
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.data.store import EpisodeStore, EpisodeWriter
from lssvwm_rl.files import LOCK
from lssvwm_rl.model.checkpoint_files import CONTEXTS, ENV_FILE
from lssvwm_rl.model.checkpoints import load_world_model
from lssvwm_rl.model.doubt import load_scale
from lssvwm_rl.phases import claim, find_phase, run_phase
from lssvwm_rl.training.curve import read_curve
from lssvwm_rl.training.run_folder import load_state, steps_of_data
from soak.outcome import Outcome
from support.programs import bits
from support.small_stores import PLAIN, ones

KINDS = ("a bit changed", "cut", "deleted")
LOOP = {"env": "CartPole-v1", "checkpoint": None, "data": None, "rounds": 1}
NAMED = (ValueError, FileNotFoundError)
READ = ("", ".json", ".yaml", ".csv", ".safetensors", ".pt")
"""Suffixes of files that a command reads; chunks of arrays have none."""


@dataclass(frozen=True)
class Artefact:
    """A thing of one or more files."""

    name: str
    root: Path
    """Its folder, or its only file."""
    read: Callable[[], Any]
    """All that there is in it, comparable with ==."""
    gone: Callable[[Any], bool] = lambda _: False
    """Whether what was read is what it is documented to be where a file was deleted."""

    def draw(self, rng: np.random.Generator) -> Path:
        """A file of it: entries of a folder are drawn evenly, so that weights are tried as often as all episodes."""
        path = self.root
        while path.is_dir():
            entries = [each for each in sorted(path.iterdir()) if _is_read(each)]
            path = entries[int(rng.integers(len(entries)))]
        return path


def _is_read(path: Path) -> bool:
    """Whether a command reads a file: locks, logs and previews none does."""
    if path.is_dir():
        return any(_is_read(each) for each in path.iterdir())
    return path.name != LOCK and path.suffix in READ and path.stat().st_size > 0


def soak_corruptions(artefacts: Sequence[Artefact], times: int, seed: int) -> list[Outcome]:
    """Change a random file of each artefact in turn, one at a time, `times` in all; each is repaired afterwards."""
    rng = np.random.default_rng(seed)
    outcomes = [Outcome(f"{each.name}: {', '.join(KINDS)}") for each in artefacts]
    whole = [each.read() for each in artefacts]
    for k in range(times):
        at = k % len(artefacts)
        artefact, outcome = artefacts[at], outcomes[at]
        path = artefact.draw(rng)
        data, kind = path.read_bytes(), KINDS[int(rng.integers(len(KINDS)))]
        try:
            where = corrupt(path, kind, rng)
            came_to, what = judge(artefact, path, kind, whole[at])
        finally:
            path.write_bytes(data)
        outcome.tried += 1
        if came_to:
            outcome.count(came_to)
        else:
            outcome.wrong.append(f"{path.relative_to(artefact.root.parent)}, {kind} {where}: {what}")
    return outcomes


def corrupt(path: Path, kind: str, rng: np.random.Generator) -> str:
    """Change a file in one of KINDS; where."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)))
    if kind == "deleted":
        path.unlink()
        return ""
    if kind == "cut":
        path.write_bytes(data[:at])
    else:
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    return f"at {at} of {len(data)}"


def judge(artefact: Artefact, path: Path, kind: str, whole: Any) -> tuple[str, str]:
    """What reading a changed artefact came to, empty if that is wrong, and what was wrong."""
    try:
        found = artefact.read()
    except NAMED as error:
        said = str(error)
        shard = next((parent for parent in path.parents if parent.suffix == ".zarr"), path)
        if path.name in said or str(shard) in said:
            return "named by file or shard", ""
        if str(artefact.root) in said:
            return "named by its folder", ""
        return "", f"the error does not name it: {said}"
    except Exception as error:
        return "", f"raises {error!r}"
    if found == whole:
        return "harmless", ""
    if kind == "deleted" and artefact.gone(found):
        return "begins anew, as documented", ""
    return "", "is read as something else"


def store_contents(folder: Path) -> Any:
    """Every episode of a store, and its header."""
    store = EpisodeStore(folder)
    return [bits(vars(episode)) for episode in store], store.header


def checkpoint_contents(run: Path) -> Any:
    """Everything that is used of a checkpoint."""
    model = load_world_model(run)
    scale = load_scale(run, model)
    return (
        bits(model.state_dict()),
        replace(model.config, backbone=replace(model.config.backbone, backend="auto")),
        None if scale is None else bits(scale.quantiles),
        store_contents(run / CONTEXTS),
        setup_of_checkpoint(run),
        steps_of_data(run),
        repr(read_curve(run)),
    )


def policy_contents(folder: Path) -> Any:
    """Everything that is used of a policy."""
    saved = load_policy(folder)
    return bits(saved.policy.state_dict()), repr(replace(saved, policy=None)), setup_of_policy(folder)  # type: ignore[arg-type]


def loop_contents(folder: Path) -> Any:
    """Everything that a loop goes on with, and that a report shows of it."""
    claim(folder, LOOP, "loop")
    run = find_run(str(folder))
    if run.broken:
        raise ValueError(f"{folder}: {run.broken[0]}")
    return run, find_phase(folder, "explore")


def state_contents(path: Path) -> Any:
    """Everything in the state of a dream."""
    state = DreamState.load(path)
    return bits({**vars(state), "memory": state.memory.tensors()})


def make_artefacts(run: Path, folder: Path) -> list[Artefact]:
    """One of each kind.

    Args:
        run: of a training that has ended.
        folder: a new one, for the others.
    """
    with EpisodeWriter(folder / "store", PLAIN, shard_episodes=2) as writer:
        for seed in range(1, 5):
            writer.add(ones(seed, seed))
    torch.manual_seed(0)
    ppo = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, seed=0)
    save_policy(ppo, folder / "policy", env_id="CartPole-v1")
    write_checked(folder / "policy" / ENV_FILE, json.dumps({"id": "CartPole-v1", "kwargs": {"sutton_barto_reward": 1}}))
    with DreamEnv(str(run), denoise_steps=1) as env:
        env.reset(seed=3)
        env.step(1)
        env.save_state(folder / "dream")
    loop = folder / "loop"
    claim(loop, LOOP, "loop")
    run_phase(loop, "explore", lambda: {"episodes": 4, "seconds": 1.5})
    run_phase(loop, "random", lambda: {"real_return": 0.25})
    write_pieces(loop, [Piece(1, 1, 0.5, 0.4, 0.05, 0.4, 50, 100, 100, 1.0)])
    store, policy, dream, state = folder / "store", folder / "policy", folder / "dream", run / "trainer" / "state.pt"
    return [
        Artefact("store", store, lambda: store_contents(store)),
        Artefact("checkpoint", run, lambda: checkpoint_contents(run)),
        Artefact("policy", policy, lambda: policy_contents(policy)),
        Artefact("loop", loop, lambda: loop_contents(loop)),
        Artefact("dream state", dream, lambda: state_contents(dream)),
        Artefact("state of a training", state, lambda: bits(load_state(run)), lambda found: found == bits(None)),
    ]
