"""What the benches that compare dreams with reality have in common: their settings, and playing test worlds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lssvwm_bench.bench import Findings
from lssvwm_bench.dream_figures import dream_plot, dream_strip, dream_tables, dream_video
from lssvwm_bench.dream_trials import DreamTrials, compare_dreams
from lssvwm_bench.lineup import Lineup, load_lineup
from lssvwm_bench.trials import record_trials
from lssvwm_bench.walks import trial_environment
from lssvwm_envs.options import EnvOptions
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.policy import PolicyFactory
from lssvwm_rl.progress import Say, progress_bar


@dataclass(frozen=True)
class DreamSettings(EnvOptions):
    """Settings of them all."""

    checkpoints: tuple[str, ...]
    """Folders, packaged names or hub ids of world models of one environment, compared side by side."""
    context: int = 64
    """Real frames observed before the first prediction."""
    trials: int = 32
    """Worlds of the test split that are played."""
    env: str | None = None
    """Gymnasium id to play, if not the one that the models were trained in."""
    policy: str | None = None
    """Scripted policy that walks, for example explore, if not the protocol's own."""
    denoise_steps: int = 4
    """Network passes per predicted frame."""
    batch: int = 32
    """Trials predicted side by side."""
    seed: int = 0
    """First world of the test split, and the walks'."""
    device: str = "cpu"
    """Where the world models run."""


@dataclass(frozen=True)
class Played:
    """Trials of test worlds, the models to compare on them, and as "env", "env_kwargs" and so on what was played."""

    lineup: Lineup
    trials: list[Trial]
    settings: dict[str, Any]


def play(settings: DreamSettings, explorer: PolicyFactory, frames: int, say: Say) -> Played:
    """Load the models, and record trials of a context and `frames` more frames.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if checkpoints or environment do not fit each other, or for numbers out of range.
        gymnasium.error.Error: if there is no such environment.
    """
    if min(frames, settings.trials) < 1:
        raise ValueError(f"Predicted frames and trials must be at least 1, not {frames} and {settings.trials}.")
    lineup, steps = load_lineup(settings.checkpoints, settings.device), settings.context + frames - 1
    setup = trial_environment(lineup, settings.env, settings, steps)
    say(f"playing {settings.trials} test worlds of {setup.env_id} for {steps} steps")
    keys = lineup.vector_keys
    with progress_bar("play", "steps") as bar:
        trials = record_trials(
            setup.make_many, explorer, settings.trials, steps, settings.seed, vector_keys=keys, progress=bar
        )
    return Played(lineup, trials, setup.to_json())


def compare(
    settings: DreamSettings, explorer: PolicyFactory, frames: int, modes: tuple[str, ...], reach: int | None, say: Say
) -> Findings:
    """Play, predict `frames` frames after the context in each mode, and draw, see `dream_trials.compare_dreams`.

    Raises:
        FileNotFoundError, ValueError, gymnasium.error.Error: as `play`.
    """
    config = DreamTrials(settings.context, modes, settings.denoise_steps, settings.batch, reach)
    played = play(settings, explorer, frames, say)
    results, dreams = compare_dreams(played.lineup.models, played.trials, config, say)
    return Findings(
        results,
        dream_tables(results),
        dream_plot(results),
        dream_video(played.trials, dreams, settings.context),
        {"strip": dream_strip(played.trials, dreams, settings.context)},
        played.settings,
    )
