"""Which doubt tells wrong dreamt frames from right ones? Rank correlation with the true error of one-step dreams.

python benchmarks/studies/doubt.py --data STORE [--checkpoint minigrid-memory] [--wrong 4] [--denoise-steps 4]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr
from torch import Tensor

from lssvwm_bench.figures import markdown_table
from lssvwm_rl.data.clips import Batch, clip_batch
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.model.checkpoints import check_fits, load_engine
from lssvwm_rl.model.engine import Engine
from lssvwm_rl.model.flow import movement

FLOOR = 0.01  # of motion, added before anything is divided by it


@dataclass(frozen=True)
class Args:
    """What is dreamt; every real frame but the first of an episode is, from all real frames before it."""

    data: Path
    """Store of episodes that the checkpoint was not trained on."""
    checkpoint: str = "minigrid-memory"
    episodes: int = 30
    """At most so many, the first ones of the store."""
    frames: int = 250
    """At most so many of each."""
    denoise_steps: int = 4
    """Network passes per frame, at least 2."""
    wrong: float = 4.0
    """Mean absolute error, in grey levels of 0 to 255, above which a frame is wrong."""
    threads: int = 1


def main(args: Args) -> None:
    """Print the table.

    Raises:
        FileNotFoundError: if there is no such checkpoint or store.
        ValueError: if the store is another environment's, or there are too few passes.
    """
    if args.denoise_steps < 2:
        raise ValueError(f"With {args.denoise_steps} denoise_steps nothing moves; use at least 2.")
    torch.set_num_threads(args.threads)
    store, engine = EpisodeStore(args.data), load_engine(args.checkpoint)
    check_fits(engine.model.config, store.header.frame_shape, store.header.action_space, str(args.data))
    count = min(args.episodes, len(store))
    episodes = [store.read(i, 0, min(args.frames, int(store.lengths[i]) + 1)) for i in range(count)]
    batch = clip_batch(episodes, max(len(e.frames) for e in episodes))
    steps = list(one_step_dreams(engine, batch, args.denoise_steps))
    parts = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
    squared, wrong = parts.pop("squared error"), parts.pop("error") > args.wrong
    rows = [[name, rank(doubt, squared), rank(doubt, wrong)] for name, doubt in parts.items()]
    print(f"{args.checkpoint}, {args.data}: {len(wrong)} frames, {wrong.mean():.1%} wrong, {args.denoise_steps} passes")
    print(markdown_table(["doubt", "rho with squared error", f"rho with error above {args.wrong:g}"], rows))


@torch.no_grad()
def one_step_dreams(engine: Engine, batch: Batch, denoise_steps: int) -> Iterator[dict[str, np.ndarray]]:
    """For each time after the first, candidates for doubt and the true errors of the rows that have a frame then."""
    model, rows = engine.model, len(batch.mask)
    noise, other = ([torch.Generator().manual_seed(seed + row) for row in range(rows)] for seed in (0, rows))
    memory = model.initial_memory(rows)
    for t in range(batch.mask.shape[1]):
        now, action = slice(t, t + 1), batch.actions[:, t]
        if t:
            vectors = model.next_vector(memory, action)[:, None] if model.config.vector_size else None
            passes = model.predictions(memory, action, vectors, noise, denoise_steps)
            again = model.predictions(memory, action, vectors, other, denoise_steps)[-1]
            frame, true = model.patches.to_frames(passes[-1]), batch.frames[:, t]
            before = model.patches.from_frames(batch.frames[:, t - 1])
            passes = [*passes[:-1], model.patches.from_frames(frame)]
            found = {
                **candidates(passes, again, before, None, "pixels"),
                **candidates(passes, again, before, model.patch_in.weight, "embedded"),
            }
            error = frame.float() - true.float()
            found |= {"squared error": movement(error), "error": error.abs().flatten(1).mean(dim=1)}
            seen = batch.mask[:, t]
            yield {name: value[seen].numpy() for name, value in found.items()}
        told = batch.vectors[:, now] if batch.vectors is not None and model.config.vector_size else None
        memory, _ = engine.observe(memory, batch.frames[:, now], action[:, None], told)


def candidates(
    passes: list[Tensor], again: Tensor, before: Tensor, weight: Tensor | None, space: str
) -> dict[str, Tensor]:
    """Candidates for doubt (B,) by name.

    Args:
        passes: what each pass predicts, patches (B, h, w, pixels).
        again: the frame of another seed.
        before: the real frame before.
        weight: (D, pixels) if distances are those of embedded patches.
        space: what they are called then.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return movement(a - b if weight is None else (a - b) @ weight.t())

    moves = [distance(after, earlier) for earlier, after in zip(passes[:-1], passes[1:], strict=True)]
    motion = distance(passes[-1], before)
    floor = FLOOR if weight is None else FLOOR * float(movement(weight[None])) * weight.shape[1] ** 0.5
    found = {
        "last pass": moves[-1],
        "all passes": torch.stack(moves).pow(2).sum(dim=0).sqrt(),
        "from the first pass to the last": distance(passes[-1], passes[0]),
        "two seeds, twice the passes": distance(passes[-1], again),
    }
    found |= {f"{name} / motion": value / (motion + floor) for name, value in list(found.items())[:2]}
    return {f"{name}, {space}": value for name, value in {**found, "motion alone": motion}.items()}


def rank(doubt: np.ndarray, truth: np.ndarray) -> str:
    """Spearman's rank correlation, if not all is the same."""
    return "-" if np.ptp(truth.astype(float)) == 0 else f"{spearmanr(doubt, truth).statistic:.2f}"


if __name__ == "__main__":
    main(tyro.cli(Args))
