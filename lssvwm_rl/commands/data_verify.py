"""`lssvwm data verify`: name every damaged file of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_rl.progress import finish, progress_bar, say

EXAMPLE = "lssvwm data verify runs/data"


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a store, and name all that are damaged; it ends with exit code 1 if one is."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, or a URL such as s3://bucket/store."""


def main(args: DataVerify) -> None:
    """Print a line for each damaged file, or one if the store is whole.

    Raises:
        ValueError: if there is no store.
        SystemExit: with code 1, if a file is damaged.
    """
    from lssvwm_rl.data.remote import place
    from lssvwm_rl.data.verify import verify_store

    store = place(args.store)
    with progress_bar(f"verify {store}", "shards") as bar:
        verdict = verify_store(store, bar)
    for line in verdict.notes:
        say(f"note: {line}")
    for line in verdict.damaged:
        print(line)
    if verdict.damaged:
        raise SystemExit(1)
    text = f"{store} is whole: {verdict.episodes:,} episodes in {verdict.shards:,} shards."
    finish(text, ["lssvwm", "train", "--data", store, "--out", "runs/model"])
