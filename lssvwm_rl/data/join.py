"""Several stores as one, without a second copy of their frames."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import count as counted
from pathlib import Path

from lssvwm_rl.data.episode import HEADER
from lssvwm_rl.data.remote import local_folder
from lssvwm_rl.data.shards import Shard, shard_numbers, shard_path, write_shard
from lssvwm_rl.data.store import EpisodeStore, StoreHeader
from lssvwm_rl.files import check_new, write_text, written_whole
from lssvwm_rl.progress import Update


def join_stores(stores: Sequence[str | Path], out: str | Path) -> EpisodeStore:
    """The episodes of several stores, in their order, as a new store; its files are links where links are possible.

    What is added to the stores afterwards is not in it.

    Raises:
        ValueError: if there are none, one of them is broken, or they are of different environments.
        FileExistsError: if `out` exists.
    """
    out, folders = local_folder(out), [local_folder(store, "joined") for store in stores]
    return _write(folders, out, _headers(folders, out), {})


def merge_stores(
    stores: Sequence[str | Path], out: str | Path, progress: Update | None = None
) -> tuple[EpisodeStore, list[tuple[Path, list[int]]]]:
    """As `join_stores`, but without the episodes that an earlier one of the stores has already.

    Those are the ones of the same world, by its seed, that the same policy played, by its name. Where a store is a
    merger of several policies, one that both have is enough. Such an episode would be counted twice, and one copy of
    it could be held out while another is trained on.

    Args:
        progress: called with (shards, all of them).

    Returns:
        the store, and of each store the seeds of the episodes that were left out.

    Raises:
        ValueError, FileExistsError: as `join_stores`.
    """
    out, folders = local_folder(out), [local_folder(store, "joined") for store in stores]
    headers = _headers(folders, out)
    taken: dict[str, set[int]] = {}
    twice: list[tuple[Path, list[int]]] = []
    for folder, header in zip(folders, headers, strict=True):
        seeds, policies = EpisodeStore(folder).seeds.tolist(), header.policy.split("+")
        known = set().union(*(taken.get(policy, set()) for policy in policies))
        twice.append((folder, [seed for seed in seeds if seed >= 0 and seed in known]))
        for policy in policies:
            taken.setdefault(policy, set()).update(seeds)
    leave_out = {
        k: {i for i, seed in enumerate(EpisodeStore(folder).seeds.tolist()) if seed in set(seeds)}
        for k, (folder, seeds) in enumerate(twice)
        if seeds
    }
    return _write(folders, out, headers, leave_out, progress), twice


def split_store(
    store: str | Path,
    out_train: str | Path,
    out_test: str | Path,
    share: float,
    on_shard: Callable[[], None] = lambda: None,
) -> tuple[EpisodeStore, EpisodeStore]:
    """A store in two, of which the second has a share of the worlds; the same for the same store.

    A world is what a seed makes, and all its episodes are in one part, so that nothing is tested on what was trained
    on. An episode without a seed counts as a world of its own. Worlds of the second part are spread evenly over the
    store, in the order in which they first occur. Both stores appear once they are whole; shards of which all episodes
    stay together are linked.

    Args:
        share: of the worlds, in (0, 1); at least one world is in each part.
        on_shard: called after each shard of the store, once for each part.

    Raises:
        FileExistsError: if there is something at `out_train` or `out_test`.
        ValueError: if the share is none, the store is broken, or it has a single world.
    """
    if not 0 < share < 1:
        raise ValueError(f"A share of {share:g} leaves one part empty; choose one between 0 and 1.")
    folder, outs = local_folder(store, "split"), (local_folder(out_train), local_folder(out_test))
    if outs[0].resolve() == outs[1].resolve():
        raise ValueError(f"Both parts would be {outs[0]}; choose two folders.")
    for inner, outer in ((0, outs[1]), (1, outs[0]), (0, folder), (1, folder)):
        if outer.resolve() in outs[inner].resolve().parents:
            raise ValueError(f"{outs[inner]} is inside of {outer}; choose a folder beside it.")
    header = _headers([folder], outs[0])[0]
    check_new(outs[1])
    keys = [(seed, -1) if seed >= 0 else (-1, i) for i, seed in enumerate(EpisodeStore(folder).seeds.tolist())]
    worlds = list(dict.fromkeys(keys))
    if len(worlds) < 2:
        raise ValueError(
            f"{folder} has {len(worlds)} world{'' if worlds else 's'}, which cannot be split; collect more."
        )
    count = min(len(worlds) - 1, max(1, round(share * len(worlds))))
    tested = {worlds[(2 * k + 1) * len(worlds) // (2 * count)] for k in range(count)}
    inside = [{i for i, key in enumerate(keys) if (key in tested) == wanted} for wanted in (True, False)]
    with written_whole(outs[0]) as train, written_whole(outs[1]) as test:
        for partial, leave_out in zip((train, test), inside, strict=True):
            _fill(partial, [folder], header, {0: leave_out}, on_shard)
    return EpisodeStore(outs[0]), EpisodeStore(outs[1])


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
    folders: Sequence[Path],
    out: Path,
    headers: Sequence[StoreHeader],
    leave_out: Mapping[int, set[int]],
    progress: Update | None = None,
) -> EpisodeStore:
    """Join stores; of the k-th one without the episodes of the numbers `leave_out[k]`."""
    seeds = tuple(dict.fromkeys(seed for header in headers for seed in header.seeds))
    policy = "+".join(dict.fromkeys(policy for header in headers for policy in header.policy.split("+")))
    spec = next((header.env_spec for header in headers if header.env_spec), None)
    from_info = tuple(dict.fromkeys(key for header in headers for key in header.from_info))
    header = dataclasses.replace(headers[0], seeds=seeds, policy=policy, env_spec=spec, from_info=from_info)
    with written_whole(out) as partial:
        shards, done = sum(len(shard_numbers(folder)) for folder in folders), counted(1)

        def tell() -> None:
            if progress is not None:
                progress(next(done), shards)

        _fill(partial, folders, header, leave_out, tell)
    return EpisodeStore(out)


def _fill(
    partial: Path,
    folders: Sequence[Path],
    header: StoreHeader,
    leave_out: Mapping[int, set[int]],
    on_shard: Callable[[], None] = lambda: None,
) -> None:
    """Write the folder of a store."""
    partial.mkdir()
    write_text(partial / HEADER, header.to_json())
    written = 0
    for k, folder in enumerate(folders):
        first = 0  # number of a shard's first episode in its store
        for source in (shard_path(folder, n) for n in shard_numbers(folder)):
            shard = Shard.open(source, header)
            gone = {i - first for i in leave_out.get(k, set())} & set(range(len(shard.lengths)))
            written += _add(shard, shard_path(partial, written), gone)
            first += len(shard.lengths)
            on_shard()


def _add(shard: Shard, target: Path, gone: set[int]) -> bool:
    """Link a shard, or write anew what is left of it; whether there is a new shard."""
    if gone:
        kept = [episode for i, episode in enumerate(shard.episodes()) if i not in gone]
        if kept:
            write_shard(target, kept)
        return bool(kept)
    shutil.copytree(local_folder(shard.path, "joined"), target, copy_function=_link)
    return True


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
