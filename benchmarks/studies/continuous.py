"""Continuous actions from pixels: what do planners and an agent from dreams reach with a model of random episodes?

    python benchmarks/studies/continuous.py --env lssvwm/Reacher-v0 --out runs/reacher
    python benchmarks/studies/continuous.py --env lssvwm/PixelPendulum-v0 --out runs/pendulum --test-episodes 100

Collects episodes, half of them with actions drawn anew at every step and half with actions that last, trains the preset
`tiny` for so many updates, and plays the same test episodes with every contender. What is in `--out` already is kept.
Beside the table, `dream.png` shows held-out episodes and below each the dream from its first frames.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from gymnasium.vector import VectorEnv

from lssvwm_bench.figures import markdown_table
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.reservoir import ReservoirConfig

# Patches of 8x8 pixels: one of 16x16 has more places for a thin limb than `tiny` has numbers per token. The backbone is
# smaller in turn, so that an update and a dreamt frame cost less than the preset's. Neither reservoir nor fast weights:
# a reward that is the distance of two things in the frame is learnt by heart from what a reservoir tells of an episode.
BACKBONE = BackboneConfig(
    width=64, blocks=(1, 2), scan_head_size=16, attention_head_size=16, condition_width=32, mlp_ratio=3
)
SIZES = {
    "grid": (4, 4),
    "backbone": BACKBONE,
    "feature_size": 128,
    "head_width": 128,
    "reservoir": ReservoirConfig(),
    "fast_weights": FastWeightsConfig(),
}
PLAYED = 25  # episodes side by side
T_95 = 1.96  # standard errors on each side of a mean in a 95 % interval


@dataclass(frozen=True)
class Args:
    """What is trained and played."""

    env: str = "lssvwm/Reacher-v0"
    out: Path = Path("runs/reacher")
    episodes: int = 800
    """Of the training data."""
    model: Literal["small", "tiny"] = "small"
    """The sizes of this file, or the preset's as they are."""
    rarity_power: float = 0.0
    """Of the objective: how much more rare colours weigh in the frame losses."""
    reward_weight: float = 0.05
    """Of the objective: a reward that is another one at every step outweighs the frames by far."""
    tau_floor: float = 0.5
    """Of the objective: how nearly clean frames weigh."""
    updates: int = 6000
    batch: int = 8
    span: int = 8
    """Frames per clip; a frame shows nearly all there is to know, so clips may be short."""
    test_episodes: int = 100
    contenders: tuple[str, ...] = ("random", "shooting", "cem", "icem", "mppi", "dream-first", "dream-anywhere")
    """Names of planners, random, and dream-first and dream-anywhere, which is PPO trained in the dream."""
    horizon: int = 2
    """Steps that planners look ahead."""
    samples: int = 32
    """Sequences that planners try in a round, a quarter of which are elites."""
    rounds: int = 2
    """Of planners; random shooting tries all in one."""
    engine: str = "auto"
    """What runs the planners' dreams, see `make_engine`."""
    ppo_steps: int = 100_000
    """Dreamt steps of PPO."""
    denoise_steps: int = 1
    """Network passes per dreamt frame."""
    dream_horizon: int = 50
    """Steps of PPO's dreams."""
    seed: int = 0


