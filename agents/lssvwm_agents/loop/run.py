"""The driver of the loop: rounds of phases, what they found, and where to go on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import FileWriter

from lssvwm_agents.loop import phases
from lssvwm_agents.loop.config import LoopConfig
from lssvwm_agents.loop.outcome import Piece, best_of, parted
from lssvwm_agents.loop.phases import Place
from lssvwm_agents.policies import TrainingCost, set_cost
from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import known_setup, setup_of_checkpoint, setup_of_store
from lssvwm_rl.checked_text import write_checked
from lssvwm_rl.data.store import EpisodeStore
from lssvwm_rl.events import write_outcome, write_scalars
from lssvwm_rl.files import remove, written_whole
from lssvwm_rl.model.checkpoints import check_fits, load_world_model
from lssvwm_rl.phases import claim, find_phase, flat_settings, run_phase
from lssvwm_rl.progress import Say, say
from lssvwm_rl.spaces import image_shape, space_to_json
from lssvwm_rl.training.cpu import tune_process
from lssvwm_rl.training.run_folder import steps_of_data

PIECES = "pieces.json"
MAY_CHANGE = ("rounds", "enough")


def loop(
    env_id: str,
    out: str | Path,
    config: LoopConfig | None = None,
    checkpoint: str | None = None,
    data: str | Path | None = None,
    say: Say = say,
) -> list[Piece]:
    """Collect, fit, dream and play, round by round, in the folder `out`; what is there already is not done again.

    A round fits the world model to all data so far, and then trains the agent in its dreams, piece by piece, with real
    episodes after every piece. They show what the agent is worth, and are data for the next round. If
    `config.dreams.offline` has updates, rounds have a piece 0: a new policy learns from all real episodes so far, and
    plays; the dreams go on with it. A round ends early when the real return falls and the dreamt one does not
    (`parted`); the next one goes on with the best agent so far, or afresh if that is worse than random actions.

    `out` holds explored, random, round-K/{rare, data, world, agent-J, played-J, holes.png}, phases/*.json with what
    each phase found, pieces.json, TensorBoard events, and `agent`, the best one.

    Args:
        env_id: Gymnasium id of any environment with one image, see `make_image_env`.
        config: `LoopConfig()` if None; `rounds` and `enough` may change when the same loop goes on.
        checkpoint: world model to begin with, else one begins from nothing.
        data: store to begin with.
        say: called with a line after every piece.

    Returns:
        All pieces, in order.

    Raises:
        ValueError: if `out` is a loop of other settings or something else, the data or the checkpoint do not fit, or
            there is nothing to begin with.
        FileNotFoundError: if there is no such checkpoint.
        gymnasium.error.Error: if there is no such environment.
    """
    config, out = config or LoopConfig(), Path(out)
    place = Place(out, _setup(env_id, config, checkpoint, data), config, checkpoint, Path(data) if data else None)
    _check(place)
    tune_process()
    settings = {"env": env_id, "checkpoint": checkpoint, "data": None if data is None else str(data)}
    claim(out, {**settings, **dataclasses.asdict(config)}, "loop", MAY_CHANGE, dataclasses.asdict(LoopConfig()))
    if config.explore_episodes:
        _phase(place, "explore", partial(phases.explore, place))
    random = _phase(place, "random", partial(phases.play_randomly, place))
    pieces: list[Piece] = []
    for number in range(1, config.rounds + 1):
        _fit(place, number, pieces)
        for piece in range(config.first_piece, config.pieces + 1):
            start = _start(place, number, pieces, random["real_return"]) if piece else None
            pieces.append(_piece(place, number, piece, pieces, start))
            _tell(place, pieces, say)
            if _ends(pieces, config) or parted([piece for piece in pieces if piece.round == number]):
                break
        last = pieces[-1].piece
        checked = _phase(place, f"round-{number}-check", partial(phases.check, place, number, last))
        _tell_check(place, number, checked, pieces[-1], say)
        if _ends(pieces, config):
            break
    _keep_best(place, pieces)
    return pieces


def _setup(env_id: str, config: LoopConfig, checkpoint: str | None, data: str | Path | None) -> EnvSetup:
    """The environment, as it was for the data or the world model that the loop begins with unless more is said."""
    if data is not None:
        return config.setup(env_id, known_setup(env_id, partial(setup_of_store, data)), f"the data in {data}")
    known = None if checkpoint is None else known_setup(env_id, partial(setup_of_checkpoint, checkpoint))
    return config.setup(env_id, known, f"the data of {checkpoint}")


def _check(place: Place) -> None:
    """Raise for what would be found out late."""
    with place.setup.make() as env:
        frames, actions = image_shape(env.observation_space), space_to_json(env.action_space)
    if place.checkpoint is not None:
        check_fits(load_world_model(place.checkpoint).config, frames, actions, place.setup.env_id)
        steps_of_data(place.checkpoint)
    if place.data is not None:
        EpisodeStore(place.data)
    elif not place.config.explore_episodes:
        raise ValueError("A loop without data needs an explorer's; give --data STORE, or explore_episodes above 0.")


def _phase(place: Place, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return run_phase(place.out, name, partial(phases.timed, run))


def _fit(place: Place, number: int, pieces: list[Piece]) -> None:
    """The data and the world model of a round."""
    if pieces and place.config.rare_episodes:
        best = best_of(pieces)
        agent, world = place.agent(best.round, best.piece), place.world(best.round)
        _phase(place, f"round-{number}-rare", partial(phases.play_rarely, place, number, world, agent))
    _phase(place, f"round-{number}-data", partial(phases.join, place, number))
    _phase(place, f"round-{number}-fit", partial(phases.fit, place, number))


def _start(place: Place, number: int, pieces: list[Piece], random: float) -> Path | None:
    """The policy that the next piece goes on with; None to begin anew."""
    if not pieces:
        return None
    chosen = pieces[-1] if pieces[-1].round == number else best_of(pieces)
    return place.agent(chosen.round, chosen.piece) if chosen.real_return >= random else None


def _piece(place: Place, number: int, piece: int, pieces: list[Piece], start: Path | None) -> Piece:
    name = f"round-{number}-{{}}-{piece}"
    dreamt = _phase(place, name.format("dream"), partial(phases.dream, place, number, piece, start))
    played = _phase(place, name.format("play"), partial(phases.play, place, number, piece))
    before = pieces[-1].dreamt_steps if pieces else 0
    steps, minutes = _spent(place, number, piece)
    return Piece(
        round=number,
        piece=piece,
        dreamt_return=dreamt["dreamt_return"],
        real_return=played["real_return"],
        real_error=played["real_error"],
        success=played["success"],
        episodes=played["episodes"],
        dreamt_steps=before + dreamt["dreamt_steps"],
        real_steps=steps,
        minutes=minutes,
    )


def _spent(place: Place, number: int, piece: int) -> tuple[int, float]:
    """Real steps and minutes of all phases up to a piece."""
    names = ["explore", "random"]
    for k in range(1, number + 1):
        names += [f"round-{k}-{name}" for name in ("rare", "data", "fit")]
        upto = range(place.config.first_piece, 1 + (piece if k == number else place.config.pieces))
        names += [f"round-{k}-{name}-{j}" for j in upto for name in ("dream", "play")]
        names += [f"round-{k}-check"] if k < number else []
    found = {name: find_phase(place.out, name) or {} for name in names}
    steps = sum(f.get("steps", 0) for name, f in found.items() if not name.endswith("-data"))
    real_rows = sum(f.get("real_steps", 0) for f in found.values())
    given = int(EpisodeStore(place.data).lengths.sum()) if place.data else 0
    given += steps_of_data(place.checkpoint) if place.checkpoint else 0
    return given + steps + real_rows, sum(f.get("seconds", 0.0) for f in found.values()) / 60


def _ends(pieces: list[Piece], config: LoopConfig) -> bool:
    return config.enough is not None and pieces[-1].real_return >= config.enough


def _tell(place: Place, pieces: list[Piece], say: Say) -> None:
    last = pieces[-1]
    dreamt = "taught by real episodes" if last.dreamt_return is None else f"dreamt return {last.dreamt_return:.3f}"
    say(
        f"round {last.round}, piece {last.piece}: {dreamt}, real {last.real_return:.3f} ± {last.real_error:.3f}, "
        f"success {last.success:.2f}; {last.real_steps:,} real steps, {last.minutes:.1f} min"
    )
    figures = {name: getattr(last, name) for name in ("dreamt_return", "real_return", "success", "real_steps", "gap")}
    _write_events(place, {**figures, "minutes": last.minutes, "round": last.round}, last.dreamt_steps)
    write_pieces(place.out, pieces)


def write_pieces(out: Path, pieces: list[Piece]) -> None:
    """Write what all pieces of a loop came to, `PIECES`."""
    write_checked(out / PIECES, json.dumps([dataclasses.asdict(piece) for piece in pieces], indent=2) + "\n")


def _tell_check(place: Place, number: int, checked: dict[str, Any], last: Piece, say: Say) -> None:
    rows = [f"{row['wrong']:.3f} of {row['steps']} steps {_visited(row['visits'])}" for row in checked["by_visits"]]
    say(
        f"round {number}: dreamt one step beside the agent's {checked['episodes']} episodes, frames are wrong in "
        f"{'; '.join(rows)}; false payments {checked['false_payments']:.4f}, false ends {checked['false_ends']:.4f}"
    )
    names = ("wrong", "false_payments", "false_ends")
    _write_events(place, {f"check/{name}": checked[name] for name in names}, last.dreamt_steps)


def _visited(visits: int) -> str:
    return f"that the data saw {visits} times or more" if visits else "that the data never saw"


def _write_events(place: Place, figures: dict[str, float | None], step: int) -> None:
    events = FileWriter(str(place.out))
    write_scalars(events, {f"loop/{name}": value for name, value in figures.items()}, step)
    events.close()


def _keep_best(place: Place, pieces: list[Piece]) -> None:
    best = best_of(pieces)
    remove(place.out / "agent")
    with written_whole(place.out / "agent") as partial_copy:
        shutil.copytree(place.agent(best.round, best.piece), partial_copy)
        set_cost(partial_copy, TrainingCost(best.real_steps, best.dreamt_steps, 60 * best.minutes))
    settings = {"env": place.setup.env_id, **flat_settings(dataclasses.asdict(place.config))}
    results = {name: getattr(best, name) for name in ("real_return", "success", "real_steps", "minutes", "round")}
    write_outcome(place.out, settings, results, pieces[-1].dreamt_steps)
