"""The phases of a loop. Each reads what earlier ones left in the folder, and goes on with its own leftovers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lssvwm_agents.imagination import Returns, train_in_dream
from lssvwm_agents.loop.config import LoopConfig
from lssvwm_agents.loop.outcome import return_figures
from lssvwm_agents.loop.rare import RareActions, visits_for
from lssvwm_agents.offline import OfflineConfig
from lssvwm_agents.policies import check_reads, load_policy
from lssvwm_agents.remembering import RememberingPolicy
from lssvwm_envs.dream.model_cache import shared_engine
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.make import EnvSetup
from lssvwm_rl.data.collect import collect
from lssvwm_rl.data.join import join_stores
from lssvwm_rl.data.splits import SPLITS
from lssvwm_rl.data.store import Episode, EpisodeStore
from lssvwm_rl.data.visits import Visits
from lssvwm_rl.files import remove
from lssvwm_rl.measures.one_step import OneStep, one_step
from lssvwm_rl.model.checkpoints import load_world_model, vector_keys_of
from lssvwm_rl.pictures import enlarge, write_image
from lssvwm_rl.policy import PolicyFactory
from lssvwm_rl.progress import progress_bar
from lssvwm_rl.spaces import space_from_json
from lssvwm_rl.training.log import Progress
from lssvwm_rl.training.presets import PRESETS, model_config
from lssvwm_rl.training.run_folder import steps_of_data
from lssvwm_rl.training.trainer import train

WORLDS_APART = 100_000  # of the train split, between the first worlds of two stores
HOLES = 6  # shown in a picture


@dataclass(frozen=True)
class Place:
    """Where a loop is: its folder, its environment and what it began with."""

    out: Path
    setup: EnvSetup
    config: LoopConfig
    checkpoint: str | None = None
    """World model that it began with."""
    data: Path | None = None
    """Store that it began with."""

    def world(self, number: int) -> str:
        """The world model of a round; that before the first is what the loop began with."""
        return str(self.out / f"round-{number}" / "world")

    def store(self, number: int) -> Path:
        """All data that the world model of a round was trained on."""
        return self.out / f"round-{number}" / "data"

    def agent(self, number: int, piece: int) -> Path:
        """The policy after a piece of dreaming."""
        return self.out / f"round-{number}" / f"agent-{piece}"

    def played(self, number: int, piece: int) -> Path:
        """What it then played."""
        return self.out / f"round-{number}" / f"played-{piece}"

    def stores(self) -> list[Path]:
        """Everything that was collected, oldest first, and what the loop began with before it."""
        named = [self.data] if self.data else []
        found = [self.out / name for name in ("explored", "random")]
        for number in range(1, self.config.rounds + 1):
            folder = self.out / f"round-{number}"
            pieces = range(self.config.first_piece, self.config.pieces + 1)
            found += [folder / "rare", *(self.played(number, piece) for piece in pieces)]
        return named + [store for store in found if (store / "header.json").is_file() and len(EpisodeStore(store))]


def explore(place: Place) -> dict[str, Any]:
    """The explorer's episodes."""
    config = place.config
    store = _gather(
        place, "explored", explorer_named(config.explorer), config.explorer, config.explore_episodes, block=0
    )
    return {"steps": int(store.lengths.sum()), **return_figures(_returns(store))}


def play_randomly(place: Place) -> dict[str, Any]:
    """Episodes of random actions, and what they earn."""
    store = _gather(place, "random", explorer_named("random"), "random", place.config.random_episodes, block=1)
    return {"steps": int(store.lengths.sum()), **return_figures(_returns(store))}


def play_rarely(place: Place, number: int, world: str, agent: Path) -> dict[str, Any]:
    """Episodes of the agent with rare actions."""
    policy, config = remembering(world, agent), place.config
    visits = _visits(place.store(number - 1))
    torch.manual_seed(config.seed * 1_000 + number)

    def make(envs: Any, seed: int) -> RareActions:
        return RareActions(policy, visits, envs, seed)

    name = f"round-{number}/rare"
    store = _gather(place, name, make, "agent with rare actions", config.rare_episodes, block=100 * number)
    return {"steps": int(store.lengths.sum()), **return_figures(_returns(store))}


def join(place: Place, number: int) -> dict[str, Any]:
    """All data so far, as one store."""
    remove(place.store(number))
    store = join_stores(place.stores(), place.store(number))
    return {"episodes": len(store), "steps": int(store.lengths.sum())}


def fit(place: Place, number: int) -> dict[str, Any]:
    """The world model of the round, which goes on with that of the round before."""
    config, store = place.config, EpisodeStore(place.store(number))
    weights = place.checkpoint if number == 1 else place.world(number - 1)
    settings = dataclasses.replace(
        PRESETS[config.preset].train, steps=config.first_updates, device=config.device, seed=config.seed,
        preview_every=0, measure_every=0,
    )  # fmt: skip
    if weights is not None:
        settings = dataclasses.replace(
            settings, steps=config.updates, learning_rate=config.refit_rate, newest=config.newest,
            warmup=min(20, config.updates), seed=config.seed * 1_000 + number,
        )  # fmt: skip
    model = model_config(config.preset, store.header) if weights is None else load_world_model(weights).config
    with progress_bar(f"world model {number}", "updates") as bar:

        def show(at: Progress) -> None:
            bar(at.step, at.steps, f"loss {at.loss:.3f}")

        # The store holds what earlier rounds learnt from, too.
        before = steps_of_data(place.checkpoint) if place.checkpoint else 0
        train(store, place.world(number), model, config=settings, on_progress=show, weights=weights, seen=before)
    return {"updates": settings.steps}


