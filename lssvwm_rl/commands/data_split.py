"""`lssvwm data split`: a store in two."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLE = "lssvwm data split runs/data --out-train runs/train --out-test runs/test"


@dataclass(frozen=True)
class DataSplit:
    """Make two new stores of one, of which the second has a share of its worlds: all episodes of one seed are in one of
    them. The same store is always split in the same way."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, which stays as it is."""
    out_train: Path
    """Folder of the store with the larger part."""
    out_test: Path
    """Folder of the store with the share."""
    share: float = 0.1
    """Share of the worlds in the second store."""


def main(args: DataSplit) -> None:
    """Split.

    Raises:
        FileExistsError: if there is something at one of the folders.
        ValueError: if there is no store, or it has a single world, or the share is none.
    """
    from lssvwm_rl.data.join import split_store
    from lssvwm_rl.data.shards import shard_numbers
    from lssvwm_rl.progress import finish, progress_bar

    shards, numbers = 2 * len(shard_numbers(args.store)), count(1)
    with progress_bar(str(args.store), "shards") as progress:
        train, test = split_store(
            args.store, args.out_train, args.out_test, args.share, lambda: progress(next(numbers), shards)
        )
    finish(
        f"{len(train):,} episodes written to {args.out_train}, {len(test):,} to {args.out_test}.",
        ["lssvwm", "train", "--data", args.out_train, "--out", "runs/model"],
    )
