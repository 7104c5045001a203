"""`lssvwm import npz`: store trajectories that others published."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ImportNpz:
    """Import trajectories, one NPZ file each, into a store; running it again goes on where it ended."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of .npz files with image, action, reward and what the vectors need; or one file."""
    out: Path
    """Folder of the store."""
    vector: tuple[str, ...] = ("pose",)
    """Arrays to record with every frame; pose is made of agent_pos, agent_dir and maze_layout."""


def main(args: ImportNpz) -> None:
    """Import.

    Raises:
        FileNotFoundError: if there are no files.
        FileExistsError: if the store holds other episodes.
        ValueError: if a file cannot be used, or the store holds episodes of another kind.
    """
    from lssvwm_rl.data.importers.npz import import_npz, npz_files
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.progress import progress_bar

    files = npz_files(args.source)
    have = len(EpisodeStore(args.out)) if (args.out / "header.json").exists() else 0
    numbers = count(have + 1)
    with progress_bar(str(args.source)) as progress:
        progress(have, len(files))
        store = import_npz(args.source, args.out, args.vector, on_episode=lambda _: progress(next(numbers), len(files)))
    steps = int(store.lengths.sum())
    print(f"{args.out}: {len(store)} episodes, {steps} steps, {store.lengths.mean():.1f} per episode.")
