"""LoopConfig: how much of everything a loop does."""

from __future__ import annotations

from dataclasses import dataclass, field

from lssvwm_agents.imagination import DreamTrainConfig
from lssvwm_agents.offline import OfflineConfig
from lssvwm_envs.options import EnvOptions

LOOP_DREAMS = DreamTrainConfig(
    total_steps=50_000, start=0.5, entropy=0.001, learning_rate=1e-4, offline=OfflineConfig(updates=10_000)
)


@dataclass(frozen=True, kw_only=True)
class LoopConfig(EnvOptions):
    """Settings of a loop; its budgets are updates and steps, so that they mean the same on every machine.

    Raises:
        ValueError: for numbers out of range.
    """

    rounds: int = 3
    """At most; a round is collect, fit, and dream and play by turns."""
    enough: float | None = None
    """Mean real return of the agent's episodes at which the loop ends early."""
    preset: str = "tiny"
    """Sizes of the world model, and settings of its training."""
    explorer: str = "explore"
    """Who plays before there is an agent: a name that `lssvwm collect --policy` knows."""
    explore_episodes: int = 2_500
    """Real episodes of the explorer, once; 0 if data are given."""
    random_episodes: int = 50
    """Real episodes of random actions, once: an agent that is worse than they are starts afresh."""
    rare_episodes: int = 200
    """Real episodes per round, from the second on, of the agent with actions that the data has seldom seen."""
    play_episodes: int = 100
    """Real episodes that the agent plays after every piece of dreaming; they show what it is worth, and become data."""
    vector: tuple[str, ...] = ()
    """Low-dimensional keys of the observation or of info to record, as in `lssvwm collect`."""
    num_envs: int = 50
    """Real environments stepped together."""
    first_updates: int = 1_500
    """Of a world model that begins from nothing."""
    updates: int = 400
    """Of one that knows something, per round."""
    refit_rate: float = 3e-4
    """Step size of those updates."""
    newest: float = 0.5
    """Share of their clips that comes from the newest quarter of the episodes."""
    pieces: int = 4
    """Most pieces of dreaming per round; fewer if the real return falls while the dreamt one does not. Before the first
    one a new policy learns from the real episodes, and plays, if `dreams.offline` has updates."""
    dreams: DreamTrainConfig = field(default_factory=lambda: LOOP_DREAMS)
    """PPO in the dream; its total steps are those of one piece."""
    check_episodes: int = 100
    """Of the agent's episodes per round, in which every step is dreamt beside the real one."""
    seed: int = 0
    """Seeds everything."""
    device: str = "cpu"
    """Where the world model is trained; `dreams.device` is where it dreams."""

    @property
    def first_piece(self) -> int:
        """0 if rounds begin with a piece that dreams nothing, else 1."""
        return 0 if self.dreams.offline.updates else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        least = (self.rounds, self.pieces, self.play_episodes, self.num_envs, self.first_updates, self.updates)
        if min(least) < 1 or min(self.explore_episodes, self.random_episodes, self.rare_episodes) < 0:
            raise ValueError(
                "A loop needs at least one round, piece, played episode, environment and update, and no negative "
                f"number of episodes; got {self}."
            )
        if self.random_episodes < 2 or self.check_episodes < 1:
            raise ValueError(
                f"random_episodes and check_episodes must be at least 2 and 1, got {self.random_episodes} and "
                f"{self.check_episodes}."
            )
        if self.dreams.contexts is not None:
            raise ValueError(f"Dreams of a loop begin in its own data, not in {self.dreams.contexts}; leave it out.")
