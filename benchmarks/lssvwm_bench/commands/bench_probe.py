"""`lssvwm bench probe`: what the memory of world models knows about a maze."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lssvwm_rl.measures.trial import Trial

FIT_SEED = 500_000_000  # of the first world that probes are fitted on: far from what collections begin with
GROUP = 16  # worlds played and observed side by side


@dataclass(frozen=True)
class BenchProbe:
    """Read the maze's layout and the objects' places from the features, with probes fitted on other worlds."""

    checkpoints: tuple[str, ...]
    """Folders, packaged names or hub ids of world models of one environment."""
    env: str | None = None
    """Gymnasium id of a maze, if not the one that the models were trained in."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment as KEY VALUE pairs, for example size 9."""
    policy: str = "explore"
    """Scripted policy that walks."""
    episodes: int = 200
    """Worlds to fit probes on; a quarter as many are for the test."""
    steps: int = 250
    """Steps per episode; 1,000 are published for the size 9."""
    device: str = "cpu"
    """Where the world models run."""
    out: Path = Path("runs/bench-probe")
    """New folder for probe.json, probe.md, probe.png and probe.mp4."""


def main(args: BenchProbe) -> None:
    """Play, observe, probe and write.

    Raises:
        FileExistsError: if `out` exists.
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the environment is no maze, or checkpoints and environment do not fit each other.
        gymnasium.error.Error: if there is no such environment.
    """
    import dataclasses

    from lssvwm_bench.lineup import condition, load_lineup
    from lssvwm_bench.probe_figures import probe_plot, probe_table, probe_video
    from lssvwm_bench.results import check_new_folder, write_results
    from lssvwm_bench.trials import record_trials
    from lssvwm_bench.walks import trial_environment
    from lssvwm_envs.explorers import explorer_named
    from lssvwm_envs.make import image_envs
    from lssvwm_rl.cli import json_value
    from lssvwm_rl.measures.probe import Subject, prepare, probe_features
    from lssvwm_rl.training.cpu import tune_process

    check_new_folder(args.out)
    if args.episodes < 4 or args.steps < 2:
        raise ValueError(f"Use at least 4 --episodes and 2 --steps, not {args.episodes} and {args.steps}.")
    tune_process()
    explorer, lineup = explorer_named(args.policy), load_lineup(args.checkpoints, args.device)
    given = {key: json_value(text) for key, text in args.env_kwargs.items()}
    env, kwargs = trial_environment(lineup, args.env, given, args.steps)
    make_envs = image_envs(env, **kwargs)
    subjects = [Subject(f"{name} ({condition(m)})", m, lineup.vector_keys) for name, m in lineup.models.items()]
    shown: dict[str, Trial] = {}

    def played(split: str, first: int, count: int) -> Iterator[list[Trial]]:
        for done in range(0, count, GROUP):
            print(f"{split} worlds: {done} of {count}")
            trials = record_trials(make_envs, explorer, min(GROUP, count - done), args.steps, first + done, split)
            shown.setdefault(split, trials[0])
            yield trials

    test_worlds = args.episodes // 4
    test = prepare(played("test", 0, test_worlds), subjects)
    fit = prepare(played("train", FIT_SEED, args.episodes), subjects)
    report = probe_features(fit, test, say=print)
    table = probe_table(report.rows, args.episodes, test_worlds, args.steps)
    settings = {**dataclasses.asdict(args), "env": env, "env_kwargs": kwargs}
    video = probe_video(shown["test"], report)
    write_results(args.out, "probe", settings, report.rows, table, probe_plot(report.rows), video)
    print(table)
    print(f"Written to {args.out}.")
