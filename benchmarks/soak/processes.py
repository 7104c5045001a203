"""`lssvwm` commands as processes that begin in milliseconds: the libraries that they use are imported once, in a server
that forks. So a kill at a random time lands in the work, not in the imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "lssvwm_rl.commands.train",
        "lssvwm_rl.training.trainer",
        "lssvwm_agents.commands.collect",
        "lssvwm_agents.commands.loop",
        "lssvwm_envs.make",
        "lssvwm_rl.data.collect",
        "minigrid",
        "matplotlib.pyplot",
    ]
)
SHARD_SECONDS = 0.05
"""Seconds until a finished episode is written, instead of a minute: a command of a soak ends in less than one."""
SETTLING = 40
"""Updates of the heads at the end of a training, instead of 800, so that they do not outlast all that comes before."""


def begin(words: Sequence[str], said: Path) -> BaseProcess:
    """Start `lssvwm` with these words; what it writes to stderr is appended to the file `said`."""
    process = SERVER.Process(target=_command, args=(list(words), said))
    process.start()
    return process


def _command(words: list[str], said: Path) -> None:
    from lssvwm_rl.cli import main
    from lssvwm_rl.data import store
    from lssvwm_rl.training import settling

    with said.open("a") as file, open(os.devnull, "w") as nothing:
        os.dup2(file.fileno(), sys.stderr.fileno())
        os.dup2(nothing.fileno(), sys.stdout.fileno())
    store.SHARD_SECONDS = SHARD_SECONDS
    settling.UPDATES, settling.HALF = SETTLING, SETTLING // 2
    main(words)
