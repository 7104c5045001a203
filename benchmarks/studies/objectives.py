"""Which objective makes a memory? Retrieval PSNR of small models that differ only in objective, pose and seed.

    lssvwm collect lssvwm/MiniGridRecall-v0 --episodes 4000 --policy explore --vector pose --out data/recall
    python benchmarks/studies/objectives.py --data data/recall --minutes 2.5

Two trainings run at a time, one thread each. Of every held-out frame, predicted from all real frames before it, the
PSNR counts pixels apart that were last seen longer ago than attention can pass on, window by window through all layers:
only the scan's memory knows these.
"""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import tyro

from lssvwm_bench.figures import markdown_table
from lssvwm_bench.processes import in_own_process
from lssvwm_rl.model.config import BackboneConfig

# Small enough for a thousand updates in some minutes on one core.
BACKBONE = BackboneConfig(width=64, blocks=(1, 2), scan_head_size=16, attention_head_size=16, condition_width=32)
HEADS = {"feature_size": 64, "head_width": 128}
NAMES = {0: "never seen", 1: "memory", 2: "attention"}
COLUMNS = ("memory", "attention", "never seen")


@dataclass(frozen=True)
class Args:
    """What is compared."""

    data: Path = Path("data/recall")
    out: Path = Path("runs/objectives")
    minutes: float = 7.0
    objectives: tuple[str, ...] = ("prefix", "two_stream", "mix")
    """Each may end in +shortcut, or in +clean for a clean stream without context noise."""
    poses: tuple[bool, ...] = (False, True)
    seeds: tuple[int, ...] = (0, 1)
    episodes: int = 64
    """Held-out episodes that are predicted."""
    span: int = 32
    batch: int = 16


def run_one(args: Args, objective: str, pose: bool, seed: int) -> dict[str, float]:
    """Train, or find what was trained, and measure."""
    import numpy as np

    from lssvwm_envs.minigrid.recall import pose_surfaces
    from lssvwm_rl.data.clips import hold_out
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.measures.psnr import psnr_by_mask
    from lssvwm_rl.measures.revisit import revisit_masks
    from lssvwm_rl.measures.rollouts import rollout_psnr
    from lssvwm_rl.model.checkpoints import load_world_model
    from lssvwm_rl.model.predict import predict_every_frame
    from lssvwm_rl.training.config import TrainConfig
    from lssvwm_rl.training.objective import ObjectiveConfig
    from lssvwm_rl.training.presets import model_config
    from lssvwm_rl.training.trainer import train

    store = EpisodeStore(args.data)
    name, *options = objective.split("+")
    asked = ObjectiveConfig(name=name, context_noise=0.0 if "clean" in options else 0.1)
    model = model_config("tiny", store.header, backbone=BACKBONE, shortcut="shortcut" in options, **HEADS)
    if not pose:
        model = replace(model, vector_size=0)
    settings = TrainConfig(
        batch_size=args.batch, span=args.span, steps=10**6, minutes=args.minutes, learning_rate=2e-3, seed=seed,
        device="cpu", preview_every=0,
    )  # fmt: skip
    run = train(store, args.out / f"{objective}-{'pose' if pose else 'actions'}-{seed}", model, asked, settings)
    episodes = [store[i] for i in hold_out(store)[1][: args.episodes]]
    size = json.loads(store.header.env_spec or "{}").get("kwargs", {}).get("size", 9)
    reach = (model.backbone.window - 1) * len(model.backbone.blocks) + 1
    tile = store.header.frame_shape[0] // 3
    masks = [revisit_masks(pose_surfaces(np.asarray(e.vectors), size, tile), reach) for e in episodes]
    trained = load_world_model(run)
    real, masks = [e.frames[1:] for e in episodes], [mask[1:] for mask in masks]
    result = psnr_by_mask(predict_every_frame(trained, episodes), real, masks, NAMES)
    result["free, 32 steps"] = rollout_psnr(trained, episodes[:16], horizon=32, context_length=16)["dream"]
    with (run / "learning_curve.csv").open() as file:
        result["updates"] = int(file.read().splitlines()[-1].split(",")[0])
    return result


def main(args: Args) -> None:
    """Run all configurations, two at a time, and print the table."""

    def start(case: tuple[str, bool, int]) -> dict[str, float]:
        result = in_own_process(run_one, args, *case, threads=1)
        print(case, result, flush=True)
        return result

    # Seeds outermost: should it be stopped half-way, every configuration has one.
    cases = [(o, p, s) for s, o, p in itertools.product(args.seeds, args.objectives, args.poses)]
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(cases, pool.map(start, cases), strict=True))
    (args.out / "objectives.json").write_text(json.dumps([[*case, result] for case, result in results.items()]))
    measured = (*COLUMNS, "free, 32 steps")
    rows = []
    for objective, pose in itertools.product(args.objectives, args.poses):
        found = [results[objective, pose, seed] for seed in args.seeds]
        cells = [" / ".join(f"{r[name]:.2f}" for r in found) for name in measured]
        rows.append([objective, "pose" if pose else "actions", *cells, f"{mean(r['updates'] for r in found):.0f}"])
    head = ["objective", "condition", *(f"{name} (dB)" for name in measured), "updates"]
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main(tyro.cli(Args))
