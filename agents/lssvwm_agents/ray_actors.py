"""The Ray actors that play episodes for `ray_collect`, and who gives them work."""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import VectorEnv

from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.episode import HEADER, Episode
from lssvwm_rl.data.splits import SPLITS
from lssvwm_rl.policy import Policy, PolicyFactory
from lssvwm_rl.stopping import Stopped

POLL_SECONDS = 1.0
STOP_SECONDS = 60.0  # an actor that was asked to stop ends its part with the next episode
DEATHS = 3  # of actors at one part, after which it is not tried again

MakeEnvs = Callable[[int], VectorEnv]


@dataclass(frozen=True)
class RayJob:
    """What is collected. The fields that are not described are the arguments of `lssvwm_rl.data.collect.collect`."""

    setup: Callable[[], tuple[MakeEnvs, PolicyFactory]]
    """Called in every actor for its `make_envs` and `policy_factory`; a function of a module, or a partial of one."""
    out: Path
    episodes: int
    num_envs: int = 16
    """Environments that one actor steps together."""
    seed: int = 0
    split: str = "train"
    vector_keys: Sequence[str] = ()
    env_spec: str | None = None
    policy_name: str = "unknown"


@dataclass(frozen=True)
class Part:
    """Seeds that one actor plays, in rising order, and the folder of the store for their episodes."""

    folder: Path
    seeds: tuple[int, ...]


Turns = dict[Any, tuple[Any, Part]]
"""What an actor will answer -> that actor, and the part that it plays."""


class _Asked(Exception):
    """An actor was asked to stop."""


class Collector:
    """The actor: one thread of it plays, another one answers."""

    def __init__(self, job: RayJob) -> None:
        self._job, self._made, self._stop = job, 0, False
        self._tools: tuple[MakeEnvs, PolicyFactory] | None = None

    def play(self, part: Part) -> None:
        """Fill the store of a part, or return early after `stop`.

        Raises:
            ValueError: as `collect`.
        """
        job, self._made = self._job, 0
        self._tools = self._tools or job.setup()
        make_envs, factory = self._tools
        first, last = part.seeds[0], part.seeds[-1]
        others = set(range(first, last)) - set(part.seeds)

        def policy(envs: VectorEnv, seed: int) -> Policy:
            # One that draws by world has the seed that it would have without Ray, others one of their own per part.
            made = factory(envs, job.seed)
            return made if getattr(made, "by_world", False) else factory(envs, seed)

        with suppress(_Asked):
            collect(
                make_envs, policy, part.folder, len(part.seeds), job.num_envs, SPLITS[job.split].index(first),
                job.split, job.vector_keys, job.env_spec, job.policy_name, self._add, leave_out=others,
            )  # fmt: skip

    def _add(self, _: Episode) -> None:
        self._made += 1
        if self._stop:
            raise _Asked

    def made(self) -> int:
        """Episodes of the part that were played here."""
        return self._made

    def stop(self) -> None:
        """End the part with the next episode."""
        self._stop = True


@contextmanager
def connected(address: str | None) -> Iterator[int]:
    """Be connected to Ray, as `ray_collect` says; the number of free cores.

    Raises:
        gymnasium.error.DependencyNotInstalled: without the extra `ray`.
        ValueError: if there is no cluster at the address, or it has no free core.
    """
    try:
        import ray
    except ImportError as error:
        raise DependencyNotInstalled(
            f'Collection by actors needs an extra ({error}); run `pip install "lssvwm-rl[ray]"`.'
        ) from error
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(address)
        cores = int(ray.available_resources().get("CPU", 0))
        if cores < 1:
            raise ValueError("The Ray cluster has no free core; wait for its other jobs, or add machines to it.")
        yield cores
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    if address is None:
        ray.init("local", include_dashboard=False, logging_level=logging.WARNING)
        return
    host, _, port = address.rpartition(":")
    try:
        if host and "/" not in host:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, logging_level=logging.WARNING)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"There is no Ray cluster at {address!r} ({str(error).rstrip('.')}); start one with `ray start --head`, or "
            "leave the address out to use this machine alone."
        ) from error


def play_parts(
    job: RayJob, parts: Sequence[Part], cores: int, signals: Sequence[int], on_made: Callable[[int], None]
) -> None:
    """Have actors play all parts, one actor per core.

    Args:
        signals: ends early once there is one; see `noted_signals`.
        on_made: called about every second with how many episodes were played.

    Raises:
        ValueError, ChildProcessError, stopping.Stopped: as `ray_collect`.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    new = ray.remote(num_cpus=1, max_concurrency=2, scheduling_strategy="SPREAD")(Collector).remote
    queue, again, turns = deque(parts), deque[Part](), Turns()
    made, deaths = Counter[Part](), Counter[Part]()
    try:
        while turns or queue or again:
            while (queue or again) and len(turns) < cores:
                actor, part = new(job), (again or queue).popleft()
                turns[actor.play.remote(part)] = actor, part
            done, _ = ray.wait(list(turns), timeout=POLL_SECONDS)
            for ref in done:
                actor, part = turns.pop(ref)
                try:
                    ray.get(ref)
                except RayTaskError as error:
                    raise error.cause or error from None
                except RayActorError as error:
                    ray.kill(actor)  # in case it has only lost its connection
                    deaths[part] += 1
                    if deaths[part] == DEATHS:
                        raise ChildProcessError(_deadly(part)) from error
                    again.append(part)  # for a new actor: until that has started, the old one has let go of the lock
                    continue
                if not (part.folder / HEADER).exists():
                    raise ValueError(f"{part.folder} is on another machine; choose an --out that all machines share.")
                made[part] = len(part.seeds)
                if queue:
                    part = queue.popleft()
                    turns[actor.play.remote(part)] = actor, part
                else:
                    ray.kill(actor)
            if signals:
                raise Stopped(signals[0])
            if not done:
                made.update(_made(turns))
            on_made(sum(made.values()))
    finally:
        _end(turns, wait=len(signals) < 2)


def _deadly(part: Part) -> str:
    return (
        f"{DEATHS} collectors were killed while they played the seeds {part.seeds[0]:,} to {part.seeds[-1]:,}; collect "
        "these without --ray to see why, or with fewer --num-envs."
    )


def _made(turns: Turns) -> Mapping[Part, int]:
    """Episodes of parts that are being played, of the actors that answer."""
    import ray
    from ray.exceptions import RayActorError

    asked, made = {actor.made.remote(): part for actor, part in turns.values()}, {}
    for ref in ray.wait(list(asked), num_returns=len(asked), timeout=POLL_SECONDS)[0] if asked else ():
        with suppress(RayActorError):  # which its part will say, too
            made[asked[ref]] = ray.get(ref)
    return made


def _end(turns: Turns, wait: bool) -> None:
    """End actors, if there is time for it with what they have finished on the disk."""
    import ray

    if turns and wait:
        for actor, _ in turns.values():
            actor.stop.remote()
        ray.wait(list(turns), num_returns=len(turns), timeout=STOP_SECONDS)
    for actor, _ in turns.values():
        ray.kill(actor)