class Half:
    """Every other row plays by one explorer, the others by another."""

    def __init__(self, envs: VectorEnv, seed: int) -> None:
        from lssvwm_envs.explorers import explorer_named

        self.policies = [explorer_named(name)(envs, seed) for name in ("random", "lasting")]

    def predict(
        self, observation: Any, state: Any = None, episode_start: np.ndarray | None = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Actions (n, A)."""
        states = state or (None, None)
        asked = [p.predict(observation, s, episode_start) for p, s in zip(self.policies, states, strict=True)]
        (first, _), (second, _) = asked
        odd = (np.arange(len(first)) % 2 == 1)[:, None]
        return np.where(odd, second, first), tuple(state for _, state in asked)


def trained(args: Args) -> Path:
    """The run folder of the world model."""
    from lssvwm_envs.make import image_envs
    from lssvwm_rl.data.collect import collect
    from lssvwm_rl.training.config import TrainConfig
    from lssvwm_rl.training.objective import ObjectiveConfig
    from lssvwm_rl.training.presets import model_config
    from lssvwm_rl.training.trainer import train

    store = collect(image_envs(args.env), Half, args.out / "data", args.episodes, num_envs=16, policy_name="half")
    small = args.model == "small"
    config = TrainConfig(
        steps=args.updates, batch_size=args.batch, span=args.span, learning_rate=2e-3 if small else 1e-3,
        seed=args.seed, device="cpu", preview_every=0,
    )  # fmt: skip
    model = model_config("tiny", store.header, **(SIZES if small else {}))
    objective = ObjectiveConfig(
        rarity_power=args.rarity_power, reward_weight=args.reward_weight, tau_floor=args.tau_floor,
        recall_weight=0.0 if small else 4.0,
    )  # fmt: skip
    run = train(store, args.out / "world-model", model, objective, config)
    draw_dreams(store, run, args.out / "dream.png")
    return run


def draw_dreams(store: EpisodeStore, run: Path, path: Path, context: int = 4, steps: int = 28, count: int = 4) -> None:
    """Held-out episodes, and below each what is dreamt after the first frames by the same actions."""
    from lssvwm_rl.data.clips import hold_out
    from lssvwm_rl.model.checkpoints import load_world_model
    from lssvwm_rl.model.predict import dream_video
    from lssvwm_rl.pictures import frame_strip, write_image

    model, rows = load_world_model(run), []
    for i in hold_out(store)[1][:count]:
        rows += np.split(dream_video(model, store[i], context, steps, seed=0), 2, axis=2)
    picture = frame_strip(np.concatenate(rows), context + steps)
    write_image(path, picture.repeat(2, axis=0).repeat(2, axis=1))


def budget(args: Args, name: str) -> dict[str, int]:
    """Settings of a planner by which all try as many sequences, but for iCEM, which tries fewer in later rounds."""
    if name == "shooting":
        return {"samples": args.samples * args.rounds}
    elites = {} if name == "mppi" else {"elites": args.samples // 4}
    return {"samples": args.samples, "iterations": args.rounds, **elites}


def contender(args: Args, name: str, run: Path) -> dict[str, Any]:
    """What `evaluate_policy` needs beside episodes: the policy, and what is put around the environments."""
    from lssvwm_agents.imagination import DreamTrainConfig, train_in_dream
    from lssvwm_agents.planning import PLANNERS, PlannerPolicy, WorldModelDynamics
    from lssvwm_agents.policies import load_policy
    from lssvwm_envs.explorers import explorer_named
    from lssvwm_envs.wrappers import VectorMemoryObservation
    from lssvwm_rl.model.checkpoints import load_world_model
    from lssvwm_rl.model.engine import make_engine

    if name == "random":
        random = explorer_named(name)
        return {"policy": lambda envs: random(envs, args.seed)}
    if name in PLANNERS:
        config, planner = PLANNERS[name]
        engine = make_engine(load_world_model(run), args.engine)
        dynamics = WorldModelDynamics(engine, denoise_steps=args.denoise_steps, seed=args.seed)
        settings: Any = config(horizon=args.horizon, **budget(args, name))
        return {"policy": PlannerPolicy(engine, planner(settings, dynamics.action_space), dynamics, args.seed)}
    start, folder = name.removeprefix("dream-"), args.out / name
    if not folder.exists():
        train = DreamTrainConfig(
            total_steps=args.ppo_steps, horizon=args.dream_horizon, start=start, denoise_steps=args.denoise_steps,
            seed=args.seed,
        )  # fmt: skip
        train_in_dream(str(run), train, folder)
    around = partial(VectorMemoryObservation, checkpoint=str(run))
    return {"policy": load_policy(folder), "wrap_vector": around, "deterministic": True}


def play(args: Args, name: str, run: Path) -> dict[str, Any]:
    """Returns of the test episodes, or those that were written down."""
    from lssvwm_agents.evaluate import evaluate_policy
    from lssvwm_envs.make import make_image_env

    path = args.out / f"{name}.json"
    if not path.exists():
        how = contender(args, name, run)
        result = evaluate_policy(make_env=lambda: make_image_env(args.env), episodes=args.test_episodes, **how,
                                 num_envs=PLAYED, seed=args.seed)  # fmt: skip
        path.write_text(json.dumps({"settings": asdict(args), **result.to_json()}, default=str))
        print(name, result.mean_return, flush=True)
    return json.loads(path.read_text())


def main(args: Args) -> None:
    """Train, play and print the table."""
    args.out.mkdir(parents=True, exist_ok=True)
    run, rows = trained(args), []
    for name in args.contenders:
        found = play(args, name, run)
        interval = T_95 * found["return_error"]
        per_step = f"{1000 * found['seconds_per_step']:.1f}"
        rows.append([name, f"{found['mean_return']:.1f} ± {interval:.1f}", str(found["episodes"]), per_step])
    print(markdown_table(["contender", "return (95 %)", "episodes", "ms per decision"], rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
