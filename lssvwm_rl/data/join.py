"""Several stores as one, without a second copy of their frames."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from lssvwm_rl.data.episode import HEADER
from lssvwm_rl.data.shards import Shard, shard_numbers, shard_path, write_shard
from lssvwm_rl.data.store import EpisodeStore, StoreHeader
from lssvwm_rl.files import check_new, write_text, written_whole


def join_stores(stores: Sequence[str | Path], out: str | Path) -> EpisodeStore:
    """The episodes of several stores, in their order, as a new store; its files are links where links are possible.

    What is added to the stores afterwards is not in it.

    Raises:
        ValueError: if there are none, one of them is broken, or they are of different environments.
        FileExistsError: if `out` exists.
    """
    folders = [Path(store) for store in stores]
    return _write(folders, Path(out), _headers(folders, Path(out)), {})


def merge_stores(stores: Sequence[str | Path], out: str | Path) -> tuple[EpisodeStore, list[tuple[Path, list[int]]]]:
    """As `join_stores`, but without the episodes that an earlier one of the stores has already.

    Those are the ones of the same world, by its seed, that the same policy played, by its name. Where a store is a
    merger of several policies, one that both have is enough. Such an episode would be counted twice, and one copy of
    it could be held out while another is trained on.

    Returns:
        the store, and of each store the seeds of the episodes that were left out.

    Raises:
        ValueError, FileExistsError: as `join_stores`.
    """
    out, folders = Path(out), [Path(store) for store in stores]
    headers = _headers(folders, out)
    taken: dict[str, set[int]] = {}
    twice: list[tuple[Path, list[int]]] = []
    for folder, header in zip(folders, headers, strict=True):
        seeds, policies = EpisodeStore(folder).seeds.tolist(), header.policy.split("+")
        known = set().union(*(taken.get(policy, set()) for policy in policies))
        twice.append((folder, [seed for seed in seeds if seed >= 0 and seed in known]))
        for policy in policies:
            taken.setdefault(policy, set()).update(seeds)
    leave_out = {k: set(seeds) for k, (_, seeds) in enumerate(twice)}
    return _write(folders, out, headers, leave_out), twice


def move_episodes(store: str | Path, out: str | Path, number: int | None = None) -> int:
    """Move the episodes of a store, shard by shard, to the end of another one on the same file system.

    Whoever calls this keeps other processes from both. Where it is interrupted, every shard is in one of them.

    Args:
        number: of the first shard that `out` does not have; found out if not given.

    Returns:
        that number afterwards.

    Raises:
        ValueError: if one of them is no store, or they are of different environments.
    """
    store, out = Path(store), Path(out)
    StoreHeader.load(store).check_same_kind(StoreHeader.load(out), store)
    free = 1 + max(shard_numbers(out), default=-1) if number is None else number
    for old in shard_numbers(store):
        os.rename(shard_path(store, old), shard_path(out, free))
        free += 1
    return free


def _headers(folders: Sequence[Path], out: Path) -> list[StoreHeader]:
    """Those of stores that can be joined."""
    check_new(out)
    if not folders:
        raise ValueError(f"There are no stores to join into {out}; name at least one.")
    headers = [StoreHeader.load(folder) for folder in folders]
    for folder, header in zip(folders[1:], headers[1:], strict=True):
        header.check_same_kind(headers[0], folder)
    return headers


def _write(
    folders: Sequence[Path], out: Path, headers: Sequence[StoreHeader], leave_out: Mapping[int, set[int]]
) -> EpisodeStore:
    """Join stores; of the k-th one without the episodes of the seeds `leave_out[k]`."""
    seeds = tuple(dict.fromkeys(seed for header in headers for seed in header.seeds))
    policy = "+".join(dict.fromkeys(policy for header in headers for policy in header.policy.split("+")))
    spec = next((header.env_spec for header in headers if header.env_spec), None)
    header = dataclasses.replace(headers[0], seeds=seeds, policy=policy, env_spec=spec)
    with written_whole(out) as partial:
        partial.mkdir()
        write_text(partial / HEADER, header.to_json())
        number = 0
        for k, folder in enumerate(folders):
            for shard in (shard_path(folder, n) for n in shard_numbers(folder)):
                number += _add(shard, header, shard_path(partial, number), leave_out.get(k, set()))
    return EpisodeStore(out)


def _add(source: Path, header: StoreHeader, target: Path, leave_out: set[int]) -> bool:
    """Link a shard, or write anew what is left of it; whether there is a new shard."""
    if leave_out:
        episodes = Shard.open(source, header).episodes()
        kept = [episode for episode in episodes if episode.seed not in leave_out]
        if len(kept) < len(episodes):
            if kept:
                write_shard(target, kept)
            return bool(kept)
    shutil.copytree(source, target, copy_function=_link)
    return True


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
