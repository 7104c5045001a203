"""Is the memory enough for an agent without one? PPO on the readout against the same PPO on images, in the real env.

python benchmarks/studies/readout.py --out runs/readout [--checkpoint minigrid-memory] [--steps 300000] [--seeds 0 1 2]
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from gymnasium.vector import VectorEnv
from matplotlib.patches import Patch

from lssvwm_agents.baselines import BaselineConfig, train_baseline
from lssvwm_agents.evaluate import evaluate_policy
from lssvwm_bench.figures import markdown_table, new_figure, with_error, write_figure
from lssvwm_envs.make import make_image_env
from lssvwm_envs.wrappers import VectorMemoryObservation
from lssvwm_rl.files import write_text
from lssvwm_rl.training.cpu import tune_process

ARMS = ("memory", "images")


@dataclass(frozen=True)
class Args:
    """What is trained and how long."""

    out: Path
    """Folder for results, one JSON per run; what is there already is not run again."""
    checkpoint: str = "minigrid-memory"
    env: str = "MiniGrid-MemoryS7-v0"
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 300_000
    """Real steps of each run."""
    entropy: float = 0.03
    """Weight of PPO's entropy bonus, for both arms: going back to look costs steps, and has to be tried first."""
    episodes: int = 200
    """Test worlds played by each trained policy, the same for all."""
    threads: int = 1


def run(args: Args, arm: str, seed: int) -> dict[str, object]:
    """Train one policy and play the test worlds with it."""
    config = BaselineConfig(
        env=args.env,
        kind=arm,
        checkpoint=args.checkpoint if arm == "memory" else None,
        total_steps=args.steps,
        num_envs=32,
        rollout_steps=64,
        batch_size=256,
        learning_rate=5e-4,
        entropy=args.entropy,
        seed=seed,
        network="nature",
    )
    curve: list[tuple[float, float]] = []

    def progress(done: float, _: float, note: str = "") -> None:
        mean_return = float(note.removeprefix("return "))
        if not curve or done - curve[-1][0] >= args.steps // 60:
            curve.append((done, mean_return))
            print(f"{arm} {seed}: {done} steps, return {mean_return:.3f}", flush=True)

    started = time.perf_counter()
    model = train_baseline(config, progress=progress)
    seconds = time.perf_counter() - started

    def wrap(envs: VectorEnv) -> VectorEnv:
        return VectorMemoryObservation(envs, args.checkpoint)

    torch.manual_seed(seed)  # the policy draws its actions from torch's global generator
    result = evaluate_policy(
        model, lambda: make_image_env(args.env), args.episodes, 8, wrap_vector=wrap if arm == "memory" else None
    )
    return {
        "arm": arm,
        "seed": seed,
        "steps": model.num_timesteps,
        "seconds": seconds,
        "curve": curve,
        "config": asdict(config),
        "result": result.to_json(),
    }


def main(args: Args) -> None:
    """Run what is missing, print the table of all that is there, and draw how they learnt."""
    torch.set_num_threads(args.threads)
    tune_process()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, curves = [], []
    for arm in args.arms:
        for seed in args.seeds:
            path = args.out / f"{arm}-{seed}.json"
            if not path.exists():
                write_text(path, json.dumps(run(args, arm, seed), indent=2))
            found = json.loads(path.read_text())
            result = found["result"]
            curves.append((arm, found["curve"]))
            success = with_error(result["success_rate"], result["success_error"], 3)
            rows.append(
                [
                    arm,
                    str(seed),
                    f"{found['steps']:,}",
                    success,
                    f"{result['mean_return']:.3f}",
                    f"{found['seconds']:.0f}",
                ]
            )
    print(markdown_table(["PPO on", "seed", "real steps", "success", "return", "seconds"], rows))
    figure, (axes,) = new_figure(1)
    for arm, curve in curves:
        axes.plot(*zip(*curve, strict=True), color=f"C{args.arms.index(arm)}")
    axes.legend(handles=[Patch(color=f"C{i}", label=f"PPO on {arm}") for i, arm in enumerate(args.arms)])
    axes.set(xlabel="real steps", ylabel="mean return of recent episodes", title=args.env, ylim=(0, 1))
    write_figure(args.out / "curves.png", figure)


if __name__ == "__main__":
    main(tyro.cli(Args))
