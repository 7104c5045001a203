"""`lssvwm data inspect`: what is in a store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLE = "lssvwm data inspect runs/data"


@dataclass(frozen=True)
class DataInspect:
    """Say what is in a store: episodes, spaces, lengths, rewards, ends, seeds, environment, sizes, actions."""

    store: Annotated[Path, tyro.conf.Positional]
    """Folder of the store, or a URL such as s3://bucket/store."""
    json: bool = False
    """As JSON, for programs."""


def main(args: DataInspect) -> None:
    """Print it.

    Raises:
        ValueError: if there is no store, or it is broken.
    """
    from lssvwm_rl.data.store import EpisodeStore
    from lssvwm_rl.data.summary import summarise, summary_text

    found = summarise(EpisodeStore(args.store))
    print(json.dumps(found, indent=2) if args.json else summary_text(found))
