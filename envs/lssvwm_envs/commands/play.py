"""`lssvwm play`: play a world model in a browser, beside the real environment, and fork its futures."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lssvwm_envs.make import EnvSetup
from lssvwm_envs.options import EnvOptions, known_setup, setup_of_checkpoint

EXAMPLE = "lssvwm play minigrid-memory --out data/played"


@dataclass(frozen=True)
class Play(EnvOptions):
    """Play a checkpoint's dream and its real environment by hand, in a browser on this machine."""

    checkpoint: Annotated[tuple[str, ...], tyro.conf.Positional] = ("minigrid-memory",)
    """Folders, packaged names or hub ids of world models, the first of which is played first; packaged ones can be
    chosen in the page, too."""
    env: str | None = None
    """Gymnasium id of the real environment of those that are named; the checkpoint's own if not given and installed."""
    port: int = 8000
    """Of 127.0.0.1, no other address is listened on; 0 for any free one."""
    horizon: int = 256
    """Dreamt steps until a dream is cut."""
    denoise_steps: int = 4
    """Network passes per dreamt frame."""
    context_length: int = 1
    """Real frames observed before dreams of held-out episodes."""
    seed: int = 0
    """Of the first world, and of noise."""
    out: Path | None = None
    """Store that real episodes are added to when recording is switched on in the page."""


def main(args: Play) -> None:
    """Serve the page until it is interrupted.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if a number is out of range, the port is in use, a checkpoint is broken, the store holds other
            episodes, or the environment is not the checkpoint's.
        gymnasium.error.Error: if there is no such environment, or the extra `play` is not installed.
        KeyboardInterrupt: when it is interrupted.
    """
    from lssvwm_envs.dream.config import DreamConfig
    from lssvwm_envs.play.real import Recorder
    from lssvwm_envs.play.server import LOOPBACK, ServerConfig, bind, make_app, serve
    from lssvwm_envs.play.settings import Settings
    from lssvwm_envs.play.stage import Offer, Stage, check_whole, packaged
    from lssvwm_rl.progress import finish
    from lssvwm_rl.stopping import Stopped

    if not args.checkpoint:
        raise ValueError("No checkpoint is named; name one, such as minigrid-memory.")
    settings = Settings(args.horizon, args.denoise_steps, args.seed)
    DreamConfig(args.checkpoint[0], args.context_length)
    for name in args.checkpoint:
        check_whole(name)
    offers = [Offer.of(name, _setup(args, name)) for name in dict.fromkeys(args.checkpoint)]
    offers += [Offer.of(name) for name in packaged() if name not in args.checkpoint]
    recorder = None if args.out is None else Recorder(args.out, _log)
    with bind(args.port) as bound:
        port = bound.getsockname()[1]
        config = ServerConfig(hosts=tuple(f"{name}:{port}" for name in (LOOPBACK, "localhost")))
        stage = Stage(offers, args.context_length, _log)
        app = make_app(stage, settings, recorder, config)
        threading.Thread(target=stage.warm, name="load", daemon=True).start()
        address = f"http://{LOOPBACK}:{port}/{config.token}/"
        try:
            serve(app, bound, lambda: finish(f"Play at {address} (Ctrl+C ends it)."))
        except KeyboardInterrupt as error:
            added = 0 if recorder is None else recorder.added
            text = "stopped; nothing was stored"
            if added:
                text = f"stopped; {added} episodes were added to {args.out}, next: lssvwm train --data {args.out}"
            raise Stopped(error.code - 128 if isinstance(error, Stopped) else 2, text) from error


def _log(text: str) -> None:
    print(f"lssvwm play: {' '.join(text.split())}", file=sys.stderr)


def _setup(args: Play, checkpoint: str) -> EnvSetup | None:
    """The real environment that was named, made once so that what is wrong with it is said now; None for the
    checkpoint's own."""
    from lssvwm_envs.play.real import RealEpisode
    from lssvwm_rl.model.checkpoint_files import MODEL_CONFIG, resolve_checkpoint
    from lssvwm_rl.model.config import WorldModelConfig

    if args.env is None and not args.given:
        return None
    known = known_setup(args.env, lambda: setup_of_checkpoint(checkpoint))
    setup = args.setup(args.env, known, f"the checkpoint {checkpoint}")
    config = WorldModelConfig.from_json((resolve_checkpoint(checkpoint) / MODEL_CONFIG).read_text())
    RealEpisode(setup, config).close()
    return setup
