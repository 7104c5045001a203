"""Several stores as one, without a second copy of their frames."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from lssvwm_rl.data.shards import shard_numbers, shard_path
from lssvwm_rl.data.store import EpisodeStore, StoreHeader
from lssvwm_rl.files import check_new, write_text, written_whole


def join_stores(stores: Sequence[str | Path], out: str | Path) -> EpisodeStore:
    """The episodes of several stores, in their order, as a new store; its files are links where links are possible.

    What is added to the stores afterwards is not in it.

    Raises:
        ValueError: if there are none, one of them is broken, or they are of different environments.
        FileExistsError: if `out` exists.
    """
    out, folders = Path(out), [Path(store) for store in stores]
    check_new(out)
    if not folders:
        raise ValueError(f"There are no stores to join into {out}; name at least one.")
    headers = [StoreHeader.load(folder) for folder in folders]
    for folder, header in zip(folders, headers, strict=True):
        headers[0].check_same_kind(header, folder)
    seeds = tuple(dict.fromkeys(seed for header in headers for seed in header.seeds))
    policy = "+".join(dict.fromkeys(header.policy for header in headers))
    spec = next((header.env_spec for header in headers if header.env_spec), None)
    header = dataclasses.replace(headers[0], seeds=seeds, policy=policy, env_spec=spec)
    shards = [shard_path(folder, number) for folder in folders for number in shard_numbers(folder)]
    with written_whole(out) as partial:
        partial.mkdir()
        write_text(partial / "header.json", header.to_json())
        for number, shard in enumerate(shards):
            shutil.copytree(shard, shard_path(partial, number), copy_function=_link)
    return EpisodeStore(out)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
