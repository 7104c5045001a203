"""Collection by Ray actors, on all cores of a machine or of a cluster whose machines share the folder of the store.

The seeds that are missing are cut into parts. A part is a store of its own in OUT-parts, which one actor fills by
`collect`; in the end the shards of all parts are moved into OUT, in the order of the parts, whoever was faster. A part
whose actor was killed goes to a new actor, which keeps what is there and plays the rest; what a killed driver has left
in OUT-parts is moved by the next one. No frames pass through the driver, and an actor holds one shard in memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from lssvwm_agents.ray_actors import Part, RayJob, connected, play_parts
from lssvwm_rl.data.collect import stored_episodes, unused_seeds
from lssvwm_rl.data.episode import HEADER
from lssvwm_rl.data.join import move_episodes
from lssvwm_rl.data.splits import split_seed
from lssvwm_rl.data.store import EpisodeStore, StoreHeader, only_appender
from lssvwm_rl.files import remove, write_text
from lssvwm_rl.stopping import noted_signals

__all__ = ["RayJob", "ray_collect"]

PART_EPISODES = 256  # at most, as many as a shard has
PARTS_EACH = 2  # parts per actor at least, so that the slowest one is not waited for alone


def ray_collect(
    job: RayJob, address: str | None = None, on_progress: Callable[[int], None] = lambda _: None
) -> EpisodeStore:
    """Fill the store up to `job.episodes` episodes, as `collect` does, with one actor per free core.

    With a policy that draws by world the episodes are those of `collect`. Others draw anew in every part.

    Args:
        job: what is collected.
        address: of a Ray cluster, for example "auto"; a Ray of this machine alone if not given. A Ray that this process
            is connected to already is used as it is.
        on_progress: called about every second with how many episodes there are.

    Raises:
        gymnasium.error.DependencyNotInstalled: without the extra `ray`.
        ValueError: as `collect`, or if there is no cluster at the address, it has no free core, or its machines do not
            share the folder.
        ChildProcessError: if `ray_actors.DEATHS` actors were killed at one part.
        stopping.Stopped: if a signal ended it early; what was finished is kept.
    """
    if job.episodes < 1 or job.num_envs < 1:
        raise ValueError(f"episodes and num_envs must be at least 1, got {job.episodes} and {job.num_envs}.")
    job = dataclasses.replace(job, out=job.out.resolve())
    folder = job.out.with_name(f"{job.out.name}-parts")
    with only_appender(job.out):
        _gather(job, folder)  # of a driver that was killed
        stored = stored_episodes(job.out, job.split, job.policy_name)
        used: Sequence[int] = [] if stored is None else stored.seeds.tolist()
        seeds = list(unused_seeds(job.split, job.seed, used, job.episodes - len(used)))
        if seeds:
            with connected(address) as cores, noted_signals() as signals:  # Ray listens to signals, too
                parts = _parts(folder, seeds, cores)
                try:
                    play_parts(job, parts, cores, signals, lambda made: on_progress(len(used) + made))
                except BaseException:
                    with suppress(ValueError):  # where an actor has not let go yet, the next collection moves it
                        _gather(job, folder)
                    raise
                _gather(job, folder)
    return EpisodeStore(job.out)


def _parts(folder: Path, seeds: Sequence[int], cores: int) -> list[Part]:
    size = max(1, min(PART_EPISODES, -(-len(seeds) // (PARTS_EACH * cores))))
    queue = iter(seeds)
    groups = iter(lambda: tuple(islice(queue, size)), ())
    return [Part(folder / f"part-{k:06d}", group) for k, group in enumerate(groups)]


def _gather(job: RayJob, parts: Path) -> None:
    """Move what was played of parts into the store, and remove their folder.

    Raises:
        ValueError: if an actor still writes there, or to other episodes than those of the store.
    """
    number: int | None = None  # of the next shard, not to be looked for again for every part
    for folder in sorted(parts.glob("part-*")):
        with only_appender(folder):
            if (folder / HEADER).exists():
                if not (job.out / HEADER).exists():
                    header = dataclasses.replace(StoreHeader.load(folder), seeds=(split_seed(job.split, job.seed),))
                    write_text(job.out / HEADER, header.to_json())
                number = move_episodes(folder, job.out, number)
        remove(folder)
    with suppress(OSError):  # there is none, or somebody has put something into it
        parts.rmdir()
