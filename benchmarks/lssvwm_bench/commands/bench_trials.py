"""`lssvwm bench retrieval|reasoning|long`: what models remember, on worlds they have not seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class _Trials:
    checkpoints: tuple[str, ...]
    """Folders, packaged names or hub ids of world models of one environment, compared side by side."""
    out: Path
    """New folder for figures, table, plot and video."""
    context: int = 64
    """Real frames observed before the first prediction."""
    trials: int = 32
    """Worlds of the test split that are played."""
    env: str | None = None
    """Gymnasium id to play, if not the one that the models were trained in."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example size 9."""
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
class BenchRetrieval(_Trials):
    """Wander off, walk back, and predict what comes into view again, from all real frames before and dreaming."""

    back: int | None = None
    """Frames of the way back, which are predicted; as many as the context by default."""
    reach: int | None = None
    """Frames within which a pixel counts as seen in the window; the models' largest by default."""


@dataclass(frozen=True)
class BenchReasoning(_Trials):
    """Explore for long, then dream on along random actions."""

    context: int = 576
    """Real frames observed before the dream."""
    trials: int = 16
    """Worlds of the test split that are played."""
    steps: int = 224
    """Dreamt frames."""
    reach: int | None = None
    """Frames within which a pixel counts as seen in the window; the models' largest by default."""


@dataclass(frozen=True)
class BenchLong(_Trials):
    """Dream for a thousand frames, and measure how far colours and edges drift from real ones."""

    trials: int = 8
    """Worlds of the test split that are played, at least 2."""
    steps: int = 1_000
    """Dreamt frames."""


def main(args: BenchRetrieval | BenchReasoning | BenchLong) -> None:
    """Play, predict, measure and write.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if checkpoints or environment do not fit each other, or for numbers out of range.
        gymnasium.error.Error: if there is no such environment.
    """
    import dataclasses

    from lssvwm_bench.dream_figures import dream_plot, dream_strip, dream_tables, dream_video
    from lssvwm_bench.dream_trials import FREE_RUNNING, DreamTrials, compare_dreams
    from lssvwm_bench.lineup import load_lineup
    from lssvwm_bench.long import drift_plot, drift_table, measure_drift
    from lssvwm_bench.results import check_new_folder, write_results
    from lssvwm_bench.trials import record_trials
    from lssvwm_bench.walks import then_restless, there_and_back, trial_environment
    from lssvwm_envs.explorers import explorer_named
    from lssvwm_envs.make import image_envs
    from lssvwm_rl.cli import json_value
    from lssvwm_rl.pictures import write_image
    from lssvwm_rl.training.cpu import tune_process

    check_new_folder(args.out)
    tune_process()
    config = DreamTrials(args.context, denoise_steps=args.denoise_steps, batch=args.batch)
    if isinstance(args, BenchRetrieval):
        name, frames = "retrieval", args.context if args.back is None else args.back
        explorer = there_and_back(args.context) if args.policy is None else explorer_named(args.policy)
        config = dataclasses.replace(config, reach=args.reach)
    elif isinstance(args, BenchReasoning):
        name, frames = "reasoning", args.steps
        explorer = then_restless(explorer_named(args.policy or "explore"), args.context)
        config = dataclasses.replace(config, reach=args.reach, modes=(FREE_RUNNING,))
    else:
        name, frames, explorer = "long", args.steps, explorer_named(args.policy or "explore")
    if min(frames, args.trials) < 1:
        raise ValueError(f"Predicted frames and trials must be at least 1, not {frames} and {args.trials}.")
    lineup, steps = load_lineup(args.checkpoints, args.device), args.context + frames - 1
    kwargs = {key: json_value(text) for key, text in args.env_kwargs.items()}
    env, kwargs = trial_environment(lineup, args.env, kwargs, steps)
    print(f"playing {args.trials} test worlds of {env} for {steps} steps")
    make_envs = image_envs(env, **kwargs)
    trials = record_trials(make_envs, explorer, args.trials, steps, args.seed, vector_keys=lineup.vector_keys)
    if name == "long":
        results, dreams = measure_drift(lineup.models, trials, args.context, args.denoise_steps, args.batch, print)
        table, figure = drift_table(results), drift_plot(results)
    else:
        results, dreams = compare_dreams(lineup.models, trials, config, print)
        table, figure = dream_tables(results), dream_plot(results)
    video = dream_video(trials, dreams, args.context)
    settings = {**dataclasses.asdict(args), "env": env, "env_kwargs": kwargs}
    write_results(args.out, name, settings, results, table, figure, video)
    if name != "long":
        write_image(args.out / f"{name}-strip.png", dream_strip(trials, dreams, args.context))
    print(table)
    print(f"Written to {args.out}.")
