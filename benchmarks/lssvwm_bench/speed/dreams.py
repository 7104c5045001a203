"""Dreamt frames: the model itself in plain PyTorch against its engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lssvwm_bench.speed.rows import Line, Settings, compare, row
from lssvwm_bench.workload import awaken, random_batch, untrained_model
from lssvwm_rl.model.checkpoints import load_contexts
from lssvwm_rl.model.engine import MAKERS, Engine
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.outputs import Imagined
from lssvwm_rl.model.world_model import WorldModel

CONTEXT = 8  # frames that a dream has seen, more than any window of the presets
Imagine = Callable[[Memory, Tensor, list[torch.Generator]], Imagined]


@row("dream")
def dream(settings: Settings) -> Iterator[Line]:
    """A dreamt frame of a trained and of an untrained model, with the largest difference of the frames."""
    trained = WorldModel.from_pretrained(settings.checkpoint, backend="torch")
    cases = [(settings.checkpoint, trained, settings.batches)]
    untrained = awaken(untrained_model("small", settings.frame, backend="torch")).eval()
    cases.append((f"`small`, {settings.frame}x{settings.frame}", untrained, settings.small_batches))
    for name, model, batches in cases:
        engines = engines_of(model, settings.engines)
        for batch in batches:
            yield from dreams_of(f"dream, {name}, batch {batch}", model, engines, batch, settings)


def dreams_of(
    what: str, model: WorldModel, engines: dict[str, Engine], batch: int, settings: Settings
) -> Iterator[Line]:
    """One line per engine: a step of `batch` dreams after some frames of context."""
    memory = seen(model, batch, settings.checkpoint)
    actions = torch.zeros(batch, dtype=torch.int64)
    imagines: dict[str, Imagine] = {"reference": model.imagine, **{n: e.imagine for n, e in engines.items()}}
    frames = {name: imagine(memory, actions, noise(batch)).frame for name, imagine in imagines.items()}
    greys = {name: f"{grey_levels(frame, frames['reference'])} grey levels" for name, frame in frames.items()}
    generators = noise(batch)
    ways = {name: partial(imagine, memory, actions, generators) for name, imagine in imagines.items()}
    yield from compare(what, ways, settings.repeats, batch, "frames", greys)


def engines_of(model: WorldModel, names: tuple[str, ...]) -> dict[str, Engine]:
    """The engines of these names that can run the model here."""
    return {name: engine for name in names if (engine := engine_named(model, name)) is not None}


def engine_named(model: WorldModel, name: str) -> Engine | None:
    """None where the engine cannot run the model."""
    try:
        return MAKERS[name](model) if name in MAKERS else None
    except ValueError:
        return None


def seen(model: WorldModel, rows: int, checkpoint: str | None = None) -> Memory:
    """The memory of rows after some frames: of the checkpoint's episodes if they fit the model, else of noise."""
    store = None if checkpoint is None else load_contexts(checkpoint)
    long = [] if store is None else [i for i, length in enumerate(store.lengths) if length >= CONTEXT]
    if store is None or not long or store.header.frame_shape != model.config.frame_shape:
        clips = random_batch(model, rows, CONTEXT)
        return model.observe(model.initial_memory(rows), clips.frames, clips.actions)[0]
    # Every row has its own episode: like frames would hide what depends on the row.
    episodes = [store[long[i % len(long)]] for i in range(rows)]
    frames = torch.stack([torch.from_numpy(e.frames[:CONTEXT]) for e in episodes])
    before = torch.stack([torch.from_numpy(e.actions[: CONTEXT - 1]) for e in episodes])
    actions = torch.cat([torch.zeros_like(before[:, :1]), before], dim=1)
    return model.observe(model.initial_memory(rows), frames, actions)[0]


def noise(rows: int, seed: int = 0) -> list[torch.Generator]:
    """A generator per row, always the same."""
    return [torch.Generator().manual_seed(seed + i) for i in range(rows)]


def grey_levels(a: Tensor, b: Tensor) -> int:
    """The largest difference of two uint8 tensors."""
    return int((a.int() - b.int()).abs().max())
