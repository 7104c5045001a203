"""What do small models of different kinds remember of a maze? Trains them side by side, for `lssvwm bench retrieval`.

    lssvwm collect lssvwm/MemoryMaze-5x5-v0 --env-kwargs image_size 32 --episodes 1200 --num-envs 64 --out data/maze5
    python benchmarks/studies/maze_memory.py --data data/maze5 --out runs/maze5
    lssvwm bench retrieval --checkpoints runs/maze5/block_ssm runs/maze5/block_ssm-trained runs/maze5/window \
        runs/maze5/causal --denoise-steps 1 --out runs/maze5-retrieval

Two kinds train at a time, one thread each, for the same wall time; a run that is there already is continued. Data that
are collected with `--vector pose` make models that are told the pose.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from lssvwm_bench.processes import in_own_process
from lssvwm_rl.model.config import BackboneConfig
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.training.objective import ObjectiveConfig

BACKBONE = BackboneConfig(
    width=64, blocks=(1, 2), state_size=256, scan_head_size=16, window=3, attention_head_size=16, condition_width=64,
    mlp_ratio=3,
)  # fmt: skip
# The paper's objective: frames after a clean prefix are noised together, so that the window does not tell what memory
# should. More noise, as a frame that is recalled begins from noise alone.
OBJECTIVE = ObjectiveConfig(name="prefix", rarity_power=0.0, recall_weight=0.0)
SIZES = {
    "backbone": BACKBONE,
    "feature_size": 64,
    "head_width": 128,
    "noise_shift": 12.0,
    "reservoir": ReservoirConfig(),
    "fast_weights": FastWeightsConfig(size=256, values=128),
}
TRAINED = "-trained"  # behind a kind: without fast weights, with what is trained alone
TOGETHER = 2


@dataclass(frozen=True)
class Args:
    """What is trained."""

    data: Path = Path("data/maze5")
    out: Path = Path("runs/maze5")
    kinds: tuple[str, ...] = ("block_ssm", "window", "block_ssm-trained", "causal")
    minutes: float = 10.0
    batch: int = 4
    span: int = 128
    seed: int = 0


def run_one(args: Args, kind: str) -> None:
    """Train one kind."""
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.training.config import TrainConfig
    from lssvwm_rl.training.presets import model_config
    from lssvwm_rl.training.trainer import train

    store = EpisodeStore(args.data)
    sizes = {**SIZES, "fast_weights": FastWeightsConfig()} if kind.endswith(TRAINED) else SIZES
    model = model_config("tiny", store.header, kind.removesuffix(TRAINED), **sizes)
    settings = TrainConfig(
        batch_size=args.batch, span=args.span, steps=10**6, minutes=args.minutes, learning_rate=2e-3, seed=args.seed,
        device="cpu", preview_every=0,
    )  # fmt: skip
    train(store, args.out / kind, model, OBJECTIVE, settings)


def main(args: Args) -> None:
    """Train all kinds."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        running = {kind: pool.submit(in_own_process, run_one, args, kind, threads=1) for kind in args.kinds}
    failed = [f"{kind} ({each.exception()})" for kind, each in running.items() if each.exception()]
    if failed:
        raise SystemExit(f"The training of {', '.join(failed)} failed.")


if __name__ == "__main__":
    main(tyro.cli(Args))