def dream(place: Place, number: int, piece: int, start: Path | None) -> dict[str, Any]:
    """A piece of PPO in the dream, which goes on with a policy or, without, begins anew; of piece 0 only what real
    episodes teach a new policy."""
    config, out = place.config, place.agent(number, piece)
    remove(out)  # of an interrupted phase
    # Another seed for every piece: it decides the dreams as well as the first weights.
    seed = (config.seed * 1_000 + number) * 100 + piece
    settings = dataclasses.replace(config.dreams, contexts=str(_begun_in(place, number, piece)), seed=seed)
    if piece:
        settings = dataclasses.replace(settings, offline=OfflineConfig())
    else:
        settings = dataclasses.replace(settings, total_steps=0, real_share=0.0)
    returns = Returns()
    with progress_bar(f"dreaming {number}.{piece}" if piece else f"teaching {number}", "steps") as bar:
        real_env = place.setup if settings.real_share else None
        model = train_in_dream(place.world(number), settings, out, bar, start, real_env, returns)
    dreamt = float(np.mean(returns.dreamt)) if returns.dreamt else (0.0 if piece else None)
    steps = int(model.num_timesteps)
    return {"dreamt_return": dreamt, "dreamt_steps": steps - returns.real_steps, "real_steps": returns.real_steps}


def play(place: Place, number: int, piece: int) -> dict[str, Any]:
    """Real episodes of the agent: what it is worth, and new data."""
    policy = remembering(place.world(number), place.agent(number, piece))
    torch.manual_seed((place.config.seed * 1_000 + number) * 100 + piece)
    name = f"round-{number}/played-{piece}"
    block = 100 * number + piece
    store = _gather(place, name, lambda envs, seed: policy, "agent", place.config.play_episodes, block)
    return {"steps": int(store.lengths.sum()), **return_figures(_returns(store))}


def check(place: Place, number: int, last: int) -> dict[str, Any]:
    """Every step of the agent's episodes of the round, up to its last piece, dreamt: where the world model does not
    hold, shown as holes.png: before, real and dreamt."""
    stores = [EpisodeStore(place.played(number, piece)) for piece in range(place.config.first_piece, last + 1)]
    episodes = [episode for store in stores for episode in store]
    every = max(1, len(episodes) // place.config.check_episodes)
    chosen = episodes[::every]
    engine = shared_engine(place.world(number), place.config.dreams.device, place.config.dreams.engine).engine
    with progress_bar(f"checking {number}", "frames") as bar:
        visits = _visits(place.store(number))
        found = one_step(engine, chosen, visits, place.config.dreams.denoise_steps, progress=bar)
    _show_holes(place.out / f"round-{number}" / "holes.png", found, chosen)
    return {
        "episodes": len(chosen),
        "wrong": float(found.wrong.mean()),
        "false_payments": float(found.false_payment.mean()),
        "false_ends": float((found.end_error > 0.5).mean()),
        "by_visits": found.table(),
    }


def remembering(world: str, agent: Path) -> RememberingPolicy:
    """A saved policy with the memory that it reads.

    Raises:
        ValueError: if they do not belong together.
    """
    engine, saved = shared_engine(world).engine, load_policy(agent)
    check_reads(saved, engine.model)
    return RememberingPolicy(saved, engine, vector_keys=vector_keys_of(world, engine.model))


def timed(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a phase finds, with the seconds that it took since it was last begun."""
    started = time.monotonic()
    found = run()
    return {**found, "seconds": time.monotonic() - started}


def _gather(
    place: Place, name: str, policy: PolicyFactory, policy_name: str, episodes: int, block: int
) -> EpisodeStore:
    spec = place.setup.spec_json()
    first = (place.config.seed * 10_000 + block) * WORLDS_APART % len(SPLITS["train"])
    out = place.out / name
    done = len(EpisodeStore(out)) if (out / "header.json").is_file() else 0
    with progress_bar(name, "episodes") as bar:

        def count(_: Episode) -> None:
            nonlocal done
            done += 1
            bar(done, episodes)

        gather = partial(collect, place.setup.make_many, policy, out, episodes, place.config.num_envs, first)
        return gather(
            vector_keys=place.config.vector, env_spec=spec, policy_name=policy_name, on_episode=count, shard_episodes=64
        )


def _begun_in(place: Place, number: int, piece: int) -> Path:
    """The real episodes that dreams of a piece begin in: all data of the round, and what the agent has played since,
    so that it learns to go on from where it has got to."""
    played = [place.played(number, earlier) for earlier in range(place.config.first_piece, piece)]
    if not played:
        return place.store(number)
    contexts = place.out / f"round-{number}" / "contexts"
    remove(contexts)  # of the piece before
    join_stores([place.store(number), *played], contexts)
    return contexts


def _returns(store: EpisodeStore) -> np.ndarray:
    return np.array([episode.rewards.sum(dtype=np.float64) for episode in store])


def _visits(folder: Path) -> Visits:
    store = EpisodeStore(folder)
    visits = visits_for(space_from_json(store.header.action_space))
    visits.add_episodes(store)
    return visits


def _show_holes(path: Path, found: OneStep, episodes: list[Episode]) -> None:
    """The dreamt steps that are furthest off, rarest first among equals."""
    worst = np.lexsort((found.visits, -found.off))[:HOLES]
    rows = []
    for k in worst.tolist():
        episode, t = (int(number) for number in found.place[k])
        frames = episodes[episode].frames
        rows.append(np.concatenate([frames[t], frames[t + 1], found.frames[k]], axis=1))
    write_image(path, enlarge(np.concatenate(rows)[None])[0])
