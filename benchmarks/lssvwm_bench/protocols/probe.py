"""Read the maze and its objects from the memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lssvwm_bench.bench import Findings, bench
from lssvwm_bench.lineup import condition, load_lineup
from lssvwm_bench.probe_figures import probe_plot, probe_table, probe_video
from lssvwm_bench.trials import record_trials
from lssvwm_bench.walks import trial_environment
from lssvwm_envs.explorers import explorer_named
from lssvwm_envs.options import EnvOptions
from lssvwm_rl.measures.probe import Subject, prepare, probe_features
from lssvwm_rl.measures.trial import Trial
from lssvwm_rl.progress import Say, progress_bar

EXAMPLE = "lssvwm bench probe --checkpoints maze-memory"
FIT_SEED = 500_000_000  # of the first world that probes are fitted on: far from what collections begin with
GROUP = 16  # worlds played and observed side by side


@bench("probe")
@dataclass(frozen=True)
class ProbeBench(EnvOptions):
    """Read the maze's layout and the objects' places from the features, with probes fitted on other worlds."""

    checkpoints: tuple[str, ...]
    """Folders, packaged names or hub ids of world models of one environment."""
    env: str | None = None
    """Gymnasium id of a maze, if not the one that the models were trained in."""
    policy: str = "explore"
    """Scripted policy that walks."""
    episodes: int = 200
    """Worlds to fit probes on; a quarter as many are for the test."""
    steps: int = 250
    """Steps per episode; 1,000 are published for the size 9."""
    device: str = "cpu"
    """Where the world models run."""

    def run(self, say: Say) -> Findings:
        """Play, observe and probe.

        Raises:
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if the environment is no maze, or checkpoints and environment do not fit each other.
            gymnasium.error.Error: if there is no such environment.
        """
        if self.episodes < 4 or self.steps < 2:
            raise ValueError(f"Use at least 4 --episodes and 2 --steps, not {self.episodes} and {self.steps}.")
        explorer, lineup = explorer_named(self.policy), load_lineup(self.checkpoints, self.device)
        setup = trial_environment(lineup, self.env, self, self.steps)
        subjects = [Subject(f"{name} ({condition(m)})", m, lineup.vector_keys) for name, m in lineup.models.items()]
        shown: dict[str, Trial] = {}

        def play(split: str, first: int, count: int) -> Iterator[list[Trial]]:
            with progress_bar(f"observe {split} worlds", "worlds") as bar:
                for done in range(0, count, GROUP):
                    bar(done, count)
                    trials = record_trials(
                        setup.make_many, explorer, min(GROUP, count - done), self.steps, first + done, split
                    )
                    shown.setdefault(split, trials[0])
                    yield trials
                bar(count, count)

        test_worlds = self.episodes // 4
        test = prepare(play("test", 0, test_worlds), subjects)
        fit = prepare(play("train", FIT_SEED, self.episodes), subjects)
        say(f"{self.episodes} worlds to fit probes on and {test_worlds} to test them on are observed.")
        with progress_bar("fit probes", "probes") as bar:
            report = probe_features(fit, test, progress=bar)
        return Findings(
            report.rows,
            probe_table(report.rows, self.episodes, test_worlds, self.steps),
            probe_plot(report.rows),
            probe_video(shown["test"], report),
            settings=setup.to_json(),
        )
