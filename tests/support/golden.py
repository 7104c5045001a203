"""Numbers that a change of form must not change: dreamt frames, a planner's decision, the losses of some updates.

    python tests/support/golden.py tests/golden

writes them anew, which only a change of behaviour is a reason for. One thread; other machines round in another way.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch

from lssvwm_agents.planning import CEM, CEMConfig, WorldModelDynamics
from lssvwm_envs.dream.env import DreamEnv
from lssvwm_rl.data.clips import clip_batch
from lssvwm_rl.model.checkpoints import load_contexts, load_world_model
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.training.config import TrainConfig
from lssvwm_rl.training.curve import CURVE_FILE
from lssvwm_rl.training.objective import ObjectiveConfig
from lssvwm_rl.training.presets import model_config
from lssvwm_rl.training.trainer import train

CHECKPOINT = "minigrid-memory"
EPISODE, STEPS = 39, 16  # of the checkpoint's contexts, and how many of its last steps are dreamt
KEPT = 8  # steps before the state is saved
AHEAD = 2  # steps before the reward, where CEM decides
FRAMES, STATE, NUMBERS = "frames.png", "state.safetensors", "numbers.json"
COLUMNS = ("frame", "reward", "continuation", "recall", "total")
BACKBONE = BackboneConfig(width=64, blocks=(1, 2), scan_head_size=16, attention_head_size=16, condition_width=32)
TRAININGS = {"two_stream": "two_stream", "prefix": "prefix", "mix": "mix", "stream": "two_stream"}
"""Name -> objective; "mix" also learns shortcuts."""


@contextmanager
def one_thread() -> Iterator[None]:
    """The block's sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def dream(state: Path | None = None) -> tuple[np.ndarray, list[list[float]]]:
    """Frames (16, H, W, C) and [reward, probability of the end] of each; the state after `KEPT` steps is saved."""
    env, episode = DreamEnv(CHECKPOINT), load_contexts(CHECKPOINT)[EPISODE]
    env.reset(seed=0, options={"context": (episode.frames[:-STEPS], episode.actions[:-STEPS])})
    frames, numbers = [], []
    for t, action in enumerate(episode.actions[-STEPS:]):
        if t == KEPT and state is not None:
            env.save_state(state)
        frame, reward, _, _, info = env.step(action)
        frames.append(frame)
        numbers.append([reward, info["terminated_probability"]])
    return np.stack(frames), numbers


def go_on(state: Path) -> np.ndarray:
    """Frames (16 - KEPT, H, W, C) dreamt from a saved state."""
    env = DreamEnv(CHECKPOINT)
    env.load_state(state)
    actions = load_contexts(CHECKPOINT)[EPISODE].actions[-STEPS:]
    return np.stack([env.step(action)[0] for action in actions[KEPT:]])


def decision() -> dict[str, Any]:
    """What CEM does before the episode's last steps, where it can find the reward, and what it expects of that."""
    model, episode = load_world_model(CHECKPOINT), load_contexts(CHECKPOINT)[EPISODE]
    batch = clip_batch([episode], len(episode.frames))
    memory, _ = model.observe(model.initial_memory(1), batch.frames[:, :-AHEAD], batch.actions[:, :-AHEAD])
    dynamics = WorldModelDynamics(model)
    cem = CEM(CEMConfig(horizon=4, samples=64, elites=8, iterations=3), dynamics.action_space)
    action, plan, info = cem.plan(dynamics, memory, cem.prior(1), [torch.Generator().manual_seed(0)])
    best, parameters = plan.best[0, :AHEAD, 0].tolist(), plan.parameters[0, :, 0].tolist()
    return {"action": int(action), "best": best, "return": float(info["best_return"]), "parameters": parameters}


def losses(name: str) -> list[list[float]]:
    """`COLUMNS` of five updates of a small model on the shipped checkpoint's contexts."""
    store = load_contexts(CHECKPOINT)
    sizes = {"backbone": BACKBONE, "feature_size": 128, "head_width": 256, "reservoir": ReservoirConfig()}
    sizes["fast_weights"] = FastWeightsConfig()
    model = model_config("tiny", store.header, shortcut=name == "mix", token_noise=False, **sizes)
    objective = ObjectiveConfig(name=TRAININGS[name])
    settings = TrainConfig(
        batch_size=4, span=12, stream=name == "stream", steps=5, log_every=1, preview_every=0, device="cpu", warmup=1
    )
    with tempfile.TemporaryDirectory() as folder:
        train(store, Path(folder) / "run", model, objective, settings)
        head, *rows = (Path(folder) / "run" / CURVE_FILE).read_text().splitlines()
    places = [head.split(",").index(column) for column in COLUMNS]
    return [[float(row.split(",")[place]) for place in places] for row in rows]


def main(folder: Path) -> None:
    """Write all of it."""
    with one_thread():
        frames, numbers = dream(folder / STATE)
        found = {"dream": numbers, "decision": decision(), "losses": {name: losses(name) for name in TRAININGS}}
    iio.imwrite(folder / FRAMES, np.concatenate(frames, axis=1))
    (folder / NUMBERS).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
