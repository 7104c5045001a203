"""`lssvwm data merge`: make one store of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_rl.progress import finish, progress_bar, say

EXAMPLE = "lssvwm data merge runs/all runs/data runs/more"
SHOWN = 8  # seeds of those left out


@dataclass(frozen=True)
class DataMerge:
    """Make one new store of several of one kind, whose files are linked and not copied where that is possible; an
    episode of a world that an earlier store has by the same policy is left out, which is said."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the new store."""
    stores: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of the stores."""


def main(args: DataMerge) -> None:
    """Merge, and say what was left out.

    Raises:
        FileExistsError: if there is something at `out`.
        ValueError: if a store is broken, or they are of different kinds.
    """
    from lssvwm_rl.data.join import merge_stores

    with progress_bar(f"merge into {args.out}", "shards") as bar:
        store, twice = merge_stores(args.stores, args.out, bar)
    for path, seeds in twice:
        if seeds:
            shown = ", ".join(map(str, seeds[:SHOWN])) + (" ..." if len(seeds) > SHOWN else "")
            say(f"{len(seeds)} episodes of {path} are left out, an earlier store has those of seeds {shown}.")
    steps = int(store.lengths.sum())
    text = f"{len(store):,} episodes, {steps:,} steps of {len(args.stores)} stores written to {args.out}."
    finish(text, ["lssvwm", "train", "--data", args.out, "--out", "runs/model"])
