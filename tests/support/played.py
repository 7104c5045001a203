"""Sessions of `lssvwm play` that several tests share."""

from __future__ import annotations

from lssvwm_envs.make import EnvSetup
from lssvwm_envs.play.real import Recorder
from lssvwm_envs.play.session import Session
from lssvwm_envs.play.settings import Settings
from lssvwm_envs.play.stage import Offer, Stage

REAL = EnvSetup("MiniGrid-MemoryS7-v0", {"max_steps": 20})
"""What the fixture `checkpoint` was made in, which its episodes do not say."""


def stage_of(*checkpoints: str, real: EnvSetup | None = None) -> Stage:
    return Stage([Offer.of(checkpoint, real) for checkpoint in checkpoints], log=lambda _: None)


def session_of(
    checkpoint: str,
    mode: str | None = None,
    real: EnvSetup | None = None,
    recorder: Recorder | None = None,
    passes: int = 2,
    **settings: int,
) -> Session:
    loaded = stage_of(checkpoint, real=real).load(checkpoint)
    session = Session(loaded, Settings(denoise_steps=passes, **settings), recorder)
    if mode is not None:
        session.set_mode(mode)
    return session
