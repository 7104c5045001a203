"""What the training of an agent writes for TensorBoard, see docs/tensorboard.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from torch.utils.tensorboard import FileWriter

from lssvwm_rl.events import write_outcome, write_scalars
from lssvwm_rl.phases import flat_settings
from lssvwm_rl.training.curve import write_curve

Row = tuple[int, Mapping[str, float | None]]
"""Steps, and figures by their tags."""
OF_SB3 = "train/"  # before what Stable-Baselines3 says of an update


def figures_of(model: BaseAlgorithm, **agent: float | None) -> dict[str, float | None]:
    """The given ones as "agent/NAME", and as "ppo/NAME" what the last update of the policy told: losses, entropy and so
    on; to be asked for before the next rollout ends."""
    told = {n.removeprefix(OF_SB3): v for n, v in model.logger.name_to_value.items() if n.startswith(OF_SB3)}
    return {**{f"agent/{n}": v for n, v in agent.items()}, **{f"ppo/{n}": float(v) for n, v in told.items()}}


def keep_no_log(model: BaseAlgorithm) -> None:
    """Stable-Baselines3 would make a folder of its own for every training, which stays."""
    model.set_logger(Logger(None, []))


def write_rows(out: Path, rows: Sequence[Row]) -> None:
    """Write rows into a folder, as learning_curve.csv and as a new file of events."""
    names = list(dict.fromkeys(name for _, figures in rows for name in figures))
    columns = ["step", *(name.rpartition("/")[2] for name in names)]
    write_curve(out, columns, ([step, *(figures.get(name) for name in names)] for step, figures in rows))
    events = FileWriter(str(out))
    for step, figures in rows:
        write_scalars(events, figures, step)
    events.close()


def write_settings(out: Path, settings: Mapping[str, Any], last: Row) -> None:
    """Write settings with the results of the last row, those of the agent."""
    step, figures = last
    results = {name.removeprefix("agent/"): v for name, v in figures.items() if name.startswith("agent/")}
    write_outcome(out, flat_settings(dict(settings)), results, step)
