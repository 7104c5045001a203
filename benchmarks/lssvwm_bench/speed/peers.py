"""Another world model's cost on this machine, if its sources are at hand; nothing is downloaded."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch

from lssvwm_bench.speed.rows import Line, Settings, row
from lssvwm_bench.stopwatch import interleaved

# DIAMOND's published settings for Atari: three denoising steps, 64x64 frames, four frames of context.
SIZES = {
    "img_channels": 3,
    "num_steps_conditioning": 4,
    "cond_channels": 256,
    "depths": [2, 2, 2, 2],
    "channels": [64, 64, 64, 64],
    "attn_depths": [0, 0, 0, 0],
    "num_actions": 18,
    "is_upsampler": False,
}
FRAME, STEPS = 64, 3
PACKAGE = "diamond_models"  # name under which its modules are imported


@row("peers")
def peers(settings: Settings) -> Iterator[Line]:
    """DIAMOND's frame: the passes of its network alone, without sampler, reward model and quantisation."""
    what = f"DIAMOND, {FRAME}x{FRAME}, {STEPS} passes of its network"
    if settings.peers is None:
        yield Line(what, "torch", besides="not timed: its sources are not at hand (--settings.peers PATH)")
        return
    for batch in settings.small_batches:
        run = denoiser(settings.peers, batch)
        seconds = median(interleaved({"torch": run}, settings.repeats)["torch"])
        yield Line(f"{what}, batch {batch}", "torch", now=seconds, rate=f"{batch / seconds:,.1f} frames")


def network_module(tree: Path) -> Any:
    """Its `inner_model`, alone: the packages around it import much that a network does not need.

    Raises:
        ValueError: if there are no such sources.
    """
    models = tree / "src" / "models"
    packages = {PACKAGE: models, f"{PACKAGE}.diffusion": models / "diffusion"}
    for name, folder in packages.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    importlib.invalidate_caches()
    try:
        return importlib.import_module(f"{PACKAGE}.diffusion.inner_model")
    except ImportError as error:
        raise ValueError(f"{tree} has no sources of DIAMOND ({error}); name its folder.") from error
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def denoiser(tree: Path, batch: int) -> Callable[[], None]:
    """A function that denoises a batch of frames of noise with untrained weights, which cost the same as trained ones.

    Raises:
        ValueError: if there are no such sources.
    """
    inner = network_module(tree)
    fields = {field.name for field in dataclasses.fields(inner.InnerModelConfig)}
    network = inner.InnerModel(inner.InnerModelConfig(**{k: v for k, v in SIZES.items() if k in fields})).eval()
    channels, context = 3, 4
    frame, past = torch.randn(batch, channels, FRAME, FRAME), torch.randn(batch, channels * context, FRAME, FRAME)
    level, actions = torch.zeros(batch), torch.zeros(batch, context, dtype=torch.int64)
    levels = [level] * sum("noise" in name for name in inspect.signature(network.forward).parameters if name[0] == "c")

    @torch.no_grad()
    def run() -> None:
        for _ in range(STEPS):
            network(frame, *levels, past, actions)

    return run
