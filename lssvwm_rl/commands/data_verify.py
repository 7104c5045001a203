"""`lssvwm data verify`: name every damaged file of a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class DataVerify:
    """Check every file of a store, and name all that are damaged; it ends with exit code 1 if one is."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store."""


def main(args: DataVerify) -> None:
    """Print a line for each damaged file, or one if the store is whole.

    Raises:
        ValueError: if there is no store.
        SystemExit: with code 1, if a file is damaged.
    """
    from lssvwm_rl.data.verify import verify_store

    verdict = verify_store(args.store)
    for line in verdict.notes:
        print(f"note: {line}")
    for line in verdict.damaged:
        print(line)
    if verdict.damaged:
        raise SystemExit(1)
    print(f"{args.store}: {verdict.episodes} episodes, {verdict.shards} shards whole.")
