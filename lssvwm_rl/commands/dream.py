"""`lssvwm dream`: a video of a dream beside the real continuation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXAMPLE = "lssvwm dream --checkpoint minigrid-memory --out dream.mp4"
RENAMED = {"--compiled": "--engine compiled", "--no-compiled": "--engine auto"}


@dataclass(frozen=True)
class Dream:
    """Dream on from a real context with the real actions; real frames on the left, the dream on the right."""

    checkpoint: str
    """Folder, packaged name or hub id of the world model."""
    out: Path = Path("dream.mp4")
    """Video file, .mp4 or .gif; must not exist."""
    steps: int = 64
    """Dreamt frames."""
    context_length: int | None = None
    """Real frames observed before; by itself 8, or all but the last one of a shorter episode."""
    denoise_steps: int = 4
    """Network passes per dreamt frame."""
    seed: int = 0
    """Chooses the episode and the noise."""
    device: str = "cpu"
    """Where the world model runs."""
    engine: str = "auto"
    """What runs the world model: auto (the fastest that is ready at once), torch, native, native-bf16 (faster on
    processors with AVX512_BF16, less exact), or compiled, which needs a minute or more at the start."""


def main(args: Dream) -> None:
    """Write the video.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        FileExistsError: if `out` exists.
        ValueError: if no held-out episode has the context, or `out` is no video's name.
    """
    import numpy as np

    from lssvwm_rl.model.checkpoints import load_contexts, load_engine
    from lssvwm_rl.model.predict import dream_video
    from lssvwm_rl.pictures import write_video
    from lssvwm_rl.progress import finish, progress_bar

    if args.out.exists():
        raise FileExistsError(f"{args.out} exists already; choose another --out or remove it.")
    if args.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {args.steps}.")
    engine = load_engine(args.checkpoint, args.device, args.engine)
    contexts = load_contexts(args.checkpoint)
    # The longest episodes show the most of the real continuation.
    order = np.argsort(-contexts.lengths, kind="stable")[: max(1, len(contexts) // 4)]
    episode = contexts[int(np.random.default_rng(args.seed).choice(order))]
    context = args.context_length if args.context_length is not None else min(8, len(episode))
    with progress_bar("dream", "frames") as bar:
        frames = dream_video(engine, episode, context, args.steps, args.seed, args.denoise_steps, bar)
    write_video(args.out, frames)
    shown = f"{context} real frames, then {args.steps} dreamt ones beside the real ones on the left"
    agent = ["lssvwm", "agent", "train", "--checkpoint", args.checkpoint, "--out", "runs/agent"]
    finish(f"{shown}, written to {args.out}.", agent)
